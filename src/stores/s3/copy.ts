/**
 * Copies within a bucket, asked for without the SDK, as clients' removals make them.
 *
 * Source: the S3 API reference, "CopyObject": the metadata goes along, and one request copies up to 5 GiB, which is more than any object of
 * a repository may have.
 */
import { lookUp } from './look-up.ts';
import { readStat } from './metadata.ts';
import type { S3Client } from './s3-client.ts';
import { encodePart } from './signature.ts';
import { BadAnswer } from './transport.ts';

/**
 * Copies an object with its metadata, whole or not at all, over whatever has the other key, and sees by another request that it is there.
 * @param copy.size - of the object
 * @param copy.version - the one that is copied; by default the current one
 * @param copy.headers - of the request, beside
 * @throws what `S3Client.send` throws
 */
export async function copyObject(
  client: S3Client,
  copy: {
    readonly from: string;
    readonly to: string;
    readonly size: number;
    readonly version?: string;
    readonly headers?: Readonly<Record<string, string>>;
  },
  signal: AbortSignal,
): Promise<void> {
  const { from, to, size, version } = copy;
  const path = [client.bucket, ...from.split('/')].map(encodePart).join('/');
  const source = version === undefined ? path : `${path}?versionId=${encodePart(version)}`;
  const headers = { ...copy.headers, 'x-amz-copy-source': source };
  await client.send({ method: 'PUT', key: to, headers, accept: [200] }, signal);
  await assertCopied(client, to, size, signal);
}

/** @throws BadAnswer when no object of this size is there */
export async function assertCopied(client: S3Client, key: string, size: number, signal: AbortSignal): Promise<void> {
  const answer = await lookUp(client, key, {}, signal);
  if (answer === undefined) throw new BadAnswer(`it answered that it has stored ${key}, and does not have it`);
  if (readStat(answer).size !== size)
    throw new BadAnswer(`it answered that it has stored ${key}, and has it with another size`);
}
