/** What the requests of one session are served with. */
import type { Grant } from '../core/principal.ts';
import type { AuditSink, SessionIdentity } from '../ports/audit-sink.ts';
import type { CountedRecords } from '../ports/counted-records.ts';
import type { Log } from '../ports/log.ts';
import type { SessionMeter } from '../ports/meter.ts';
import type { RepositoryStore } from '../ports/repository-store.ts';
import type { Throttle } from '../ports/throttle.ts';
import type { Turns } from '../ports/turns.ts';

/** What a handler serves and reports to. */
export interface HandlerContext {
  readonly identity: SessionIdentity;
  readonly grant: Grant;
  readonly store: RepositoryStore;
  /** Undefined for who is held to no rate. */
  readonly throttle: Throttle | undefined;
  /** Undefined for who waits for nobody. */
  readonly turns?: Turns | undefined;
  readonly audit: AuditSink;
  /** Takes what a client can cause as often as it likes. */
  readonly records: CountedRecords;
  readonly log: Log;
  /** Undefined where nobody wants to know. */
  readonly meter?: SessionMeter | undefined;
  /** Says one plain line to the person at the client. */
  readonly notify: (line: string) => void;
  /** Whether it is the admin's, who has said that protected snapshots may be removed; the grant has no floor then. */
  readonly overrideProtect?: boolean;
  /** Awaited before the locks are listed, as long as it takes; undefined for who need not wait. */
  readonly beforeLocks?: ((signal: AbortSignal) => Promise<void>) | undefined;
}

/** What the session has done so far. */
export interface Counts {
  bytesIn: number;
  bytesOut: number;
  objectsCreated: number;
  objectsRemoved: number;
  denied: number;
}
