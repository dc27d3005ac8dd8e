/** Whether an object is there, and what its headers say. */
import { S3Refusal } from './errors.ts';
import type { S3Client } from './s3-client.ts';
import type { HttpAnswer } from './transport.ts';

/**
 * Looks an object up.
 * @param headers - beside those that every request has
 * @returns an answer for `readStat`, which has come just now; undefined where the storage says that the object, and not something else, is
 * not there
 * @throws what `S3Client.send` throws
 */
export async function lookUp(
  client: S3Client,
  key: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<HttpAnswer | undefined> {
  try {
    try {
      return await client.send({ method: 'HEAD', key, headers, accept: [200] }, signal);
    } catch (error) {
      if (!(error instanceof S3Refusal) || error.status >= 500) throw error;
      // An answer to HEAD has no body, and without its words a bucket that is gone, or a proxy's 404, looks like an object that is not
      // there. The same question asked by GET is answered in full.
      const ranged = { ...headers, range: 'bytes=0-0' };
      return await client.send({ method: 'GET', key, headers: ranged, accept: [206] }, signal);
    }
  } catch (error) {
    if (error instanceof S3Refusal && error.noSuchKey) return undefined;
    throw error;
  }
}
