/** The first page: whether every client's backup is OK, worst first. */
import { setImmediate } from 'node:timers/promises';
import { formatBytes, formatDuration } from '../core/quantities.ts';
import type { ClientStatus, ClientState } from '../monitor/client-status.ts';
import { html, type Html } from './html.ts';
import { document } from './layout.ts';
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

/**
 * The text of the page.
 * @param statuses - in the order of the config
 * @param problems - what is wrong with the gateway itself, a sentence each
 */
export async function renderOverview(
  statuses: readonly ClientStatus[],
  problems: readonly string[],
  now: Date,
  refresh: boolean,
): Promise<string> {
  const sorted = [...statuses].sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state));
  const verdict = verdictOf(statuses);
  const state = problems.length > 0 ? 'attention' : (sorted[0]?.state ?? 'never');
  const rows: Row[] = [];
  for (const one of sorted) {
    rows.push({ kind: one.state, cells: cellsOf(one, now) });
    if (rows.length % ROWS_AT_ONCE === 0) await setImmediate();
  }
  return document({
    ...{ title: verdict, state, now, root: './', refresh },
    main: html`<div class="hero ${state}">
        <div class="title">
          ${mark(state)}
          <div>
            <h1>${verdict}</h1>
            ${statuses.length === 0 ? html`<p>A client is added with <code>restic-gateway client add NAME</code>.</p>` : undefined}
            ${problems.map((words) => html`<p>The gateway: ${words}</p>`)}
          </div>
        </div>
        ${statuses.length > 1 ? countsOf(statuses) : undefined}
      </div>
      ${statuses.length === 0 ? undefined : html`${sums(statuses)}${clientTable(rows)}`}`,
  });
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

function countsOf(statuses: readonly ClientStatus[]): Html {
  const counts = STATES.map((state) => [state, statuses.filter((one) => one.state === state).length] as const);
  return html`<ul aria-label="Clients by state">
    ${counts.map(([state, count]) => (count === 0 ? undefined : html`<li>${badge(state, `${count} ${COUNTED[state]}`)}</li>`))}
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
      <dd>${total(({ anomalies }) => anomalies.length)}</dd>
    </div>
  </dl>`;
}

const COLUMNS = [
  { title: 'State' },
  { title: 'Client' },
  { title: 'Last snapshot' },
  { title: 'Next expected' },
  { title: 'Size and growth', right: true },
  { title: 'Now', card: 'Sessions now', right: true },
  { title: 'Refused', card: 'Refused in 7 days', right: true },
  { title: 'Anomalies', right: true },
  { title: 'Quota' },
  { title: 'Scrub' },
] as const;

function clientTable(rows: readonly Row[]): Html {
  return html`<section class="tables wide" aria-label="Clients">
    ${table({
      ...{
        caption: 'Clients, worst first. Now: sessions that run. Refused: in 7 days. Growth: of 30 days',
        columns: COLUMNS,
        head: 1,
      },
      rows,
    })}
  </section>`;
}

function cellsOf(one: ClientStatus, now: Date): Row['cells'] {
  const { client, state, reasons, lastSnapshot, running, denials, anomalies, arrivedLately } = one;
  return [
    badge(state),
    html`<a href="clients/${encodeURIComponent(client)}">${client}</a>${
        reasons.length === 0
          ? undefined
          : html`<ul class="why">
              ${whyOf(reasons).map((why) => html`<li>${why}</li>`)}
            </ul>`
      }`,
    lastSnapshot && html`${distance(lastSnapshot.at, now)}<span class="minor">${dateAndTime(lastSnapshot.at)}</span>`,
    expectedCell(one, now),
    html`<span class="size"
      ><span>${sizeWords(one)}<span class="minor">+${formatBytes(arrivedLately)} in 7 d</span></span
      >${smallPlot(growthOf(one, PLOT_DAYS))}</span
    >`,
    running.length || undefined,
    denials.total || undefined,
    anomalies.length === 0 ? undefined : html`<span class="bad">${anomalies.length}</span>`,
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

/** By when the next snapshot is expected, and by what. */
function expectedCell({ lateAt, expectEveryMs, state }: ClientStatus, now: Date): Html | undefined {
  if (lateAt === undefined || state === 'disabled')
    return expectEveryMs === undefined || state === 'disabled'
      ? undefined
      : html`every ${formatDuration(expectEveryMs)}`;
  const by = expectEveryMs === undefined ? 'by what is usual' : `every ${formatDuration(expectEveryMs)}`;
  const late = lateAt < now;
  return html`<span class="${late ? 'bad' : ''}">${late ? 'overdue, ' : ''}${distance(lateAt, now)}</span
    ><span class="minor">${by}</span>`;
}
