/**
 * Where the audit goes, and what its events say. The events are complete here; a sink adds time, sequence and chain.
 */
import type { ErrorCode } from '../core/errors.ts';
import type { ObjectRef } from '../core/object.ts';
import type { Operation } from '../core/operation.ts';
import type { DenialReason } from '../core/policy.ts';
import type { Access, Principal } from '../core/principal.ts';
import type { Rate } from './throttle.ts';

/** Who and where an event belongs to; the same for all events of a session. */
export interface SessionIdentity {
  /** The session's id, unique over gateways and restarts. */
  readonly session: string;
  readonly principal: Principal;
  readonly access: Access;
  /** The store's name in the config and the repository's prefix in it. */
  readonly repository: { readonly store: string; readonly prefix: string };
}

/** What a session has done, in its last event. */
interface SessionTotals {
  /** Content bytes received from and sent to the client. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly objectsCreated: number;
  readonly objectsRemoved: number;
  readonly denied: number;
  readonly durationMs: number;
}

/** How a session ended. */
export type EndReason =
  /** The client closed it. */
  | 'client-ended'
  /** The connection broke. */
  | 'connection-lost'
  /** The client broke the protocol. */
  | 'protocol-error'
  /** A defect of the gateway, which ends the session that met it and no other; its log has it. */
  | 'gateway-failed'
  /** The gateway shut down. */
  | 'gateway-stopped'
  /** The key was removed, disabled or expired while the session ran. */
  | 'revoked'
  /** It held a lock when the admin wanted the repository alone, and said that such sessions are ended. */
  | 'ended-by-admin';

/** The rules by which something is out of the ordinary; docs/monitoring.md explains each. */
export const ANOMALY_RULES = [
  'late',
  'snapshot-burst',
  'read-spike',
  'new-address',
  'new-key',
  'denied-delete',
  'overwrite',
  'key-upload',
  'mass-removal',
  'forged-time',
  'probe-failed',
] as const;
/** One of `ANOMALY_RULES`. */
export type AnomalyRule = (typeof ANOMALY_RULES)[number];

/**
 * One event.
 *
 * `create` and `remove` are written before the change becomes visible, so that nothing changes that the audit does not have. When the
 * change then did not happen, `create-failed` or `remove-failed` for the same object follows in the same session; so with `quarantine` and
 * `restore`.
 */
export type AuditEvent =
  /** `overrideProtect`: the admin has said that it may remove snapshots that are protected. */
  | { readonly kind: 'session-start'; readonly overrideProtect?: true }
  | ({ readonly kind: 'session-end'; readonly reason: EndReason } & SessionTotals)
  /** A client that authenticated but was not let in (limits, disabled, expired). `detail` is what it was told. */
  | { readonly kind: 'session-refused'; readonly reason: string; readonly detail: string }
  | { readonly kind: 'create'; readonly ref: ObjectRef; readonly size: number; readonly sha256: string }
  /** `exists`: the same content was there already; else the error. */
  | { readonly kind: 'create-failed'; readonly ref: ObjectRef; readonly reason: 'exists' | ErrorCode }
  /** `size`, in bytes, and when it arrived, ISO 8601, are there where that was looked up: of snapshots, and of what a client removes. */
  | { readonly kind: 'remove'; readonly ref: ObjectRef; readonly size?: number; readonly arrived?: string }
  | { readonly kind: 'remove-failed'; readonly ref: ObjectRef; readonly reason: 'absent' | ErrorCode }
  /**
   * The admin's undo takes an object out of the repository into quarantine, or brings it back; the session is the undo's id. The trash
   * brings objects back, too, under an id of its own.
   */
  | { readonly kind: 'quarantine' | 'restore'; readonly ref: ObjectRef }
  | {
      readonly kind: 'quarantine-failed' | 'restore-failed';
      readonly ref: ObjectRef;
      readonly reason: 'absent' | 'taken' | ErrorCode;
    }
  /**
   * Object Lock, for a repository as it is now: the admin renews the retention of what is in it until that time (ISO 8601), puts a legal
   * hold on it, or ends that. Written before the first change.
   */
  | { readonly kind: 'extend'; readonly until: string }
  | { readonly kind: 'hold' | 'release' }
  /** What came of it, in objects; `complete` is false when it was stopped or failed. The session is the one of its beginning. */
  | {
      readonly kind: 'extended' | 'held' | 'released';
      /** Looked at. */
      readonly objects: number;
      readonly changed: number;
      readonly failed: number;
      readonly complete: boolean;
    }
  /**
   * A batch of the trash, objects that were removed together, is to be gone for good (`purge`, written before the first is discarded), and what
   * of it is gone (`purged`, with the bytes of that). The second is missing when the process was killed.
   */
  | { readonly kind: 'purge' | 'purged'; readonly batch: string; readonly objects: number; readonly bytes: number }
  /** Storage or gateway failed a request; the client was answered 5xx. `detail` is for the admin and holds no secret. */
  | {
      readonly kind: 'failed';
      readonly operation: Operation['kind'];
      readonly ref?: ObjectRef;
      readonly reason: ErrorCode;
      readonly detail: string;
    }
  /** The audit itself shows something out of the ordinary, in this session if it is one's. `anomaly` is its id within the client. */
  | { readonly kind: 'anomaly'; readonly rule: AnomalyRule; readonly anomaly: string; readonly detail: string }
  /** The admin has seen it. */
  | { readonly kind: 'anomaly-acknowledged'; readonly rule: AnomalyRule; readonly anomaly: string }
  /** `forget` has read a snapshot that claims to be from another time than it arrived at, by more than a day. Both are ISO 8601. */
  | { readonly kind: 'forged-time'; readonly ref: ObjectRef; readonly claimed: string; readonly arrived: string }
  /** The admin has said that what this snapshot claims is right. */
  | { readonly kind: 'time-accepted'; readonly ref: ObjectRef }
  /** A rate of the client has made this session wait for a second by now; once a session for each rate. `limit` is the rate: `50MiB/s`. */
  | { readonly kind: 'throttled'; readonly reason: Rate; readonly limit: string }
  /** Of the gateway itself: the audit's file was removed, replaced or cut off while it was in use. */
  | { readonly kind: 'audit-lost'; readonly detail: string }
  /** Of the gateway itself: a copy of the audit has not been complete for a while, and then that it is again. `copy` names it. */
  | { readonly kind: 'copy-late'; readonly copy: string; readonly detail: string }
  | { readonly kind: 'copy-caught-up'; readonly copy: string; readonly lateMs: number }
  /** What was not written line by line, because there was so much of it, over all sessions of the client, by reason: */
  | {
      /** refused sessions; denials, failures and throttles. */
      readonly kind: 'more-refused' | 'more-denied';
      readonly count: number;
      readonly reasons: Readonly<Record<string, number>>;
    }
  | {
      readonly kind: 'denied';
      /** What was tried: the operation's kind, or `request` for one that could not be parsed. */
      readonly operation: 'save' | 'remove' | 'create-repository' | 'request';
      readonly ref?: ObjectRef;
      readonly reason: DenialReason | ErrorCode | 'overwrite' | 'cleanup-after-failed-save';
    };

/** Takes the audit's events. */
export interface AuditSink {
  /**
   * Writes one event. Resolves when the line has been handed to the system whole; lines of many processes in one file never mix.
   * @param identity - whose it is; `gateway` for what belongs to no client
   * @throws GatewayError `audit-unavailable`; the caller then changes nothing
   */
  append(identity: SessionIdentity | 'gateway', event: AuditEvent): Promise<void>;
  /** Resolves when all events are written and the sink's files are closed. */
  close(): Promise<void>;
}
