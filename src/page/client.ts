/** The page of one client: what is open, how it stands, and its sessions with what each added. */
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import { counted, formatBytes, formatDuration } from '../core/quantities.ts';
import type { ClientStatus, Refusal, RemovedFigures, SessionFigures } from '../monitor/client-status.ts';
import { html, type Html } from './html.ts';
import { document, type Frame } from './layout.ts';
import { additionsOf, growthOf, largePlot } from './plot.ts';
import { table, type Row } from './table.ts';
import { badge, distance, foundWords, mark, dateAndTime, quotaBar, sizeWords, withShortNames } from './words.ts';

/** The text of the page. @param config - what the config says of the client's keys and addresses */
export function renderClient(
  one: ClientStatus,
  config: ClientConfig,
  frame: Frame,
  authorities: GatewayConfig['trustedUserCAKeys'],
): string {
  const { client, state } = one;
  const { now } = frame;
  // They have a section of their own.
  const reported = new Set(one.anomalies.map(({ what }) => what));
  return document({
    ...{ frame, title: client, state, root: '../', refreshes: true },
    main: html`<div class="hero ${state}">
        <div class="title">
          ${mark(state)}
          <div>
            <h1>${client}</h1>
            ${one.reasons.filter((why) => !reported.has(why)).map((why) => html`<p>${why}</p>`)}
          </div>
        </div>
        ${badge(state)}
      </div>
      ${openSection(one)}${firstSection(one, config)}${factsSection(one, config, now)}${growthSection(one)}${removalsSection(one, now)}${refusalsSection(one)}${scrubSection(one, now)}${keysSection(one, config, authorities)}${sessionsSection(one, now)}`,
  });
}

function openSection({ anomalies, client }: ClientStatus): Html | undefined {
  if (anomalies.length === 0) return undefined;
  const settled = anomalies.some(({ rule }) => rule !== 'late');
  return html`<section aria-labelledby="open">
    <h2 id="open">Open anomalies</h2>
    <ul class="open">
      ${anomalies.map(
        ({ rule, at, session, what, advice }) =>
          html`<li>
            <strong>${withShortNames(what)}</strong>
            ${adviceWords(advice)}
            <span class="minor"
              ><a href="../help#${rule}">${rule}</a>,
              ${dateAndTime(at)}${session === undefined ? undefined : html`, session <span class="id">${session}</span>`}</span
            >
          </li>`,
      )}
    </ul>
    ${settled ? html`<p>Seen and settled? <code>restic-gateway status ${client} --acknowledge</code></p>` : undefined}
  </section>`;
}

/** What to do for a client that has made no backup yet. */
function firstSection(one: ClientStatus, config: ClientConfig): Html | undefined {
  const { client, state, role, keys, latest, running } = one;
  if (state !== 'never') return undefined;
  const newest = running.at(-1) ?? latest[0];
  const came = newest !== undefined || keys.length > 0;
  const found =
    newest !== undefined
      ? html`It has connected, last at ${dateAndTime(newest.start)}, and made no
          ${role === 'probe' ? 'whole probe' : 'snapshot'}. Its own output says why, and so does
          <code>restic-gateway sessions --client ${client}</code> on this host.`
      : came
        ? html`It has logged in and opened no session. <code>restic-gateway audit show --client ${client}</code> on this
            host shows what was refused.`
        : html`It has not connected since the audit began. If the commands fail,
            <code>ssh -v restic-gateway-${client}</code> on the client says how far it gets, and
            <code>restic-gateway check --live</code> on this host whether the gateway works.`;
  const commands =
    role === 'probe'
      ? html`<p>
          Run <code>restic-gateway probe</code> with its key: <a href="../help#probe-failed">about probes</a>.
        </p>`
      : html`<p>On the client, with the SSH host that <code>restic-gateway client add</code> printed for it:</p>
          <pre tabindex="0"><code>export RESTIC_REPOSITORY=rclone:x RESTIC_PASSWORD_FILE=$HOME/.restic-password
restic -o rclone.program="ssh restic-gateway-${client}" init
restic -o rclone.program="ssh restic-gateway-${client}" backup /etc</code></pre>`;
  return html`<section aria-labelledby="first">
    <h2 id="first">The first backup</h2>
    ${commands}
    <p>${found}</p>
    ${config.from.length === 0 ? undefined : html`<p>It may come from ${config.from.join(', ')} only.</p>`}
    <p><a href="../help#state-never">More about new clients</a></p>
  </section>`;
}

/** What it holds, and how that is known. */
function sizeCell(one: ClientStatus, now: Date): Html {
  const { size, scrub } = one;
  if (size === undefined)
    return one.arrived === 0
      ? html`not known: nothing has arrived since the audit began`
      : html`not known: the audit does not reach back to its beginning. A scrub counts it`;
  const words = sizeWords(one);
  if (size.by === 'counted') return html`${words}, counted for the quota`;
  if (size.by === 'scrub')
    return html`${words}, counted by the last scrub${scrub && html`, ${distance(scrub.finished, now)}`}`;
  const counted = scrub && html`; the last scrub counted ${formatBytes(scrub.bytes)}, ${distance(scrub.finished, now)}`;
  return html`${words}, estimated from what arrived${counted}`;
}

/** As the terminal says it; but the docs are not where a browser is. */
function adviceWords(advice: string): Html {
  const [before = '', ...after] = advice.split('docs/recovery.md');
  return html`${before}${after.map((text) => html`<a href="../help#broken-into">what to do</a>${text}`)}`;
}

function factsSection(one: ClientStatus, config: ClientConfig, now: Date): Html {
  const { lastSnapshot, lastProbe, repository, expectEveryMs, usualGapMs, lateAt } = one;
  const recent = one.days.slice(-7).reduce((sum, { snapshots }) => sum + snapshots, 0);
  const facts: (readonly [string, Html | string])[] = [
    [
      'Last snapshot',
      lastSnapshot === undefined
        ? 'none since the audit began'
        : html`${distance(lastSnapshot.at, now)}, ${dateAndTime(lastSnapshot.at)}, session
            <span class="id">${lastSnapshot.session}</span>`,
    ],
    ...(one.role === 'probe'
      ? [
          [
            'Last probe',
            lastProbe === undefined
              ? 'none came to its end'
              : html`${distance(lastProbe.at, now)}, ${dateAndTime(lastProbe.at)},
                ${lastProbe.failed === 0 ? 'every check held' : `${counted(lastProbe.failed, 'check')} did not hold`}`,
          ] as const,
        ]
      : []),
    [
      'Expected',
      expectEveryMs !== undefined
        ? `every ${formatDuration(expectEveryMs)}, by the config`
        : usualGapMs !== undefined
          ? `usually within ${formatDuration(usualGapMs)}`
          : 'nothing is usual yet',
    ],
    ...(lateAt === undefined ? [] : [[lateAt < now ? 'Late since' : 'Late after', dateAndTime(lateAt)] as const]),
    ['Snapshots', `${one.snapshots} arrived, ${recent} of them in 7 days`],
    ['Size', sizeCell(one, now)],
    ['Arrived', `${formatBytes(one.arrived)} since the audit began, ${formatBytes(one.arrivedLately)} of it in 7 days`],
    ['Quota', quotaBar(one) ?? 'none'],
    ...(one.extended === undefined ? [] : [['Object Lock', extendedWords(one.extended, now)] as const]),
    ['Repository', html`store <bdi>${repository.store}</bdi>, prefix <bdi>${repository.prefix || '(root)'}</bdi>`],
    ['Access', one.access],
    ['May come from', config.from.length === 0 ? 'any address' : config.from.join(', ')],
    ...(config.expires === undefined ? [] : [['Expires', dateAndTime(config.expires)] as const]),
    ['Sessions now', `${one.running.length} of ${config.maxSessions} at once`],
  ];
  return html`<section aria-labelledby="facts">
    <h2 id="facts">How it stands</h2>
    <dl class="facts">
      ${facts.map(
        ([title, value]) =>
          html`<dt>${title}</dt>
            <dd>${value}</dd>`,
      )}
    </dl>
  </section>`;
}

function extendedWords(
  { at, objects, renewed, failed, complete }: NonNullable<ClientStatus['extended']>,
  now: Date,
): Html {
  if (!complete) return html`retention not renewed, ${distance(at, now)}`;
  const trouble = failed === 0 ? '' : `, ${failed} failed`;
  return html`${counted(objects, 'object')} looked at ${distance(at, now)}: ${renewed} renewed${trouble}`;
}

function growthSection(one: ClientStatus): Html | undefined {
  if (one.arrived === 0 && one.size === undefined) return undefined;
  const days = one.days.filter(({ added, snapshots, denied }) => added > 0 || snapshots > 0 || denied > 0);
  return html`<section aria-labelledby="growth">
    <h2 id="growth">Growth</h2>
    <div class="plots">${largePlot(growthOf(one, one.days.length), 'line')}${largePlot(additionsOf(one), 'bars')}</div>
    ${
      days.length === 0
        ? undefined
        : html`<details>
            <summary>The same as a table</summary>
            ${table({
              caption: 'Days on which something came, newest first',
              columns: ['Day', 'Added', 'Size', 'Snapshots', 'Read', 'Refused'].map((title, index) => ({
                title,
                right: index > 0,
              })),
              head: 0,
              rows: [...days].reverse().map((day) => ({
                cells: [
                  html`<time datetime="${day.day}">${day.day}</time>`,
                  formatBytes(day.added),
                  day.size === undefined ? undefined : formatBytes(day.size),
                  day.snapshots || undefined,
                  day.read === 0 ? undefined : formatBytes(day.read),
                  day.denied || undefined,
                ],
              })),
            })}
          </details>`
    }
  </section>`;
}

const SESSION_COLUMNS = [
  { title: 'Began, session' },
  { title: 'Lasted' },
  { title: 'Via, from' },
  { title: 'Added', right: true },
  { title: 'Objects', right: true },
  { title: 'Snapshots', right: true },
  { title: 'Read', right: true },
  { title: 'Removed', right: true },
  { title: 'Refused', right: true },
  { title: 'Failed', right: true },
  { title: 'Outcome' },
] as const;

function sessionsSection({ running, latest, client }: ClientStatus, now: Date): Html {
  const sessions = [...running].reverse().concat(latest);
  if (sessions.length === 0)
    return html`<section aria-labelledby="sessions">
      <h2 id="sessions">Sessions</h2>
      <p>None since the audit began.</p>
    </section>`;
  return html`<section class="tables" aria-labelledby="sessions">
    <h2 id="sessions">Sessions</h2>
    ${table({
      caption: `${running.length === 0 ? 'None runs now' : `${counted(running.length, 'session')} now`}; the latest that have ended, newest first`,
      ...{ columns: SESSION_COLUMNS, head: 0 },
      rows: sessions.map((one) => ({
        kind: one.outcome === 'running' ? 'running' : '',
        cells: sessionCells(one, now),
      })),
    })}
    <p>All of them: <code>restic-gateway sessions --client ${client}</code></p>
  </section>`;
}

function sessionCells(one: SessionFigures, now: Date): Row['cells'] {
  const { session, start, end, outcome, via, from } = one;
  const lasted = end ?? (outcome === 'running' ? now : undefined);
  return [
    html`${dateAndTime(start)}<span class="minor id">${session}</span>`,
    lasted && html`<span class="unbroken">${formatDuration(Math.max(0, lasted.getTime() - start.getTime()))}</span>`,
    html`${via}${from === undefined ? undefined : html`, <bdi>${from}</bdi>`}`,
    formatBytes(one.added),
    one.objects || undefined,
    one.snapshots || undefined,
    end === undefined ? undefined : formatBytes(one.bytesOut),
    one.removed || undefined,
    one.denied === 0 ? undefined : html`<span class="bad">${one.denied}</span>`,
    one.failed || undefined,
    outcome === 'running' ? html`<strong>running</strong>` : outcome,
  ];
}

/** What the reasons of the audit mean; for those that are not here their own word must do. */
const REASONS: Readonly<Record<string, string>> = {
  'append-only': 'its key can add and not remove',
  'read-only': 'its key can only read',
  overwrite: 'other content under a name that is taken',
  'key-added': 'a repository password, which only init may add',
  protected: 'a snapshot that arrived lately, or is one of the newest',
  'lock-of-another': 'a lock of someone else that is not stale',
  'cleanup-after-failed-save': "restic's own clean-up, nothing that anyone tried",
  disabled: 'the client is disabled',
  expired: 'its keys have expired',
  address: '`from` does not allow this address',
  'max-sessions': 'as many sessions as it may have were open',
};

function removalsSection(one: ClientStatus, now: Date): Html | undefined {
  const { removals, trash, removedLately, purgeHeld, client } = one;
  const lately = [
    ['the client', removedLately.byClient] as const,
    ['the admin', removedLately.byAdmin] as const,
  ].filter(([, { objects }]) => objects > 0);
  if (removals.length === 0 && lately.length === 0 && (trash?.objects ?? 0) === 0) return undefined;
  const kept = removals.some(({ keptUntil }) => keptUntil !== undefined);
  return html`<section class="${removals.length > 0 ? 'tables' : ''}" aria-labelledby="removed">
    <h2 id="removed">Removed</h2>
    ${lately.map(([who, figures]) => html`<p>In 7 days, ${who} removed ${removedWords(figures)}.</p>`)}
    ${
      trash === undefined
        ? undefined
        : html`<p>
            ${distance(trash.at, now)}, the trash held ${removedWords(trash)}.
            ${
              purgeHeld
                ? 'It keeps what the client removed as long as an anomaly is open.'
                : trash.purgeAt && html`The oldest of it is purged after ${dateAndTime(trash.purgeAt)}.`
            }
          </p>`
    }
    ${
      removals.length === 0
        ? undefined
        : table({
            caption: kept
              ? 'The latest, newest first, and what brings back what of it the trash has'
              : 'The latest, newest first',
            columns: [
              { title: 'When' },
              { title: 'By' },
              { title: 'Snapshots', right: true },
              { title: 'Objects', right: true },
              { title: 'Size', right: true },
              { title: 'Purged after' },
              { title: 'Brought back by' },
            ],
            head: 0,
            rows: removals.map(({ at, by, snapshots, objects, bytes, keptUntil, session }) => ({
              cells: [
                dateAndTime(at),
                `the ${by}`,
                ...[snapshots || undefined, objects, formatBytes(bytes)],
                keptUntil && (by === 'client' && purgeHeld ? 'no anomaly is open' : dateAndTime(keptUntil)),
                keptUntil &&
                  html`<code
                    >restic-gateway trash restore ${client} --session <span class="id">${session}</span></code
                  >`,
              ],
            })),
          })
    }
  </section>`;
}

function removedWords({ snapshots, objects, bytes }: RemovedFigures): string {
  return `${counted(snapshots, 'snapshot')}, ${counted(objects, 'object')} in all, ${formatBytes(bytes)}`;
}

function refusalsSection({ denials, refusals }: ClientStatus): Html {
  const reasons = Object.entries(denials.byReason);
  if (reasons.length === 0 && refusals.length === 0)
    return html`<section aria-labelledby="refused">
      <h2 id="refused">Refused</h2>
      <p>Nothing was refused in the last 7 days.</p>
    </section>`;
  return html`<section class="tables" aria-labelledby="refused">
    <h2 id="refused">Refused</h2>
    ${
      reasons.length === 0
        ? html`<p>Nothing was refused in the last 7 days.</p>`
        : table({
            caption: 'In the last 7 days, by reason',
            columns: [{ title: 'Reason' }, { title: 'Meaning' }, { title: 'Times', right: true }],
            head: 0,
            rows: reasons.map(([reason, count]) => ({ cells: [reason, REASONS[reason], count] })),
          })
    }
    ${
      refusals.length === 0
        ? undefined
        : table({
            caption: 'The latest, newest first',
            columns: [
              { title: 'When' },
              { title: 'Reason' },
              { title: 'Tried' },
              { title: 'Times', right: true },
              { title: 'Session' },
            ],
            head: 0,
            rows: refusals.map(refusalRow),
          })
    }
  </section>`;
}

function refusalRow({ at, reason, operation, object, count, session }: Refusal) {
  const tried = operation === 'session' ? 'to come in' : operation;
  return {
    cells: [
      dateAndTime(at),
      reason,
      tried && html`${tried}${object === undefined ? undefined : html` <span class="id">${object}</span>`}`,
      count,
      session && html`<span class="id">${session}</span>`,
    ],
  };
}

function keysSection(
  { keys, addresses }: ClientStatus,
  config: ClientConfig,
  authorities: GatewayConfig['trustedUserCAKeys'],
): Html {
  const seen = new Map(keys.map((key) => [key.value, key]));
  const rows = [
    ...config.keys.map(({ fingerprint, comment }) => ({ fingerprint, words: comment })),
    ...(config.principals.length === 0 ? [] : authorities).map(({ fingerprint, comment }) => ({
      fingerprint,
      words: `certificates of this CA ${comment}`.trim(),
    })),
  ];
  const known = new Set(rows.map(({ fingerprint }) => fingerprint));
  const all = [
    ...rows,
    ...keys.flatMap(({ value }) => (known.has(value) ? [] : [{ fingerprint: value, words: undefined }])),
  ];
  return html`<section class="tables" aria-labelledby="keys">
    <h2 id="keys">Keys and addresses</h2>
    ${table({
      caption: 'Keys',
      columns: [{ title: 'Fingerprint' }, { title: 'Comment' }, { title: 'First used' }, { title: 'Last used' }],
      head: 0,
      rows: all.map(({ fingerprint, words }) => ({
        cells: [
          html`<span class="id">${fingerprint}</span>`,
          words === undefined
            ? html`<span class="none">not in the config any more</span>`
            : words === ''
              ? undefined
              : html`<bdi>${words}</bdi>`,
          ...usedCells(seen.get(fingerprint)),
        ],
      })),
    })}
    ${
      addresses.length === 0
        ? undefined
        : table({
            caption: 'Addresses that it came from, the latest first',
            columns: [{ title: 'Address' }, { title: 'First seen' }, { title: 'Last seen' }],
            head: 0,
            rows: [...addresses].reverse().map((address) => ({
              cells: [html`<bdi class="id">${address.value}</bdi>`, ...usedCells(address)],
            })),
          })
    }
  </section>`;
}

function usedCells(seen: { readonly first: Date; readonly last: Date } | undefined): (Html | undefined)[] {
  return [seen && dateAndTime(seen.first), seen && dateAndTime(seen.last)];
}

function scrubSection(one: ClientStatus, now: Date): Html {
  const { scrub, unfinishedScrub, client } = one;
  return html`<section class="${scrub !== undefined && scrub.findings > 0 ? 'tables' : ''}" aria-labelledby="scrub">
    <h2 id="scrub">Scrub</h2>
    ${
      scrub === undefined
        ? html`<p>
            Its objects have not been held against their names yet: <code>restic-gateway scrub ${client}</code>
          </p>`
        : html`<p>
            ${foundWords(scrub)}, ${distance(scrub.finished, now)}: ${counted(scrub.objects, 'object')},
            ${formatBytes(scrub.bytes)}${scrub.quick ? ', by sizes and stored checksums, without reading contents' : ', every content read'}.
          </p>`
    }
    ${
      unfinishedScrub === undefined
        ? undefined
        : html`<p>
            One that began ${dateAndTime(unfinishedScrub.started)} is unfinished:
            ${counted(unfinishedScrub.objects, 'object')} and ${formatBytes(unfinishedScrub.bytes)} so far,
            ${unfinishedScrub.findings === 0 ? 'nothing found' : `${unfinishedScrub.findings} bad`}. The same command
            goes on with it.
          </p>`
    }
    ${
      scrub === undefined || scrub.findings === 0
        ? undefined
        : table({
            caption:
              scrub.findings > scrub.found.length
                ? `The first ${scrub.found.length} of ${scrub.findings} findings`
                : 'What it found',
            columns: [{ title: 'File' }, { title: 'Problem' }, { title: 'Detail' }],
            head: 0,
            rows: scrub.found.map(({ key, problem, detail }) => ({
              cells: [html`<bdi class="id">${key}</bdi>`, html`<span class="bad">${problem}</span>`, detail],
            })),
          })
    }
  </section>`;
}
