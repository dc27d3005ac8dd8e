/**
 * One HTTP request as one operation on a repository: method, path and headers are parsed here, once, and nowhere else.
 *
 * Source: restic's REST backend specification (doc/REST_backend.rst) and what restic's rclone backend sends; ranges: RFC 9110, 14.
 */
import { GatewayError } from './errors.ts';
import { parseNamedType, parseObjectName, type NamedType, type ObjectRef } from './object.ts';

/** A byte range as asked for, both ends inclusive; without `last` it goes to the object's end. */
export interface ByteRange {
  readonly first: number;
  readonly last?: number;
}

/** The two answers to a list: v1 is an array of names, v2 of names with sizes. */
export type ListVersion = 1 | 2;

/** The media type of a v2 list, asked for by `Accept` and answered as `Content-Type`. */
export const LIST_V2_TYPE = 'application/vnd.x.restic.rest.v2';
/** The media type of a v1 list. */
export const LIST_V1_TYPE = 'application/vnd.x.restic.rest.v1';

/** What a client may ask for. */
export type Operation =
  /** restic's first request, `GET /file-<random>`: any answer shows that the connection lives. */
  | { readonly kind: 'greet' }
  | { readonly kind: 'create-repository' }
  | { readonly kind: 'list'; readonly type: NamedType; readonly version: ListVersion }
  | { readonly kind: 'stat'; readonly ref: ObjectRef }
  | { readonly kind: 'load'; readonly ref: ObjectRef; readonly range?: ByteRange }
  | { readonly kind: 'save'; readonly ref: ObjectRef; readonly size: number }
  | { readonly kind: 'remove'; readonly ref: ObjectRef };

/** The parts of a request that decide what it means. */
export interface RequestHead {
  readonly method: string;
  readonly path: string;
  readonly range?: string | undefined;
  readonly accept?: string | undefined;
  readonly contentLength?: string | undefined;
  readonly contentEncoding?: string | undefined;
}

/** A request for a path that exists by a method that does not: 405, with the methods that do (RFC 9110, 15.5.6). */
export class MethodNotAllowed extends GatewayError {
  readonly allow: string;
  constructor(allow: string) {
    super('method-not-allowed', { detail: `allowed here: ${allow}` });
    this.allow = allow;
  }
}

// The whole grammar of paths. Nothing is decoded or normalised: what does not match as it stands is refused.
const ROOT = /^\/(\?create=true)?$/;
const GREETING = /^\/file-[0-9]{1,20}$/;
const OBJECT = /^\/(config|(data|index|keys|locks|snapshots)\/([0-9a-f]{64})?)$/;
// A name that no object has, and none of the ways to write a path that is more than a name.
const NO_OBJECT = /^\/(data|index|keys|locks|snapshots)\/[A-Za-z0-9_-]{1,255}$/;

/**
 * The operation that a request stands for.
 * @throws GatewayError `invalid-request`, `not-found`, `length-required`, `range-not-satisfiable`; MethodNotAllowed
 */
export function parseOperation(head: RequestHead): Operation {
  const { method, path } = head;
  const root = ROOT.exec(path);
  if (root) {
    if (method !== 'POST') throw new MethodNotAllowed('POST');
    if (root[1] === undefined) throw new GatewayError('invalid-request', { detail: 'POST / needs ?create=true' });
    return { kind: 'create-repository' };
  }
  if (GREETING.test(path)) {
    if (method !== 'GET' && method !== 'HEAD') throw new MethodNotAllowed('GET, HEAD');
    return { kind: 'greet' };
  }
  const match = OBJECT.exec(path);
  if (!match) {
    // To restic from 0.17 on a 400 is an outage, which it waits out for 15 minutes; nothing has such a name, so nothing is looked up.
    if ((method === 'GET' || method === 'HEAD') && NO_OBJECT.test(path)) throw new GatewayError('not-found');
    throw new GatewayError('invalid-request', { detail: 'no such path in a restic repository' });
  }
  const type = match[2] === undefined ? undefined : parseNamedType(match[2]);
  if (type === undefined) return onObject({ type: 'config' }, head);
  const name = match[3] === undefined ? undefined : parseObjectName(match[3]);
  if (name !== undefined) return onObject({ type, name }, head);
  if (method !== 'GET') throw new MethodNotAllowed('GET');
  return { kind: 'list', type, version: acceptsV2(head.accept) ? 2 : 1 };
}

function onObject(ref: ObjectRef, head: RequestHead): Operation {
  switch (head.method) {
    case 'HEAD':
      return { kind: 'stat', ref };
    case 'GET': {
      const range = parseRange(head.range);
      return range === undefined ? { kind: 'load', ref } : { kind: 'load', ref, range };
    }
    case 'POST':
      return { kind: 'save', ref, size: parseSize(head) };
    case 'DELETE':
      return { kind: 'remove', ref };
    default:
      throw new MethodNotAllowed('DELETE, GET, HEAD, POST');
  }
}

// restic sends exactly the one media type; a list of several with parameters is legal HTTP and read as such.
function acceptsV2(accept: string | undefined): boolean {
  return (accept ?? '').split(',').some((part) => part.split(';', 1)[0]?.trim().toLowerCase() === LIST_V2_TYPE);
}

const RANGE = /^bytes=(\d{1,15})-(\d{1,15})?$/;

/**
 * A `Range` header as a byte range. restic asks for exactly one, `bytes=a-` or `bytes=a-b`.
 * Suffix, reversed, several or malformed ranges are refused with 416, as RFC 9110, 14.2 allows, never answered with the whole object.
 */
function parseRange(header: string | undefined): ByteRange | undefined {
  if (header === undefined) return undefined;
  const match = RANGE.exec(header);
  if (!match)
    throw new GatewayError('range-not-satisfiable', { detail: 'only one range, bytes=first-last, is served' });
  const first = Number(match[1]);
  if (match[2] === undefined) return { first };
  const last = Number(match[2]);
  if (last < first) throw new GatewayError('range-not-satisfiable', { detail: 'the range ends before it begins' });
  return { first, last };
}

const LENGTH = /^\d{1,15}$/;

function parseSize(head: RequestHead): number {
  if (head.contentEncoding !== undefined && head.contentEncoding !== 'identity')
    throw new GatewayError('invalid-request', { detail: 'an upload must not be encoded' });
  if (head.contentLength === undefined) throw new GatewayError('length-required');
  if (!LENGTH.test(head.contentLength))
    throw new GatewayError('invalid-request', { detail: 'Content-Length is not a number' });
  return Number(head.contentLength);
}

/**
 * The part of an object that a range covers.
 * @param size - the object's length in bytes
 * @returns the first byte and the number of bytes; a range past the end is cut there (RFC 9110, 14.1.2). Of an object without bytes any range
 *   is the whole of it, as for Go's `http.ServeContent`: restic asks for `bytes=0-`, and before 0.15 takes a 416 for an outage
 * @throws GatewayError `range-not-satisfiable` when the range begins at or past the end
 */
export function resolveRange(range: ByteRange, size: number): { readonly first: number; readonly length: number } {
  if (size === 0) return { first: 0, length: 0 };
  if (range.first >= size) throw new GatewayError('range-not-satisfiable');
  const last = Math.min(range.last ?? size - 1, size - 1);
  return { first: range.first, length: last - range.first + 1 };
}
