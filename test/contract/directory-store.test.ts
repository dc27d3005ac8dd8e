/**
 * The directory store: the contract of all stores, and what is its own: files, permissions, disks that fill up, vanish or hang.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { createDirectoryStorage } from '../../src/stores/directory-store.ts';
import { describeRepositoryStore } from './repository-store.ts';

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
}

describeRepositoryStore('directory', async () => {
  const path = await mkdtemp(join(tmpdir(), 'directory-store-'));
  const config = { type: 'directory', name: 'local', path } as const;
  return {
    storage: createDirectoryStorage(config),
    peer: createDirectoryStorage(config),
    rawRead: (prefix, key) => readFile(join(path, prefix, key)).catch(() => undefined),
    rawWrite: async (prefix, key, bytes) => {
      await mkdir(dirname(join(path, prefix, key)), { recursive: true });
      await writeFile(join(path, prefix, key), bytes);
    },
    rawKeys: async (prefix) => (await filesBelow(join(path, prefix))).map((file) => relative(join(path, prefix), file)),
    dispose: () => rm(path, { recursive: true }),
  };
});
