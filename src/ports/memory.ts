/**
 * Memory for bytes on their way through: taken before they are let come, given back when nothing holds them any more.
 *
 * What a client may hold is bounded over all its sessions and connections in a process, and what all may hold together is bounded too.
 */

/** Bytes that were taken. */
export interface Lease {
  /** Takes `bytes` more. @returns false, and takes none, when they are not to be had */
  grow(bytes: number): boolean;
  /** Gives all of them back; a second time does nothing. */
  release(): void;
}

/** What one client holds in this process. */
export interface ClientMemory {
  /**
   * Takes bytes at once. @returns undefined when they are not to be had
   * @param use - `needed`: nothing moves without them. `faster`: it moves without them, so that they are given only while there are plenty
   */
  take(bytes: number, use?: MemoryUse): Lease | undefined;
  /**
   * Takes bytes as `needed`, and waits in turn until they are to be had.
   * @returns undefined when the signal aborts first
   */
  wait(bytes: number, signal: AbortSignal): Lease | undefined | Promise<Lease | undefined>;
  /** Whether others may soon lack what is held for speed alone. */
  readonly scarce: boolean;
}

/** What bytes are for. */
export type MemoryUse = 'needed' | 'faster';

/** The memory of a process. */
export interface Memory {
  of(client: string): ClientMemory;
  /** In bytes: what is taken, and the most that may be. */
  readonly used: number;
  readonly total: number;
}
