/**
 * Repositories in a directory of this machine, in restic's own layout: `restic -r <path>/<prefix>` opens the same repository.
 *
 * An object is written to `.restic-gateway/tmp/` of its repository, synced, and only then given its name by link(2), which fails on a
 * name that is taken: so nothing half-written is ever visible, and of many who create one name, in any process on any machine that
 * shares the directory, one wins. Everything is readable by the gateway's user alone. Objects are never reached through a symbolic link;
 * a directory that the admin replaced by a link to another place on the same file system works.
 */
import { randomUUID } from 'node:crypto';
import type { BigIntStats, Dir } from 'node:fs';
import { lstat, open, opendir, readdir, rmdir, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import type { DirectoryStoreConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { objectKey, parseObjectName, type NamedType, type ObjectName, type ObjectRef } from '../core/object.ts';
import { resolveRange, type ByteRange } from '../core/operation.ts';
import type { Uploader } from '../core/principal.ts';
import { parseTrashKey } from '../core/trash.ts';
import type { CallOptions, Content, ListedObject, LoadedObject } from '../ports/repository-store.ts';
import type { ObjectStat, Storage, StoredRepository } from '../ports/repository-store.ts';
import { PRIVATE_DIRECTORY, TRASH } from '../ports/repository-maintenance.ts';
import type { Steps } from './directory/bounded.ts';
import { IO_LIMIT_MS, makeCall, type Call } from './directory/call.ts';
import { errnoOf } from './directory/failures.ts';
import {
  assertLinked,
  assertRegular,
  assertRoot,
  fileSizes,
  linkIfFree,
  createFile,
  makeDirectory,
  modesBelow,
  type Modes,
  openRegular,
} from './directory/files.ts';
import { syncDirectory, syncExisting, writeContent } from './directory/files.ts';
import { moveFile } from './directory/move.ts';
import { putUploader, readUploader, removeUploader, uploaderFile, writeUploader } from './directory/uploaders.ts';
import { keepYoung, sweepTemporaries, temporaryName } from './directory/temporaries.ts';

/** How often a name that was taken and free again is tried. */
const MOST_LINKS = 100;
const READ_BYTES = 512 * 1024;
/** Directories that are remembered to be there. */
const MOST_READY = 4096;
/** Names in a page of a list, and how many of them are looked up at once: more would keep other calls from libuv's few threads. */
const PAGE_NAMES = 512;
const LOOK_UPS = 64;

/**
 * Opens the storage without touching it.
 * @param limits.ioMs - for how long the file system may give no sign of life before a call ends as `store-timeout`
 */
export function createDirectoryStorage(
  config: DirectoryStoreConfig,
  limits: { readonly ioMs: number } = { ioMs: IO_LIMIT_MS },
): Storage {
  const root = resolve(config.path);
  const call = makeCall(root, limits.ioMs);
  return {
    repository: (prefix) => new DirectoryRepository(root, join(root, prefix), call),
    reach: ({ signal }) => call(`trying ${root}`, signal, (steps) => reach(steps, root)),
    check: async (prefixes, { signal }) => {
      const { checkDirectory } = await import('./directory/store-check.ts');
      return call(`trying ${root}`, signal, (steps) => checkDirectory(steps, root, prefixes));
    },
    tidy: async (prefixes, { signal }) => {
      for (const prefix of prefixes) {
        const directory = temporaryDirectory(join(root, prefix));
        await call(`tidying ${directory}`, signal, (steps) => sweepTemporaries(steps, directory));
      }
    },
    close: () => Promise.resolve(),
  };
}

/** @param home - of the repository */
function temporaryDirectory(home: string): string {
  return join(home, PRIVATE_DIRECTORY, 'tmp');
}

/** Tries what `create` needs: write permission and hard links. */
async function reach(steps: Steps, root: string): Promise<void> {
  await assertRoot(steps, root);
  const directory = join(root, PRIVATE_DIRECTORY);
  const made = await makeDirectory(steps, directory, await modesBelow(steps, [root]));
  const temporary = join(directory, `reach-${randomUUID()}`);
  const linked = `${temporary}.link`;
  try {
    const handle = await steps.io(() => open(temporary, 'wx', 0o600));
    await steps.cleanUp(() => handle.close());
    await linkIfFree(steps, temporary, linked);
    await syncDirectory(steps, directory);
  } finally {
    for (const path of [temporary, linked]) await steps.cleanUp(() => unlink(path)).catch(() => undefined);
    // Someone may have begun to use it meanwhile; then it stays.
    if (made) await steps.cleanUp(() => rmdir(directory)).catch(() => undefined);
  }
}

class DirectoryRepository implements StoredRepository {
  readonly #root: string;
  readonly #home: string;
  readonly #temporary: string;
  readonly #call: Call;
  /** Directories that are there and durable up to the root, as far as this session knows. */
  readonly #ready = new Set<string>();
  #swept = false;
  #modes: Modes | undefined;

  constructor(root: string, home: string, call: Call) {
    this.#root = root;
    this.#home = home;
    this.#temporary = temporaryDirectory(home);
    this.#call = call;
  }

  create(ref: ObjectRef, content: Content, uploader: Uploader, { signal }: CallOptions): Promise<'created' | 'exists'> {
    const path = this.#pathOf(ref);
    const temporary = join(this.#temporary, temporaryName());
    const uploaderPath = this.#originOf(ref);
    const uploaderTemporary = `${temporary}.json`;
    return this.#call(`storing ${objectKey(ref)}`, signal, async (steps) => {
      const left: string[] = [];
      try {
        for (const directory of [dirname(path), this.#temporary, dirname(uploaderPath)])
          await this.#prepare(steps, directory);
        if (await syncExisting(steps, path)) return 'exists';
        await this.#sweep(steps);
        left.push(temporary, uploaderTemporary);
        const modes = await this.#modesBelow(steps);
        const file = await writeTemporary(steps, temporary, content, modes);
        const sha256 = ref.type === 'config' ? content.sha256 : undefined;
        const about = { modifiedNs: file.mtimeNs, sha256 };
        await writeUploader(steps, uploaderTemporary, uploader, about, modes);
        // A name that was taken and is free again by the time one looks is tried again.
        for (let tries = 1; !(await linkIfFree(steps, temporary, path)); tries += 1) {
          if (await syncExisting(steps, path)) return 'exists';
          if (tries === MOST_LINKS)
            throw new GatewayError('store-failed', {
              detail: `${path}: the file system says that the name exists, but there is no such file; check the file system, or use another`,
            });
        }
        steps.committed();
        await putUploader(steps, uploaderTemporary, uploaderPath);
        left.pop();
        await syncDirectory(steps, dirname(path));
        await assertLinked(steps, path, file, content.sha256);
        return 'created';
      } catch (error) {
        // Perhaps someone removed a directory.
        this.#ready.clear();
        throw error;
      } finally {
        // What cannot be removed now is swept up once it is old, or this process gone.
        for (const file of left) await steps.cleanUp(() => unlink(file)).catch(() => undefined);
      }
    });
  }

  async load(ref: ObjectRef, range: ByteRange | undefined, { signal }: CallOptions): Promise<LoadedObject> {
    const doing = `reading ${objectKey(ref)}`;
    const opened = await this.#call(
      doing,
      signal,
      async (steps) => {
        const file = await openRegular(steps, this.#pathOf(ref));
        return file ?? this.#notFound(steps);
      },
      ({ handle }) => {
        closeUnheeded(handle);
      },
    );
    const { handle, size } = opened;
    try {
      const { first, length } = range === undefined ? { first: 0, length: size } : resolveRange(range, size);
      const read = (buffer: Buffer, position: number): Promise<number> =>
        this.#call(doing, signal, async (steps) => {
          const { bytesRead } = await steps.io(() => handle.read(buffer, 0, buffer.length, position));
          return bytesRead;
        });
      return { size, first, length, body: readBody(handle, first, length, read, signal) };
    } catch (error) {
      closeUnheeded(handle);
      throw error;
    }
  }

  stat(ref: ObjectRef, { signal }: CallOptions): Promise<ObjectStat | undefined> {
    return this.#call(`looking up ${objectKey(ref)}`, signal, async (steps) => {
      const file = await this.#lookUp(steps, this.#pathOf(ref));
      if (file === undefined) {
        await assertRoot(steps, this.#root);
        return undefined;
      }
      const noted = await readUploader(steps, this.#originOf(ref), file.mtimeNs);
      const modifiedMs = Number(file.mtimeNs / 1_000_000n);
      return {
        size: Number(file.size),
        modified: new Date(modifiedMs),
        ageMs: noted?.ageMs ?? Math.max(0, Date.now() - modifiedMs),
        ...(noted === undefined ? {} : { uploader: noted.uploader }),
      };
    });
  }

  remove(ref: ObjectRef, { signal }: CallOptions): Promise<'removed' | 'absent'> {
    const path = this.#pathOf(ref);
    return this.#call(`removing ${objectKey(ref)}`, signal, async (steps) => {
      if ((await this.#lookUp(steps, path)) === undefined) {
        await assertRoot(steps, this.#root);
        return 'absent';
      }
      await removeUploader(steps, this.#originOf(ref));
      try {
        await steps.io(() => unlink(path));
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return 'absent';
        throw error;
      }
      steps.committed();
      await syncDirectory(steps, dirname(path));
      return 'removed';
    });
  }

  setAside(ref: ObjectRef, batch: string, { signal }: CallOptions): Promise<'kept' | 'absent'> {
    const key = objectKey(ref);
    return this.#call(`moving ${key} to the trash`, signal, async (steps) => {
      // Each minute has directories of its own.
      if (this.#ready.size > MOST_READY) this.#ready.clear();
      const prepare = (directory: string): Promise<void> => this.#prepare(steps, directory);
      try {
        const outcome = await moveFile(steps, { home: this.#home, from: key, to: `${TRASH}${batch}/${key}`, prepare });
        if (outcome === 'taken')
          throw new GatewayError('store-unavailable', {
            detail: `another ${key} was moved to the trash within this minute; try again in the next one`,
          });
        if (outcome === 'moved') return 'kept';
        await assertRoot(steps, this.#root);
        return 'absent';
      } catch (error) {
        // Perhaps someone removed a directory.
        this.#ready.clear();
        throw error;
      }
    });
  }

  async removedByClients(options: CallOptions): Promise<number> {
    const { DirectoryMaintenance } = await import('./directory-maintenance.ts');
    const prefix = relative(this.#root, this.#home);
    const maintenance = new DirectoryMaintenance({ type: 'directory', name: '', path: this.#root }, prefix);
    let bytes = 0;
    for await (const page of maintenance.files(TRASH, options))
      for (const { key, size } of page)
        if (parseTrashKey(key.slice(TRASH.length))?.batch.by === 'client') bytes += size;
    return bytes;
  }

  async *list(type: NamedType, { signal }: CallOptions): AsyncGenerator<readonly ListedObject[]> {
    const doing = `listing ${type}`;
    const top = join(this.#home, type);
    const shards = type === 'data' ? await this.#call(doing, signal, (steps) => this.#shards(steps, top)) : [''];
    for (const shard of shards) {
      const path = join(top, shard);
      const directory = await this.#call(
        doing,
        signal,
        (steps) => this.#openDirectory(steps, path, shard !== ''),
        (late) => {
          late?.close().catch(() => undefined);
        },
      );
      if (directory === undefined) continue;
      try {
        for (let more = true; more;) {
          const { names, ended } = await this.#call(doing, signal, (steps) => readNames(steps, directory, shard));
          const page = await this.#call(doing, signal, (steps) => this.#measure(steps, path, names));
          if (page.length > 0) yield page;
          more = !ended;
        }
      } finally {
        directory.close().catch(() => undefined);
      }
    }
  }

  #pathOf(ref: ObjectRef): string {
    return join(this.#home, objectKey(ref));
  }

  #originOf(ref: ObjectRef): string {
    return uploaderFile(this.#home, objectKey(ref));
  }

  async #notFound(steps: Steps): Promise<never> {
    await assertRoot(steps, this.#root);
    throw new GatewayError('not-found');
  }

  /** The object's file without following links; undefined when there is none. @throws GatewayError `store-failed` for what is no file */
  async #lookUp(steps: Steps, path: string): Promise<BigIntStats | undefined> {
    try {
      const file = await steps.io(() => lstat(path, { bigint: true }));
      assertRegular(file, path);
      return file;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Makes a directory and its parents below the root, durably. The root itself is never made: it may be a disk that is not mounted. */
  async #prepare(steps: Steps, path: string): Promise<void> {
    if (path === this.#root || this.#ready.has(path)) return;
    const parent = dirname(path);
    await this.#prepare(steps, parent);
    await makeDirectory(steps, path, await this.#modesBelow(steps));
    // Also when it was there: whoever made it may not have synced it yet.
    await syncDirectory(steps, parent);
    this.#ready.add(path);
  }

  /** Looked up once: a directory that is made meanwhile has what the one above it asked for. */
  async #modesBelow(steps: Steps): Promise<Modes> {
    return (this.#modes ??= await modesBelow(steps, [this.#home, this.#root]));
  }

  /** Removes what killed processes left, once in the life of this object: of a process, none is left while it lives. */
  async #sweep(steps: Steps): Promise<void> {
    if (this.#swept) return;
    this.#swept = true;
    await sweepTemporaries(steps, this.#temporary);
  }

  /** The names of the directories that `data` is divided into. */
  async #shards(steps: Steps, path: string): Promise<readonly string[]> {
    try {
      return (await steps.io(() => readdir(path))).filter((name) => /^[0-9a-f]{2}$/.test(name));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      await assertRoot(steps, this.#root);
      return [];
    }
  }

  /** Undefined when there is none, and for a foreign file in the place of a shard. */
  async #openDirectory(steps: Steps, path: string, isShard: boolean): Promise<Dir | undefined> {
    try {
      return await steps.io(() => opendir(path, { bufferSize: PAGE_NAMES }));
    } catch (error) {
      const errno = errnoOf(error);
      if (errno !== 'ENOENT' && !(errno === 'ENOTDIR' && isShard)) throw error;
      await assertRoot(steps, this.#root);
      return undefined;
    }
  }

  /** The sizes of the names that are regular files; what has vanished since it was read is left out. */
  async #measure(steps: Steps, directory: string, names: readonly ObjectName[]): Promise<readonly ListedObject[]> {
    const found: ListedObject[] = [];
    for (let first = 0; first < names.length; first += LOOK_UPS) {
      const some = names.slice(first, first + LOOK_UPS);
      const sizes = await steps.io(() => fileSizes(some.map((name) => join(directory, name))));
      for (const [index, name] of some.entries()) {
        const size = sizes[index];
        if (size !== undefined) found.push({ name, size });
      }
    }
    return found;
  }
}

/** Writes and syncs a new file. Resolves to what the file system then says of it. @throws GatewayError `store-failed` when it is not whole */
async function writeTemporary(steps: Steps, path: string, content: Content, modes: Modes): Promise<BigIntStats> {
  const handle = await createFile(steps, path, modes);
  const leaveAlone = keepYoung(handle);
  let file: BigIntStats;
  try {
    await writeContent(steps, handle, content);
    await steps.io(leaveAlone);
    await steps.io(() => handle.sync());
    file = await steps.io(() => handle.stat({ bigint: true }));
  } finally {
    await steps.cleanUp(leaveAlone);
    // Over a network the last failed write may be reported here.
    await steps.cleanUp(() => handle.close());
  }
  if (file.size === BigInt(content.size)) return file;
  throw new GatewayError('store-failed', {
    detail: `${path} has ${file.size} of ${content.size} bytes once it was written and synced; the file system does not keep what it takes: use another`,
  });
}

/** Up to a page of object names from a directory. */
async function readNames(
  steps: Steps,
  directory: Dir,
  shard: string,
): Promise<{ readonly names: readonly ObjectName[]; readonly ended: boolean }> {
  return steps.io(async () => {
    const names: ObjectName[] = [];
    while (names.length < PAGE_NAMES) {
      const entry = await directory.read();
      if (entry === null) return { names, ended: true };
      const name = parseObjectName(entry.name);
      if (name?.startsWith(shard) === true) names.push(name);
    }
    return { names, ended: false };
  });
}

/** Reads a part of an open file and closes it at the end, when the reader leaves, or on the signal, whether it is being read or not. */
function readBody(
  handle: FileHandle,
  first: number,
  length: number,
  read: (buffer: Buffer, position: number) => Promise<number>,
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  const close = (): void => {
    signal.removeEventListener('abort', close);
    closeUnheeded(handle);
  };
  if (signal.aborted) close();
  else signal.addEventListener('abort', close);
  return (async function* () {
    try {
      for (let at = first; at < first + length;) {
        const buffer = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, first + length - at));
        const bytes = await read(buffer, at);
        if (bytes === 0)
          throw new GatewayError('store-failed', { detail: 'the file became shorter while it was being read' });
        at += bytes;
        yield buffer.subarray(0, bytes);
      }
    } finally {
      close();
    }
  })();
}

// Of a file that was only read there is nothing to learn from closing it, and on a file system that hangs it takes for ever.
function closeUnheeded(handle: FileHandle): void {
  handle.close().catch(() => undefined);
}
