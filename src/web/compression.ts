/**
 * Answers as gzip, for who accepts it: one at a time and each but once, so that readers cost the sessions little.
 *
 * Source: RFC 9110, 12.5.3 (Accept-Encoding), 8.4.1.3 (gzip), 12.5.5 (Vary).
 */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { WebAnswer } from '../ports/web.ts';

const gzipped = promisify(gzip);

/** What is shorter gains nothing, in bytes. */
const SHORTEST = 2048;
/** A third of the time that zlib's own choice takes, for some tenths more bytes. */
const LEVEL = 4;

interface Packed {
  readonly headers: Readonly<Record<string, string>>;
  /** Undefined where it is sent as it is. */
  readonly body?: Buffer;
}

/**
 * What compresses answers, with the headers that say so; nothing for an answer that is not to be compressed for anybody.
 * An answer that is given again as the same object is compressed once. While one is being compressed, others are sent as they are.
 */
export function createCompression(): (
  accepted: string | string[] | undefined,
  answer: WebAnswer,
) => Promise<Packed | undefined> {
  const kept = new WeakMap<WebAnswer, Promise<Buffer>>();
  let busy = false;

  const start = (answer: WebAnswer): Promise<Buffer> => {
    busy = true;
    const made = gzipped(answer.body, { level: LEVEL }).finally(() => {
      busy = false;
    });
    kept.set(answer, made);
    return made;
  };

  return async (accepted, answer) => {
    if (answer.status !== 200 || answer.body.length < SHORTEST || 'content-encoding' in answer.headers)
      return undefined;
    const plain = { headers: { vary: 'accept-encoding' } };
    if (!acceptsGzip(accepted)) return plain;
    const made = kept.get(answer) ?? (busy ? undefined : start(answer));
    if (made === undefined) return plain;
    return { headers: { ...plain.headers, 'content-encoding': 'gzip' }, body: await made };
  };
}

/** Whether gzip is named, or anything is, and not with a weight of nothing. */
function acceptsGzip(accepted: string | string[] | undefined): boolean {
  const weights = new Map<string, number>();
  for (const part of String(accepted ?? '').split(',')) {
    const [, coding = '', weight = '1'] = /^\s*([\w*-]+)\s*(?:;\s*q=([\d.]+)\s*)?$/i.exec(part) ?? [];
    weights.set(coding.toLowerCase().replace(/^x-gzip$/, 'gzip'), Number(weight));
  }
  return (weights.get('gzip') ?? weights.get('*') ?? 0) > 0;
}
