/** Holds what clients write to the quota of their repository. */
import { GatewayError } from '../core/errors.ts';
import { unlessAborted } from '../core/waiting.ts';
import type { Log } from '../ports/log.ts';
import type { RepositoryStore } from '../ports/repository-store.ts';
import { wrapStore } from '../ports/wrap-store.ts';
import type { Usage } from './usage.ts';

/** What a session is held to; asked at each use, as the config may change meanwhile. */
interface QuotaLimits {
  /** The state directory of this machine, absolute. */
  readonly state: () => string;
  /** What is the same for all sessions of this repository, and for them alone; undefined while no client of it has a quota. */
  readonly identity: () => string | undefined;
  /** Bytes that the repository may have in use; undefined for no limit. */
  readonly quota: () => number | undefined;
  /** The same store, which may be kept for as long as the process lives: it must know nothing of the session. */
  readonly counted: RepositoryStore;
}

/** Quotas of all repositories. */
export interface Quotas {
  /** The same store, within its quota. */
  limit(store: RepositoryStore, limits: QuotaLimits): RepositoryStore;
  close(): Promise<void>;
}

/** Loads nothing and opens nothing before a repository with a quota is written to. */
export function createQuotas(log: Log): Quotas {
  let usage: Promise<Usage> | undefined;
  const loadUsage = (): Promise<Usage> => (usage ??= import('./usage.ts').then(({ createUsage }) => createUsage(log)));
  return {
    limit: (store, limits) => limitQuota(store, limits, loadUsage),
    close: async () => {
      await (await usage)?.close();
    },
  };
}

function limitQuota(store: RepositoryStore, limits: QuotaLimits, loadUsage: () => Promise<Usage>): RepositoryStore {
  return wrapStore(store, {
    create: async (ref, content, uploader, options) => {
      const identity = limits.identity();
      if (identity === undefined || ref.type === 'locks') return store.create(ref, content, uploader, options);
      const usage = await loadUsage();
      const reserving = usage.reserve(
        { state: limits.state(), identity, store: limits.counted },
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
        if ((await store.stat(ref, options))?.size === content.size)
          return store.create(ref, content, uploader, options);
        throw new GatewayError('quota-exceeded');
      }
      let outcome: 'created' | 'exists' | undefined;
      try {
        outcome = await store.create(ref, content, uploader, options);
        return outcome;
      } finally {
        await settle(outcome === 'created' ? 'stored' : 'failed');
      }
    },
    remove: async (ref, options) => {
      const identity = limits.identity();
      if (identity === undefined || ref.type === 'locks') return store.remove(ref, options);
      const size = (await store.stat(ref, options))?.size;
      const outcome = await store.remove(ref, options);
      if (outcome !== 'absent' && size !== undefined) {
        const usage = await loadUsage();
        await usage.removed({ state: limits.state(), identity, store: limits.counted }, size);
      }
      return outcome;
    },
  });
}
