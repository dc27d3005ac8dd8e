/**
 * An upload's content as the sending of it needs it: pulled a chunk at a time, checked for its length, and short content kept so that a
 * failed attempt can be repeated.
 */
import { GatewayError } from '../../core/errors.ts';
import { unlessAborted } from '../../core/waiting.ts';
import type { Content } from '../../ports/repository-store.ts';

/**
 * Content up to this many bytes is kept until it is stored, so that it can be sent again when the storage drops or refuses it for the
 * moment: locks, keys, snapshots and small indexes, on which a whole run of restic hangs. A pack is left to restic's own retry.
 */
export const REPEATABLE_BYTES = 1024 * 1024;

/** What the content itself threw, in `cause`: no fault of the storage. */
export class ContentError extends Error {
  constructor(cause: unknown) {
    super('the content failed', { cause });
  }
}

/** One upload, over all attempts to send it. */
export class UploadBody {
  readonly size: number;
  readonly sha256: string;
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #kept: Promise<Uint8Array>[] = [];
  #pulled: Promise<Uint8Array> | undefined;
  #received = 0;

  constructor(content: Content) {
    this.size = content.size;
    this.sha256 = content.sha256;
    this.#source = content.body[Symbol.asyncIterator]();
  }

  /** Whether it can be sent from its beginning: it is short, or nothing of it was read yet. */
  get repeatable(): boolean {
    return this.size <= REPEATABLE_BYTES || this.#pulled === undefined;
  }

  /**
   * The chunk of that index; each attempt asks for 0, 1, 2 … until it has `size` bytes. Never empty, unless `size` is 0. The chunk that
   * completes the content comes only when the content has ended without a complaint.
   * @throws ContentError
   */
  chunk(index: number): Promise<Uint8Array> {
    const kept = this.#kept[index];
    if (kept !== undefined) return kept;
    const pulled = this.#pull();
    // An attempt that has failed meanwhile no longer looks.
    pulled.catch(() => undefined);
    this.#pulled = pulled;
    if (this.size <= REPEATABLE_BYTES) this.#kept.push(pulled);
    return pulled;
  }

  /**
   * Lets go of the content. Waits for the chunk that is being pulled, so that whoever goes on with the rest of the source is alone with
   * it; but not past the signal.
   */
  async release(signal: AbortSignal): Promise<void> {
    if (this.#pulled !== undefined && !signal.aborted) {
      await unlessAborted(this.#pulled, signal, () => new Error('no longer')).catch(() => undefined);
    }
    // Not awaited: a generator that still waits for its client ends when that does.
    void this.#source.return?.().catch(() => undefined);
  }

  async #pull(): Promise<Uint8Array> {
    for (;;) {
      const chunk = await this.#next();
      if (chunk === undefined) {
        // Only empty content ends here: the end of any other is read with its last chunk.
        if (this.size > 0) throw this.#wrongLength();
        return new Uint8Array(0);
      }
      this.#received += chunk.length;
      if (this.#received > this.size) throw this.#wrongLength();
      if (chunk.length === 0) continue;
      if (this.#received === this.size) await this.#end();
      return chunk;
    }
  }

  async #end(): Promise<void> {
    for (let chunk = await this.#next(); chunk !== undefined; chunk = await this.#next()) {
      this.#received += chunk.length;
      if (chunk.length > 0) throw this.#wrongLength();
    }
  }

  async #next(): Promise<Uint8Array | undefined> {
    try {
      const step = await this.#source.next();
      return step.done === true ? undefined : step.value;
    } catch (error) {
      throw new ContentError(error);
    }
  }

  #wrongLength(): ContentError {
    const detail = `${this.#received} bytes came of ${this.size} declared`;
    return new ContentError(new GatewayError('incomplete-upload', { detail }));
  }
}
