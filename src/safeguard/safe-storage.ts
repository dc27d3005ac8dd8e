/** A store with its check: what append-only clients bring is stored only where it cannot replace what is there. */
import type { StoreConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { unlessAborted } from '../core/waiting.ts';
import type { RepositoryStore, Storage } from '../ports/repository-store.ts';
import { wrapStore } from '../ports/wrap-store.ts';
import { openStorage } from '../stores/open-storage.ts';
import { StoreCheck } from './store-check.ts';

/** Storage that can be used with care. */
export interface SafeStorage extends Storage {
  /** What append-only rests on there; undefined for a store that needs no check. */
  readonly storeCheck: StoreCheck | undefined;
}

/**
 * Opens a store; tries nothing yet.
 * @param state - the directory that the processes of this machine share
 * @throws GatewayError `invalid-config` when the store's secret cannot be read
 */
export async function openSafeStorage(config: StoreConfig, state: string): Promise<SafeStorage> {
  const storage = await openStorage(config);
  // A directory is this machine's own, and each create there rests on link(2).
  return { ...storage, storeCheck: config.type === 'directory' ? undefined : new StoreCheck(config, storage, state) };
}

/**
 * The repository for clients that may not change what is there. Its `create` also throws `store-unsafe`, for a store that would let them.
 * @param storeCheck - of the storage that the repository is in
 */
export function safeCreation(store: RepositoryStore, storeCheck: StoreCheck): RepositoryStore {
  return wrapStore(store, {
    create: async (ref, content, uploader, options) => {
      // Others may wait for the same check, so that it goes on when one of them is gone.
      const { neverOverwrites } = await unlessAborted(
        storeCheck.shown(),
        options.signal,
        () => new GatewayError('client-gone', { detail: 'the call was aborted' }),
      );
      // Accepted by the admin: this leaves to chance only what two bring at the same moment.
      if (!neverOverwrites && (await store.stat(ref, options)) !== undefined) return 'exists';
      return store.create(ref, content, uploader, options);
    },
  });
}
