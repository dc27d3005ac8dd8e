/**
 * What the storage keeps by itself of what was removed, beside the trash or in its place: what of it is whose, how it comes back, and what of
 * it is purged.
 *
 * Who removed something is told by the notes in the trash (`KEPT_NOTE`), by the storage's clock alone. What no note tells of was removed by no
 * gateway, or by one that wrote none: it can be brought back, and is never purged.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { getOrMake } from '../core/get-or-make.ts';
import { parseObjectKey, type ObjectRef } from '../core/object.ts';
import { fits, KEPT_NOTE, parseKeptNote, removersBy, type KeptNote, type TrashBatch } from '../core/trash.ts';
import type { KeptVersions, RemovedVersion } from '../ports/kept-versions.ts';
import { TRASH, type RepositoryMaintenance } from '../ports/repository-maintenance.ts';
import { QUARANTINE } from './manifest.ts';
import { inPool } from './pool.ts';
import { moveTold, type MoveCounts } from './quarantine.ts';
import { purgeNoted, type PurgeCounts, type PurgeRequest, type TrashSelection, type TrashWork } from './trash-work.ts';

const AT_ONCE = 16;
const MINUTE_MS = 60_000;
/** How far a note's minute may be from the time of a removal that it tells of, or the storage's clock from the gateway's where none does. */
const SLACK_MS = 3 * MINUTE_MS;

/** What a version is of, and who removed it. */
interface KnownVersion extends RemovedVersion {
  readonly ref: ObjectRef;
  /** Undefined when no gateway has noted it. */
  readonly batch: TrashBatch | undefined;
}

/** The notes in a trash. */
export async function readNotes(maintenance: RepositoryMaintenance, signal: AbortSignal): Promise<readonly KeptNote[]> {
  const notes: KeptNote[] = [];
  for await (const page of maintenance.files(TRASH, { signal }))
    for (const { key, modified } of page) {
      const batch = parseKeptNote(key.slice(TRASH.length));
      if (batch !== undefined) notes.push({ batch, noted: modified });
    }
  return notes;
}

/**
 * The removed versions of a type, page by page. What an undo has taken out is left out: it is in quarantine, and comes back from there.
 * @param type - never locks: they come and go
 */
export async function* knownVersions(
  maintenance: RepositoryMaintenance,
  versions: KeptVersions,
  type: ObjectRef['type'],
  notes: readonly KeptNote[],
  signal: AbortSignal,
): AsyncGenerator<readonly KnownVersion[]> {
  const undone = await takenOut(maintenance, type, signal);
  const remover = removersBy(notes);
  for await (const page of versions.removed(type === 'config' ? type : `${type}/`, { signal })) {
    const known = page.flatMap((one): KnownVersion[] => {
      const ref = parseObjectKey(one.key);
      if (ref?.type !== type || (one.isHidden && undone.has(one.key))) return [];
      return [{ ...one, ref, batch: remover(one.removed) }];
    });
    if (known.length > 0) yield known;
  }
}

/** The keys of a type that are in quarantine. No undo takes out more than its manifest holds, which is more than this. */
async function takenOut(
  maintenance: RepositoryMaintenance,
  type: ObjectRef['type'],
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const keys = new Set<string>();
  for await (const page of maintenance.directories(QUARANTINE, { signal }))
    for (const id of page) {
      const top = `${QUARANTINE}${id}/objects/`;
      for await (const files of maintenance.files(`${top}${type}/`, { signal }))
        for (const { key } of files) keys.add(key.slice(top.length));
    }
  return keys;
}

/** Brings versions of a type back that are hidden and meant. */
export async function restoreVersions(
  work: TrashWork,
  versions: KeptVersions,
  request: {
    readonly type: ObjectRef['type'];
    readonly notes: readonly KeptNote[];
    readonly selection: TrashSelection;
    readonly counts: MoveCounts;
  },
): Promise<void> {
  const { maintenance, audit, identity, signal } = work;
  const { type, notes, selection, counts } = request;
  for await (const page of knownVersions(maintenance, versions, type, notes, signal))
    await inPool(
      page.filter((one) => one.isHidden && isMeant(one, notes, selection)),
      AT_ONCE,
      (one) =>
        moveTold({
          move: () => versions.bringBack(one, { signal }),
          ...{ audit, identity, ref: one.ref, kind: 'restore', counts },
        }),
    );
}

function isMeant({ removed, batch }: KnownVersion, notes: readonly KeptNote[], selection: TrashSelection): boolean {
  if (selection === 'all') return true;
  if ('session' in selection)
    return notes.some((note) => note.batch.session === selection.session && fits(removed, note));
  // More than was there is harmless.
  return (batch?.removed ?? removed).getTime() + SLACK_MS > selection.since.getTime();
}

/**
 * Purges versions that were removed before a time: all of one type after all of the other, snapshots first, and nothing that was removed
 * after a version that stays. Then the notes of what is gone.
 * @param order - the types, from what points at others to what they point at
 * @throws GatewayError when the storage fails, or the audit
 */
export async function purgeVersions(
  work: TrashWork,
  versions: KeptVersions,
  request: PurgeRequest & { readonly order: readonly ObjectRef['type'][]; readonly counts: PurgeCounts },
): Promise<void> {
  const { maintenance, signal } = work;
  const { before, may, gently, order, counts } = request;
  const notes = await readNotes(maintenance, signal);
  /** From when on everything stays, by the storage's clock. */
  let end = before;
  for (const type of order) {
    let stays = end;
    const keep = ({ removed }: RemovedVersion): void => {
      if (removed < stays) stays = removed;
    };
    const purge = async (one: KnownVersion): Promise<void> => {
      const outcome = counts.denied ? 'denied' : await versions.discard(one, { signal });
      if (outcome === 'gone') {
        counts.objects += 1;
        counts.bytes += one.size;
        return;
      }
      if (outcome === 'current') return;
      keep(one);
      if (outcome === 'retained') counts.retained += 1;
      else counts.denied = true;
    };
    for await (const page of knownVersions(maintenance, versions, type, notes, signal)) {
      const began = performance.now();
      const due: KnownVersion[] = [];
      for (const one of page) {
        const { removed, batch, isHidden } = one;
        if (removed >= end || (batch !== undefined && batch.removed.getTime() + MINUTE_MS > before.getTime())) continue;
        if (batch !== undefined && may(batch.by)) due.push(one);
        else {
          if (batch !== undefined) counts.waiting += 1;
          // What no gateway has removed may rest on what one has, as long as it may come back.
          if (batch !== undefined || isHidden) keep(one);
        }
      }
      const bytes = counts.denied ? 0 : due.reduce((sum, { size }) => sum + size, 0);
      const batch = { batch: `versions/${type}`, objects: counts.denied ? 0 : due.length, bytes };
      // One after the other of a key, the oldest first: if it is cut off, the newest is there still.
      await purgeNoted(work, batch, counts, () =>
        inPool(byKey(due), AT_ONCE, async (ofKey) => {
          for (const one of ofKey.reverse()) await purge(one);
        }),
      );
      if (gently) await sleep(performance.now() - began, undefined, { signal });
    }
    end = stays;
    if (!counts.denied) await versions.tidy(type === 'config' ? type : `${type}/`, before, { signal });
  }
  for (const { batch, noted } of notes)
    if (noted.getTime() + SLACK_MS < end.getTime() && batch.removed.getTime() + SLACK_MS < before.getTime())
      await maintenance.discard(`${TRASH}${batch.name}/${KEPT_NOTE}`, { signal });
}

function byKey(versions: readonly KnownVersion[]): Iterable<KnownVersion[]> {
  const keys = new Map<string, KnownVersion[]>();
  for (const one of versions) getOrMake(keys, one.key, () => []).push(one);
  return keys.values();
}
