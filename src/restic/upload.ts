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
 * @param mayGather - the most bytes that the store may gather before it writes them
 */
export function namedUpload(
  source: AsyncIterator<Uint8Array>,
  size: number,
  name: ObjectName,
  commit: () => Promise<void>,
  mayGather?: () => number,
): Upload {
  const hash = createHash('sha256');
  let received = 0;
  let verdict: boolean | undefined;

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

  async function* body(): AsyncGenerator<Uint8Array> {
    let held = await next();
    while (held !== undefined) {
      const chunk = await next();
      if (chunk === undefined) break;
      yield held;
      held = chunk;
    }
    if (received !== size)
      throw new GatewayError('incomplete-upload', { detail: `${received} bytes came of ${size} declared` });
    if (verdict !== true) throw new GatewayError('content-mismatch');
    await commit();
    if (held !== undefined) yield held;
  }

  return {
    content: { size, sha256: name, body: body(), ...(mayGather && { mayGather }) },
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
