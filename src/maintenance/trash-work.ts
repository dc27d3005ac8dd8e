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

/**
 * Purges what was found due, told before so that nothing goes that the audit does not have, and after with what has gone by then.
 * @param due - what the audit is told; nothing when it has no objects
 * @param purge - adds what has gone to `counts`
 */
export async function purgeNoted(
  { audit, identity }: TrashWork,
  due: { readonly batch: string; readonly objects: number; readonly bytes: number },
  counts: Readonly<PurgeCounts>,
  purge: () => Promise<void>,
): Promise<void> {
  if (due.objects > 0) await audit.append(identity, { kind: 'purge', ...due });
  const { objects, bytes } = counts;
  const noteGone = async (): Promise<void> => {
    const gone = { objects: counts.objects - objects, bytes: counts.bytes - bytes };
    if (gone.objects > 0) await audit.append(identity, { kind: 'purged', batch: due.batch, ...gone });
  };
  try {
    await purge();
  } catch (error) {
    // Why the purge ended says more than why the audit could not be written after it.
    await noteGone().catch(() => undefined);
    throw error;
  }
  await noteGone();
}
