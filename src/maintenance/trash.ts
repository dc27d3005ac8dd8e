/**
 * The trash of a repository, as the admin lists, restores and purges it. What lies there and in which order it was removed is told by the
 * names of the batches alone (`src/core/trash.ts`): nothing is written beside, so that nothing can be lost or forged but the objects.
 *
 * Whatever cuts restoring or purging off, the same again completes it; and any number of processes may do either at once.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { asGatewayError } from '../core/errors.ts';
import { CONFIG_REF, objectKey, type ObjectRef } from '../core/object.ts';
import { parseBatchName, parseTrashKey, type RemovedBy, type TrashBatch } from '../core/trash.ts';
import type { AuditSink, SessionIdentity } from '../ports/audit-sink.ts';
import { TRASH, type RepositoryMaintenance, type StoredFile } from '../ports/repository-maintenance.ts';
import { inPool } from './pool.ts';
import { noCounts, moveTold, type MoveCounts } from './quarantine.ts';

const AT_ONCE = 16;

/** Order of coming back: nothing points at anything that is not there yet. Purging goes the other way. Locks are never in the trash. */
const ORDER = ['config', 'data', 'keys', 'index', 'snapshots'] as const satisfies readonly ObjectRef['type'][];

/** What a session has removed that is in the trash. */
interface TrashSession {
  readonly session: string;
  readonly by: RemovedBy;
  /** The minutes of its first and its last removal. */
  first: Date;
  last: Date;
  snapshots: number;
  objects: number;
  bytes: number;
}

/** What is in a trash. */
export interface TrashContents {
  /** By the time of the first removal, oldest first. */
  readonly sessions: readonly TrashSession[];
  readonly objects: number;
  readonly bytes: number;
  /** Files that no gateway has put there; nothing is done with them. */
  readonly strangers: number;
}

/** Reads a trash as a whole; holds an entry for each session. @throws GatewayError when the storage fails */
export async function readTrash(maintenance: RepositoryMaintenance, signal: AbortSignal): Promise<TrashContents> {
  const sessions = new Map<string, TrashSession>();
  let [objects, bytes, strangers] = [0, 0, 0];
  for await (const page of maintenance.files(TRASH, { signal }))
    for (const { key, size } of page) {
      const found = placeOf(key);
      if (found === undefined) {
        strangers += 1;
        continue;
      }
      objects += 1;
      bytes += size;
      add(sessions, found.batch, found.ref, size);
    }
  const sorted = [...sessions.values()].sort((a, b) => a.first.getTime() - b.first.getTime());
  return { sessions: sorted, objects, bytes, strangers };
}

function add(
  sessions: Map<string, TrashSession>,
  { session, by, removed }: TrashBatch,
  ref: ObjectRef,
  size: number,
): void {
  const id = `${session} ${by}`;
  let own = sessions.get(id);
  if (own === undefined)
    sessions.set(id, (own = { session, by, first: removed, last: removed, snapshots: 0, objects: 0, bytes: 0 }));
  if (removed < own.first) own.first = removed;
  if (removed > own.last) own.last = removed;
  if (ref.type === 'snapshots') own.snapshots += 1;
  own.objects += 1;
  own.bytes += size;
}

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

/**
 * Brings back what was removed. What the repository has meanwhile stays beside it.
 * @returns how many objects; `taken` are those whose place something else has now, which stay in the trash
 * @throws GatewayError when the storage fails, or the audit
 */
export async function restoreTrash(work: TrashWork, selection: TrashSelection): Promise<MoveCounts> {
  const { maintenance, signal } = work;
  const counts = noCounts();
  const batches = (await batchesOf(maintenance, signal)).filter((batch) => isMeant(batch, selection));
  for (const type of ORDER)
    for (const { name } of batches)
      await eachObject(maintenance, name, type, signal, (ref, { key }) =>
        moveTold({ ...work, from: key, to: objectKey(ref), ref, kind: 'restore', counts }),
      );
  return counts;
}

function isMeant({ removed, session }: TrashBatch, selection: TrashSelection): boolean {
  if (selection === 'all') return true;
  if ('session' in selection) return session === selection.session;
  // What was removed within the same minute, too: more than was there is harmless.
  return removed.getTime() + MINUTE_MS > selection.since.getTime();
}

const MINUTE_MS = 60_000;

/** What is purged, and how. */
interface PurgeRequest {
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
  /** Batches that are old enough and are not purged as yet. */
  waiting: number;
}

/**
 * Purges what was removed before a time, the oldest first, and of what was removed together snapshots before what they rest on: whatever is
 * left can be brought back whole.
 * @throws GatewayError when the storage fails, or the audit
 */
export async function purgeTrash(work: TrashWork, { before, may, gently }: PurgeRequest): Promise<PurgeCounts> {
  const { maintenance, audit, identity, signal } = work;
  const counts: PurgeCounts = { objects: 0, bytes: 0, retained: 0, waiting: 0 };
  for (const { name, removed, by } of await batchesOf(maintenance, signal)) {
    if (removed.getTime() + MINUTE_MS > before.getTime()) continue;
    if (!may(by)) {
      counts.waiting += 1;
      continue;
    }
    const inBatch = await countBatch(maintenance, name, before, signal);
    // Before the change, so that nothing goes that the audit does not have.
    if (inBatch.objects > 0) await audit.append(identity, { kind: 'purge', batch: name, ...inBatch });
    for (const type of [...ORDER].reverse())
      await eachObject(
        maintenance,
        name,
        type,
        signal,
        async (_ref, { key, size, modified }) => {
          if (modified > before) return;
          try {
            await maintenance.discard(key, { signal });
            counts.objects += 1;
            counts.bytes += size;
          } catch (error) {
            if (asGatewayError(error).code !== 'retained') throw error;
            counts.retained += 1;
          }
        },
        gently,
      );
    await maintenance.discardEmpty(`${TRASH}${name}/`, { signal });
  }
  return counts;
}

async function countBatch(
  maintenance: RepositoryMaintenance,
  batch: string,
  before: Date,
  signal: AbortSignal,
): Promise<{ readonly objects: number; readonly bytes: number }> {
  let [objects, bytes] = [0, 0];
  for await (const page of maintenance.files(`${TRASH}${batch}/`, { signal }))
    for (const { key, size, modified } of page) {
      // What the storage took in later was not removed so long ago, whatever the batch is called.
      if (placeOf(key) === undefined || modified > before) continue;
      objects += 1;
      bytes += size;
    }
  return { objects, bytes };
}

/** All batches, oldest first. */
async function batchesOf(maintenance: RepositoryMaintenance, signal: AbortSignal): Promise<readonly TrashBatch[]> {
  const batches: TrashBatch[] = [];
  for await (const page of maintenance.directories(TRASH, { signal }))
    for (const name of page) {
      const batch = parseBatchName(name);
      if (batch !== undefined) batches.push(batch);
    }
  return batches.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Does something with each object of a type in a batch, some at once. */
async function eachObject(
  maintenance: RepositoryMaintenance,
  batch: string,
  type: (typeof ORDER)[number],
  signal: AbortSignal,
  work: (ref: ObjectRef, file: Pick<StoredFile, 'key' | 'size' | 'modified'>) => Promise<void>,
  gently = false,
): Promise<void> {
  const top = `${TRASH}${batch}/`;
  if (type === 'config') {
    const facts = await maintenance.facts(`${top}config`, { signal });
    if (facts !== undefined) await work(CONFIG_REF, { key: `${top}config`, ...facts });
    return;
  }
  for await (const page of maintenance.files(`${top}${type}/`, { signal })) {
    const began = performance.now();
    await inPool(page, AT_ONCE, async (file) => {
      const ref = placeOf(file.key)?.ref;
      if (ref !== undefined) await work(ref, file);
    });
    if (gently) await sleep(performance.now() - began, undefined, { signal });
  }
}

/** What a file in the trash is; undefined for what no gateway has put there. */
const placeOf = (key: string): ReturnType<typeof parseTrashKey> => parseTrashKey(key.slice(TRASH.length));
