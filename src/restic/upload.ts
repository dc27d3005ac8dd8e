/**
 * A request's body on its way into the store: counted, hashed, and with its last chunk held back until it has proved to be right.
 */
import { createHash } from 'node:crypto';
import { GatewayError } from '../core/errors.ts';
import type { ObjectName } from '../core/object.ts';
import type { Content } from '../ports/repository-store.ts';

/** An upload under way. */
export interface Upload {
  /** For the store. Its body throws before the last chunk when the upload is not what it should be. */
  readonly content: Content;
  /**
   * Reads what the store left unread.
   * @returns whether the whole upload is `content.size` bytes that hash to `content.sha256`
   */
  verify(): Promise<boolean>;
}

/**
 * An upload of an object that is named by its content.
 * @param source - the request's body; left early, it must stay usable for an answer
 * @param size - its declared length in bytes
 * @param commit - runs once, when the content has proved right, before its last chunk is let go; what it throws stops the upload
 */
export function namedUpload(
  source: AsyncIterator<Uint8Array>,
  size: number,
  name: ObjectName,
  commit: () => Promise<void>,
): Upload {
  const hash = createHash('sha256');
  let received = 0;
  let verdict: boolean | undefined;
  let held: Uint8Array | undefined;
  let over = false;

  const next = async (): Promise<Uint8Array | undefined> => {
    if (verdict !== undefined) return undefined;
    const step = await source.next();
    if (step.done !== true) {
      received += step.value.length;
      hash.update(step.value);
      return step.value;
    }
    verdict = received === size && hash.digest('hex') === name;
    return undefined;
  };

  /** What comes before the last chunk, or that, once all has proved right. */
  const release = async (): Promise<Uint8Array | undefined> => {
    for (let chunk = await next(); chunk !== undefined; chunk = await next()) {
      const before = held;
      held = chunk;
      if (before !== undefined) return before;
    }
    over = true;
    if (received !== size)
      throw new GatewayError('incomplete-upload', { detail: `${received} bytes came of ${size} declared` });
    if (verdict !== true) throw new GatewayError('content-mismatch');
    await commit();
    return held;
  };

  // By hand: a generator takes several turns more for each chunk, of which there are 60,000 in a GiB.
  const body: AsyncIterableIterator<Uint8Array> = {
    [Symbol.asyncIterator]: () => body,
    next: async () => {
      if (over) return { done: true, value: undefined };
      try {
        const value = await release();
        return value === undefined ? { done: true, value } : { done: false, value };
      } catch (error) {
        over = true;
        throw error;
      }
    },
    return: () => {
      over = true;
      return Promise.resolve({ done: true, value: undefined });
    },
  };

  return {
    content: { size, sha256: name, body },
    verify: async () => {
      while ((await next()) !== undefined);
      return verdict === true;
    },
  };
}

/**
 * A short upload without a name of its own (`config`), read whole before the store sees it.
 * @param size - declared length in bytes, already checked to be small
 * @throws GatewayError `incomplete-upload`
 */
export async function bufferedUpload(
  source: AsyncIterator<Uint8Array>,
  size: number,
  commit: () => Promise<void>,
): Promise<Upload> {
  const chunks: Uint8Array[] = [];
  let received = 0;
  for (let step = await source.next(); step.done !== true; step = await source.next()) {
    received += step.value.length;
    if (received > size) break;
    chunks.push(step.value);
  }
  if (received !== size)
    throw new GatewayError('incomplete-upload', { detail: `${received} bytes came of ${size} declared` });
  const whole = Buffer.concat(chunks);
  async function* body(): AsyncGenerator<Uint8Array> {
    await commit();
    if (whole.length > 0) yield whole;
  }
  return {
    content: { size, sha256: createHash('sha256').update(whole).digest('hex'), body: body() },
    verify: () => Promise.resolve(true),
  };
}

/** SHA-256 of a body, 64 lower-case hex digits. */
export async function digestOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of body) hash.update(chunk);
  return hash.digest('hex');
}
