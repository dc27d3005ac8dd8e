/** `restic-gateway audit show` and `restic-gateway sessions`: the newest of the audit, for people and for scripts. */
import { EVENT_KINDS } from '../audit/fields.ts';
import { withAuditFiles } from '../audit/read.ts';
import { selectEvents, selectSessions, type Selection } from '../audit/select.ts';
import { didYouMean } from '../config/problems.ts';
import { jsonLine } from './json.ts';
import { UsageError } from './command-line/usage-error.ts';
import { linesRead, withProgress } from './progress.ts';
import { loadOwnConfig } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';
import { formatBytes, formatDuration, table } from './terminal.ts';
import { parseTime } from './time.ts';

/** Options as the command line gives them. */
interface ShowArguments {
  readonly config: string | undefined;
  readonly client: string | undefined;
  readonly session: string | undefined;
  readonly since: string | undefined;
  readonly until: string | undefined;
  readonly kind?: string | undefined;
  readonly limit: number;
  readonly json: boolean;
}

/** @returns the exit status @throws GatewayError `usage`, `audit-unavailable` */
export async function runAuditShow(given: ShowArguments): Promise<number> {
  const { file, selection } = await prepare(given);
  const events = await withProgress('reading the audit log', (progress) =>
    withAuditFiles(file, (files) => selectEvents(files, selection, given.limit, linesRead(progress, files))),
  );
  if (given.json) return printLines(events.map((event) => jsonLine('event', { line: event })));
  const cell = (value: unknown): string => (typeof value === 'string' || typeof value === 'number' ? `${value}` : '');
  process.stdout.write(
    table(
      [
        { title: 'TIME' },
        { title: 'CLIENT', rank: 2, cut: { to: 8, at: 'middle' } },
        { title: 'SESSION', rank: 1, cut: { to: 8, at: 'middle' } },
        { title: 'EVENT', cut: { to: 12, at: 'end' } },
        { title: 'WHAT', cut: { to: 24, at: 'middle' } },
      ],
      events.map((event) => [
        timeOf(event['time']),
        cell(event['client']),
        cell(event['session']),
        cell(event['event']),
        [event['operation'], event['object'], event['reason'], event['detail']].map(cell).filter(Boolean).join(' '),
      ]),
    ),
  );
  return 0;
}

/** A moment of the audit, or what stands there in place of one. */
function timeOf(value: unknown): Date | string {
  if (typeof value !== 'string') return '';
  const time = new Date(value);
  return /^\d{4}-/.test(value) && !Number.isNaN(time.getTime()) ? time : value;
}

/** @returns the exit status @throws GatewayError `usage`, `audit-unavailable` */
export async function runSessions(given: ShowArguments): Promise<number> {
  const { file, selection } = await prepare(given);
  const sessions = await withProgress('reading the audit log', (progress) =>
    withAuditFiles(file, (files) => selectSessions(files, selection, given.limit, linesRead(progress, files))),
  );
  if (given.json) return printLines(sessions.map((one) => jsonLine('session', sessionOf(one))));
  const right = true;
  const bytes = (count: number | undefined): string => (count === undefined ? '' : formatBytes(count));
  process.stdout.write(
    table(
      [
        { title: 'SESSION', cut: { to: 16, at: 'middle' } },
        { title: 'CLIENT', cut: { to: 8, at: 'middle' } },
        { title: 'VIA', rank: 3 },
        { title: 'FROM', rank: 4, cut: { to: 15, at: 'middle' } },
        { title: 'TIME', right, rank: 5 },
        { title: 'IN', right, rank: 6 },
        { title: 'OUT', right, rank: 2 },
        { title: 'OBJECTS', right, rank: 1 },
        { title: 'DENIED', right, rank: 7 },
        { title: 'OUTCOME', cut: { to: 10, at: 'end' } },
      ],
      sessions.map((one) => [
        ...[one.session, one.client, one.via, one.from ?? ''],
        one.durationMs === undefined ? '' : formatDuration(one.durationMs),
        ...[bytes(one.bytesIn), bytes(one.bytesOut), `${one.objectsCreated ?? ''}`, `${one.denied ?? ''}`],
        one.outcome,
      ]),
    ),
  );
  return 0;
}

async function prepare(given: ShowArguments): Promise<{ readonly file: string; readonly selection: Selection }> {
  refuseInForcedCommand();
  const { client, session, since, until, kind, limit } = given;
  if (!Number.isInteger(limit) || limit < 1 || limit > 1_000_000)
    throw new UsageError('--limit must be a whole number from 1 to 1000000');
  if (kind !== undefined && !EVENT_KINDS.some((known) => known === kind))
    throw new UsageError(
      `--kind ${kind}: there is no such kind of event${didYouMean(kind, EVENT_KINDS) || `; there are: ${EVENT_KINDS.join(', ')}`}`,
    );
  const config = await loadOwnConfig(given.config);
  const selection = {
    ...{ session, kind },
    client: client === undefined ? undefined : { name: client, id: config.clients[client]?.id ?? client },
    since: since === undefined ? undefined : parseTime(since, '--since'),
    until: until === undefined ? undefined : parseTime(until, '--until'),
  };
  return { file: config.audit.file, selection };
}

/** A session by the names that it has in `status --json`. */
function sessionOf({ durationMs, objectsCreated, ...one }: Awaited<ReturnType<typeof selectSessions>>[number]): object {
  const end = durationMs === undefined ? undefined : new Date(Date.parse(one.start) + durationMs);
  const ended = end !== undefined && !Number.isNaN(end.getTime());
  return { ...one, ...(ended && { end }), ...(objectsCreated !== undefined && { objects: objectsCreated }) };
}

function printLines(lines: readonly string[]): number {
  for (const line of lines) process.stdout.write(line);
  return 0;
}
