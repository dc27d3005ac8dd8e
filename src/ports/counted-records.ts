/**
 * The lines of the audit that a client can cause at will, and that are therefore bounded: so many at once and an hour, over all of the
 * client's sessions and all processes of the machine. What is beyond is counted, and reported in a summary.
 */
import type { AuditEvent, SessionIdentity } from './audit-sink.ts';

/** What is counted where there is too much of it. */
export type CountedEvent = Extract<AuditEvent, { kind: 'session-refused' | 'denied' | 'failed' | 'throttled' }>;

/** A change that is about to be announced, of a client that may not have too many of them fail. */
export interface Attempt {
  /** It came about, or it failed after it was announced. */
  settle(outcome: 'done' | 'failed'): void;
}

/** One client's. */
export interface CountedRecords {
  /** Writes it or counts it. @returns whether it was written @throws GatewayError `audit-unavailable` */
  record(identity: SessionIdentity, event: CountedEvent): Promise<boolean>;
  /** A session that begins. @returns false when the client opens more than it may */
  session(): boolean;
  /** How many sessions it may open, in words: `1000/h`. */
  readonly sessionRate: string;
  /** A change that is to be announced. @returns undefined when too many have failed for now */
  attempt(): Attempt | undefined;
  /** Keeps what was counted in this process for whoever reports it, and reports it if that is due. Never rejects. */
  conclude(): Promise<void>;
}
