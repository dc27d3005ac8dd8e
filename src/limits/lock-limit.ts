/**
 * Holds a client to a number of live locks, so that junk locks cannot pile up.
 *
 * restic lists the locks before it makes one, and that list is looked at as it goes by. Only when it has become old, was never asked for,
 * or leaves no room, are the locks counted for this purpose. What the client has of stale ones then goes, as they count to no quota either:
 * so there are never more than twice as many, however long one waits for them to become stale.
 */
import { setMaxListeners } from 'node:events';
import { asGatewayError, GatewayError, isGatewayError } from '../core/errors.ts';
import type { ObjectName, ObjectRef } from '../core/object.ts';
import { STALE_LOCK_MS } from '../core/policy.ts';
import type { AuditEvent } from '../ports/audit-sink.ts';
import type { CallOptions, ListedObject, RepositoryStore } from '../ports/repository-store.ts';
import { wrapStore } from '../ports/wrap-store.ts';

/** How many a session may make on the strength of one list, as other sessions make some, too. */
const PER_LIST = 16;
/** For how long nothing is looked up again once a lock was refused, in ms. */
const REFUSED_MS = 5000;
const LOOK_UPS = 16;

/** What a client's locks are held to. */
export interface LockLimits {
  readonly client: string;
  /** Live locks of this client; undefined for no limit. */
  readonly maxLocks: () => number | undefined;
  /** Writes into the audit. @throws GatewayError `audit-unavailable`; nothing is changed then */
  readonly record: (event: AuditEvent) => Promise<void>;
}

export function limitLocks(store: RepositoryStore, { client, maxLocks, record }: LockLimits): RepositoryStore {
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
        const stat = await store.stat({ type: 'locks', name }, options);
        if (stat === undefined) continue;
        const { ageMs, uploader } = stat;
        const own = uploader?.client === client && uploader.via !== 'admin';
        if (ageMs <= STALE_LOCK_MS) {
          if (own) held++;
        } else if (own) await removeLock(store, name, record, options);
        else stale.add(name);
      }
    };
    await Promise.all(Array.from({ length: LOOK_UPS }, worker));
    return held;
  };

  return wrapStore(store, {
    create: async (ref, content, uploader, options) => {
      const most = maxLocks();
      if (ref.type !== 'locks' || most === undefined) return store.create(ref, content, uploader, options);
      while (left <= 0) {
        if (performance.now() < refusedUntil) throw new GatewayError('too-many-locks');
        counting ??= count(most, options).finally(() => (counting = undefined));
        await counting;
      }
      left--;
      begun++;
      making++;
      try {
        return await store.create(ref, content, uploader, options);
      } catch (error) {
        // None was made.
        if (isGatewayError(error, 'held-by-admin')) left++;
        throw error;
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
  });
}

/** Removes a lock by a decision of the gateway's, with its lines in the audit. @throws what the audit and the store throw */
export async function removeLock(
  store: RepositoryStore,
  name: ObjectName,
  record: LockLimits['record'],
  options: CallOptions,
): Promise<void> {
  const ref: ObjectRef = { type: 'locks', name };
  await record({ kind: 'remove', ref });
  let outcome: Awaited<ReturnType<RepositoryStore['remove']>>;
  try {
    outcome = await store.remove(ref, options);
  } catch (error) {
    await record({ kind: 'remove-failed', ref, reason: asGatewayError(error).code });
    throw error;
  }
  if (outcome === 'absent') await record({ kind: 'remove-failed', ref, reason: 'absent' });
}

/** The same pages; reports how many objects were on them once they have all been read. */
async function* counted(
  pages: AsyncIterable<readonly ListedObject[]>,
  onRemoved: (count: number) => void,
): AsyncGenerator<readonly ListedObject[]> {
  let count = 0;
  for await (const page of pages) {
    count += page.length;
    yield page;
  }
  onRemoved(count);
}
