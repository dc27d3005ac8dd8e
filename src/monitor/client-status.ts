/**
 * The status of a client: what `status`, the metrics and the page show of it.
 */
import type { Access } from '../core/principal.ts';
import type { AnomalyRule } from '../ports/audit-sink.ts';

/**
 * In one word. `ok`: its backups come as they should and nothing is open. `late`: its snapshot is overdue. `attention`: an anomaly is open,
 * the last scrub found something, or the quota is nearly used up. `never`: it has made no snapshot yet. `disabled`: it may not come in
 * (disabled or expired). Of several the worst is reported, in the order disabled, attention, late, never, ok.
 */
export type ClientState = 'ok' | 'late' | 'attention' | 'never' | 'disabled';

/** Something out of the ordinary. */
export interface Anomaly {
  /** The same in every process and after every restart; unique within a client. */
  readonly id: string;
  readonly rule: AnomalyRule;
  /** When it began and when it was last seen. */
  readonly at: Date;
  readonly last: Date;
  /** How often it was seen from `at` to `last`. */
  readonly count: number;
  /** The session in which it began, where there is one. */
  readonly session?: string;
  /** Only worth a word: it calls for nobody's attention. */
  readonly note?: true;
  /** What happened, and what to do about it: a sentence each. */
  readonly what: string;
  readonly advice: string;
}

/** What one day (UTC) brought. */
export interface DayFigures {
  /** `2026-11-25`. */
  readonly day: string;
  /** Bytes of the objects that the client's sessions added, the admin's included; locks do not count. */
  readonly added: number;
  /** Bytes that sessions of the client which ended on that day have read; without the admin's. */
  readonly read: number;
  /** Snapshots that arrived. */
  readonly snapshots: number;
  /** Requests and sessions that were refused, without restic's own clean-up after a failed save. */
  readonly denied: number;
  /** What the repository held at its end by what arrived and was removed, where the audit reaches back to the repository's beginning. */
  readonly size?: number;
}

/** Something that was refused, as often in a row as the same session was refused it. */
export interface Refusal {
  /** The first and the last time of them. */
  readonly at: Date;
  readonly last: Date;
  readonly count: number;
  readonly session?: string;
  /** `save`, `remove`, `create-repository`, `request`, or `session` for one that was not let in; left out where they were only counted. */
  readonly operation?: string;
  /** The object of the first one; of a session, the address that it came from. */
  readonly object?: string;
  /** As in `ClientStanding.denials`. */
  readonly reason: string;
}

/** A session, running or ended. */
export interface SessionFigures {
  readonly session: string;
  /** `ssh`, `stdio`, or `admin` for the admin's restic. */
  readonly via: string;
  readonly from?: string;
  readonly key?: string;
  readonly start: Date;
  /** Once it has ended. */
  readonly end?: Date;
  /**
   * `running`; how it ended (`EndReason`); `lost` when its process was killed or could not write the audit any more.
   */
  readonly outcome: string;
  /** What it added, and how many objects it removed; locks do not count. */
  readonly added: number;
  readonly objects: number;
  readonly snapshots: number;
  readonly removed: number;
  /** Content bytes received and sent; 0 while it runs. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly denied: number;
  /** Requests that failed for the storage's or the gateway's sake. */
  readonly failed: number;
}

/** What was removed; locks do not count. Bytes are estimated where the audit does not say them. */
export interface RemovedFigures {
  readonly snapshots: number;
  readonly objects: number;
  readonly bytes: number;
}

/** What one session removed. */
export interface RemovalFigures extends RemovedFigures {
  readonly session: string;
  readonly by: 'admin' | 'client';
  /** When it removed the first and the last of it. */
  readonly at: Date;
  readonly last: Date;
  /** Until when the trash keeps it; left out where there is no trash. */
  readonly keptUntil?: Date;
}

/** What the trash of the repository held when it was last looked at. */
interface TrashFigures {
  readonly at: Date;
  readonly snapshots: number;
  readonly objects: number;
  readonly bytes: number;
  /** From when on the oldest of it is purged; left out when it holds nothing. */
  readonly purgeAt?: Date;
}

/** An address or a key that the client came with. */
interface SeenValue {
  /** An IPv4 address, an IPv6 network such as `2001:db8::/64`, or a key's fingerprint. */
  readonly value: string;
  readonly first: Date;
  readonly last: Date;
}

/** How a client stands now; its lists may be of a moment later, when they are first looked at. Sizes are in bytes, times in ms. Nothing in it is a secret; `from` and the like are of others' making. */
export interface ClientStatus {
  readonly client: string;
  readonly state: ClientState;
  /** Why it is not `ok`, a sentence each; empty when it is. */
  readonly reasons: readonly string[];
  readonly access: Access;
  readonly repository: { readonly store: string; readonly prefix: string };
  /** The newest snapshot that arrived from the client itself. */
  readonly lastSnapshot?: { readonly at: Date; readonly session: string };
  /** Only where it is no ordinary one: it probes, and no snapshot is expected. */
  readonly role?: 'probe';
  /** The newest probe that came to its end, with the number of checks that did not hold. */
  readonly lastProbe?: { readonly at: Date; readonly session: string; readonly failed: number };
  /** How many snapshots have arrived since the audit's beginning. */
  readonly snapshots: number;
  /** What it usually leaves at most between two snapshots: the second longest gap of the last six weeks; once there are enough. */
  readonly usualGapMs?: number;
  /** The config's `expectEvery`. */
  readonly expectEveryMs?: number;
  /** When it counts as late: by `expectEvery`, else by its usual gap; undefined when neither is known. */
  readonly lateAt?: Date;
  /**
   * What the repository holds. `counted`: by the quota's ledger. `estimated`: by what arrived, less the share of packs that were removed.
   * `scrub`: what the last scrub counted, where the audit does not reach back to the repository's beginning. Undefined when nobody has counted, either.
   */
  readonly size?: { readonly bytes: number; readonly by: 'counted' | 'estimated' | 'scrub' };
  /** Bytes that arrived since the audit's beginning, and in the last seven days. */
  readonly arrived: number;
  readonly arrivedLately: number;
  /** The last 90 days, oldest first, days without anything included. */
  readonly days: readonly DayFigures[];
  readonly quota?: { readonly limit: number; readonly used?: number };
  /** Those that run now, oldest first. */
  readonly running: readonly SessionFigures[];
  /** The latest that have ended, newest first; 50 at most. */
  readonly latest: readonly SessionFigures[];
  /** Of the last seven days, by reason; `total` is without restic's own clean-up after a failed save (`cleanup-after-failed-save`). */
  readonly denials: { readonly total: number; readonly byReason: Readonly<Record<string, number>> };
  /** The latest that were refused, newest first, restic's own clean-up not among them; 20 at most. */
  readonly refusals: readonly Refusal[];
  /** What was removed in the last seven days: by the client's sessions, and by the admin. */
  readonly removedLately: { readonly byClient: RemovedFigures; readonly byAdmin: RemovedFigures };
  /** By session, newest first: what the trash may still hold, or where there is none, of the last seven days; 20 at most. */
  readonly removals: readonly RemovalFigures[];
  /** Undefined where there is none, or nobody has looked. */
  readonly trash?: TrashFigures;
  /** An open anomaly holds back the purge of what the client has removed: `mass-removal`, or where removals are deferred any but `late`. */
  readonly purgeHeld: boolean;
  readonly addresses: readonly SeenValue[];
  readonly keys: readonly SeenValue[];
  /** The last scrub that came to its end. */
  readonly scrub?: {
    readonly finished: Date;
    readonly quick: boolean;
    readonly objects: number;
    readonly bytes: number;
    readonly findings: number;
    /** The first of them, 20 at most. */
    readonly found: readonly { readonly key: string; readonly problem: string; readonly detail: string }[];
  };
  /** The last renewal of the retention of what is in use, by `serve` or by `extend`; undefined where there was none. */
  readonly extended?: {
    readonly at: Date;
    readonly objects: number;
    readonly renewed: number;
    readonly failed: number;
    /** Whether all of the repository was gone through. */
    readonly complete: boolean;
    /** What went wrong first. */
    readonly problem?: string;
  };
  /** One that was begun and has not come to its end: it runs, or the same command takes it up again. Since `started`, it has read so much. */
  readonly unfinishedScrub?: {
    readonly started: Date;
    readonly quick: boolean;
    readonly objects: number;
    readonly bytes: number;
    readonly findings: number;
  };
  /**
   * Open ones, newest first: not acknowledged, and from the last seven days; `late` as long as it lasts. `mass-removal` stays open until it
   * is acknowledged, and so does every other one of a client whose removals are deferred.
   */
  readonly anomalies: readonly Anomaly[];
}

/** How many open anomalies call for attention. */
export function openCount({ anomalies }: Pick<ClientStatus, 'anomalies'>): number {
  return anomalies.filter(({ note }) => note !== true).length;
}
