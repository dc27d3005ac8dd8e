/**
 * A repository's store as one session may use it: within the quota of the repository and the number of locks of the client.
 */
import { GatewayError, isGatewayError } from '../core/errors.ts';
import type { ObjectRef } from '../core/object.ts';
import { unlessAborted } from '../core/waiting.ts';
import type { Log } from '../ports/log.ts';
import type { CallOptions, RepositoryStore } from '../ports/repository-store.ts';
import { heedHolds, type Holds } from './lock-hold.ts';
import { limitLocks, type LockLimits } from './lock-limit.ts';
import type { Usage } from './usage.ts';

/** What a session is held to; asked at each use, as the config may change meanwhile. */
export interface SessionLimits extends LockLimits {
  /** The state directory of this machine, absolute. */
  readonly state: () => string;
  /** What is the same for all sessions of this repository, and for them alone; undefined while no client of it has a quota. */
  readonly counted: () => string | undefined;
  /** Bytes that the repository may have in use; undefined for no limit. */
  readonly quota: () => number | undefined;
  /** What holds new locks back; undefined for whom nothing does. */
  readonly holds: (() => Holds) | undefined;
}

/** Makes the stores of a gateway's sessions. */
export interface LimitedStores {
  /** @param counted - the same store, which may be kept for as long as the process lives: it must know nothing of the session */
  limit(store: RepositoryStore, counted: RepositoryStore, limits: SessionLimits): RepositoryStore;
  close(): Promise<void>;
}

/** Loads nothing and opens nothing before a repository with a quota is written to. */
export function createLimitedStores(log: Log): LimitedStores {
  let usage: Promise<Usage> | undefined;
  const loadUsage = (): Promise<Usage> => (usage ??= import('./usage.ts').then(({ createUsage }) => createUsage(log)));
  return {
    limit: (store, counted, limits) => {
      const heeding = limits.holds === undefined ? store : heedHolds(store, limits.holds);
      return limitQuota(limitLocks(heeding, limits), counted, limits, loadUsage);
    },
    close: async () => {
      await (await usage)?.close();
    },
  };
}

function limitQuota(
  store: RepositoryStore,
  counted: RepositoryStore,
  limits: SessionLimits,
  loadUsage: () => Promise<Usage>,
): RepositoryStore {
  return {
    create: async (ref, content, origin, options) => {
      const identity = limits.counted();
      if (identity === undefined || ref.type === 'locks') return store.create(ref, content, origin, options);
      const usage = await loadUsage();
      const reserving = usage.reserve(
        { state: limits.state(), identity, store: counted },
        ref,
        content.size,
        limits.quota(),
      );
      const settle = await unlessAborted(
        reserving,
        options.signal,
        () => new GatewayError('client-gone'),
        (late) => late?.('failed'),
      );
      if (settle === undefined) {
        // What is there already takes no room; the store says so again, and the handler compares.
        if ((await sizeOf(store, ref, options)) === content.size) return store.create(ref, content, origin, options);
        throw new GatewayError('quota-exceeded');
      }
      let outcome: 'created' | 'exists' | undefined;
      try {
        outcome = await store.create(ref, content, origin, options);
        return outcome;
      } finally {
        await settle(outcome === 'created' ? 'stored' : 'failed');
      }
    },
    remove: async (ref, options) => {
      const identity = limits.counted();
      if (identity === undefined || ref.type === 'locks') return store.remove(ref, options);
      const size = await sizeOf(store, ref, options);
      const outcome = await store.remove(ref, options);
      if (outcome !== 'absent' && size !== undefined) {
        const usage = await loadUsage();
        await usage.removed({ state: limits.state(), identity, store: counted }, size);
      }
      return outcome;
    },
    load: (ref, range, options) => store.load(ref, range, options),
    stat: (ref, options) => store.stat(ref, options),
    list: (type, options) => store.list(type, options),
  };
}

/** Undefined for what is not there. */
async function sizeOf(store: RepositoryStore, ref: ObjectRef, options: CallOptions): Promise<number | undefined> {
  try {
    return (await store.stat(ref, options)).size;
  } catch (error) {
    if (isGatewayError(error, 'not-found')) return undefined;
    throw error;
  }
}
