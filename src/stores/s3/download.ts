/**
 * An object's bytes on their way out: exactly as many as announced, a time limit on the storage alone, and nothing held once it is left.
 */
import type { IncomingMessage } from 'node:http';
import { BadAnswer, Limit } from './transport.ts';

/**
 * What is read before it is asked for, in bytes: each turn of the event loop that fetches as much as one write takes is a turn that the
 * download does not wait for, and a busy gateway has long ones. Counted by whoever takes memory for a download.
 */
const READ_AHEAD = 256 * 1024;

/** Tells an error in the gateway's terms. */
type Classify = (error: unknown) => Error;

/** The body of a download, to be iterated once. */
export class Download implements AsyncIterableIterator<Uint8Array> {
  readonly #incoming: IncomingMessage;
  readonly #length: number;
  readonly #idleMs: number;
  readonly #signal: AbortSignal;
  readonly #classify: Classify;
  readonly #limit: Limit;
  /** What has come and was not asked for yet. */
  readonly #ahead: Buffer[] = [];
  #aheadBytes = 0;
  #received = 0;
  #over = false;
  #failure: { readonly error: unknown } | undefined;
  #wake = (): void => undefined;

  /**
   * @param length - how many bytes were announced
   * @param idleMs - how long the storage may let a waiting reader wait
   */
  constructor(incoming: IncomingMessage, length: number, idleMs: number, signal: AbortSignal, classify: Classify) {
    this.#incoming = incoming;
    this.#length = length;
    this.#idleMs = idleMs;
    this.#signal = signal;
    this.#classify = classify;
    this.#limit = new Limit(this.#fail);
    incoming.on('data', this.#onData).on('end', () => {
      this.#wake();
    });
    const onCut = (cause?: unknown): void => {
      if (!incoming.readableEnded) this.#fail(new BadAnswer('the connection broke in the middle of it', { cause }));
    };
    incoming.on('error', onCut);
    incoming.on('close', onCut);
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#classify(this.#failure.error);
      if (this.#over) return { done: true, value: undefined };
      const chunk = this.#ahead.shift();
      if (chunk !== undefined) {
        this.#aheadBytes -= chunk.length;
        if (this.#aheadBytes < READ_AHEAD / 2 && this.#incoming.isPaused()) this.#incoming.resume();
        return { done: false, value: chunk };
      } else if (!this.#incoming.readableEnded) {
        this.#limit.arm(this.#idleMs, 'sent no more of a download');
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#limit.disarm();
      } else if (this.#received === this.#length) {
        this.#end();
      } else {
        this.#fail(this.#wrongLength());
      }
    }
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (!this.#over) {
      this.#end();
      // All of it has come: the connection can serve the next request. Else the rest would have to be fetched only to be thrown away.
      if (this.#received === this.#length) this.#incoming.resume();
      else this.#incoming.destroy();
    }
    return Promise.resolve({ done: true, value: undefined });
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#over) return;
    this.#received += chunk.length;
    if (this.#received > this.#length) {
      this.#fail(this.#wrongLength());
      return;
    }
    this.#ahead.push(chunk);
    this.#aheadBytes += chunk.length;
    if (this.#aheadBytes >= READ_AHEAD) this.#incoming.pause();
    this.#wake();
  };

  readonly #onAbort = (): void => {
    this.#fail(this.#signal.reason);
  };

  readonly #fail = (error: unknown): void => {
    if (this.#over) return;
    this.#failure = { error };
    this.#end();
    this.#incoming.destroy();
  };

  #end(): void {
    this.#over = true;
    this.#limit.disarm();
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#ahead.length = 0;
    this.#aheadBytes = 0;
    this.#wake();
  }

  #wrongLength(): BadAnswer {
    return new BadAnswer(`${this.#received} bytes came of the ${this.#length} it announced`);
  }
}
