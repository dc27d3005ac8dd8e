/** How many bytes a repository has in use, as all who store in it count together: exact, so that of two who want the last room one gets it. */

/** The ledger of one repository, as one process sees it. */
export interface Ledger {
  /**
   * Sets room aside for an upload. Makes the ledger by a count of the store when there is none yet.
   * @param size - in bytes
   * @param limit - the most that may then be in use, in bytes; undefined for no limit
   * @returns a token to settle it by, or undefined when it does not fit
   * @throws what the count throws; GatewayError `state-unavailable`
   */
  reserve(size: number, limit: number | undefined, key: string): Promise<string | undefined>;
  /** Says how an upload ended. @throws GatewayError `state-unavailable` */
  settle(token: string, end: 'stored' | 'failed'): Promise<void>;
  /** Says that bytes were removed; nothing when there is no ledger yet. @throws GatewayError `state-unavailable` */
  removed(size: number): Promise<void>;
  /** Whether the store is to be counted now; if so, it is this process's task from then on. @throws GatewayError `state-unavailable` */
  claimCount(claimMs: number): Promise<boolean>;
  /** Watches what happens from now on; `close` ends it. */
  watch(): Promise<LedgerWatch>;
  close(): Promise<void>;
}

/** Opens a ledger in files of a directory. @param measure - counts the store, in bytes */
export type OpenLedger = (directory: string, measure: () => Promise<number>) => Ledger;

/** The ledgers of all repositories. */
export interface Ledgers {
  /** @param state - the state directory of this machine @param identity - the same for all sessions of a repository, and for them alone */
  open(state: string, identity: string, measure: () => Promise<number>): Ledger;
  close(): Promise<void>;
}

/** A look at a ledger while its store is being counted. */
export interface LedgerWatch {
  readonly window: LedgerWindow;
  /** Reads what has happened since. */
  refresh(): Promise<void>;
  /** Changes the sum to what was counted, unless someone else did meanwhile. @param dueMs - in how many ms the next count is due */
  correct(count: (underWay: ReadonlySet<string>) => number, dueMs: number): Promise<void>;
  /** Whether the process is gone that an upload was of, which is under way still. */
  readonly isOver: (token: string) => boolean;
  close(): void;
}

/** An upload that has room set aside. */
export interface LedgerUpload {
  /** Its key below the repository's prefix. */
  readonly key: string;
  /** In bytes. */
  readonly size: number;
}

/** What happened to a ledger while somebody looked at the store. */
export interface LedgerWindow {
  /** By token: the uploads that were under way at some time in it and did not come to nothing. */
  readonly uploads: Map<string, LedgerUpload>;
  /** Whether anything was removed from the store in it. */
  removals: boolean;
  /** Set when something was missed. */
  broken: boolean;
}
