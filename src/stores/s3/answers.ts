/**
 * What counts as S3's answer. A status alone proves nothing: a proxy, a firewall or a captive portal answers 200 as well, with a page of
 * its own, and what restic then takes for a backup is nowhere. So a success counts only with what S3 says beside it.
 *
 * Source: the S3 API reference, response syntax of PutObject, HeadObject, GetObject, DeleteObject, CopyObject and "Error responses" (a 200
 * may hold an error); RFC 9110, 8.8.3 (ETag) and 14.4 (Content-Range).
 */
import type { IncomingHttpHeaders } from 'node:http';
import { S3Refusal, isPage } from './errors.ts';
import { BadAnswer, type HttpAnswer } from './transport.ts';

/** The part of a request that its answer is compared with. */
interface Asked {
  readonly method: string;
  /** Undefined for the bucket itself. */
  readonly key?: string | undefined;
  /** Names in lower case. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/**
 * Of what form is left to the storage: an MD5 in hex, one with the number of parts, or with encryption anything else. Some leave out the
 * quotes.
 */
const ETAG = /^(?:"[\x21\x23-\x7e]{1,256}"|[\w+/=.:-]{1,256})$/;

/** For objects that are read, where something on the way may have weakened it. */
const ANY_ETAG = /^(?:W\/)?"[\x21\x23-\x7e]{1,256}"$|^[\w+/=.:-]{1,256}$/;

/**
 * Holds an answer of an accepted status to what S3 answers to such a request.
 * @throws S3Refusal for an error under a 200; BadAnswer for what S3 does not say
 */
export function assertAnswer(asked: Asked, answer: HttpAnswer): void {
  const { method, key } = asked;
  if (isPage(answer)) throw foreign(method, answer, 'an HTML page');
  // A refusal that the caller takes for an answer, such as 412.
  if (answer.status >= 300) return;
  if (parsesAsError(answer)) throw new S3Refusal(answer);
  if (key === undefined) return;
  // A copy may fail after its 200 has begun; the document then holds an error instead.
  if (asked.headers?.['x-amz-copy-source'] !== undefined) assertDocument(method, 'CopyObjectResult', answer);
  else if (method === 'PUT') assertStored(asked, answer);
  else if (method === 'DELETE') assertDocument(method, undefined, answer);
  else assertObject(asked, answer);
}

/**
 * Holds the answer to a request that changes or describes something to its document.
 * @param root - the document's outermost element; undefined where S3 answers without one
 * @throws as `assertAnswer`
 */
export function assertDocument(method: string, root: string | undefined, answer: HttpAnswer): void {
  if (isPage(answer)) throw foreign(method, answer, 'an HTML page');
  if (parsesAsError(answer)) throw new S3Refusal(answer);
  const right = root === undefined ? answer.text.trim() === '' : new RegExp(`<${root}[\\s>/]`).test(answer.text);
  if (!right) throw foreign(method, answer, root === undefined ? 'a body' : `no ${root}`);
}

function assertStored({ method, headers = {} }: Asked, answer: HttpAnswer): void {
  if (answer.text.trim() !== '') throw foreign(method, answer, 'a body');
  if (!ETAG.test(answer.headers.etag ?? '')) throw foreign(method, answer, 'no ETag');
  const [sent, stored] = [headers, answer.headers].map((some) => some['x-amz-checksum-sha256']);
  if (sent !== undefined && stored !== undefined && sent !== stored)
    throw new BadAnswer('it says that what it stored has another checksum than what was sent');
}

function assertObject({ method, headers: { range } = {} }: Asked, answer: HttpAnswer): void {
  const { status, headers } = answer;
  if (!ANY_ETAG.test(headers.etag ?? '')) throw foreign(method, answer, 'no ETag');
  if (status === 206) {
    const given = contentRange(headers);
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
    const wanted = Math.min(last === undefined || last === '' ? Infinity : Number(last), (given?.size ?? 0) - 1);
    if (given === undefined || given.first !== Number(first) || given.last !== wanted)
      throw new BadAnswer('it gives another part of an object than was asked for');
  } else if (!/^\d{1,15}$/.test(headers['content-length'] ?? '')) {
    throw new BadAnswer('it does not say how long an object is');
  }
}

/** What a `Content-Range` says; undefined where there is none that does. */
export function contentRange(
  headers: IncomingHttpHeaders,
): { readonly first: number; readonly last: number; readonly size: number } | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(headers['content-range'] ?? '');
  if (match === null) return undefined;
  const [, first, last, size] = match.map(Number);
  return { first: first ?? Number.NaN, last: last ?? Number.NaN, size: size ?? Number.NaN };
}

const parsesAsError = ({ text }: HttpAnswer): boolean => /^\s*(?:<\?xml[^>]*>\s*)?<Error[\s>]/.test(text);

/** It was not the storage that answered. @param what - what the answer has, or lacks, beside its status */
function foreign(method: string, { status }: HttpAnswer, what: string): BadAnswer {
  return new BadAnswer(
    `${method} was answered ${status} with ${what}, as S3 does not: a proxy, a firewall or a captive portal seems to answer in place of ` +
      'the storage, so nothing counts as done; take it out of the way, or correct endpoint',
  );
}
