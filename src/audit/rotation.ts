/**
 * Rotation by size: whoever is about to write to a file that has grown large enough renames it, and the next line makes a new one. A
 * rename is whole or not at all and loses nothing, so nobody waits for a lock, and a crash at any moment leaves what the next writer goes
 * on from. Should two rename at once, one of the files is small; that is all.
 */
import { randomBytes } from 'node:crypto';
import { constants, renameSync, statSync, type Stats } from 'node:fs';
import { link, open, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** When a file is rotated, and what is kept. */
export interface Rotation {
  /** Bytes: the first line after this is in a new file. */
  readonly maxSize: number;
  /** How many rotated files stay; undefined: all. */
  readonly keep: number | undefined;
}

/** `.20261125T161500123Z-` and six random hex digits, after the audit's own name: by this only what was rotated here is ever removed. */
const OWN = /^\.\d{8}T\d{9}Z-[0-9a-f]{6}(?:\.gz)?$/;

/**
 * Renames a file away.
 * @param mine - the file that is meant; when another one is at the path by now, somebody else was quicker and nothing is done
 * @throws Error of the file system: it is still in its place then
 */
export function rotate(file: string, mine: Pick<Stats, 'dev' | 'ino'>): void {
  const stamp = new Date().toISOString().replace(/[-:.]/g, '');
  const target = `${file}.${stamp}-${randomBytes(3).toString('hex')}`;
  // Without a moment in between in which others could come.
  const there = statSync(file, { throwIfNoEntry: false });
  if (there?.ino !== mine.ino || there.dev !== mine.dev) return;
  try {
    renameSync(file, target);
  } catch (error) {
    // Another one was quicker.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** Removes the oldest files that were rotated by `rotate`, until `keep` of them are left. @throws GatewayError, Error of the file system */
export async function removeOldest(file: string, keep: number): Promise<void> {
  // Reading is not what every session does.
  const { auditFiles } = await import('./read.ts');
  const own = basename(file);
  const rotated = (await auditFiles(file)).filter((one) => OWN.test(basename(one).slice(own.length)));
  for (const one of rotated.slice(0, Math.max(0, rotated.length - keep))) await rm(one, { force: true });
}

/**
 * Opens the file to read it and to append to it, or makes it: with the mode and the group of the newest one that was moved away, so that
 * all who wrote to that one can write to this one; else for its owner alone.
 */
export async function openOrMake(file: string): Promise<FileHandle> {
  try {
    return await open(file, constants.O_RDWR | constants.O_APPEND);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const model = await newestMoved(file);
  if (model === undefined) return open(file, 'a+', 0o600);
  // Made beside it and linked into its place when it is right, so that nobody is shut out for a moment.
  const made = `${file}.new-${randomBytes(6).toString('hex')}`;
  const handle = await open(made, 'wx', 0o600);
  try {
    const root = process.getuid?.() === 0;
    // Who may not give it away is not who shares it.
    await handle.chown(root ? model.uid : -1, model.gid).catch(() => undefined);
    await handle.chmod(model.mode & 0o777);
    await link(made, file).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    });
  } finally {
    await handle.close();
    await rm(made, { force: true });
  }
  await removeLeft(file);
  return open(file, 'a+', 0o600);
}

/** How old a file is that nobody is making any more, in ms. */
const LEFT_MS = 60_000;

/** Removes what processes have left that were killed while they made the file. */
async function removeLeft(file: string): Promise<void> {
  for (const name of await readdir(dirname(file))) {
    if (!name.startsWith(`${basename(file)}.new-`)) continue;
    const path = join(dirname(file), name);
    const stats = await stat(path).catch(() => undefined);
    if (stats !== undefined && Date.now() - stats.mtimeMs > LEFT_MS) await rm(path, { force: true });
  }
}

/** Far more than a line. */
const END_BYTES = 64 * 1024;

/** The last whole line of the newest file that was moved away and is not packed, without its line break; undefined when there is none. */
export async function lastMovedLine(file: string): Promise<Buffer | undefined> {
  const newest = await newestMoved(file);
  if (newest === undefined || newest.path.endsWith('.gz')) return undefined;
  const handle = await open(newest.path, constants.O_RDONLY);
  try {
    const { size } = await handle.stat();
    const length = Math.min(size, END_BYTES);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
    const end = buffer.lastIndexOf(0x0a, bytesRead - 1);
    const line = end < 1 ? undefined : buffer.subarray(buffer.lastIndexOf(0x0a, end - 1) + 1, end);
    return line?.[0] === 0x7b && line.at(-1) === 0x7d ? line : undefined;
  } finally {
    await handle.close();
  }
}

/** The newest of the files that were moved away, by whomever. */
async function newestMoved(file: string): Promise<(Stats & { readonly path: string }) | undefined> {
  const own = basename(file);
  let newest: (Stats & { readonly path: string }) | undefined;
  for (const name of await readdir(dirname(file))) {
    if (!name.startsWith(own) || !/^[.-]\d/.test(name.slice(own.length))) continue;
    const path = join(dirname(file), name);
    const stats = await stat(path).catch(() => undefined);
    if (stats?.isFile() === true && stats.mtimeMs > (newest?.mtimeMs ?? 0)) newest = Object.assign(stats, { path });
  }
  return newest;
}
