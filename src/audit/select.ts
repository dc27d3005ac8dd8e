/** Choosing from the audit: its events by what they say, and the sessions that they add up to; the newest, in bounded memory. */
import { parseLine } from './lines.ts';
import { readLines } from './read.ts';

/** An event as it stands in the audit. */
type AuditEntry = Readonly<Record<string, unknown>>;

/** What is asked for; what is undefined does not matter. */
export interface Selection {
  /** By its name, or the id under which its history is kept. */
  readonly client: { readonly name: string; readonly id: string } | undefined;
  readonly session: string | undefined;
  readonly since: Date | undefined;
  readonly until: Date | undefined;
  /** The kind of event: `create`, `denied`, … */
  readonly kind: string | undefined;
}

/** Hears how many lines more were read, and the number of their file, from 1. */
type Saw = (lines: number, file: number) => void;

/** A session as it is in the audit. */
interface SessionSummary {
  readonly session: string;
  readonly client: string;
  readonly via: string;
  readonly from?: string;
  /** ISO 8601. */
  readonly start: string;
  /** These five are there once it has ended. */
  readonly durationMs?: number;
  readonly bytesIn?: number;
  readonly bytesOut?: number;
  readonly objectsCreated?: number;
  readonly denied?: number;
  /** Why it ended; `refused: …` when it was not let in; `open` while it runs, or when its process was killed. */
  readonly outcome: string;
}

/** The newest `limit` events that fit, oldest first. @throws GatewayError `audit-unavailable` */
export async function selectEvents(
  files: readonly string[],
  selection: Selection,
  limit: number,
  saw?: Saw,
): Promise<readonly AuditEntry[]> {
  const newest: AuditEntry[] = [];
  await eachEvent(files, saw, (event) => {
    if (fits(event, selection)) keepNewest(newest, event, limit);
  });
  return newest.slice(-limit);
}

/** The newest `limit` sessions that began in the time asked for, oldest first. @throws GatewayError `audit-unavailable` */
export async function selectSessions(
  files: readonly string[],
  selection: Selection,
  limit: number,
  saw?: Saw,
): Promise<readonly SessionSummary[]> {
  const newest: Numbered[] = [];
  const open = new Map<string, Numbered>();
  let number = 0;
  await eachEvent(files, saw, (event) => {
    const kind = text(event['event']);
    const session = text(event['session']);
    if (kind === 'session-start') {
      if (!fits(event, selection)) return;
      open.set(session, { number: number++, summary: { ...begun(event), outcome: 'open' } });
      // Of those that were killed there may be any number.
      if (open.size > limit) open.delete(open.keys().next().value ?? '');
    } else if (kind === 'session-refused') {
      if (fits(event, selection))
        keepNewest(
          newest,
          { number: number++, summary: { ...begun(event), outcome: `refused: ${text(event['reason'])}` } },
          limit,
        );
    } else if (kind === 'session-end') {
      const started = open.get(session);
      if (started === undefined) return;
      open.delete(session);
      const count = (name: string): number => (typeof event[name] === 'number' ? event[name] : 0);
      keepNewest(
        newest,
        {
          number: started.number,
          summary: {
            ...started.summary,
            durationMs: count('durationMs'),
            bytesIn: count('bytesIn'),
            bytesOut: count('bytesOut'),
            objectsCreated: count('objectsCreated'),
            denied: count('denied'),
            outcome: text(event['reason']),
          },
        },
        limit,
      );
    }
  });
  // By the order in which they began in the audit, whatever the clock was set to meanwhile.
  const all = [...newest, ...open.values()].sort((a, b) => a.number - b.number);
  return all.slice(-limit).map(({ summary }) => summary);
}

/** A session and its place among all. */
interface Numbered {
  readonly number: number;
  readonly summary: SessionSummary;
}

async function eachEvent(
  files: readonly string[],
  saw: Saw | undefined,
  take: (event: AuditEntry) => void,
): Promise<void> {
  for (const [index, file] of files.entries())
    for await (const lines of readLines(file)) {
      saw?.(lines.length, index + 1);
      for (const { bytes } of lines) {
        const event = parseLine(bytes);
        if (event !== undefined && !isDeep(event)) take(event);
      }
    }
}

/** What a gateway wrote has lists and counts by name, and nothing in those; what is nested by the thousand could not be printed. */
function isDeep(event: AuditEntry): boolean {
  return Object.values(event).some((value) => isNested(value) && Object.values(value).some(isNested));
}

function isNested(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function fits(event: AuditEntry, { client, session, since, until, kind }: Selection): boolean {
  if (client !== undefined && event['client'] !== client.name && (event['id'] ?? event['client']) !== client.id)
    return false;
  if (session !== undefined && event['session'] !== session) return false;
  if (kind !== undefined && event['event'] !== kind) return false;
  if (since === undefined && until === undefined) return true;
  const time = Date.parse(text(event['time']));
  return !(since !== undefined && time < since.getTime()) && !(until !== undefined && time > until.getTime());
}

/** Keeps twice as many at most, so that not each new one moves all. */
function keepNewest<T>(list: T[], one: T, limit: number): void {
  list.push(one);
  if (list.length >= 2 * limit) list.splice(0, list.length - limit);
}

function begun(event: AuditEntry): Omit<SessionSummary, 'outcome'> {
  return {
    session: text(event['session']),
    client: text(event['client']),
    via: text(event['via']),
    ...(typeof event['from'] === 'string' && { from: event['from'] }),
    start: text(event['time']),
  };
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
