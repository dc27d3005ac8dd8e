/** The admin's upkeep of a repository in a directory. */
import type { BigIntStats, Dirent } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { DirectoryStoreConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import type { CallOptions } from '../ports/repository-store.ts';
import { PRIVATE_DIRECTORY } from '../ports/repository-upkeep.ts';
import type { FileFacts, RepositoryUpkeep, StoredFile } from '../ports/repository-upkeep.ts';
import type { Steps } from './directory/bounded.ts';
import { IO_LIMIT_MS, makeCall, type Call } from './directory/call.ts';
import { errnoOf } from './directory/failures.ts';
import { assertRoot, openRegular } from './directory/files.ts';
import { readOrigin } from './directory/origins.ts';

const READ_BYTES = 1024 * 1024;

/** A repository in a directory. */
export class DirectoryUpkeep implements RepositoryUpkeep {
  readonly #root: string;
  readonly #home: string;
  readonly #call: Call;

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
      const noted = await readOrigin(steps, side, file.mtimeNs);
      const modified = new Date(Number(file.mtimeNs / 1_000_000n));
      return {
        size: Number(file.size),
        modified,
        arrived: noted?.arrived ?? modified,
        ...(noted === undefined ? {} : { origin: noted.origin }),
      };
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
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
