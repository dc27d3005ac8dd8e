/** Renews the retention of what a repository still uses, so that Object Lock follows it: no password, and no right to shorten, is needed. */
import type { RepositoryMaintenance } from '../ports/repository-maintenance.ts';
import type { ObjectLock } from '../ports/object-lock.ts';
import { eachObject, type LockCounts, type LockWork } from './each-object.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

/** What a renewal needs. */
export interface ExtendRequest extends LockWork {
  readonly maintenance: RepositoryMaintenance;
  readonly lock: ObjectLock;
  /** What is retained for less than this is renewed, in ms. */
  readonly whenUnder: number;
  /** Counts alone, and changes nothing. */
  readonly dryRun: boolean;
}

/**
 * Renews whatever is retained for less than `whenUnder`, for as long as what is stored now. Cut off, the same again completes it.
 * @returns the counts, and until when what was renewed is retained
 * @throws as `eachObject`
 */
export async function extend(request: ExtendRequest): Promise<LockCounts & { readonly until: Date }> {
  const { maintenance, lock, whenUnder, dryRun, signal } = request;
  const options = { signal };
  const now = Date.now();
  // In whole seconds: storages cut off the rest, and would then keep less than is asked for.
  const until = new Date(Math.ceil((now + lock.rule.days * DAY_MS) / 1000) * 1000);
  const counts = await eachObject(
    maintenance.files('', options),
    { ...request, begin: { kind: 'extend', until: until.toISOString() }, end: 'extended' },
    async ({ key }, changing) => {
      const found = await lock.retention(key, options);
      if (found === undefined) return 'gone';
      if (found !== 'none' && found.until.getTime() - now >= whenUnder) return 'as-it-was';
      if (dryRun) return 'changed';
      await changing();
      // The mode stays: to make governance of compliance is a shortening, and the other way is more than was asked for.
      const mode = found === 'none' ? lock.rule.mode : found.mode;
      return (await lock.retain(key, { mode, until }, options)) ? 'changed' : 'gone';
    },
  );
  return { ...counts, until };
}
