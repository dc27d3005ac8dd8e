/** A store with its proof: what append-only clients bring is stored only where it cannot replace what is there. */
import type { StoreConfig } from '../config/types.ts';
import { GatewayError, isGatewayError } from '../core/errors.ts';
import type { ObjectRef } from '../core/object.ts';
import { unlessAborted } from '../core/waiting.ts';
import type { CallOptions, RepositoryStore, Storage } from '../ports/repository-store.ts';
import { openStorage } from '../stores/open-storage.ts';
import { Proof, type Shown } from './proof.ts';

/** Storage that can be used with care. */
export interface SafeStorage extends Storage {
  /**
   * The repository for clients that may not change what is there. Its `create` also throws `store-unsafe`, for a store that would let them;
   * everything else is as with `repository`.
   */
  safeRepository(prefix: string): RepositoryStore;
  /** As `Proof.shown`; undefined for a store that needs no proof. */
  prove(options?: { readonly anew?: boolean }): Promise<Shown | undefined>;
}

/**
 * Opens a store; tries nothing yet.
 * @param state - the directory that the processes of this machine share
 * @throws GatewayError `invalid-config` when the store's secret cannot be read
 */
export async function openSafeStorage(config: StoreConfig, state: string): Promise<SafeStorage> {
  const storage = await openStorage(config);
  // A directory is this machine's own, and each create there rests on link(2).
  if (config.type === 'directory')
    return {
      ...storage,
      safeRepository: (prefix) => storage.repository(prefix),
      prove: () => Promise.resolve(undefined),
    };
  const proof = new Proof(config, storage, state);
  return {
    ...storage,
    safeRepository: (prefix) => careful(storage.repository(prefix), proof),
    prove: (options) => proof.shown(options),
  };
}

function careful(inner: RepositoryStore, proof: Proof): RepositoryStore {
  return {
    create: async (ref, content, origin, options) => {
      // Others may wait for the same proof, so that it goes on when one of them is gone.
      const { neverOverwrites } = await unlessAborted(
        proof.shown(),
        options.signal,
        () => new GatewayError('client-gone', { detail: 'the call was given up' }),
      );
      // Accepted by the admin: this leaves to chance only what two bring at the same moment.
      if (!neverOverwrites && (await isThere(inner, ref, options))) return 'exists';
      return inner.create(ref, content, origin, options);
    },
    load: (ref, range, options) => inner.load(ref, range, options),
    stat: (ref, options) => inner.stat(ref, options),
    remove: (ref, options) => inner.remove(ref, options),
    list: (type, options) => inner.list(type, options),
  };
}

async function isThere(store: RepositoryStore, ref: ObjectRef, options: CallOptions): Promise<boolean> {
  try {
    await store.stat(ref, options);
    return true;
  } catch (error) {
    if (isGatewayError(error, 'not-found')) return false;
    throw error;
  }
}
