/**
 * What the audit adds up to: plain data that a checkpoint keeps as JSON, bounded whatever the audit's length. Times are ms since 1970,
 * sizes bytes. `reduce.ts` makes it.
 */
import type { AnomalyRule } from '../ports/audit-sink.ts';

/** Goes up whenever the same lines would add up to something else, so that checkpoints from before are not used. */
export const MODEL_VERSION = 9;

/** Texts of the audit that are longer, in characters, are none that a session has written there. */
export const LONGEST_WORD = 1000;

export const DAY_MS = 86_400_000;
/** How far the rules look back: six weeks, so that what happens once a month is known. */
export const LOOK_BACK_DAYS = 42;
/** How many days are kept, for the plots. */
export const KEPT_DAYS = 90;
/** Anomalies older than this are forgotten, in ms; they are shown for a shorter time. */
export const ANOMALY_KEPT_MS = 30 * DAY_MS;

/** The most that is kept for each client; of anomalies for each rule, of refusals for sessions and for requests, of
 * removals for the admin and for the client. */
export const MOST = {
  open: 24,
  latest: 50,
  arrivals: 30,
  seen: 32,
  anomalies: 20,
  reasons: 32,
  refusals: 10,
  pending: 32,
  removals: 10,
  forged: 100,
} as const;

/** Everything. */
export interface Model {
  /** The latest time of all lines since the clock was last set back. */
  latest: number;
  readonly clients: Map<string, ClientRecord>;
  /** By `repositoryKey`. */
  readonly repositories: Map<string, RepositoryRecord>;
}

/** What was removed; locks do not count. Bytes are estimated where the audit does not say them. */
export interface RemovedCounts {
  snapshots: number;
  objects: number;
  bytes: number;
}

/** What one session removed. */
export interface RemovalRecord extends RemovedCounts {
  readonly session: string;
  /** `admin`, or the client's way in. */
  readonly via: string;
  readonly at: number;
  last: number;
}

/** What a day (UTC) brought a client. */
export interface DayRecord {
  /** `2026-11-25`. */
  readonly day: string;
  added: number;
  read: number;
  snapshots: number;
  /** By reason. */
  denied: Record<string, number>;
  /** The two longest gaps between snapshots that ended on this day. */
  gaps: [number, number];
  /** The most snapshots in one hour of the clock. */
  busiestHour: number;
  /** What its sessions removed on this day, and what the admin did; left out where that is nothing. */
  removed?: RemovedCounts;
  removedByAdmin?: RemovedCounts;
  /** What the repository held when it last changed on this day; left out when the audit does not know all of it. */
  size?: number;
}

/** Something that was refused, as often as the same session was refused the same in a row. */
export interface RefusalRecord {
  readonly at: number;
  last: number;
  count: number;
  readonly session?: string;
  readonly operation?: string;
  readonly object?: string;
  readonly reason: string;
}

/** A snapshot that arrived. */
export interface Arrival {
  readonly at: number;
  readonly session: string;
  /** `snapshots/…`. */
  readonly object: string;
  /** In quarantine. */
  gone?: true;
}

/** A session that was begun and not ended. */
export interface OpenRecord {
  readonly session: string;
  readonly via: string;
  readonly from?: string;
  readonly key?: string;
  readonly start: number;
  added: number;
  objects: number;
  snapshots: number;
  removed: number;
  denied: number;
  failed: number;
  /** Key files added before the repository was known to exist: `init` brings one. */
  earlyKeys: number;
  /** The newest creates, which a `create-failed` takes back. */
  pending: { readonly object: string; readonly size: number }[];
  /** The newest removals, which a `remove-failed` takes back. */
  removing: { readonly object: string; readonly bytes: number; readonly arrived?: number }[];
}

/** A session that ended. */
export interface EndedRecord extends Omit<OpenRecord, 'pending' | 'removing' | 'earlyKeys'> {
  readonly end: number;
  readonly outcome: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** An address or a key. */
export interface SeenRecord {
  readonly value: string;
  readonly first: number;
  last: number;
}

/** An anomaly that an event of the audit raised. */
export interface AnomalyRecord {
  readonly id: string;
  readonly rule: Exclude<AnomalyRule, 'late'>;
  readonly at: number;
  last: number;
  count: number;
  readonly session?: string;
  /** Where sessions are counted: the newest of them. */
  counted?: string;
  /** What its words need. */
  facts: Readonly<Record<string, string | number>>;
  /** It stands in the audit. */
  reported?: true;
  acknowledged?: true;
}

/** One client. */
export interface ClientRecord {
  /** When its first session began; the admin's do not count. */
  first: number;
  sessions: number;
  snapshots: number;
  arrived: number;
  /** As `ClientStanding.usualGapMs`, as of the newest snapshot. */
  usualGap?: number;
  /** When its first snapshot arrived. */
  firstSnapshot?: number;
  /** The newest snapshots, oldest first. */
  arrivals: Arrival[];
  /** The hour of the clock (hours since 1970) of the newest snapshot, and how many came in it. */
  hour: { hour: number; snapshots: number };
  /** Oldest first, days without anything left out. */
  days: DayRecord[];
  open: OpenRecord[];
  /** Newest first. */
  latest: EndedRecord[];
  /** Most lately seen last. */
  addresses: SeenRecord[];
  keys: SeenRecord[];
  /** Oldest first. */
  refusals: RefusalRecord[];
  /** Oldest first. */
  anomalies: AnomalyRecord[];
  /** Oldest first. */
  removals: RemovalRecord[];
  /** The newest moves into quarantine and back, which a failure takes back. */
  moves: {
    readonly session: string;
    readonly object: string;
    /** By how much it changed what counts as removed. */
    readonly removed: number;
    /** As `countTakenOut`, of a snapshot. */
    readonly day?: string;
    /** A snapshot that was gone already. */
    readonly gone?: true;
  }[];
  /** Snapshots that claim another time than they arrived at, and that nobody has accepted; oldest first. */
  forged: string[];
  /** The newest probe that came to its end; of no interest but with `role: probe`. */
  probe?: { readonly at: number; readonly session: string; readonly failed: number };
  /** Ids of the last `late` anomalies that stand in the audit. */
  reportedLate: string[];
}

/** Objects of one kind: what came, and how many were taken away. */
export interface ObjectCounts {
  created: number;
  bytes: number;
  removed: number;
}

/** One repository, which several clients may share. */
export interface RepositoryRecord {
  /** The id of the client who last added a snapshot, or made it. */
  by?: string;
  /** Whether the audit has seen its config come, so that it knows all of it. */
  begun: boolean;
  packs: ObjectCounts;
  /** Everything else but locks. */
  others: ObjectCounts;
  /** When something first came or went; 0 before that. */
  first: number;
  /** Snapshots that it holds by what came and went; below nothing where the audit does not reach back. */
  held: number;
  /** Snapshots of the days that are not kept any more. */
  past: { arrived: number; gone: number };
  /** Oldest first, days without any change left out. */
  days: RepositoryDay[];
  /** What clients removed in the last week, or since an admin has last seen it; in no order. */
  hours: RemovedHour[];
}

/** What clients removed; of snapshots, how many of them were old. */
interface RemovedByClients {
  snapshots: number;
  old: number;
  bytes: number;
}

/** The same in one hour of the clock, in hours since 1970. */
export interface RemovedHour extends RemovedByClients {
  readonly hour: number;
}

/** What a day (UTC) did to a repository. */
export interface RepositoryDay {
  readonly day: string;
  /** Snapshots and bytes that it held at its beginning; 0 where that is not known. */
  readonly held: number;
  readonly size: number;
  /** Snapshots that arrived on it, and how many of those are gone. */
  arrived: number;
  gone: number;
  removed: RemovedByClients;
}

export function emptyModel(): Model {
  return { latest: 0, clients: new Map(), repositories: new Map() };
}

export function emptyClient(): ClientRecord {
  return {
    ...{ first: 0, sessions: 0, snapshots: 0, arrived: 0, arrivals: [], hour: { hour: 0, snapshots: 0 } },
    ...{ days: [], open: [], latest: [], addresses: [], keys: [], refusals: [], anomalies: [] },
    ...{ removals: [], moves: [], forged: [], reportedLate: [] },
  };
}

export function emptyRepository(): RepositoryRecord {
  const none = { created: 0, bytes: 0, removed: 0 };
  return {
    ...{ begun: false, packs: { ...none }, others: { ...none } },
    ...{ first: 0, held: 0, past: { arrived: 0, gone: 0 }, days: [], hours: [] },
  };
}

export function repositoryKey({ store, prefix }: { readonly store: string; readonly prefix: string }): string {
  return `${store}/${prefix}`;
}

/** What a repository holds by what came, less the share that was taken away; undefined when the audit does not know all of it. */
export function estimatedSize(repository: RepositoryRecord | undefined): number | undefined {
  if (repository?.begun !== true) return undefined;
  const left = ({ created, bytes, removed }: ObjectCounts): number =>
    created === 0 ? 0 : bytes * Math.max(0, 1 - removed / created);
  return Math.round(left(repository.packs) + left(repository.others));
}

export function dayOf(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}

/** The days before the one of `time`, as far as the rules look back. */
export function earlierDays(client: ClientRecord, time: number): readonly DayRecord[] {
  const [today, oldest] = [dayOf(time), dayOf(time - LOOK_BACK_DAYS * DAY_MS)];
  return client.days.filter(({ day }) => day < today && day >= oldest);
}
