/** `restic-gateway status [CLIENT]`: whether every client's backup is OK, and what is known of one. */
import { forgetAuditLoss, readAuditLoss } from '../audit/loss.ts';
import { gatewayProblems } from '../monitor/gateway-problems.ts';
import { openMonitor } from '../monitor/monitor.ts';
import {
  openCount,
  type ClientStatus,
  type ClientState,
  type RemovedFigures,
  type SessionFigures,
} from '../monitor/client-status.ts';
import { noSuch } from '../config/problems.ts';
import { UsageError } from './command-line/usage-error.ts';
import { sayWarning } from './failure.ts';
import { jsonLine, statusJson } from './json.ts';
import { loadOwnConfig } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';
import { openProgress } from './progress.ts';
import {
  counted,
  formatBytes,
  formatDuration,
  formatTime,
  printable,
  prose,
  styled,
  table,
  type Column,
} from './terminal.ts';

/** Options as the command line gives them. */
interface StatusArguments {
  readonly client: string | undefined;
  readonly config: string | undefined;
  readonly json: boolean;
  readonly nagios: boolean;
  readonly quiet: boolean;
  readonly acknowledge: boolean;
  readonly report: boolean;
}

/**
 * Shows how the clients stand.
 * @returns the exit status: 1 when one of them is not OK; with `nagios`, 0 to 2, and 3 for whatever is thrown
 * @throws GatewayError `usage`, `audit-unavailable`
 */
export async function runStatus(given: StatusArguments): Promise<number> {
  if (given.nagios && (given.json || given.quiet))
    throw new UsageError('--nagios says all in one line: say neither --json nor --quiet');
  refuseInForcedCommand();
  const config = await loadOwnConfig(given.config);
  const { client } = given;
  if (client !== undefined && config.clients[client] === undefined)
    throw noSuch('client', client, config.clients, config.file);
  const say = (_fields: unknown, message: string): void => {
    if (!given.nagios) sayWarning(message, '');
  };
  const bar = openProgress('reading the audit log');
  let lines = 0;
  const saw = (): void => {
    lines += 1;
    // A look at the clock for each would be felt.
    if (lines % 1000 === 0) bar.show(() => `audit log: ${lines} lines read`);
  };
  const only = client === undefined || given.report ? undefined : config.clients[client];
  const monitor = openMonitor({ config, log: { info: say, warn: say, error: say }, watch: false, saw, only });
  try {
    if (given.report) await monitor.report();
    if (given.acknowledge) {
      let count = await monitor.acknowledge(client);
      if (client === undefined && (await readAuditLoss(config.state)) !== undefined) {
        await forgetAuditLoss(config.state);
        count += 1;
      }
      if (!given.json && !given.nagios)
        process.stderr.write(`acknowledged ${counted(count, 'anomaly', 'anomalies')}\n`);
    }
    const one = client === undefined ? undefined : await monitor.status(client);
    const all = one === undefined ? await monitor.statuses() : [one];
    const shown = given.quiet ? all.filter(needsAttention) : all;
    const problems = await gatewayProblems(config);
    bar.clear();
    const urgent = problems.filter((problem) => problem.urgent);
    if (given.nagios) return (await import('./nagios.ts')).reportToNagios(all, urgent);
    if (given.json) for (const each of shown) process.stdout.write(jsonLine('status', statusJson(each)));
    else if (one !== undefined) process.stdout.write(shown.map(describeOne).join(''));
    else if (!given.quiet || shown.length > 0) process.stdout.write(describeAll(shown, all));
    for (const { words } of problems) say({}, words);
    return all.some(needsAttention) || urgent.length > 0 ? 1 : 0;
  } finally {
    bar.clear();
    await monitor.close();
  }
}

function needsAttention({ state }: ClientStatus): boolean {
  return state !== 'ok' && state !== 'disabled';
}

const COLOURS = {
  ok: 'green',
  late: 'red',
  attention: 'red',
  never: 'yellow',
  disabled: 'gray',
} as const satisfies Record<ClientState, string>;

/** The worst first. */
const ORDER = ['attention', 'late', 'never', 'ok', 'disabled'] as const satisfies readonly ClientState[];

const ALL_COLUMNS: readonly Column[] = [
  { title: 'CLIENT', cut: { to: 12, at: 'middle' } },
  { title: 'STATE' },
  { title: 'LAST SNAPSHOT', right: true },
  { title: 'SIZE', right: true, rank: 5 },
  { title: '7 DAYS', right: true, rank: 4 },
  { title: 'QUOTA', right: true, rank: 2 },
  { title: 'NOW', right: true, rank: 3 },
  { title: 'DENIED', right: true, rank: 7 },
  { title: 'ANOMALIES', right: true, rank: 6 },
  { title: 'SCRUB', rank: 1 },
];

function describeAll(some: readonly ClientStatus[], all: readonly ClientStatus[]): string {
  const shown = ORDER.flatMap((state) => some.filter((one) => one.state === state));
  const rows = shown.map((one) => [
    ...[one.client, { text: one.state, style: COLOURS[one.state] }],
    one.lastSnapshot === undefined ? '' : ago(one.lastSnapshot.at),
    ...[sizeText(one), `+${formatBytes(one.arrivedLately)}`, quotaText(one)],
    one.running.length === 0 ? '' : `${one.running.length}`,
    one.denials.total === 0 ? '' : `${one.denials.total}`,
    openCount(one) === 0 ? '' : `${openCount(one)}`,
    scrubText(one),
  ]);
  const reasons = shown
    .filter(needsAttention)
    .flatMap(({ client, reasons: why }) => why.map((each) => `${client}: ${each}`));
  const counts = ORDER.flatMap((state) => {
    const count = all.filter((one) => one.state === state).length;
    return count === 0 ? [] : [`${count} ${state}`];
  });
  return [
    table(ALL_COLUMNS, rows),
    '\n',
    ...reasons.map((reason) => prose(printable(reason), '  ')),
    reasons.length > 0 ? `\n${prose('restic-gateway status CLIENT says more, and what to do.')}` : '',
    prose(`${counted(all.length, 'client')}${counts.length === 0 ? '' : `: ${counts.join(', ')}`}`),
  ].join('');
}

function describeOne(one: ClientStatus): string {
  const { lastSnapshot, repository, usualGapMs, expectEveryMs, lateAt, denials, size } = one;
  const rows: (readonly [string, string])[] = [['client', one.client]];
  rows.push(['state', inColour(one.state, one.state)]);
  for (const reason of one.reasons) rows.push(['', printable(reason)]);
  rows.push(
    ['access', one.access],
    ['repository', `store ${repository.store}, prefix ${repository.prefix || '(root)'}`],
  );
  rows.push([
    'last snapshot',
    lastSnapshot === undefined
      ? 'none since the audit began'
      : `${formatTime(lastSnapshot.at)}, ${ago(lastSnapshot.at)} ago, session ${printable(lastSnapshot.session)}`,
  ]);
  if (expectEveryMs !== undefined) rows.push(['expected', `every ${formatDuration(expectEveryMs)}, by the config`]);
  else if (usualGapMs !== undefined) rows.push(['expected', `usually within ${formatDuration(usualGapMs)}`]);
  if (lateAt !== undefined) rows.push(['late', `after ${formatTime(lateAt)}`]);
  rows.push([
    'snapshots',
    `${one.snapshots} arrived, ${one.days.slice(-7).reduce((sum, { snapshots }) => sum + snapshots, 0)} of them in 7 days`,
  ]);
  const how = {
    counted: 'counted for the quota',
    estimated: 'estimated from what arrived',
    scrub: 'by the last scrub',
  };
  rows.push([
    'size',
    size === undefined
      ? 'not known: the audit does not reach back to its beginning, and no scrub has counted it'
      : `${formatBytes(size.bytes)} (${how[size.by]})`,
  ]);
  rows.push(['arrived', `${formatBytes(one.arrived)}, ${formatBytes(one.arrivedLately)} of it in 7 days`]);
  if (one.quota !== undefined) rows.push(['quota', quotaText(one)]);
  const reasons = Object.entries(denials.byReason).map(([reason, count]) => `${reason} ${count}`);
  rows.push(['denied', reasons.length === 0 ? 'nothing in 7 days' : `in 7 days: ${printable(reasons.join(', '))}`]);
  for (const [index, line] of removedLines(one).entries()) rows.push([index === 0 ? 'removed' : '', line]);
  if (one.trash !== undefined) rows.push(['trash', trashText(one)]);
  rows.push(['scrub', scrubText(one) || 'never']);
  if (one.extended !== undefined) rows.push(['Object Lock', extendedText(one.extended)]);
  for (const [title, seen] of [['addresses', one.addresses] as const, ['keys', one.keys] as const])
    for (const [index, { value, first, last }] of [...seen].reverse().slice(0, SEEN_SHOWN).entries())
      rows.push([
        index === 0 ? title : '',
        `${printable(value)}  first ${formatTime(first)}, last ${formatTime(last)}`,
      ]);
  const parts = [rows.map(([title, value]) => prose(`${title.padEnd(TITLES)}${value}`, ' '.repeat(TITLES))).join('')];
  if (one.anomalies.length > 0) {
    parts.push(`\n${styled(process.stdout, 'bold', 'Open anomalies')}\n`);
    for (const { at, rule, session, what, advice, note } of one.anomalies)
      parts.push(
        prose(
          `${formatTime(at)}  ${rule}${note === true ? ' (note)' : ''}${session === undefined ? '' : `  session ${printable(session)}`}\n    ${printable(what)}\n    ${printable(advice)}`,
          '    ',
        ),
      );
    if (one.anomalies.some(({ rule }) => rule !== 'late'))
      parts.push(prose(`Seen and settled? restic-gateway status ${one.client} --acknowledge`, '    '));
  }
  const back = one.removals.filter(({ keptUntil }) => keptUntil !== undefined);
  if (back.length > 0) {
    parts.push(`\n${styled(process.stdout, 'bold', 'Removed; what of it the trash has, these bring back')}\n`);
    for (const { at, by, keptUntil, session, ...counts } of back.slice(0, REMOVALS_SHOWN))
      parts.push(
        prose(
          `${formatTime(at)}  by the ${by}: ${countsText(counts)}, ${by === 'client' && one.purgeHeld ? 'kept while an anomaly is open' : `kept until ${formatTime(keptUntil ?? at)}`}\n    restic-gateway trash restore ${one.client} --session ${printable(session)}`,
          '    ',
        ),
      );
    parts.push(prose(`All that it has: restic-gateway trash list ${one.client}`, '    '));
  }
  const sessions = [...one.running, ...one.latest.slice(0, SESSIONS_SHOWN)];
  if (sessions.length > 0)
    parts.push(
      `\n${styled(process.stdout, 'bold', 'Latest sessions')}\n${table(SESSION_COLUMNS, sessions.map(sessionRow))}`,
    );
  return parts.join('');
}

/** How wide the names of what is known of a client are. */
const TITLES = 15;
const SEEN_SHOWN = 5;
const REMOVALS_SHOWN = 5;
const SESSIONS_SHOWN = 20;

const SESSION_RANKS = { TIME: 7, OBJECTS: 1, SNAPSHOTS: 8, READ: 2, REMOVED: 4, DENIED: 9, FAILED: 3 } as const;

const SESSION_COLUMNS: readonly Column[] = [
  { title: 'SESSION', cut: { to: 16, at: 'middle' } },
  { title: 'VIA', rank: 6 },
  { title: 'FROM', rank: 5, cut: { to: 15, at: 'middle' } },
  ...(['TIME', 'ADDED', 'OBJECTS', 'SNAPSHOTS', 'READ', 'REMOVED', 'DENIED', 'FAILED'] as const).map((title) => ({
    title,
    right: true,
    ...(title !== 'ADDED' && { rank: SESSION_RANKS[title] }),
  })),
  { title: 'OUTCOME', cut: { to: 10, at: 'end' } },
];

function sessionRow(one: SessionFigures): readonly string[] {
  const count = (value: number): string => (value === 0 ? '' : `${value}`);
  return [
    ...[one.session, one.via, one.from ?? ''],
    one.end === undefined ? '' : formatDuration(one.end.getTime() - one.start.getTime()),
    formatBytes(one.added),
    ...[count(one.objects), count(one.snapshots)],
    one.end === undefined ? '' : formatBytes(one.bytesOut),
    ...[count(one.removed), count(one.denied), count(one.failed)],
    one.outcome,
  ];
}

/** What was removed lately, by whom. */
function removedLines({ removedLately: { byAdmin, byClient } }: ClientStatus): readonly string[] {
  const lines = [
    byClient.objects > 0 && `in 7 days by the client: ${countsText(byClient)}`,
    byAdmin.objects > 0 && `in 7 days by the admin: ${countsText(byAdmin)}`,
  ].filter((line) => line !== false);
  return lines.length === 0 ? ['nothing in 7 days'] : lines;
}

function countsText({ snapshots, objects, bytes }: RemovedFigures): string {
  return `${counted(snapshots, 'snapshot')}, ${counted(objects, 'object')} in all, ${formatBytes(bytes)}`;
}

function trashText({ trash, purgeHeld }: ClientStatus): string {
  if (trash === undefined) return '';
  const held = purgeHeld ? ', not purged while an anomaly is open' : '';
  const next =
    trash.purgeAt === undefined || purgeHeld
      ? ''
      : trash.purgeAt.getTime() <= Date.now()
        ? ', the oldest to be purged now'
        : `, the oldest to be purged in ${formatDuration(trash.purgeAt.getTime() - Date.now())}`;
  return `${countsText(trash)}${next}${held} (${ago(trash.at)} ago)`;
}

function sizeText({ size }: ClientStatus): string {
  if (size === undefined) return '';
  return size.by === 'estimated' ? `~${formatBytes(size.bytes)}` : formatBytes(size.bytes);
}

function quotaText({ quota }: ClientStatus): string {
  if (quota === undefined) return '';
  const of = `of ${formatBytes(quota.limit)}`;
  return quota.used === undefined ? of : `${Math.floor((100 * quota.used) / quota.limit)} % ${of}`;
}

function scrubText({ scrub }: ClientStatus): string {
  if (scrub === undefined) return '';
  const found = scrub.findings === 0 ? 'good' : `${scrub.findings} bad`;
  return `${found}${scrub.quick ? ' (quick)' : ''}, ${ago(scrub.finished)} ago`;
}

function extendedText({ at, objects, renewed, failed, complete }: NonNullable<ClientStatus['extended']>): string {
  if (!complete) return `not renewed, ${ago(at)} ago`;
  return `${objects} objects looked at, ${renewed} renewed${failed === 0 ? '' : `, ${failed} failed`}, ${ago(at)} ago`;
}

function inColour(state: ClientState, text: string): string {
  return styled(process.stdout, COLOURS[state], text);
}

function ago(then: Date): string {
  return formatDuration(Math.max(0, Date.now() - then.getTime()));
}
