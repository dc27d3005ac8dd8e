/**
 * A repository's storage as the admin's maintenance sees it: every file, whoever put it there. The handler of clients' requests never has it.
 *
 * Keys are below the repository's prefix, parts divided by `/`. Errors are those of `RepositoryStore`.
 */
import type { Uploader } from '../core/principal.ts';
import type { KeptVersions } from './kept-versions.ts';
import type { ObjectLock } from './object-lock.ts';
import type { CallOptions } from './repository-store.ts';

/** The directory in a repository that the gateway keeps for itself. */
export const PRIVATE_DIRECTORY = '.restic-gateway';

/** Whether what a key names lies in it. */
export function isPrivate(key: string): boolean {
  return key.startsWith(`${PRIVATE_DIRECTORY}/`);
}

/** Where the trash is, below a repository's prefix. */
export const TRASH = `${PRIVATE_DIRECTORY}/trash/`;

/** A file in the storage. */
export interface StoredFile {
  readonly key: string;
  /** Length in bytes. */
  readonly size: number;
  /** When the store took it in, by the store's clock. */
  readonly modified: Date;
}

/** What the store knows of a file beside its content. */
export interface FileFacts {
  readonly size: number;
  readonly modified: Date;
  /** Who brought it, for objects that came through a gateway. */
  readonly uploader?: Uploader;
  /** When it came, by the gateway's clock; as `modified` where only the store noted it. */
  readonly arrived: Date;
  /** The SHA-256 of what came, for a config that came through a gateway: its name does not say it. */
  readonly arrivedSha256?: string;
  /** The SHA-256 that the store keeps of the content, 64 lower-case hex digits, where it does. */
  readonly sha256?: string;
}

/** A repository's files. */
export interface RepositoryMaintenance {
  /** Only where the store's config has Object Lock. */
  readonly objectLock?: ObjectLock;
  /** Only where the storage may keep versions of its own. */
  readonly versions?: KeptVersions;

  /**
   * Files in pages, in no order. In a repository, a directory that restic's layout does not have may be one entry, whose key ends in `/`
   * and whose size is 0: what is in it (`lost+found`, a file system's snapshots) is not the gateway's to read.
   * @param under - a directory's key ending in `/`, or '' for all of the repository but the gateway's own directory
   */
  files(under: string, options: CallOptions): AsyncIterable<readonly StoredFile[]>;

  /**
   * The directories directly in a directory, in pages, in no order, as they are named there.
   * @param under - a directory's key ending in `/`
   */
  directories(under: string, options: CallOptions): AsyncIterable<readonly string[]>;

  /** The content. Ends normally only after all of it. @throws `not-found`, before or at the first chunk */
  read(key: string, options: CallOptions): AsyncIterable<Uint8Array>;

  /** Undefined when there is no such file. */
  facts(key: string, options: CallOptions): Promise<FileFacts | undefined>;

  /** Writes a file of the gateway's own, replacing it whole and durably. */
  write(key: string, bytes: Uint8Array, options: CallOptions): Promise<void>;

  /**
   * Gives a file another key, with its uploader and its time of arrival. There is no moment at which it is under neither, even if this is
   * cut off; then the same again completes it. The same content under the new key is taken for what an earlier attempt put there.
   * @returns `hidden`: moved, but an older version of it is still under the old key (S3 versioning); `absent`: there is no such file;
   * `taken`: nothing was done, as another file has the new key
   * @throws `retained` when the storage keeps it under its old key until its retention or legal hold ends; it is then under both
   */
  move(from: string, to: string, options: CallOptions): Promise<'moved' | 'hidden' | 'absent' | 'taken'>;

  /**
   * Removes a file below the gateway's own directory, if it is there, for good.
   * @returns `hidden`: the storage keeps it as an older version, and does not let it be removed
   * @throws `retained` when the storage keeps it until its retention ends
   */
  discard(key: string, options: CallOptions): Promise<'gone' | 'hidden'>;

  /** Removes a directory below the gateway's own and those in it, where the storage has such things and there is no file in them. */
  discardEmpty(under: string, options: CallOptions): Promise<void>;

  /** Lets go of connections. */
  close(): Promise<void>;
}
