/** The admin's maintenance of a repository in a directory. */
import { randomUUID } from 'node:crypto';
import type { BigIntStats, Dirent } from 'node:fs';
import { lstat, readdir, rename, rmdir, stat, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { DirectoryStoreConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { isRepositoryDirectory } from '../core/object.ts';
import type { CallOptions } from '../ports/repository-store.ts';
import { isPrivate, PRIVATE_DIRECTORY } from '../ports/repository-maintenance.ts';
import type { FileFacts, RepositoryMaintenance, StoredFile } from '../ports/repository-maintenance.ts';
import type { Steps } from './directory/bounded.ts';
import { IO_LIMIT_MS, makeCall, type Call } from './directory/call.ts';
import { errnoOf } from './directory/failures.ts';
import { assertRoot, makeDirectory, modesBelow, openRegular, syncDirectory, writeSynced } from './directory/files.ts';
import { moveFile } from './directory/move.ts';
import { isBesideObject, readUploader, uploaderFile } from './directory/uploaders.ts';

const READ_BYTES = 1024 * 1024;

/** A repository in a directory. */
export class DirectoryMaintenance implements RepositoryMaintenance {
  readonly #root: string;
  readonly #home: string;
  readonly #call: Call;
  /** Directories that are there and durable. */
  readonly #ready = new Set<string>();

  constructor(config: DirectoryStoreConfig, prefix: string) {
    this.#root = resolve(config.path);
    this.#home = join(this.#root, prefix);
    this.#call = makeCall(this.#root, IO_LIMIT_MS);
  }

  async *files(under: string, options: CallOptions): AsyncGenerator<readonly StoredFile[]> {
    const { files, directories } = await this.#call(`listing ${under}`, options.signal, (steps) =>
      this.#readDirectory(steps, under),
    );
    if (files.length > 0) yield files;
    for (const directory of directories) yield* this.files(`${under}${directory}/`, options);
  }

  async *directories(under: string, { signal }: CallOptions): AsyncGenerator<readonly string[]> {
    const { directories } = await this.#call(`listing ${under}`, signal, (steps) =>
      this.#readDirectory(steps, under, 'directories'),
    );
    if (directories.length > 0) yield directories;
  }

  async *read(key: string, { signal }: CallOptions): AsyncGenerator<Uint8Array> {
    const doing = `reading ${key}`;
    const { handle, size } = await this.#call(
      doing,
      signal,
      async (steps) => {
        const file = await openRegular(steps, join(this.#home, key));
        if (file !== undefined) return file;
        await assertRoot(steps, this.#root);
        throw new GatewayError('not-found');
      },
      (late) => {
        late.handle.close().catch(() => undefined);
      },
    );
    try {
      for (let at = 0; at < size;) {
        const buffer = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, size - at));
        const bytes = await this.#call(
          doing,
          signal,
          async (steps) => (await steps.io(() => handle.read(buffer, 0, buffer.length, at))).bytesRead,
        );
        if (bytes === 0)
          throw new GatewayError('store-failed', { detail: 'the file became shorter while it was being read' });
        at += bytes;
        yield buffer.subarray(0, bytes);
      }
    } finally {
      handle.close().catch(() => undefined);
    }
  }

  facts(key: string, { signal }: CallOptions): Promise<FileFacts | undefined> {
    return this.#call(`looking up ${key}`, signal, async (steps) => {
      const file = await this.#lookUp(steps, key);
      if (file === undefined) return undefined;
      const noted = await readUploader(steps, uploaderFile(this.#home, key), file.mtimeNs);
      const modified = new Date(Number(file.mtimeNs / 1_000_000n));
      return {
        size: Number(file.size),
        modified,
        arrived: noted?.arrived ?? modified,
        ...(noted === undefined ? {} : { uploader: noted.uploader }),
        ...(noted?.sha256 === undefined ? {} : { arrivedSha256: noted.sha256 }),
      };
    });
  }

  write(key: string, bytes: Uint8Array, { signal }: CallOptions): Promise<void> {
    const path = join(this.#home, key);
    const temporary = `${path}.${randomUUID()}`;
    return this.#call(`writing ${key}`, signal, async (steps) => {
      await this.#prepare(steps, dirname(path));
      try {
        await writeSynced(steps, temporary, bytes, await modesBelow(steps, [this.#home, this.#root]));
        await steps.io(() => rename(temporary, path));
      } catch (error) {
        await steps.cleanUp(() => unlink(temporary)).catch(() => undefined);
        throw error;
      }
      await syncDirectory(steps, dirname(path));
    });
  }

  move(from: string, to: string, { signal }: CallOptions): Promise<'moved' | 'absent' | 'taken'> {
    return this.#call(`moving ${from}`, signal, async (steps) => {
      const prepare = (directory: string): Promise<void> => this.#prepare(steps, directory);
      const outcome = await moveFile(steps, { home: this.#home, from, to, prepare });
      if (outcome === 'absent') await assertRoot(steps, this.#root);
      return outcome;
    });
  }

  discard(key: string, { signal }: CallOptions): Promise<'gone'> {
    const path = join(this.#home, privateKey(key));
    return this.#call(`removing ${key}`, signal, async (steps) => {
      // Neither is synced: what comes back after a crash is discarded again.
      for (const one of [uploaderFile(this.#home, key), path]) await unlinkIfThere(steps, one);
      return 'gone' as const;
    });
  }

  async discardEmpty(under: string, options: CallOptions): Promise<void> {
    for await (const page of this.directories(privateKey(under), options))
      for (const name of page) await this.discardEmpty(`${under}${name}/`, options);
    await this.#call(`removing ${under}`, options.signal, async (steps) => {
      try {
        await steps.io(() => rmdir(join(this.#home, under)));
        this.#ready.clear();
      } catch (error) {
        if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errnoOf(error) ?? '')) throw error;
      }
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Makes a directory and its parents in the repository, durably. */
  async #prepare(steps: Steps, path: string): Promise<void> {
    if (path === this.#home || this.#ready.has(path)) return;
    const parent = dirname(path);
    await this.#prepare(steps, parent);
    await makeDirectory(steps, path, await modesBelow(steps, [this.#home, this.#root]));
    await syncDirectory(steps, parent);
    this.#ready.add(path);
  }

  async #readDirectory(
    steps: Steps,
    under: string,
    wanted: 'all' | 'directories' = 'all',
  ): Promise<{ readonly files: readonly StoredFile[]; readonly directories: readonly string[] }> {
    let entries: Dirent[];
    try {
      entries = await steps.io(() => readdir(join(this.#home, under), { withFileTypes: true }));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      await assertRoot(steps, this.#root);
      return { files: [], directories: [] };
    }
    const files: StoredFile[] = [];
    const directories: string[] = [];
    for (const entry of entries) {
      const key = under + entry.name;
      if (key === PRIVATE_DIRECTORY) continue;
      // Among the gateway's own files, links lead nowhere.
      const leadsOn = isPrivate(key)
        ? entry.isDirectory() && OWN_NAME.test(entry.name)
        : isRepositoryDirectory(`${key}/`) && (await this.#isDirectory(steps, entry));
      if (leadsOn) {
        directories.push(entry.name);
        continue;
      }
      // What is neither restic's nor ours may be unreadable, endless, or a copy of all of this: it is not looked into.
      const isForeign = entry.isDirectory();
      if (wanted === 'directories' || isBesideObject(key)) continue;
      const file = await this.#lookUp(steps, key);
      if (file === undefined) continue;
      const modified = new Date(Number(file.mtimeNs / 1_000_000n));
      files.push(isForeign ? { key: `${key}/`, size: 0, modified } : { key, size: Number(file.size), modified });
    }
    return { files, directories: directories.sort() };
  }

  /** Whether it is a directory, or stands for one that the admin has put elsewhere. */
  async #isDirectory(steps: Steps, entry: Dirent): Promise<boolean> {
    if (!entry.isSymbolicLink()) return entry.isDirectory();
    const target = await steps.io(() => stat(join(entry.parentPath, entry.name))).catch(() => undefined);
    return target?.isDirectory() === true;
  }

  async #lookUp(steps: Steps, key: string): Promise<BigIntStats | undefined> {
    try {
      return await steps.io(() => lstat(join(this.#home, key), { bigint: true }));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }
}

/** What directories of the gateway's own are called; `@eaDir`, `.snapshot` and `lost+found` are none. */
const OWN_NAME = /^\w[\w.-]*$/;

/** @throws GatewayError for a key that is not the gateway's own: restic's files are moved, never discarded */
function privateKey(key: string): string {
  if (isPrivate(key)) return key;
  throw new GatewayError('internal', { detail: `${key} is not one of the gateway's own files` });
}

async function unlinkIfThere(steps: Steps, path: string): Promise<void> {
  try {
    await steps.io(() => unlink(path));
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}
