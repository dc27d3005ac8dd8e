/** A request's body as it comes in: every chunk as Node has it, none copied, and the client held back as soon as some wait. */
import type { ServerHttp2Stream } from 'node:http2';
import { GatewayError } from '../core/errors.ts';
import type { Pace } from './responses.ts';

/** Bytes that wait here before the client is held back; up to its window may follow. */
const HELD = 64 * 1024;

/** A body, to be read once. Left early, its stream stays open for an answer. */
export class RequestBody implements AsyncIterator<Uint8Array, undefined> {
  readonly #stream: ServerHttp2Stream;
  readonly #pace: Pace;
  readonly #chunks: Uint8Array[] = [];
  #held = 0;
  #end: 'coming' | 'come' | 'cut-off' = 'coming';
  #cause: unknown;
  #wake = (): void => undefined;

  /** @param pace - heeded before each piece is handed on, and with it before more is read */
  constructor(stream: ServerHttp2Stream, pace: Pace) {
    this.#stream = stream;
    this.#pace = pace;
    if (stream.destroyed) this.#end = 'cut-off';
    // Faster than the stream's own iterator, which puts all that waits together into one new buffer, and waits in more steps.
    stream.on('data', this.#onData).on('end', this.#onEnd).on('error', this.#onCutOff).on('close', this.#onClose);
  }

  /** @throws GatewayError `client-gone` */
  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    while (this.#chunks.length === 0) {
      if (this.#end === 'come') return { done: true, value: undefined };
      if (this.#end === 'cut-off') throw new GatewayError('client-gone', { cause: this.#cause });
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const value = this.#take();
    const wait = this.#pace.before(value.length);
    if (wait !== undefined) await wait;
    return { done: false, value };
  }

  /** Reads no more. */
  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#onEnd();
    this.#chunks.length = 0;
    this.#stream.off('data', this.#onData).pause();
    return Promise.resolve({ done: true, value: undefined });
  }

  #take(): Uint8Array {
    const [first = new Uint8Array(0)] = this.#chunks;
    const most = this.#pace.piece();
    let piece = first;
    if (first.length <= most) {
      this.#chunks.shift();
    } else {
      piece = first.subarray(0, most);
      this.#chunks[0] = first.subarray(most);
    }
    this.#held -= piece.length;
    if (this.#held < HELD && this.#stream.isPaused()) this.#stream.resume();
    return piece;
  }

  readonly #onData = (chunk: Uint8Array): void => {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    if (this.#held >= HELD) this.#stream.pause();
    this.#wake();
  };

  readonly #onEnd = (): void => {
    if (this.#end === 'coming') this.#end = 'come';
    this.#wake();
  };

  readonly #onCutOff = (cause: unknown): void => {
    this.#cause ??= cause;
    this.#onClose();
  };

  readonly #onClose = (): void => {
    if (this.#end === 'coming') this.#end = 'cut-off';
    this.#wake();
  };
}
