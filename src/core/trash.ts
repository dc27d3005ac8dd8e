/**
 * The trash of a repository: `.restic-gateway/trash/<batch>/<key>`, where what was removed through a gateway lies until it is purged.
 *
 * A batch is what one session removed within one minute: `20261127T0304Z_20261127T030400Z-0123456789_admin`, which is the minute by the
 * gateway's clock, the session's id, and whether it was the admin's or a client's. So names sort by time. Whoever may write to the storage
 * may have made others, of which nothing is taken.
 */

import { parseObjectKey, type ObjectRef } from './object.ts';

/** Who removed what is in a batch. */
export type RemovedBy = 'admin' | 'client';

/** A batch, as its name tells. */
export interface TrashBatch {
  readonly name: string;
  /** The minute of the removal. */
  readonly removed: Date;
  readonly session: string;
  readonly by: RemovedBy;
}

const NAME = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)Z_(\d{8}T\d{6}Z-[0-9a-f]{6,32})_(admin|client)$/;

/** The name of the batch that something removed at this time belongs to. @param session - as `timedId` makes them */
export function batchName(removed: Date, session: string, by: RemovedBy): string {
  const minute = removed.toISOString().slice(0, 'yyyy-mm-ddThh:mm'.length).replaceAll(/[-:]/g, '');
  return `${minute}Z_${session}_${by}`;
}

/** What a batch's name says; undefined for one that no gateway has given. */
export function parseBatchName(name: string): TrashBatch | undefined {
  const [, year, month, day, hour, minute, session, by] = NAME.exec(name) ?? [];
  if (session === undefined || by === undefined) return undefined;
  const removed = new Date(`${year ?? ''}-${month ?? ''}-${day ?? ''}T${hour ?? ''}:${minute ?? ''}:00Z`);
  const batch: TrashBatch = { name, removed, session, by: by === 'admin' ? 'admin' : 'client' };
  // The 31st of February is no day.
  if (Number.isNaN(removed.getTime()) || batchName(removed, session, batch.by) !== name) return undefined;
  return batch;
}

/** What a key below the trash stands for; undefined for what no gateway has put there. Locks never are there. */
export function parseTrashKey(key: string): { readonly batch: TrashBatch; readonly ref: ObjectRef } | undefined {
  const slash = key.indexOf('/');
  const [batch, ref] = [parseBatchName(key.slice(0, slash)), parseObjectKey(key.slice(slash + 1))];
  return batch === undefined || ref === undefined || ref.type === 'locks' ? undefined : { batch, ref };
}
