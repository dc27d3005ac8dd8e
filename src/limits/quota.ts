/** Holds what clients write to the quota of their repository. */
import { GatewayError } from '../core/errors.ts';
import { unlessAborted } from '../core/waiting.ts';
import type { Ledgers, OpenLedger } from '../ports/ledger.ts';
import type { Log } from '../ports/log.ts';
import type { RepositoryStore, StoredRepository } from '../ports/repository-store.ts';
import { wrapStore } from '../ports/wrap-store.ts';
import type { CountedRepository, Usage } from './usage.ts';

/** What a session is held to; asked at each use, as the config may change meanwhile. */
interface QuotaLimits {
  /** The state directory of this machine, absolute. */
  readonly state: () => string;
  /** What is the same for all sessions of this repository, and for them alone; undefined while no client of it has a quota. */
  readonly identity: () => string | undefined;
  /** Bytes that the repository may have in use; undefined for no limit. */
  readonly quota: () => number | undefined;
  /** Whether the session is the admin's, who makes room by removing. */
  readonly admin: boolean;
  /** Whether what is removed goes to the trash, or is noted there where the storage keeps it. */
  readonly hasTrash: () => boolean;
  /** The same store, which may be kept for as long as the process lives: it must know nothing of the session. */
  readonly counted: RepositoryStore;
  /** How many bytes that clients have removed are in the trash: they count until they are purged, or a client could fill the storage with them. */
  readonly removedByClients: StoredRepository['removedByClients'];
}

/** Quotas of all repositories. */
export interface Quotas {
  /** The same store, within its quota. */
  limit(store: RepositoryStore, limits: QuotaLimits): RepositoryStore;
  close(): Promise<void>;
}

/**
 * Loads nothing and opens nothing before a repository with a quota is written to.
 * @param loadShared - the ledgers that several gateways share, given those of this machine; undefined: none does
 */
export function createQuotas(log: Log, loadShared?: () => Promise<(openLocal: OpenLedger) => Ledgers>): Quotas {
  let usage: Promise<Usage> | undefined;
  const load = async (): Promise<Usage> => {
    const [{ createUsage }, share] = await Promise.all([import('./usage.ts'), loadShared?.()]);
    return createUsage(log, share);
  };
  const loadUsage = (): Promise<Usage> => (usage ??= load());
  return {
    limit: (store, limits) => limitQuota(store, limits, loadUsage),
    close: async () => {
      await (await usage)?.close();
    },
  };
}

function countedBy({ state, counted, removedByClients }: QuotaLimits, identity: string): CountedRepository {
  return { state: state(), identity, store: counted, removedByClients };
}

function limitQuota(store: RepositoryStore, limits: QuotaLimits, loadUsage: () => Promise<Usage>): RepositoryStore {
  return wrapStore(store, {
    create: async (ref, content, uploader, options) => {
      const identity = limits.identity();
      if (identity === undefined || ref.type === 'locks') return store.create(ref, content, uploader, options);
      const usage = await loadUsage();
      const reserving = usage.reserve(countedBy(limits, identity), ref, content.size, limits.quota());
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
        // What a client has moved to the trash counts still, and so does what the storage keeps in its place; said all the same, as what is
        // being counted just now may have it twice.
        const isKept = outcome === 'kept' || (outcome === 'hidden' && limits.hasTrash());
        const freed = isKept && !limits.admin ? 0 : size;
        await usage.removed(countedBy(limits, identity), freed);
      }
      return outcome;
    },
  });
}
