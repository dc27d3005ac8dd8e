/** The first page: whether every client's backup is OK, worst first. Where there are many, those that need nothing are folded away. */
import { setImmediate } from 'node:timers/promises';
import { counted, formatBytes, formatDuration } from '../core/quantities.ts';
import { openCount, type ClientStatus, type ClientState } from '../monitor/client-status.ts';
import { html, type Html } from './html.ts';
import { changed, document, type Frame } from './layout.ts';
import { growthOf, smallPlot } from './plot.ts';
import { table, type Row } from './table.ts';
import {
  badge,
  distance,
  needsAttention,
  mark,
  dateAndTime,
  quotaBar,
  scrubWords,
  sizeWords,
  STATES,
  withShortNames,
} from './words.ts';

/** How many days the small plots reach back. */
const PLOT_DAYS = 30;
const REASONS_SHOWN = 2;

/** After how many clients the sessions of this process have their turn. */
const ROWS_AT_ONCE = 25;

/** From so many clients on, there is a form to find one, and what is OK or disabled is folded where it is more than a few. */
const MANY = 12;
/** Clients on one page: some 170 KiB, which a browser, and this process, have to make at once. */
const PER_PAGE = 80;
/** After how many clients that were searched the sessions of this process have their turn. */
const SEARCHED_AT_ONCE = 500;
/** Of what is searched for, in characters. */
const LONGEST_FIND = 200;

/**
 * The text of the page.
 * @param statuses - in the order of the config
 * @param problems - what is wrong with the gateway itself, a sentence each
 */
export async function renderOverview(
  statuses: readonly ClientStatus[],
  problems: readonly string[],
  frame: Frame,
): Promise<string> {
  const { now, query } = frame;
  const sorted = [...statuses].sort(worstFirst);
  const verdict = verdictOf(statuses);
  const state = problems.length > 0 ? 'attention' : (sorted[0]?.state ?? 'never');
  const find = (query.get('find') ?? '').trim().slice(0, LONGEST_FIND);
  const only = STATES.find((one) => one === query.get('state'));
  const inState = only === undefined ? sorted : sorted.filter((one) => one.state === only);
  const found = find === '' ? inState : await search(inState, find);
  const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
  const number = Math.min(pages, Math.max(1, Number(/^\d{1,4}$/.exec(query.get('page') ?? '')?.[0] ?? 1)));
  const groups: { readonly state: ClientState; readonly rows: Row[] }[] = [];
  let made = 0;
  for (const one of found.slice((number - 1) * PER_PAGE, number * PER_PAGE)) {
    const group = needsAttention(one) ? 'attention' : one.state;
    if (groups.at(-1)?.state !== group) groups.push({ state: group, rows: [] });
    groups.at(-1)?.rows.push({ kind: one.state, cells: cellsOf(one, now) });
    if (++made % ROWS_AT_ONCE === 0) await setImmediate();
  }
  const totals = (of: ClientState): number => found.filter((one) => one.state === of).length;
  return document({
    ...{ frame, title: verdict, state, root: './', refreshes: true },
    main: html`<div class="hero ${state}">
        <div class="title">
          ${mark(state)}
          <div>
            <h1>${verdict}</h1>
            ${statuses.length === 0 ? html`<p>A client is added with <code>restic-gateway client add NAME</code>.</p>` : undefined}
            ${problems.map((words) => html`<p>The gateway: ${words}</p>`)}
          </div>
        </div>
        ${statuses.length > 1 ? countsOf(statuses, only, query) : undefined}
      </div>
      ${statuses.length === 0 ? undefined : sums(statuses)}
      ${statuses.length < MANY ? undefined : findForm(find, query)}
      ${find === '' && only === undefined ? undefined : foundNote(found.length, find, only, query)}${clientTables(groups, find !== '' || only !== undefined, totals)}${pageLinks(number, pages, query)}
      ${statuses.length === 0 ? undefined : html`<p><a href="help#columns">What the columns mean</a></p>`}`,
  });
}

/** By state, the worst first; what is late by how long it has been. */
function worstFirst(a: ClientStatus, b: ClientStatus): number {
  if (a.state !== b.state) return STATES.indexOf(a.state) - STATES.indexOf(b.state);
  if (a.state === 'late') return (a.lateAt?.getTime() ?? 0) - (b.lateAt?.getTime() ?? 0);
  return 0;
}

async function search(statuses: readonly ClientStatus[], find: string): Promise<readonly ClientStatus[]> {
  const found: ClientStatus[] = [];
  for (const [index, one] of statuses.entries()) {
    if (isFound(one, find)) found.push(one);
    if (index % SEARCHED_AT_ONCE === SEARCHED_AT_ONCE - 1) await setImmediate();
  }
  return found;
}

/** Whether a client is meant by what somebody looks for: a part of its name, its repository, an address or a key, whatever its case. */
function isFound({ client, repository, addresses, keys }: ClientStatus, find: string): boolean {
  const wanted = find.toLowerCase();
  const texts = [
    client,
    `${repository.store}/${repository.prefix}`,
    ...[...addresses, ...keys].map(({ value }) => value),
  ];
  return texts.some((text) => text.toLowerCase().includes(wanted));
}

function findForm(find: string, query: URLSearchParams): Html {
  // What else was asked for stays.
  const kept = ['state', 'refresh'].flatMap((name) => {
    const value = query.get(name);
    return value === null ? [] : [html`<input type="hidden" name="${name}" value="${value.slice(0, LONGEST_FIND)}" />`];
  });
  return html`<form class="find" method="get" role="search" action="./">
    <label for="find">Find a client</label>
    <input
      id="find"
      name="find"
      type="search"
      value="${find}"
      maxlength="${LONGEST_FIND}"
      placeholder="name, repository, address or key"
    />
    ${kept}
    <button>Find</button>
  </form>`;
}

function foundNote(count: number, find: string, only: ClientState | undefined, query: URLSearchParams): Html {
  const words = `${count === 0 ? 'No client' : counted(count, 'client')}${only === undefined ? '' : ` ${COUNTED[only]}`}`;
  return html`<p class="found" role="status">
    ${words}${find === '' ? undefined : html` found for <q>${find}</q>`}.
    <a href="${changed(query, { find: '', state: '', page: '' })}">Show all</a>
  </p>`;
}

/** One table, or one for what needs a look and folds for the others. */
function clientTables(
  groups: readonly { readonly state: ClientState; readonly rows: readonly Row[] }[],
  searched: boolean,
  totals: (state: ClientState) => number,
): Html | undefined {
  if (groups.length === 0) return undefined;
  const rest = groups.filter(({ state }) => state !== 'attention');
  if (rest.reduce((sum, { rows }) => sum + rows.length, 0) < MANY)
    return clientTable(groups.flatMap(({ rows }) => rows));
  const needy = groups.filter(({ state }) => state === 'attention').flatMap(({ rows }) => rows);
  return html`${needy.length === 0 ? undefined : clientTable(needy)}${rest.map(({ state, rows }) => {
    const [all, shown] = [totals(state), rows.length];
    const words = `${counted(all, 'client')} ${all === 1 ? 'is' : 'are'} ${COUNTED[state]}${shown < all ? `, ${shown} of them on this page` : ''}`;
    return html`<details class="fold ${state}" ${searched ? OPEN : undefined}>
      <summary>${mark(state)} ${words}</summary>
      ${clientTable(rows, words)}
    </details>`;
  })}`;
}

const OPEN = html`open`;
const CURRENT = html`aria-current="true"`;

function pageLinks(number: number, pages: number, query: URLSearchParams): Html | undefined {
  if (pages === 1) return undefined;
  const to = (page: number, words: string): Html | undefined =>
    page < 1 || page > pages
      ? undefined
      : html`<a href="${changed(query, { page: page === 1 ? '' : `${page}` })}">${words}</a>`;
  return html`<nav class="pages" aria-label="Pages of clients">
    ${to(number - 1, 'Previous page')}
    <span>Page ${number} of ${pages}, worst first</span> ${to(number + 1, 'Next page')}
  </nav>`;
}

function verdictOf(statuses: readonly ClientStatus[]): string {
  const expected = statuses.filter(({ state }) => state !== 'disabled').length;
  const needy = statuses.filter(needsAttention).length;
  if (statuses.length === 0) return 'No clients yet';
  if (expected === 0) return statuses.length === 1 ? 'The client is disabled' : 'All clients are disabled';
  if (needy === 0) return expected === 1 ? 'The backup is OK' : `All ${expected} backups are OK`;
  return expected === 1
    ? 'The backup needs a look'
    : `${needy} of ${expected} ${needy === 1 ? 'needs' : 'need'} a look`;
}

/** How many are in each state; where they are many, each shows those. */
function countsOf(statuses: readonly ClientStatus[], only: ClientState | undefined, query: URLSearchParams): Html {
  const counts = STATES.map((state) => [state, statuses.filter((one) => one.state === state).length] as const);
  return html`<ul aria-label="Clients by state">
    ${counts.map(([state, count]) => {
      if (count === 0) return undefined;
      const words = badge(state, `${count} ${COUNTED[state]}`);
      if (statuses.length < MANY) return html`<li>${words}</li>`;
      const to = changed(query, { state: state === only ? '' : state, page: '' });
      return html`<li><a href="${to}" ${state === only ? CURRENT : undefined}>${words}</a></li>`;
    })}
  </ul>`;
}

const COUNTED: Readonly<Record<ClientState, string>> = {
  attention: 'with something open',
  late: 'late',
  never: 'never backed up',
  ok: 'OK',
  disabled: 'disabled',
};

function sums(statuses: readonly ClientStatus[]): Html {
  // Several clients may share a repository.
  const sizes = new Map(statuses.map(({ repository, size }) => [`${repository.store}/${repository.prefix}`, size]));
  const known = [...sizes.values()].filter((size) => size !== undefined);
  const total = (of: (one: ClientStatus) => number): number => statuses.reduce((sum, one) => sum + of(one), 0);
  const unknown = sizes.size - known.length;
  return html`<dl class="figures">
    <div>
      <dt>Stored</dt>
      <dd>
        ${formatBytes(known.reduce((sum, { bytes }) => sum + bytes, 0))}${unknown === 0 ? undefined : html`<span class="minor">${unknown} of ${sizes.size} not known</span>`}
      </dd>
    </div>
    <div>
      <dt>Added in 7 days</dt>
      <dd>${formatBytes(total(({ arrivedLately }) => arrivedLately))}</dd>
    </div>
    <div>
      <dt>Sessions now</dt>
      <dd>${total(({ running }) => running.length)}</dd>
    </div>
    <div>
      <dt>Refused in 7 days</dt>
      <dd>${total(({ denials }) => denials.total)}</dd>
    </div>
    <div>
      <dt>Open anomalies</dt>
      <dd>${total(openCount)}</dd>
    </div>
  </dl>`;
}

const COLUMNS = [
  { title: 'State' },
  { title: 'Client' },
  { title: 'Last snapshot' },
  { title: 'Late after' },
  { title: 'Size and growth', right: true },
  { title: 'Now', card: 'Sessions now', right: true },
  { title: 'Refused', card: 'Refused in 7 days', right: true },
  { title: 'Anomalies', right: true },
  { title: 'Quota' },
  { title: 'Scrub' },
] as const;

function clientTable(rows: readonly Row[], label = 'Clients'): Html {
  return html`<section class="tables wide" aria-label="${label}">
    ${table({
      ...{
        caption: 'Worst first. Now: sessions that run. Refused: in 7 days. Growth: of 30 days',
        columns: COLUMNS,
        head: 1,
      },
      rows,
    })}
  </section>`;
}

function cellsOf(one: ClientStatus, now: Date): Row['cells'] {
  const { client, state, reasons, running, denials, arrivedLately } = one;
  return [
    badge(state),
    html`<a href="clients/${encodeURIComponent(client)}">${client}</a>${
        reasons.length === 0
          ? undefined
          : html`<ul class="why">
              ${whyOf(reasons).map((why) => html`<li>${why}</li>`)}
            </ul>`
      }`,
    lastCell(one, now),
    expectedCell(one, now),
    html`<span class="size"
      ><span>${sizeWords(one)}<span class="minor">+${formatBytes(arrivedLately)} in 7 d</span></span
      >${one.arrived === 0 && one.size === undefined ? undefined : smallPlot(growthOf(one, PLOT_DAYS))}</span
    >`,
    running.length || undefined,
    denials.total || undefined,
    openCount(one) === 0 ? undefined : html`<span class="bad">${openCount(one)}</span>`,
    quotaBar(one),
    scrubWords(one, now),
  ];
}

/** The first reasons; the client's page has all. */
function whyOf(reasons: readonly string[]): readonly string[] {
  const shown = reasons.slice(0, REASONS_SHOWN).map(withShortNames);
  const more = reasons.length - shown.length;
  return more === 0 ? shown : [...shown, `And ${more} more.`];
}

function lastCell({ lastSnapshot, lastProbe, role }: ClientStatus, now: Date): Html | undefined {
  const at = role === 'probe' ? lastProbe?.at : lastSnapshot?.at;
  return (
    at && html`${distance(at, now)}<span class="minor">${role === 'probe' ? 'a probe, ' : ''}${dateAndTime(at)}</span>`
  );
}

/** When it counts as late, and by what. */
function expectedCell({ lateAt, expectEveryMs, state }: ClientStatus, now: Date): Html | undefined {
  if (lateAt === undefined || state === 'disabled')
    return expectEveryMs === undefined || state === 'disabled'
      ? undefined
      : html`${formatDuration(expectEveryMs)} after its first`;
  const by = expectEveryMs === undefined ? 'by what is usual' : `expected every ${formatDuration(expectEveryMs)}`;
  const late = lateAt < now;
  return html`<span class="${late ? 'bad' : ''}"
      >${late ? 'late since ' : ''}${late ? dateAndTime(lateAt) : distance(lateAt, now)}</span
    ><span class="minor">${by}</span>`;
}
