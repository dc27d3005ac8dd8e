/** What is asked of those who work on a trash, and what they answer. */
import type { RemovedBy } from '../core/trash.ts';
import type { AuditSink, SessionIdentity } from '../ports/audit-sink.ts';
import type { RepositoryMaintenance } from '../ports/repository-maintenance.ts';

/** A trash on which something is done, and for whom. */
export interface TrashWork {
  readonly maintenance: RepositoryMaintenance;
  readonly audit: AuditSink;
  /** Whose it is in the audit: the admin, under an id that was made for this. */
  readonly identity: SessionIdentity;
  readonly signal: AbortSignal;
}

/** What is to come back: all that was removed since a time, by a session, or ever. */
export type TrashSelection = { readonly since: Date } | { readonly session: string } | 'all';

/** What is purged, and how. */
export interface PurgeRequest {
  /** What was removed before this. */
  readonly before: Date;
  /** Whether what was removed by these is purged at all. */
  readonly may: (by: RemovedBy) => boolean;
  /** Rests after each page of a list for as long as that took, so that others have the storage, too. */
  readonly gently: boolean;
}

/** What came of purging. */
export interface PurgeCounts {
  objects: number;
  bytes: number;
  /** Objects that the storage keeps until their retention ends. */
  retained: number;
  /** Of what was purged, files that the storage keeps as older versions all the same, as it does not let those be removed. */
  hidden: number;
  /** Versions are old enough, and the storage does not let them be removed, whatever their retention. */
  denied: boolean;
  /** Batches, and versions, that are old enough and are not purged as yet: they are held, or were removed after what is held or retained. */
  waiting: number;
}

/** Nothing was purged yet. */
export function noPurge(): PurgeCounts {
  return { objects: 0, bytes: 0, retained: 0, hidden: 0, denied: false, waiting: 0 };
}
