/** The files of a repository in a store of the lab, as someone with the storage's credentials sees them. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  paginateListObjectsV2,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { s3, tempDir } from './lab.ts';
import type { StoreEntry } from './stores.ts';

/** Keys are below the prefix. */
export interface RepositoryFiles {
  keys(): Promise<readonly string[]>;
  read(key: string): Promise<Buffer>;
  write(key: string, bytes: Uint8Array): Promise<void>;
  /** Changes content as a medium that fails does: nothing beside it notices. */
  rot(key: string, bytes: Uint8Array): Promise<void>;
  remove(key: string): Promise<void>;
}

/** @param entry - the store as in the YAML */
export function repositoryFiles(entry: StoreEntry, prefix: string): RepositoryFiles {
  return entry['type'] === 's3' ? inBucket(entry, prefix) : inDirectory(path.join(entry['path'] ?? '', prefix));
}

function inDirectory(home: string): RepositoryFiles {
  return {
    keys: () =>
      Promise.resolve(
        readdirSync(home, { recursive: true, withFileTypes: true })
          .filter((file) => file.isFile())
          .map((file) => path.relative(home, path.join(file.parentPath, file.name))),
      ),
    read: (key) => Promise.resolve(readFileSync(path.join(home, key))),
    write: (key, bytes) => {
      mkdirSync(path.dirname(path.join(home, key)), { recursive: true });
      writeFileSync(path.join(home, key), bytes);
      return Promise.resolve();
    },
    rot: (key, bytes) => {
      const file = path.join(home, key);
      // To the nanosecond, which Node's own utimes are not.
      const times = path.join(tempDir(), 'times');
      execFileSync('touch', ['-r', file, times]);
      writeFileSync(file, bytes);
      execFileSync('touch', ['-r', times, file]);
      return Promise.resolve();
    },
    remove: (key) => {
      rmSync(path.join(home, key));
      return Promise.resolve();
    },
  };
}

function inBucket(entry: StoreEntry, prefix: string): RepositoryFiles {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3();
  const sdk = new S3Client({ endpoint, region, credentials: { accessKeyId, secretAccessKey }, forcePathStyle: true });
  const Bucket = entry['bucket'];
  const at = (key: string): { readonly Bucket: string | undefined; readonly Key: string } => ({
    Bucket,
    Key: `${prefix}/${key}`,
  });
  return {
    keys: async () => {
      const keys: string[] = [];
      for await (const { Contents } of paginateListObjectsV2({ client: sdk }, { Bucket, Prefix: `${prefix}/` }))
        for (const { Key = '' } of Contents ?? []) keys.push(Key.slice(prefix.length + 1));
      return keys;
    },
    read: async (key) => {
      const { Body } = await sdk.send(new GetObjectCommand(at(key)));
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    },
    write: async (key, bytes) => {
      await sdk.send(new PutObjectCommand({ ...at(key), Body: bytes }));
    },
    rot: async (key, bytes) => {
      const { Metadata } = await sdk.send(new HeadObjectCommand(at(key)));
      await sdk.send(new PutObjectCommand({ ...at(key), Body: bytes, Metadata }));
    },
    remove: async (key) => {
      await sdk.send(new DeleteObjectCommand(at(key)));
    },
  };
}
