/**
 * What was taken out of a repository, kept inside it: `.restic-gateway/quarantine/<undo id>/`, with a manifest and the objects under
 * `objects/<key>`. No client reaches it, and restic takes no notice of it.
 *
 * The manifest is written before the first object is moved and says so until the last one is: whatever cuts it off, the same again
 * completes it.
 */
import { asGatewayError, GatewayError } from '../core/errors.ts';
import { parseObjectKey, type ObjectRef } from '../core/object.ts';
import { timedId } from '../core/timed-id.ts';
import type { AuditSink, SessionIdentity } from '../ports/audit-sink.ts';
import type { RepositoryMaintenance } from '../ports/repository-maintenance.ts';
import {
  isQuarantineId,
  MANIFEST,
  MOST_MANIFEST_BYTES,
  MOST_QUARANTINED,
  parseManifest,
  QUARANTINE,
  type Quarantine,
} from './manifest.ts';
import { inPool } from './pool.ts';
import { inOrder, type ArrivedObject } from './undo-plan.ts';

const MOVES = 16;

/** A repository, and who works on it. */
export interface QuarantineWork {
  readonly maintenance: RepositoryMaintenance;
  readonly audit: AuditSink;
  readonly repository: SessionIdentity['repository'];
  readonly principal: SessionIdentity['principal'];
  readonly signal: AbortSignal;
}

/** What came of moving. */
export interface MoveCounts {
  moved: number;
  /** Of those, the ones whose older version is still under their old key. */
  hidden: number;
  /** The storage does not let go of them; they are in the repository and, as copies, in quarantine. */
  retained: number;
  /** Their place is taken by another file; they stayed. */
  taken: number;
}

/**
 * All quarantines of a repository, oldest first. Each is read when it is asked for, as one of the most objects takes 260 MB of memory.
 * @throws GatewayError `store-failed` for a manifest that is not whole
 */
export async function* readQuarantines(
  maintenance: RepositoryMaintenance,
  signal: AbortSignal,
): AsyncGenerator<Quarantine, void, undefined> {
  const manifests: string[] = [];
  for await (const page of maintenance.files(QUARANTINE, { signal }))
    for (const { key } of page) if (key.split('/').length === 4 && key.endsWith(`/${MANIFEST}`)) manifests.push(key);
  for (const key of manifests.sort()) yield await readManifest(maintenance, key, signal);
}

/** Nothing was moved yet. */
export function noCounts(): MoveCounts {
  return { moved: 0, hidden: 0, retained: 0, taken: 0 };
}

/** Moves an object into the gateway's own directory or back, as the audit is told before it, and counts what comes of it. */
export async function moveTold(told: {
  readonly move: () => ReturnType<RepositoryMaintenance['move']>;
  readonly audit: AuditSink;
  readonly identity: SessionIdentity;
  readonly ref: ObjectRef;
  readonly kind: 'quarantine' | 'restore';
  readonly counts: MoveCounts;
}): Promise<void> {
  const { move, audit, identity, ref, kind, counts } = told;
  // Before the change, so that nothing changes that the audit does not have.
  await audit.append(identity, { kind, ref });
  try {
    const outcome = await move();
    if (outcome === 'moved' || outcome === 'hidden') {
      counts.moved += 1;
      if (outcome === 'hidden') counts.hidden += 1;
      return;
    }
    if (outcome === 'taken') counts.taken += 1;
    await audit.append(identity, { kind: `${kind}-failed`, ref, reason: outcome });
  } catch (error) {
    const { code } = asGatewayError(error);
    await audit.append(identity, { kind: `${kind}-failed`, ref, reason: code });
    if (code !== 'retained') throw error;
    counts.retained += 1;
  }
}

/** Objects in their order, as the quarantines that will hold them. */
export function inQuarantines(objects: readonly ArrivedObject[]): readonly (readonly ArrivedObject[])[] {
  const count = Math.ceil(objects.length / MOST_QUARANTINED);
  return Array.from({ length: count }, (_, index) =>
    objects.slice(index * MOST_QUARANTINED, (index + 1) * MOST_QUARANTINED),
  );
}

/** Takes objects out, as many as one quarantine holds. What they are is written down first. */
export async function takeOut(
  work: QuarantineWork,
  { client, selection, objects }: Pick<Quarantine, 'client' | 'selection' | 'objects'>,
): Promise<{ readonly quarantine: Quarantine; readonly counts: MoveCounts }> {
  const now = new Date();
  const [made, id] = [now.toISOString(), timedId(3, now)];
  const quarantine: Quarantine = { v: 1, id, client, selection, made, state: 'moving', objects };
  await writeManifest(work, quarantine);
  return { quarantine, counts: await finishTakingOut(work, quarantine) };
}

/** Completes what was cut off. */
export async function finishTakingOut(work: QuarantineWork, quarantine: Quarantine): Promise<MoveCounts> {
  const counts = await moveAll(work, quarantine, 'quarantine');
  await writeManifest(work, { ...quarantine, state: 'quarantined' });
  return counts;
}

/** Brings everything back that is in a quarantine. @throws GatewayError `usage` when there is no such quarantine */
export async function restore(work: QuarantineWork, id: string): Promise<MoveCounts> {
  const { maintenance, signal } = work;
  const key = `${QUARANTINE}${id}/${MANIFEST}`;
  if (!isQuarantineId(id) || (await maintenance.facts(key, { signal })) === undefined)
    throw new GatewayError('usage', { detail: `there is no quarantine ${id}; --list shows those that there are` });
  const quarantine = await readManifest(maintenance, key, signal);
  await writeManifest(work, { ...quarantine, state: 'restoring' });
  const counts = await moveAll(work, quarantine, 'restore');
  await writeManifest(work, { ...quarantine, state: 'restored' });
  return counts;
}

async function moveAll(
  work: QuarantineWork,
  quarantine: Quarantine,
  kind: 'quarantine' | 'restore',
): Promise<MoveCounts> {
  const { maintenance, audit, repository, principal, signal } = work;
  const { id } = quarantine;
  const identity: SessionIdentity = { session: id, principal, access: 'full', repository };
  const counts = noCounts();
  const move = async ({ key }: ArrivedObject): Promise<void> => {
    const ref = parseObjectKey(key);
    if (ref === undefined)
      throw new GatewayError('store-failed', { detail: `the manifest of ${id} names no object: ${key}` });
    const kept = `${QUARANTINE}${id}/objects/${key}`;
    const [from, to] = kind === 'quarantine' ? [key, kept] : [kept, key];
    await moveTold({ move: () => maintenance.move(from, to, { signal }), audit, identity, ref, kind, counts });
  };
  const objects = inOrder(quarantine.objects);
  // One type after the other, so that nothing points at anything that is gone already or not yet back.
  const types = [...new Set(objects.map(typeOf))];
  for (const type of kind === 'quarantine' ? types : types.reverse())
    await inPool(
      objects.filter((object) => typeOf(object) === type),
      MOVES,
      move,
    );
  return counts;
}

const typeOf = ({ key }: ArrivedObject): string => key.split('/')[0] ?? '';

async function readManifest(maintenance: RepositoryMaintenance, key: string, signal: AbortSignal): Promise<Quarantine> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const unfit = new GatewayError('store-failed', {
    detail: `${key.replaceAll(/[^ -~]/g, '?')} is not a manifest that undo wrote; find out who can write to the storage, and move it away`,
  });
  for await (const chunk of maintenance.read(key, { signal })) {
    bytes += chunk.length;
    if (bytes > MOST_MANIFEST_BYTES) throw unfit;
    chunks.push(chunk);
  }
  const manifest = parseManifest(Buffer.concat(chunks).toString(), key);
  if (manifest === undefined) throw unfit;
  return manifest;
}

async function writeManifest({ maintenance, signal }: QuarantineWork, quarantine: Quarantine): Promise<void> {
  const key = `${QUARANTINE}${quarantine.id}/${MANIFEST}`;
  await maintenance.write(key, Buffer.from(`${JSON.stringify(quarantine)}\n`), { signal });
}
