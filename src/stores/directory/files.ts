/**
 * Operations on files that Node does not have in one call: durable, never through a symbolic link, whole.
 */
import { createHash } from 'node:crypto';
import { constants, lstat, type BigIntStats } from 'node:fs';
import { chmod, link, lstat as lstatPromise, mkdir, open, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { GatewayError } from '../../core/errors.ts';
import type { Content } from '../../ports/repository-store.ts';
import type { Steps } from './bounded.ts';
import { errnoOf, linksUnsupported, rootMissing } from './failures.ts';

/** Content arrives in chunks of 16 to 32 KiB; it is written in pieces of this size, while the next one is gathered. */
const WRITE_BYTES = 1024 * 1024;
/** Below IOV_MAX of every system, so that a piece of tiny chunks is one system call too. */
const WRITE_CHUNKS = 512;

/** Carries what the client's body threw past everything that explains errors of the file system. */
export class BodyFailure extends Error {
  override readonly name = 'BodyFailure';
  constructor(cause: unknown) {
    super('the body failed', { cause });
  }
}

/** @throws GatewayError `store-failed` for what is there but is not a regular file */
export function assertRegular(file: { isFile(): boolean }, path: string): void {
  if (!file.isFile())
    throw new GatewayError('store-failed', {
      detail: `${path} is not a regular file; move it away, or put the file itself there`,
    });
}

/**
 * Opens a regular file for reading; undefined when there is none. A symbolic link is not followed, and a FIFO does not block.
 * @throws GatewayError `store-failed` for anything but a regular file; an error of the file system
 */
export async function openRegular(
  steps: Steps,
  path: string,
): Promise<{ readonly handle: FileHandle; readonly size: number } | undefined> {
  let handle: FileHandle;
  try {
    handle = await steps.io(() => open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const file = await steps.io(() => handle.stat());
    assertRegular(file, path);
    return { handle, size: file.size };
  } catch (error) {
    await steps.cleanUp(() => handle.close());
    throw error;
  }
}

/**
 * The sizes of regular files, in the order of their paths; undefined for what is no regular file, or not there. All are looked up at once,
 * with callbacks: a promise for each costs more than the look-up itself.
 * @throws an error of the file system, once none is being looked up any more
 */
export function fileSizes(paths: readonly string[]): Promise<readonly (number | undefined)[]> {
  return new Promise((resolve, reject) => {
    const sizes: (number | undefined)[] = paths.map(() => undefined);
    let left = paths.length;
    let failure: NodeJS.ErrnoException | undefined;
    if (left === 0) resolve(sizes);
    for (const [index, path] of paths.entries())
      lstat(path, (error, file) => {
        if (error === null) sizes[index] = file.isFile() ? file.size : undefined;
        else if (error.code !== 'ENOENT') failure ??= error;
        left -= 1;
        if (left > 0) return;
        if (failure === undefined) resolve(sizes);
        else reject(failure);
      });
  });
}

/** With which modes files and directories are made. */
export interface Modes {
  readonly file: number;
  readonly directory: number;
}

/** For their owner alone. */
const PRIVATE_MODES: Modes = { file: 0o600, directory: 0o700 };
const GROUP_MODES: Modes = { file: 0o640, directory: 0o750 };
const GROUP_READS = 0o050;
const OTHERS = 0o007;
const SETGID = 0o2000;

/**
 * What the first of some directories that is there asks for: its group reads what is made below when it may read the directory, and that is meant, since
 * the directory is setgid or closed to all others. A group never writes: what is there must stay.
 */
export async function modesBelow(steps: Steps, directories: readonly string[]): Promise<Modes> {
  for (const directory of directories) {
    const found = await steps.io(() => stat(directory)).catch(() => undefined);
    if (found === undefined) continue;
    const { mode } = found;
    const isMeant = (mode & SETGID) !== 0 || (mode & OTHERS) === 0;
    return (mode & GROUP_READS) === GROUP_READS && isMeant ? GROUP_MODES : PRIVATE_MODES;
  }
  return PRIVATE_MODES;
}

/** Makes a directory; false when it was there already. */
export async function makeDirectory(steps: Steps, path: string, { directory }: Modes): Promise<boolean> {
  try {
    await steps.io(() => mkdir(path, directory));
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
  if (directory !== PRIVATE_MODES.directory)
    await overcomeUmask(async () => {
      // With the setgid bit, which it has from its parent.
      const { mode } = await steps.io(() => stat(path));
      if ((mode & directory) !== directory) await steps.io(() => chmod(path, (mode & 0o7777) | directory));
    });
  return true;
}

/** Opens a new file to write. @throws an error of the file system, `EEXIST` among them */
export async function createFile(steps: Steps, path: string, { file }: Modes): Promise<FileHandle> {
  const handle = await steps.io(() => open(path, 'wx', file));
  if (file !== PRIVATE_MODES.file) await overcomeUmask(() => steps.io(() => handle.chmod(file)));
  return handle;
}

/** The package's units have a umask that takes the group's bits away. Where modes cannot be changed, the file is as good without. */
async function overcomeUmask(change: () => Promise<void>): Promise<void> {
  await change().catch(() => undefined);
}

/** Writes a new file and syncs it. @throws an error of the file system, `EEXIST` among them */
export async function writeSynced(
  steps: Steps,
  path: string,
  content: Uint8Array | string,
  modes: Modes = PRIVATE_MODES,
): Promise<void> {
  const handle = await createFile(steps, path, modes);
  try {
    await steps.io(() => handle.writeFile(content));
    await steps.io(() => handle.sync());
  } finally {
    await steps.cleanUp(() => handle.close());
  }
}

/** Makes the entries of a directory durable: links, removals and new directories in it. */
export async function syncDirectory(steps: Steps, path: string): Promise<void> {
  const handle = await steps.io(() => open(path, constants.O_RDONLY | constants.O_DIRECTORY));
  try {
    await steps.io(() => handle.sync());
  } finally {
    await steps.cleanUp(() => handle.close());
  }
}

/**
 * Makes sure that a file which someone else made is durable; false when there is none. Whoever linked it may have died, or be about to,
 * before it was synced.
 * @throws GatewayError `store-failed` for anything but a regular file; an error of the file system
 */
export async function syncExisting(steps: Steps, path: string): Promise<boolean> {
  const file = await openRegular(steps, path);
  if (file === undefined) return false;
  try {
    await steps.io(() => file.handle.sync());
  } finally {
    await steps.cleanUp(() => file.handle.close());
  }
  await syncDirectory(steps, dirname(path));
  return true;
}

/** Gives a file a second name if that is free; false if it is taken. Atomic among all processes and machines that share the directory. */
export async function linkIfFree(steps: Steps, from: string, to: string): Promise<boolean> {
  try {
    await steps.io(() => link(from, to));
    return true;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'EEXIST') return false;
    // What Linux answers for a file system without hard links (vfat, exFAT, some FUSE and SMB mounts).
    if (errno === 'EPERM' || errno === 'EOPNOTSUPP' || errno === 'ENOTSUP' || errno === 'ENOSYS')
      throw linksUnsupported(dirname(to), error);
    throw error;
  }
}

/**
 * Makes sure that a name which link(2) has just given leads to the file that it was given for, whole: a file system in user space or over a
 * network may answer success and have something else, or nothing.
 * @param file - that file as it was once it was synced
 * @param sha256 - of its content; what has another inode, as on file systems that make up inode numbers by name, is read and compared
 * @throws GatewayError `store-failed` when it does not
 */
export async function assertLinked(
  steps: Steps,
  path: string,
  file: Pick<BigIntStats, 'dev' | 'ino' | 'size'>,
  sha256: string,
): Promise<void> {
  const failed = (found: string): GatewayError =>
    new GatewayError('store-failed', {
      detail: `${path}: link(2) and fsync(2) succeeded, and ${found}; the file system does not keep what it takes: use another, such as ext4, xfs, btrfs, zfs or NFS`,
    });
  let there: BigIntStats;
  try {
    there = await steps.io(() => lstatPromise(path, { bigint: true }));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw failed('the name is not there');
    throw error;
  }
  if (there.size !== file.size) throw failed(`the file has ${there.size} of ${file.size} bytes`);
  if (there.ino === file.ino && there.dev === file.dev) return;
  const opened = await openRegular(steps, path);
  if (opened === undefined) throw failed('the name is not there');
  const hash = createHash('sha256');
  try {
    const buffer = Buffer.allocUnsafeSlow(WRITE_BYTES);
    for (;;) {
      const { bytesRead } = await steps.io(() => opened.handle.read(buffer, 0, buffer.length, null));
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await steps.cleanUp(() => opened.handle.close());
  }
  if (hash.digest('hex') !== sha256) throw failed('the name leads to another file');
}

/** @throws GatewayError `store-misconfigured` when the store's root is not a directory that is there */
export async function assertRoot(steps: Steps, root: string): Promise<void> {
  try {
    if ((await steps.io(() => stat(root))).isDirectory()) return;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw rootMissing(root, error);
    throw error;
  }
  throw new GatewayError('store-misconfigured', { detail: `${root} is not a directory; set the store's path to one` });
}

/**
 * Writes content to a file that is empty, in bounded memory.
 * @throws BodyFailure with what the body threw; GatewayError `incomplete-upload` or `content-mismatch` for a body that is not of the
 * declared size; an error of the file system
 */
export async function writeContent(steps: Steps, handle: FileHandle, content: Content): Promise<void> {
  const { size, body, mayGather = () => WRITE_BYTES } = content;
  const chunks = body[Symbol.asyncIterator]();
  let piece: Uint8Array[] = [];
  let pieceBytes = 0;
  let written = Promise.resolve();
  const flush = async (): Promise<void> => {
    await written;
    const full = piece;
    const bytes = pieceBytes;
    piece = [];
    pieceBytes = 0;
    written = steps.io(() => writeWhole(handle, full, bytes));
    // Awaited at the next flush; a failure before that must not count as unhandled.
    written.catch(() => undefined);
  };
  try {
    let total = 0;
    for (;;) {
      const next = await pull(steps, chunks);
      if (next.done === true) break;
      if (next.value.length === 0) continue;
      total += next.value.length;
      if (total > size) throw new GatewayError('content-mismatch', { detail: 'the content is longer than declared' });
      piece.push(next.value);
      pieceBytes += next.value.length;
      if (pieceBytes >= Math.min(WRITE_BYTES, mayGather()) || piece.length >= WRITE_CHUNKS) await flush();
    }
    if (total < size) throw new GatewayError('incomplete-upload');
    if (pieceBytes > 0) await flush();
    await written;
  } catch (error) {
    // Not awaited: a body that waits for its client would keep the file.
    Promise.resolve(chunks.return?.()).catch(() => undefined);
    throw error;
  }
}

async function pull(
  steps: Steps,
  chunks: AsyncIterator<Uint8Array, unknown>,
): Promise<IteratorResult<Uint8Array, unknown>> {
  try {
    return await steps.client(chunks.next());
  } catch (error) {
    throw new BodyFailure(error);
  }
}

async function writeWhole(handle: FileHandle, chunks: readonly Uint8Array[], bytes: number): Promise<void> {
  let rest = chunks;
  for (let left = bytes; ;) {
    const { bytesWritten } = await handle.writev(rest);
    left -= bytesWritten;
    if (left === 0) return;
    // A short write: the disk is full, say. The next write fails with the cause.
    const whole = Buffer.concat(rest);
    rest = [whole.subarray(whole.length - left)];
  }
}
