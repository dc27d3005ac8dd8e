/** Who of those who share a process is served next. */

/** The turns of one client, over all of its sessions in this process. */
export interface Turns {
  /** One request that is ready to begin. @returns undefined when it may at once, else a promise for when it may, or for when the signal aborts */
  take(signal: AbortSignal): Promise<void> | undefined;
}
