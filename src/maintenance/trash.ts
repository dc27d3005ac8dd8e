/**
 * The trash of a repository, as the admin lists, restores and purges it. What lies there and in which order it was removed is told by the
 * names of the batches alone (`src/core/trash.ts`): nothing is written beside, so that nothing can be lost or forged but the objects. What the
 * storage keeps by itself is beside it (`removed-versions.ts`).
 *
 * Whatever cuts restoring or purging off, the same again completes it; and any number of processes may do either at once.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { asGatewayError } from '../core/errors.ts';
import { CONFIG_REF, objectKey, type ObjectRef } from '../core/object.ts';
import { getOrMake } from '../core/get-or-make.ts';
import {
  parseBatchName,
  parseKeptNote,
  parseTrashKey,
  type KeptNote,
  type RemovedBy,
  type TrashBatch,
} from '../core/trash.ts';
import { TRASH, type RepositoryMaintenance, type StoredFile } from '../ports/repository-maintenance.ts';
import { inPool } from './pool.ts';
import { noCounts, moveTold, type MoveCounts } from './quarantine.ts';
import { knownVersions, purgeVersions, readNotes, restoreVersions } from './removed-versions.ts';
import {
  noPurge,
  purgeNoted,
  type PurgeCounts,
  type PurgeRequest,
  type TrashSelection,
  type TrashWork,
} from './trash-work.ts';

const AT_ONCE = 16;

/** Order of coming back: nothing points at anything that is not there yet. Purging goes the other way. Locks are never in the trash. */
const ORDER = ['config', 'data', 'keys', 'index', 'snapshots'] as const satisfies readonly ObjectRef['type'][];

/** What a session has removed that is in the trash, or that the storage keeps as older versions. */
interface TrashSession {
  /** Neither is there for versions that no gateway has noted the removal of. */
  readonly session?: string;
  readonly by?: RemovedBy;
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
  /** Versions that the storage itself keeps; `none` where it has never kept any, `denied` where it does not let them be listed. */
  readonly versions: 'none' | 'denied' | KeptCounts;
  /** Whether there are notes that it does. */
  readonly noted: boolean;
}

/** Versions that the storage keeps of what was removed. */
interface KeptCounts {
  /** What is among `objects` and `bytes`, since it can be brought back. */
  objects: number;
  bytes: number;
  /** What is not, as its key has something else since: it only takes space until it is purged. */
  olderObjects: number;
  olderBytes: number;
  /** When the first of all of them was removed, by the storage's clock. */
  oldest: Date | undefined;
}

/** Reads a trash as a whole; holds an entry for each session. @throws GatewayError when the storage fails */
export async function readTrash(maintenance: RepositoryMaintenance, signal: AbortSignal): Promise<TrashContents> {
  const sessions = new Map<string, TrashSession>();
  const notes: KeptNote[] = [];
  const sums = { objects: 0, bytes: 0, strangers: 0 };
  for await (const page of maintenance.files(TRASH, { signal }))
    for (const { key, size, modified } of page) {
      const found = placeOf(key);
      const note = parseKeptNote(key.slice(TRASH.length));
      if (note !== undefined) notes.push({ batch: note, noted: modified });
      else if (found === undefined) sums.strangers += 1;
      else {
        const { batch, ref } = found;
        add(sessions, { ref, size, batch, removed: batch.removed });
        sums.objects += 1;
        sums.bytes += size;
      }
    }
  const versions = await readVersions(maintenance, notes, sessions, signal);
  if (typeof versions === 'object') {
    sums.objects += versions.objects;
    sums.bytes += versions.bytes;
  }
  const sorted = [...sessions.values()].sort((a, b) => a.first.getTime() - b.first.getTime());
  return { sessions: sorted, ...sums, versions, noted: notes.length > 0 };
}

async function readVersions(
  maintenance: RepositoryMaintenance,
  notes: readonly KeptNote[],
  sessions: Map<string, TrashSession>,
  signal: AbortSignal,
): Promise<TrashContents['versions']> {
  const { versions } = maintenance;
  const look = await versions?.look({ signal });
  if (versions === undefined || look === undefined || look === 'none') return 'none';
  if (look === 'denied') return look;
  const counts: KeptCounts = { objects: 0, bytes: 0, olderObjects: 0, olderBytes: 0, oldest: undefined };
  for (const type of ORDER)
    for await (const page of knownVersions(maintenance, versions, type, notes, signal))
      for (const { ref, size, removed, isHidden, batch } of page) {
        if (counts.oldest === undefined || removed < counts.oldest) counts.oldest = removed;
        if (isHidden) {
          add(sessions, { ref, size, batch, removed });
          counts.objects += 1;
          counts.bytes += size;
        } else {
          counts.olderObjects += 1;
          counts.olderBytes += size;
        }
      }
  return counts;
}

function add(
  sessions: Map<string, TrashSession>,
  one: {
    readonly ref: ObjectRef;
    readonly size: number;
    readonly batch: TrashBatch | undefined;
    readonly removed: Date;
  },
): void {
  const { ref, size, batch, removed } = one;
  const id = batch === undefined ? '' : `${batch.session} ${batch.by}`;
  const own = getOrMake(sessions, id, () => ({
    ...(batch !== undefined && { session: batch.session, by: batch.by }),
    ...{ first: removed, last: removed, snapshots: 0, objects: 0, bytes: 0 },
  }));
  if (removed < own.first) own.first = removed;
  if (removed > own.last) own.last = removed;
  if (ref.type === 'snapshots') own.snapshots += 1;
  own.objects += 1;
  own.bytes += size;
}

/**
 * Brings back what was removed. What the repository has meanwhile stays beside it.
 * @returns how many objects; `taken` are those whose place something else has now, which stay in the trash; `denied`: there is more, as older
 * versions that the storage does not let be listed
 * @throws GatewayError when the storage fails, or the audit
 */
export async function restoreTrash(
  work: TrashWork,
  selection: TrashSelection,
): Promise<MoveCounts & { readonly denied: boolean }> {
  const { maintenance, signal } = work;
  const { audit, identity } = work;
  const counts = { ...noCounts(), denied: false };
  const batches = (await batchesOf(maintenance, signal)).filter((batch) => isMeant(batch, selection));
  const { versions } = maintenance;
  const look = await versions?.look({ signal });
  const notes = look === undefined || look === 'none' ? [] : await readNotes(maintenance, signal);
  counts.denied = look === 'denied' && notes.some(({ batch }) => isMeant(batch, selection));
  for (const type of ORDER) {
    for (const { name } of batches)
      await eachObject(maintenance, name, type, signal, (ref, { key }) =>
        moveTold({
          move: () => maintenance.move(key, objectKey(ref), { signal }),
          ...{ audit, identity, ref, kind: 'restore', counts },
        }),
      );
    if (versions !== undefined && look === 'kept')
      await restoreVersions(work, versions, { type, notes, selection, counts });
  }
  return counts;
}

function isMeant({ removed, session }: TrashBatch, selection: TrashSelection): boolean {
  if (selection === 'all') return true;
  if ('session' in selection) return session === selection.session;
  // What was removed within the same minute, too: more than was there is harmless.
  return removed.getTime() + MINUTE_MS > selection.since.getTime();
}

const MINUTE_MS = 60_000;

/**
 * Purges what was removed before a time, the oldest first, and of what was removed together snapshots before what they rest on; nothing is
 * purged that was removed after what stays. Whatever is left can be brought back whole.
 * @throws GatewayError when the storage fails, or the audit
 */
export async function purgeTrash(work: TrashWork, { before, may, gently }: PurgeRequest): Promise<PurgeCounts> {
  const { maintenance, signal } = work;
  const counts = noPurge();
  const due: (TrashBatch & { readonly objects: number; readonly bytes: number })[] = [];
  for (const batch of await batchesOf(maintenance, signal)) {
    if (batch.removed.getTime() + MINUTE_MS > before.getTime()) continue;
    due.push({ ...batch, ...(await countBatch(maintenance, batch.name, before, signal)) });
  }
  // What was removed after something that stays may be what that rests on: the admin prunes what a client's forgotten snapshots need.
  let end = due.find(({ by, objects }) => objects > 0 && !may(by))?.removed ?? before;
  for (const { name, removed, objects, bytes } of due) {
    if (removed >= end) {
      if (objects > 0) counts.waiting += 1;
      continue;
    }
    await purgeNoted(work, { batch: name, objects, bytes }, counts, async () => {
      for (const type of [...ORDER].reverse()) {
        if (counts.retained > 0) break;
        await eachObject(
          maintenance,
          name,
          type,
          signal,
          async (_ref, { key, size, modified }) => {
            if (modified > before) return;
            try {
              if ((await maintenance.discard(key, { signal })) === 'hidden') counts.hidden += 1;
              counts.objects += 1;
              counts.bytes += size;
            } catch (error) {
              if (asGatewayError(error).code !== 'retained') throw error;
              counts.retained += 1;
            }
          },
          gently,
        );
      }
    });
    await maintenance.discardEmpty(`${TRASH}${name}/`, { signal });
    if (counts.retained > 0) end = removed;
  }
  const { versions } = maintenance;
  if (versions !== undefined && (await versions.look({ signal })) === 'kept')
    await purgeVersions(work, versions, { before: end, may, gently, order: [...ORDER].reverse(), counts });
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
