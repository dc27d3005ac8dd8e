/** Notes of the gateway's own: files that say something by being there. */
import { Readable } from 'node:stream';
import type { S3StoreConfig } from '../../config/types.ts';
import { assertCopied } from './copy.ts';
import { checksumHeaders } from './object-lock.ts';
import type { S3Client } from './s3-client.ts';
import { EMPTY_HASH } from './signature.ts';
import { UploadBody } from './upload-body.ts';

/** Writes an empty file, and sees by another request that it is there. @throws what `S3Client.send` throws */
export async function putNote(
  client: S3Client,
  key: string,
  objectLock: S3StoreConfig['objectLock'],
  signal: AbortSignal,
): Promise<void> {
  const body = new UploadBody({ size: 0, sha256: EMPTY_HASH, body: Readable.from([]) });
  try {
    // A bucket with a default retention wants the checksum.
    const headers = objectLock === undefined ? {} : checksumHeaders(EMPTY_HASH);
    await client.send({ method: 'PUT', key, headers, body, accept: [200] }, signal);
    await assertCopied(client, key, 0, signal);
  } finally {
    await body.release(signal);
  }
}
