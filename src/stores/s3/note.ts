/** Notes of the gateway's own: files that say something by being there. */
import { Readable } from 'node:stream';
import { assertCopied } from './copy.ts';
import type { S3Client } from './s3-client.ts';
import { EMPTY_HASH } from './signature.ts';
import { UploadBody } from './upload-body.ts';

/** Writes an empty file, and sees by another request that it is there. @throws what `S3Client.send` throws */
export async function putNote(client: S3Client, key: string, signal: AbortSignal): Promise<void> {
  const body = new UploadBody({ size: 0, sha256: EMPTY_HASH, body: Readable.from([]) });
  try {
    await client.send({ method: 'PUT', key, body, accept: [200] }, signal);
    await assertCopied(client, key, 0, signal);
  } finally {
    await body.release(signal);
  }
}
