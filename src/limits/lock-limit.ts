/**
 * Holds a client to a number of live locks, so that junk locks cannot pile up.
 *
 * restic lists the locks before it makes one, and that list is looked at as it goes by. Only when it has become old, was never asked for,
 * or leaves no room, are the locks counted for this purpose.
 */
import { setMaxListeners } from 'node:events';
import { GatewayError, isGatewayError } from '../core/errors.ts';
import type { ObjectName } from '../core/object.ts';
import { STALE_LOCK_MS } from '../core/policy.ts';
import type { CallOptions, ListedObject, RepositoryStore } from '../ports/repository-store.ts';

/** How many a session may make on the strength of one list, as other sessions make some, too. */
const PER_LIST = 16;
/** For how long nothing is looked up again once a lock was refused, in ms. */
const REFUSED_MS = 5000;
const LOOK_UPS = 16;

/** @param limits.maxLocks - undefined for no limit */
export function limitLocks(
  store: RepositoryStore,
  { client, maxLocks }: { readonly client: string; readonly maxLocks: () => number | undefined },
): RepositoryStore {
  /** Locks that this session may make before they are counted again. */
  let left = 0;
  let refusedUntil = 0;
  /** Locks that are too old to count, and stay so. */
  let stale = new Set<ObjectName>();
  /** Locks that were begun, and that are being made. */
  let begun = 0;
  let making = 0;
  let counting: Promise<void> | undefined;

  /** Begins a count. @returns a function that takes its result: locks made meanwhile may be in it or not, and are taken to be not */
  const look = (most: number): ((held: number) => void) => {
    const before = begun - making;
    return (held) => {
      left = Math.min(PER_LIST, most - held - (begun - before));
    };
  };

  const count = async (most: number, options: CallOptions): Promise<void> => {
    const allow = look(most);
    const names: ObjectName[] = [];
    for await (const page of store.list('locks', options)) names.push(...page.map(({ name }) => name));
    const known = stale;
    stale = new Set(names.filter((name) => known.has(name)));
    const unknown = names.filter((name) => !stale.has(name));
    // All of them may be others', or old: only when there are so many it matters.
    if (unknown.length < most) allow(unknown.length);
    else allow(await countOwn(unknown, most, options));
    if (left <= 0) refusedUntil = performance.now() + REFUSED_MS;
  };

  /** How many are live and this client's; stops at the most that matters. */
  const countOwn = async (unknown: ObjectName[], most: number, options: CallOptions): Promise<number> => {
    let held = 0;
    setMaxListeners(0, options.signal);
    const worker = async (): Promise<void> => {
      for (let name = unknown.pop(); name !== undefined && held < most; name = unknown.pop()) {
        try {
          const { ageMs, origin } = await store.stat({ type: 'locks', name }, options);
          if (ageMs > STALE_LOCK_MS) stale.add(name);
          else if (origin?.client === client) held++;
        } catch (error) {
          if (!isGatewayError(error, 'not-found')) throw error;
        }
      }
    };
    await Promise.all(Array.from({ length: LOOK_UPS }, worker));
    return held;
  };

  return {
    create: async (ref, content, origin, options) => {
      const most = maxLocks();
      if (ref.type !== 'locks' || most === undefined) return store.create(ref, content, origin, options);
      while (left <= 0) {
        if (performance.now() < refusedUntil) throw new GatewayError('too-many-locks');
        counting ??= count(most, options).finally(() => (counting = undefined));
        await counting;
      }
      left--;
      begun++;
      making++;
      try {
        return await store.create(ref, content, origin, options);
      } finally {
        making--;
      }
    },
    list: (type, options) => {
      const most = maxLocks();
      if (type !== 'locks' || most === undefined) return store.list(type, options);
      const allow = look(most);
      return counted(store.list(type, options), (listed) => {
        if (listed < most) allow(listed);
      });
    },
    remove: (ref, options) => store.remove(ref, options),
    load: (ref, range, options) => store.load(ref, range, options),
    stat: (ref, options) => store.stat(ref, options),
  };
}

/** The same pages; tells how many objects were on them once they have all been read. */
async function* counted(
  pages: AsyncIterable<readonly ListedObject[]>,
  tell: (count: number) => void,
): AsyncGenerator<readonly ListedObject[]> {
  let count = 0;
  for await (const page of pages) {
    count += page.length;
    yield page;
  }
  tell(count);
}
