/**
 * What is kept beside an object in S3's metadata, and what its headers say of it.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Via, Uploader } from '../../core/principal.ts';
import type { ObjectStat } from '../../ports/repository-store.ts';
import { BadAnswer, type HttpAnswer } from './transport.ts';

const META = 'x-amz-meta-restic-gateway-';

/**
 * Who brought an object, as headers of its PUT, with the time on the gateway's clock for an admin who reads them.
 * @param sha256 - of the content, where the object's name does not say it
 */
export function uploaderHeaders(
  { client, via, session }: Uploader,
  now: Date,
  sha256: string | undefined,
): Record<string, string> {
  // Headers are ASCII, and the signature wants no doubled spaces: whatever a name may come to hold, it is encoded.
  return {
    [`${META}client`]: encodeURIComponent(client),
    [`${META}via`]: via,
    [`${META}session`]: encodeURIComponent(session),
    [`${META}time`]: now.toISOString(),
    ...(sha256 !== undefined && { [`${META}sha256`]: sha256 }),
  };
}

const WAYS_IN: readonly Via[] = ['ssh', 'stdio', 'admin'];

/** The uploader, if all of it is there and legible; else whoever asks must take the object for a stranger's. */
function readUploader(headers: IncomingHttpHeaders): Uploader | undefined {
  const [client, session] = [headers[`${META}client`], headers[`${META}session`]];
  const via = WAYS_IN.find((known) => known === headers[`${META}via`]);
  if (via === undefined || typeof client !== 'string' || typeof session !== 'string') return undefined;
  try {
    return { client: decodeURIComponent(client), via, session: decodeURIComponent(session) };
  } catch {
    return undefined;
  }
}

/**
 * What an answer's headers say of an object; to a GET of a part, its size stands in `Content-Range`.
 * @throws BadAnswer when one that must be there is not
 */
export function readStat({ headers }: HttpAnswer): ObjectStat {
  const range = headers['content-range'];
  const size = Number((range === undefined ? headers['content-length'] : range.split('/').at(-1)) ?? Number.NaN);
  const modified = new Date(headers['last-modified'] ?? Number.NaN);
  // Both by the storage's clock, so that this machine's does not matter.
  const age = Date.parse(headers.date ?? '') - modified.getTime();
  if (!Number.isSafeInteger(size) || Number.isNaN(age))
    throw new BadAnswer('it does not say how long or how old an object is');
  const uploader = readUploader(headers);
  return { size, modified, ageMs: Math.max(0, age), ...(uploader === undefined ? {} : { uploader }) };
}

/** When an object came by the gateway's clock, where that is noted. */
export function readArrival({ headers }: HttpAnswer): Date | undefined {
  const time = headers[`${META}time`];
  const arrived = new Date(typeof time === 'string' ? time : Number.NaN);
  return Number.isNaN(arrived.getTime()) ? undefined : arrived;
}

/** The hash of the content that came, where it is noted: 64 lower-case hex digits. */
export function readArrivedHash({ headers }: HttpAnswer): string | undefined {
  const hash = headers[`${META}sha256`];
  return typeof hash === 'string' && /^[0-9a-f]{64}$/.test(hash) ? hash : undefined;
}
