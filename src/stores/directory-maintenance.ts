/** The admin's maintenance of a repository in a directory. */
import { randomUUID } from 'node:crypto';
import type { BigIntStats, Dirent } from 'node:fs';
import { lstat, readdir, rename, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { DirectoryStoreConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import type { CallOptions } from '../ports/repository-store.ts';
import { PRIVATE_DIRECTORY } from '../ports/repository-maintenance.ts';
import type { FileFacts, RepositoryMaintenance, StoredFile } from '../ports/repository-maintenance.ts';
import type { Steps } from './directory/bounded.ts';
import { IO_LIMIT_MS, makeCall, type Call } from './directory/call.ts';
import { errnoOf } from './directory/failures.ts';
import {
  assertRegular,
  assertRoot,
  linkIfFree,
  makeDirectory,
  openRegular,
  syncDirectory,
  writeSynced,
} from './directory/files.ts';
import { readUploader } from './directory/uploaders.ts';

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
      const side = join(this.#home, PRIVATE_DIRECTORY, 'origin', `${key}.json`);
      const noted = await readUploader(steps, side, file.mtimeNs);
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
        await writeSynced(steps, temporary, bytes);
        await steps.io(() => rename(temporary, path));
      } catch (error) {
        await steps.cleanUp(() => unlink(temporary)).catch(() => undefined);
        throw error;
      }
      await syncDirectory(steps, dirname(path));
    });
  }

  /** By a second name and the removal of the first. The side file with the uploader stays: it counts for this object, wherever it is. */
  move(from: string, to: string, { signal }: CallOptions): Promise<'moved' | 'absent' | 'taken'> {
    const [source, target] = [join(this.#home, from), join(this.#home, to)];
    return this.#call(`moving ${from}`, signal, async (steps) => {
      const file = await this.#lookUp(steps, from);
      if (file === undefined) {
        await assertRoot(steps, this.#root);
        return 'absent';
      }
      assertRegular(file, source);
      await this.#prepare(steps, dirname(target));
      if (!(await linkIfFree(steps, source, target))) {
        // Perhaps the same file, by an earlier attempt.
        const there = await this.#lookUp(steps, to);
        if (there?.ino !== file.ino || there.dev !== file.dev) return 'taken';
      }
      await syncDirectory(steps, dirname(target));
      // The first name goes only once the second one leads to the same file.
      const moved = await this.#lookUp(steps, to);
      if (moved?.ino !== file.ino || moved.dev !== file.dev || moved.size !== file.size)
        throw new GatewayError('store-failed', {
          detail: `${target}: link(2) succeeded, and the name does not lead to the file; nothing was moved`,
        });
      steps.committed();
      await steps.io(() => unlink(source));
      await syncDirectory(steps, dirname(source));
      return 'moved';
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
    await makeDirectory(steps, path);
    await syncDirectory(steps, parent);
    this.#ready.add(path);
  }

  async #readDirectory(
    steps: Steps,
    under: string,
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
      if (entry.isDirectory()) {
        if (under !== '' || entry.name !== PRIVATE_DIRECTORY) directories.push(entry.name);
        continue;
      }
      const key = under + entry.name;
      const file = await this.#lookUp(steps, key);
      if (file !== undefined)
        files.push({ key, size: Number(file.size), modified: new Date(Number(file.mtimeNs / 1_000_000n)) });
    }
    return { files, directories: directories.sort() };
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
