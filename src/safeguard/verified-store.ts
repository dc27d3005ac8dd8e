/**
 * A session's store that does not take the storage's word for it: before a snapshot counts, another request than the upload's must see what
 * the session has stored. A cache or a proxy that answers uploads by itself is found so, though each of its answers was right.
 */
import { GatewayError, isGatewayError } from '../core/errors.ts';
import { objectKey, type ObjectRef } from '../core/object.ts';
import type { CallOptions, RepositoryStore } from '../ports/repository-store.ts';
import { wrapStore } from '../ports/wrap-store.ts';

/** An object that the session has stored. */
interface Stored {
  readonly ref: ObjectRef;
  /** Length in bytes. */
  readonly size: number;
}

/** How many of the session's objects are remembered. One of them is looked at; the others are there in case that it is removed. */
const SAMPLE = 8;

/**
 * Wraps the store of one session.
 *
 * Before a snapshot is stored, and before data or an index is removed (a prune removes what it has written anew), one of the data and index
 * objects that the session has stored since the last time, drawn at random, is looked up; and each snapshot, key and config once it is
 * stored. So a snapshot costs two look-ups, and data costs none. Beside what the store throws, `create` and `remove` throw `store-lost`
 * when what was stored is not there or has another length. What was found lost once is looked up the next time too, until it is there.
 */
export function verifiedStore(store: RepositoryStore): RepositoryStore {
  let fresh: Stored[] = [];
  /** How many there were to draw from. */
  let stored = 0;
  let lost: Stored | undefined;

  /** Each has the same chance to be among those that are remembered (reservoir sampling, Vitter's algorithm R). */
  const remember = (one: Stored): void => {
    stored += 1;
    const place = fresh.length < SAMPLE ? fresh.length : Math.floor(Math.random() * stored);
    if (place < SAMPLE) fresh[place] = one;
  };

  const assertSample = async (options: CallOptions): Promise<void> => {
    const one = lost ?? fresh[Math.floor(Math.random() * fresh.length)];
    if (one === undefined) return;
    const before = stored;
    try {
      await assertThere(store, one, options);
    } catch (error) {
      if (isGatewayError(error, 'store-lost')) lost = one;
      throw error;
    }
    lost = undefined;
    // Others that came meanwhile were not drawn from.
    if (stored !== before) return;
    fresh = [];
    stored = 0;
  };

  return wrapStore(store, {
    create: async (ref, content, uploader, options) => {
      if (ref.type === 'snapshots') await assertSample(options);
      const outcome = await store.create(ref, content, uploader, options);
      // What exists is compared by whoever asked.
      if (outcome === 'exists') return outcome;
      const one = { ref, size: content.size };
      if (ref.type === 'data' || ref.type === 'index') remember(one);
      // Every run makes and removes locks, and nothing rests on one after it.
      else if (ref.type !== 'locks') await assertThere(store, one, options);
      return outcome;
    },
    remove: async (ref, options) => {
      if (ref.type === 'data' || ref.type === 'index') {
        const same = (one: Stored): boolean => objectKey(one.ref) === objectKey(ref);
        if (lost !== undefined && same(lost)) lost = undefined;
        fresh = fresh.filter((one) => !same(one));
        await assertSample(options);
      }
      return store.remove(ref, options);
    },
  });
}

/** @throws GatewayError `store-lost`; what the store throws when it cannot tell */
async function assertThere(store: RepositoryStore, { ref, size }: Stored, options: CallOptions): Promise<void> {
  const stat = await store.stat(ref, options);
  if (stat?.size === size) return;
  const found = stat === undefined ? 'does not have it' : `has ${stat.size} of its ${size} bytes`;
  throw new GatewayError('store-lost', {
    detail:
      `the storage answered that it has stored ${objectKey(ref)}, and ${found}: something between the gateway and the storage, such as a cache ` +
      'or a proxy, loses what it takes; take it out of the way, see restic-gateway check --live, then repair the repository (docs/troubleshooting.md)',
  });
}
