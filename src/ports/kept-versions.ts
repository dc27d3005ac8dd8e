/**
 * What a storage keeps by itself of what was removed, as the admin's maintenance uses it: older versions of objects. Only storages that may
 * have such a thing offer this.
 *
 * Keys are below the repository's prefix, as in `RepositoryMaintenance`, and so are errors.
 */
import type { CallOptions } from './repository-store.ts';

/** A version of an object that was removed. */
export interface RemovedVersion {
  readonly key: string;
  /** Its id, by the storage. */
  readonly version: string;
  /** Length in bytes. */
  readonly size: number;
  /** When it was removed, by the storage's clock. */
  readonly removed: Date;
  /** Whether this is what its key had last, and nothing has the key now. */
  readonly isHidden: boolean;
}

/** The versions of a repository's objects. Nothing here goes round a retention or a legal hold. */
export interface KeptVersions {
  /** Whether there may be any: `none` where the storage has never kept versions, `denied` where it does not let them be listed. */
  look(options: CallOptions): Promise<'kept' | 'none' | 'denied'>;

  /**
   * The versions that were removed, under a directory's key that ends in `/` or of the one key, in pages; those that were only replaced are
   * none of them. All of a key come one after the other, newest first.
   */
  removed(under: string, options: CallOptions): AsyncIterable<readonly RemovedVersion[]>;

  /**
   * Makes a version the current one again, by a copy of it with its uploader and its time of arrival, retained as what is stored now: no
   * right to remove anything is needed, and what was there stays.
   * @returns `absent`: there is no such version any more; `taken`: nothing was done, as the key has something else now
   */
  bringBack(version: RemovedVersion, options: CallOptions): Promise<'moved' | 'absent' | 'taken'>;

  /**
   * Removes a version for good, unless it has become what its key has now.
   * @returns `retained`: until its retention or legal hold ends; `denied`: the storage does not let this key remove versions
   */
  discard(version: RemovedVersion, options: CallOptions): Promise<'gone' | 'current' | 'retained' | 'denied'>;

  /** Removes, as far as the storage lets it, what is left of keys that have no version any more and were removed before that time. */
  tidy(under: string, before: Date, options: CallOptions): Promise<void>;
}
