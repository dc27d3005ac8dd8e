/**
 * Where copies of the audit lie: small files that are made once and never changed, below a prefix of the copy's own. Errors are those of
 * `RepositoryStore`.
 */
import type { CallOptions } from './repository-store.ts';
import type { RepositoryMaintenance } from './repository-maintenance.ts';

/** A place for copies. */
export interface CopyStore extends Pick<RepositoryMaintenance, 'files' | 'read' | 'close'> {
  /**
   * Makes a file, whole and durably, with the store's retention if it has one.
   * @returns `exists`: there is one of that key, which stays as it is
   */
  create(key: string, bytes: Uint8Array, options: CallOptions): Promise<'created' | 'exists'>;
}
