/** Puts a legal hold on all that is in a repository now, or ends every one: until then nobody removes it, whatever its retention. */
import type { ObjectLock } from '../ports/object-lock.ts';
import type { RepositoryMaintenance } from '../ports/repository-maintenance.ts';
import { eachObject, type LockCounts, type LockWork } from './each-object.ts';

/** What it needs. */
export interface LegalHoldRequest extends LockWork {
  readonly maintenance: RepositoryMaintenance;
  readonly lock: ObjectLock;
}

/** Holds the current version of every object. Cut off, the same again completes it. @throws as `eachObject` */
export function hold(request: LegalHoldRequest): Promise<LockCounts> {
  const { maintenance, lock, signal } = request;
  return eachObject(
    maintenance.files('', { signal }),
    { ...request, begin: { kind: 'hold' }, end: 'held' },
    async ({ key }, changing) => change(lock, { key }, true, changing, signal),
  );
}

/** Directories of what `hold` holds, and the config: whatever else has versions, locks above all, has none that are held. */
const HELD = ['snapshots/', 'index/', 'keys/', 'data/', 'config'];

/** Ends the hold of every version: what was removed meanwhile is only hidden, and would be held for ever. @throws as `eachObject` */
export function release(request: LegalHoldRequest): Promise<LockCounts> {
  const { lock, signal } = request;
  async function* versions() {
    for (const under of HELD) yield* lock.versions(under, { signal });
  }
  return eachObject(versions(), { ...request, begin: { kind: 'release' }, end: 'released' }, async (object, changing) =>
    change(lock, object, false, changing, signal),
  );
}

async function change(
  lock: ObjectLock,
  object: { readonly key: string; readonly version?: string },
  on: boolean,
  changing: () => Promise<void>,
  signal: AbortSignal,
) {
  const now = await lock.legalHold(object, { signal });
  if (now === undefined) return 'gone';
  if (now === on) return 'as-it-was';
  await changing();
  return (await lock.setLegalHold(object, on, { signal })) ? 'changed' : 'gone';
}
