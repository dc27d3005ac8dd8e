/**
 * The storage of one repository, as the handler sees it. Every implementation passes test/contract/repository-store.ts.
 */
import type { NamedType, ObjectName, ObjectRef } from '../core/object.ts';
import type { ByteRange } from '../core/operation.ts';
import type { Uploader } from '../core/principal.ts';

/**
 * Content on its way in.
 *
 * The iterator is pulled no faster than the store can take it, so one upload costs a bounded amount of memory. It yields exactly `size`
 * bytes and throws before its last chunk when the content is not what it should be (wrong hash, cut off, client gone, audit not
 * writable): a store that creates nothing when the iterator throws therefore never creates wrong content.
 */
export interface Content {
  /** Length in bytes. */
  readonly size: number;
  /** SHA-256 of the whole content, 64 lower-case hex digits, known beforehand. */
  readonly sha256: string;
  /** May be iterated once. */
  readonly body: AsyncIterable<Uint8Array>;
  /** The most bytes to gather before they are written, as of now; two such pieces may be held at once. Undefined: as the store likes. */
  readonly mayGather?: () => number;
}

/** An object's content on its way out. */
export interface LoadedObject {
  /** Length of the whole object in bytes. */
  readonly size: number;
  /** Offset of the first byte of `body`. */
  readonly first: number;
  /** Length of `body` in bytes. */
  readonly length: number;
  /**
   * The bytes. Ends normally only after exactly `length` of them; anything else throws `store-failed` or `store-timeout`.
   * Leaving the loop early frees what the store holds.
   */
  readonly body: AsyncIterable<Uint8Array>;
}

/** What is known of an object without reading it. */
export interface ObjectStat {
  /** Length in bytes. */
  readonly size: number;
  /** When the store took it in, by the store's clock. */
  readonly modified: Date;
  /** Time since then in ms, both ends by the store's own clock, so that the gateway's clock does not matter. */
  readonly ageMs: number;
  /** Who brought it, for objects that came through a gateway. */
  readonly uploader?: Uploader;
}

/** One line of a list. */
export interface ListedObject {
  readonly name: ObjectName;
  /** Length in bytes. */
  readonly size: number;
}

/** Options of every call. */
export interface CallOptions {
  /** Aborted when the client is gone or the session is closed; the call then ends soon and throws. */
  readonly signal: AbortSignal;
}

/** Options of a list. */
export interface ListOptions extends CallOptions {
  /**
   * Asked before the store fetches a page that nobody waits for yet: whether it may hold one more of them for as long as the list runs.
   * Undefined for as many as it likes.
   */
  readonly mayFetchAhead?: () => boolean;
}

/**
 * The storage of one repository.
 *
 * Errors: every method throws `GatewayError` only: `not-found` (of `load`) when the store has said so clearly, and one of `store-failed`,
 * `store-unavailable`, `store-misconfigured`, `store-timeout`, `store-full`, `store-unsafe` for everything else. A failure is never
 * `not-found`, never an absent `stat` and never an empty list. Every call ends within the store's time limits, whatever the storage does.
 */
export interface RepositoryStore {
  /**
   * Creates an object, atomically and only if the name is free. When it resolves to `created`, the content is stored whole and durably,
   * and readers see it; until then, and after a failure, they see nothing of it. `exists`: the name is taken, by whatever content, and
   * that content is untouched and durable; the body may then have been read in part or not at all.
   * Throws what `content.body` throws, unchanged.
   */
  create(ref: ObjectRef, content: Content, uploader: Uploader, options: CallOptions): Promise<'created' | 'exists'>;

  /** Opens an object, or the part of it that `range` covers. @throws `not-found`, `range-not-satisfiable` */
  load(ref: ObjectRef, range: ByteRange | undefined, options: CallOptions): Promise<LoadedObject>;

  /** Looks an object up; undefined when the store has said clearly that there is none. */
  stat(ref: ObjectRef, options: CallOptions): Promise<ObjectStat | undefined>;

  /**
   * Removes an object durably; `absent` when there was none. `hidden`: to every reader it is gone, but the storage keeps it as an older
   * version, from which its owner can bring it back. `kept`: so does the trash.
   * @throws `retained` when the storage keeps it until its retention or legal hold ends
   */
  remove(ref: ObjectRef, options: CallOptions): Promise<'removed' | 'hidden' | 'kept' | 'absent'>;

  /**
   * The objects of a type in pages as the store delivers them, in no order, each exactly once. Foreign files are left out. A repository
   * or type that was never written to is empty. Throws in mid-way when the list cannot be completed.
   */
  list(type: NamedType, options: ListOptions): AsyncIterable<readonly ListedObject[]>;
}

/** A repository's store as the storage has it. */
export interface StoredRepository extends RepositoryStore {
  /**
   * Removes an object as `remove` does, but keeps it in the repository's trash, with its uploader and its time of arrival, where no reader
   * sees it. There is no moment at which it is in neither place, even if this is cut off; then the same again completes it.
   * @param batch - a name that `batchName` has made
   * @returns `kept`: it is in the trash, durably; `hidden`: the storage keeps it as an older version, and it is not in the trash; `removed`:
   * the storage keeps versions, but has not said that it keeps this one
   * @throws as `remove`; `store-unavailable` when the batch has a config of other content already, which another minute's has not
   */
  setAside(ref: ObjectRef, batch: string, options: CallOptions): Promise<'kept' | 'hidden' | 'removed' | 'absent'>;

  /** How many bytes that clients have removed, and not the admin, are in the trash. */
  removedByClients(options: CallOptions): Promise<number>;
}

/** One thing that was tried on a storage. */
export interface StoreCheckPoint {
  readonly what: string;
  /** `note`: nothing to hold or to fail, but to know. */
  readonly outcome: 'holds' | 'fails' | 'note';
  /** What was seen, and where it fails what to do; one line. */
  readonly detail: string;
  /** Bytes that are free, where that is what was looked at. */
  readonly freeBytes?: number;
}

/** What a live trial of a storage has shown. */
export interface StoreCheckResult {
  /** Whether creating under a name that is taken leaves what is there. */
  readonly neverOverwrites: boolean;
  /** Whether what is overwritten or removed stays as an older version. */
  readonly keepsVersions: boolean;
  /** Whether an object of a pack's size is stored, seen and read back as it was. */
  readonly keepsPacks: boolean;
  readonly checks: readonly StoreCheckPoint[];
}

/** Storage that holds the repositories of many clients, as one entry of `stores:` in the config. */
export interface Storage {
  /** The store of the repository under this prefix. Makes no call to the storage. */
  repository(prefix: string): StoredRepository;
  /**
   * Tries to reach the storage with its credentials, changing nothing.
   * @throws GatewayError that says what is wrong (`store-misconfigured`, `store-unavailable`, …) and what to do
   */
  reach(options: CallOptions): Promise<void>;
  /**
   * Tries live what backups rest on, with objects of its own, one of them as large as a pack, under `.restic-gateway/`, which it removes again.
   * @param prefixes - the repositories that are of interest
   * @throws GatewayError when it cannot be tried: the storage cannot be reached, refuses the credentials, lacks the bucket
   */
  check(prefixes: readonly string[], options: CallOptions): Promise<StoreCheckResult>;
  /**
   * Removes what uploads have left that were cut off by the end of their process; the next upload to a repository does so there, too.
   * @param prefixes - the repositories to look at
   */
  tidy(prefixes: readonly string[], options: CallOptions): Promise<void>;
  /** Lets go of connections. No call is made after it. */
  close(): Promise<void>;
}
