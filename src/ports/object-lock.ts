/**
 * Object Lock as the admin's maintenance uses it: what a storage keeps whoever asks for its removal. Only storages that have it offer this.
 *
 * Keys are below the repository's prefix, as in `RepositoryMaintenance`, and so are errors. Nothing here shortens a retention.
 */
import type { CallOptions } from './repository-store.ts';

/** Until when the storage keeps an object. */
export interface Retention {
  /** `governance`: who has the right to may end it sooner; `compliance`: nobody. */
  readonly mode: 'compliance' | 'governance';
  readonly until: Date;
}

/** One version of an object; the current one, or one that was removed or replaced. */
export interface ObjectVersion {
  readonly key: string;
  /** Its id, by the storage. */
  readonly version: string;
}

/** A repository's objects under Object Lock. */
export interface ObjectLock {
  /** The retention that objects are stored with now: the mode, and days from the moment that they arrive. */
  readonly rule: { readonly mode: Retention['mode']; readonly days: number };

  /** The retention of an object; `none` when it has no retention, undefined when there is no such object. */
  retention(key: string, options: CallOptions): Promise<Retention | 'none' | undefined>;

  /**
   * Retains an object until that time at least, of which it is certain when this resolves.
   * @returns false when there is no such object any more
   */
  retain(key: string, retention: Retention, options: CallOptions): Promise<boolean>;

  /** The versions under a directory's key that ends in `/`, or of the one key; removed ones included, delete markers not. In pages. */
  versions(under: string, options: CallOptions): AsyncIterable<readonly ObjectVersion[]>;

  /** Whether a legal hold is on a version, by default the current one; undefined when there is no such object. */
  legalHold(
    object: { readonly key: string; readonly version?: string },
    options: CallOptions,
  ): Promise<boolean | undefined>;

  /**
   * Puts a legal hold on a version, by default the current one, or ends it. It is certain when this resolves.
   * @returns false when there is no such object any more
   */
  setLegalHold(
    object: { readonly key: string; readonly version?: string },
    on: boolean,
    options: CallOptions,
  ): Promise<boolean>;
}
