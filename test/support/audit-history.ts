/** Made-up audits: the lines that sessions of restic leave, by what they did. */

/** A line of the audit as an object. */
export type HistoryLine = Readonly<Record<string, unknown>>;

/** What a session did. What is left out did not happen. */
export interface Story {
  readonly client?: string;
  readonly via?: 'ssh' | 'stdio' | 'admin';
  readonly from?: string;
  readonly key?: string;
  readonly prefix?: string;
  /** `init`: a key file, then the config. */
  readonly init?: boolean;
  readonly packs?: number;
  /** Of each pack, in bytes; 1 MiB by default. */
  readonly packSize?: number;
  readonly snapshots?: number;
  /** Key files. */
  readonly keys?: number;
  /** Bytes. */
  readonly read?: number;
  readonly removedPacks?: number;
  readonly removedSnapshots?: number;
  /** Further lines in the middle of it. */
  readonly also?: readonly HistoryLine[];
  readonly minutes?: number;
  /** It was killed: it has no end. */
  readonly killed?: boolean;
}

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;
/** A Monday. */
export const MONDAY = Date.parse('2026-03-02T00:00:00Z');

let names = 0;
const nextName = (): string => (++names).toString(16).padStart(64, '0');

/** The lines of one session that begins at a time, in ms since 1970. */
export function sessionLines(start: number, story: Story): HistoryLine[] {
  const { client = 'appsrv', via = 'ssh', minutes = 5, packSize = 2 ** 20 } = story;
  const created: HistoryLine[] = [];
  const create = (object: string, size: number): void => {
    created.push({ event: 'create', object, size, sha256: '' });
  };
  if (story.init === true) {
    create(`keys/${nextName()}`, 450);
    create('config', 155);
  }
  create(`locks/${nextName()}`, 150);
  for (let count = 0; count < (story.packs ?? 0); count++) create(`data/${nextName()}`, packSize);
  if ((story.packs ?? 0) > 0) create(`index/${nextName()}`, 1000);
  for (let count = 0; count < (story.keys ?? 0); count++) create(`keys/${nextName()}`, 450);
  for (let count = 0; count < (story.snapshots ?? 0); count++) create(`snapshots/${nextName()}`, 300);
  const remove = (object: string): HistoryLine => ({ event: 'remove', object });
  for (let count = 0; count < (story.removedPacks ?? 0); count++) created.push(remove(`data/${nextName()}`));
  for (let count = 0; count < (story.removedSnapshots ?? 0); count++) created.push(remove(`snapshots/${nextName()}`));
  created.push(...(story.also ?? []), remove(`locks/${nextName()}`));
  const end = {
    ...{ event: 'session-end', reason: 'client-ended', bytesIn: 1, bytesOut: story.read ?? 2000 },
    ...{ objectsCreated: 1, objectsRemoved: 1, denied: 0, durationMs: minutes * 60_000 },
  };
  const events: HistoryLine[] = [{ event: 'session-start' }, ...created, ...(story.killed === true ? [] : [end])];
  const session = `${new Date(start).toISOString().replace(/[-:]|\.\d+/g, '')}-${nextName().slice(-10)}`;
  return events.map((event, index) => ({
    time: new Date(start + Math.floor((minutes * 60_000 * index) / (events.length - 1))).toISOString(),
    v: 1,
    ...{ session, client, via, key: story.key ?? 'SHA256:one', from: story.from ?? '192.0.2.7' },
    ...{ access: 'append-only', store: 'store', prefix: story.prefix ?? client },
    ...event,
  }));
}

/** Lines in the order of their times, as an audit has them. */
export function inOrder(lines: readonly HistoryLine[]): readonly HistoryLine[] {
  return [...lines].sort((a, b) => Date.parse(String(a['time'])) - Date.parse(String(b['time'])));
}

/** `days` days of a backup a night at 02:00, the first of which makes the repository. @param story - what each night is beside that */
export function nightly(start: number, days: number, story: Story = {}): HistoryLine[] {
  return Array.from({ length: days }, (_, day) =>
    sessionLines(start + day * DAY + 2 * HOUR, { init: day === 0, packs: 5, snapshots: 1, ...story }),
  ).flat();
}
