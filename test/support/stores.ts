/** Fresh stores as they stand in the YAML. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { newBucket, s3, tempDir } from './lab.ts';

/** The kinds of store that stories are told on. */
export const STORES = ['directory', 's3'] as const;

/** An entry of `stores:`. */
export type StoreEntry = Readonly<Record<string, string>>;

/** A store with nothing in it, as an entry of `stores:`. */
export async function freshStore(kind: (typeof STORES)[number]): Promise<StoreEntry> {
  if (kind === 'directory') return { type: 'directory', path: tempDir() };
  const { endpoint, region, accessKeyId, secretAccessKey } = s3();
  return {
    type: 's3',
    bucket: await newBucket(),
    endpoint,
    region,
    accessKeyId,
    secretAccessKeyFile: secretFile(secretAccessKey),
  };
}

/** A file that only its owner can read. */
export function secretFile(secret: string): string {
  const file = path.join(tempDir(), 'secret');
  writeFileSync(file, secret, { mode: 0o600 });
  return file;
}
