/**
 * What a session is slowed down by, so that its client keeps to the rates that it may use. To wait is all that happens: whoever waits
 * reads and sends nothing meanwhile, so that the other side waits, too.
 */

/** A rate that a client is held to. */
export type Rate = 'upload' | 'download' | 'requests' | 'small-objects';

/** Each call returns undefined when one may go on at once, and else a promise that resolves when it is time, or when the signal aborts. */
export interface Throttle {
  /** Bytes that came, before they are used. */
  upload(bytes: number, signal: AbortSignal): Promise<void> | undefined;
  /** Bytes that are to go, before they are sent. */
  download(bytes: number, signal: AbortSignal): Promise<void> | undefined;
  /** The most bytes to take or to send in one go, so that all who share a low rate get on; Infinity where there is no limit. */
  piece(direction: 'upload' | 'download'): number;
  /** Bytes that came and that nobody will read; those who come later wait for them. */
  discarded(bytes: number): void;
  /** A request that came. Rejects with GatewayError `too-many-requests` when the wait would be too long. */
  request(signal: AbortSignal): Promise<void> | undefined;
  /** An object that is to be made. Rejects with GatewayError `too-many-objects` when the wait would be too long. */
  object(size: number, signal: AbortSignal): Promise<void> | undefined;
  /** What a rate is at present, in words for the user: `5000/h`, `50MiB/s`. */
  describe(rate: Rate): string;
}
