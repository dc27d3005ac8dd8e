/** How many sessions a client has open on all gateways that share a database. */

/** Entered: the session counts until `leave`. Else how many others are open, which are as many as may be. */
type SharedEntry =
  { readonly entered: true; readonly leave: () => void } | { readonly entered: false; readonly others: number };

/** The sessions of all gateways. */
export interface SharedSessions {
  /**
   * Counts a session that this machine has let in, unless its client has as many as it may over all gateways. While the database is away all
   * are let in.
   * @param session - its id
   * @param client - the client's id
   * @param most - sessions at once
   */
  enter(session: string, client: string, most: number): Promise<SharedEntry>;
  close(): Promise<void>;
}
