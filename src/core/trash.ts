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

/**
 * The file in a batch that says that the storage keeps by itself what was removed: written before the first removal of the batch, so that
 * when the storage took it in is, by the same clock, when these removals began. It is empty.
 */
export const KEPT_NOTE = 'kept-by-the-storage';

/** The batch whose note a key below the trash is; undefined for whatever else. */
export function parseKeptNote(key: string): TrashBatch | undefined {
  const slash = key.indexOf('/');
  return key.slice(slash + 1) === KEPT_NOTE ? parseBatchName(key.slice(0, slash)) : undefined;
}

/** A batch, and when the storage took its note in. */
export interface KeptNote {
  readonly batch: TrashBatch;
  readonly noted: Date;
}

/** Some storages tell times in whole seconds. */
const BEFORE_NOTE_MS = 2000;
/** A batch's removals begin within a minute, and each may take as long again. */
const AFTER_NOTE_MS = 120_000;

/**
 * Tells by the notes whose removal something was: of those that fit the newest, and a client's before the admin's, since a client's removals
 * are kept more carefully.
 * @returns a function of a time by the storage's clock; undefined for what was removed by no gateway
 */
export function removersBy(notes: readonly KeptNote[]): (removed: Date) => TrashBatch | undefined {
  const sorted = [...notes].sort((a, b) => b.noted.getTime() - a.noted.getTime());
  return (removed) => {
    let first = 0;
    for (let end = sorted.length; first < end;) {
      const middle = (first + end) >> 1;
      if ((sorted[middle]?.noted.getTime() ?? 0) > removed.getTime() + BEFORE_NOTE_MS) first = middle + 1;
      else end = middle;
    }
    let admins: TrashBatch | undefined;
    for (let at = first; at < sorted.length; at += 1) {
      const note = sorted[at];
      if (note === undefined || !fits(removed, note)) break;
      if (note.batch.by === 'client') return note.batch;
      admins ??= note.batch;
    }
    return admins;
  };
}

/** Whether something that was removed then may be of this batch. @param removed - by the storage's clock */
export function fits(removed: Date, { noted }: KeptNote): boolean {
  const after = removed.getTime() - noted.getTime();
  return after >= -BEFORE_NOTE_MS && after <= AFTER_NOTE_MS;
}

/** What a key below the trash stands for; undefined for what no gateway has put there. Locks never are there. */
export function parseTrashKey(key: string): { readonly batch: TrashBatch; readonly ref: ObjectRef } | undefined {
  const slash = key.indexOf('/');
  const [batch, ref] = [parseBatchName(key.slice(0, slash)), parseObjectKey(key.slice(slash + 1))];
  return batch === undefined || ref === undefined || ref.type === 'locks' ? undefined : { batch, ref };
}
