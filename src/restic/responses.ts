/**
 * The answers on the wire: status, headers and bodies of HTTP/2 streams, written no faster than the client takes them. Answers without a
 * body never throw, in whatever state the client has left its stream; those with one throw `client-gone`, and what the store throws.
 */
import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { MethodNotAllowed, LIST_V1_TYPE, LIST_V2_TYPE, type ListVersion } from '../core/operation.ts';
import { GatewayError } from '../core/errors.ts';
import type { ListedObject, LoadedObject, ObjectStat } from '../ports/repository-store.ts';
import { begin, isOpen, reset } from './streams.ts';

/** What sending has to heed. */
export interface Pace {
  /** The most bytes to send in one go. */
  piece(): number;
  /** Told of every piece's length in bytes; what it returns is waited for before the piece is sent. */
  before(bytes: number): Promise<void> | undefined;
}

/** Answers with a status and no body. */
export function respondEmpty(stream: ServerHttp2Stream, status: number, headers: OutgoingHttpHeaders = {}): void {
  if (!begin(stream, { ':status': status, ...headers }, { endStream: true })) return;
  // The rest of a body that nobody will read is called off without blame (RFC 9113, 8.1).
  if (!stream.readableEnded) reset(stream, constants.NGHTTP2_NO_ERROR);
}

/** Answers with an error; when the answer has begun already, cuts it off so that the client cannot take it for whole. */
export function respondError(stream: ServerHttp2Stream, error: GatewayError): void {
  if (stream.headersSent) reset(stream, constants.NGHTTP2_INTERNAL_ERROR);
  else respondEmpty(stream, error.status, error instanceof MethodNotAllowed ? { allow: error.allow } : {});
}

/** Answers a HEAD. */
export function respondStat(stream: ServerHttp2Stream, stat: ObjectStat): void {
  respondEmpty(stream, 200, { 'content-length': stat.size, 'accept-ranges': 'bytes' });
}

/**
 * Answers a GET with an object or a part of it.
 * @param ahead - how many bytes may wait in the stream to be sent. Node sends what waits in one go, which takes some turns of the event loop
 *   however much it is: of a busy process, a client gets the more in each turn the more waits
 */
export async function respondObject(
  stream: ServerHttp2Stream,
  object: LoadedObject,
  ranged: boolean,
  pace: Pace,
  ahead: number,
): Promise<void> {
  const begun = begin(stream, {
    ':status': ranged ? 206 : 200,
    'content-type': 'application/octet-stream',
    'content-length': object.length,
    'accept-ranges': 'bytes',
    ...(ranged ? { 'content-range': `bytes ${object.first}-${object.first + object.length - 1}/${object.size}` } : {}),
  });
  if (!begun) {
    // Left unread, it would keep what the store has opened for it.
    await object.body[Symbol.asyncIterator]().return?.();
    throw new GatewayError('client-gone');
  }
  for await (const chunk of object.body) {
    for (const piece of inPieces(chunk, pace.piece())) {
      const wait = pace.before(piece.length);
      if (wait !== undefined) await wait;
      await write(stream, piece, ahead);
    }
  }
  stream.end();
}

/** Answers a list, page by page as the store delivers it; the first page is awaited before the status goes out. */
export async function respondList(
  stream: ServerHttp2Stream,
  version: ListVersion,
  pages: AsyncIterable<readonly ListedObject[]>,
  pace: Pace,
): Promise<void> {
  const start = (): void => {
    if (!begin(stream, { ':status': 200, 'content-type': version === 2 ? LIST_V2_TYPE : LIST_V1_TYPE }))
      throw new GatewayError('client-gone');
  };
  let before = '[';
  for await (const page of pages) {
    if (page.length === 0) continue;
    if (before === '[') start();
    // Names are 64 hex digits by type, so there is nothing to escape.
    const text = page
      .map(({ name, size }) => (version === 2 ? `{"name":"${name}","size":${size}}` : `"${name}"`))
      .join(',');
    const wait = pace.before(text.length);
    if (wait !== undefined) await wait;
    await write(stream, before + text);
    before = ',';
  }
  if (before === '[') start();
  stream.end(before === '[' ? '[]' : ']');
}

/** A chunk in pieces of at most so many bytes; most often it is one. */
export function inPieces(chunk: Uint8Array, most: number): readonly Uint8Array[] {
  if (chunk.length <= most) return [chunk];
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < chunk.length; at += most) pieces.push(chunk.subarray(at, at + most));
  return pieces;
}

/** Resolves when the client has room for more, or when no more than `ahead` bytes wait for it; throws when it is gone. */
async function write(stream: ServerHttp2Stream, chunk: Uint8Array | string, ahead = 0): Promise<void> {
  if (!isOpen(stream)) throw new GatewayError('client-gone');
  if (stream.write(chunk) || stream.writableLength <= ahead) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.on('drain', done);
    stream.on('close', done);
  });
}
