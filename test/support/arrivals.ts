/** Objects that arrived in the past, for stories that take months: the store's own record is set back, as only who has the storage can. */
import { readFileSync, utimesSync, writeFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { CopyObjectCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { s3 } from './lab.ts';
import type { StoreEntry } from './stores.ts';

/** Has an object arrive at another time. @param entry - the store as in the YAML @param key - below the prefix */
export async function setArrival(entry: StoreEntry, prefix: string, key: string, arrived: Date): Promise<void> {
  if (entry['type'] === 's3') await inBucket(entry, `${prefix}/${key}`, arrived);
  else inDirectory(path.join(entry['path'] ?? '', prefix), key, arrived);
}

function inDirectory(home: string, key: string, arrived: Date): void {
  const file = path.join(home, key);
  const side = path.join(home, '.restic-gateway/origin', `${key}.json`);
  const seconds = Math.floor(arrived.getTime() / 1000);
  utimesSync(file, seconds, seconds);
  // No clock of this boot: its age is then by the file's own time.
  const known = JSON.parse(readFileSync(side, 'utf8')) as Record<string, unknown>;
  const modifiedNs = String(statSync(file, { bigint: true }).mtimeNs);
  writeFileSync(
    side,
    `${JSON.stringify({ ...known, boot: undefined, bootMs: undefined, time: arrived.toISOString(), modifiedNs })}\n`,
  );
}

async function inBucket(entry: StoreEntry, key: string, arrived: Date): Promise<void> {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3();
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials });
  const place = { Bucket: entry['bucket'] ?? '', Key: key };
  const { Metadata = {} } = await client.send(new HeadObjectCommand(place));
  // What came by no gateway has none yet.
  const name = Object.keys(Metadata).find((one) => one.endsWith('time')) ?? 'restic-gateway-time';
  await client.send(
    new CopyObjectCommand({
      ...place,
      CopySource: `${place.Bucket}/${key}`,
      MetadataDirective: 'REPLACE',
      Metadata: { ...Metadata, [name]: arrived.toISOString() },
    }),
  );
  client.destroy();
}
