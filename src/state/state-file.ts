/**
 * Files that the gateway's processes leave for each other, as they are read and replaced: whoever has the gateway's user can put anything in
 * their place, and a crash can leave them torn. So no link is followed, nothing but a regular file is read, and never more of it than one of its kind has.
 */
import { createHash, randomUUID } from 'node:crypto';
import { closeSync, constants, fstatSync, mkdirSync, openSync, readSync, type Stats } from 'node:fs';
import { mkdir, open, rename, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GatewayError, messageOf } from '../core/errors.ts';
import type { Shape } from '../core/shape.ts';

/** A FIFO that nobody writes to, or a terminal, must not hold whoever opens it. */
const CAREFULLY = constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

/**
 * Opens a regular file without following a link at its end.
 * @param flags - as for open(2)
 * @throws Error that says what to do about whatever else is there; of the file system, such as `ENOENT`
 */
export async function openStateFile(file: string, flags: number): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(file, flags | CAREFULLY);
  } catch (error) {
    throw explained(file, error);
  }
  try {
    mustBeRegular(file, await handle.stat());
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** As `openStateFile`, at once. @returns the descriptor, and the file's size */
export function openStateFileSync(
  file: string,
  flags: number,
  mode?: number,
): { readonly descriptor: number; readonly size: number } {
  let descriptor: number;
  try {
    descriptor = openSync(file, flags | CAREFULLY, mode);
  } catch (error) {
    throw explained(file, error);
  }
  try {
    const stats = fstatSync(descriptor);
    mustBeRegular(file, stats);
    return { descriptor, size: stats.size };
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/**
 * The content of a file; undefined when it is not there.
 * @param mostBytes - what none of its kind has more of
 * @throws Error as `openStateFile`, and for a file that is longer
 */
export async function readStateFile(file: string, mostBytes: number): Promise<Buffer | undefined> {
  let handle: FileHandle;
  try {
    handle = await openStateFile(file, constants.O_RDONLY);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
  try {
    const { size } = await handle.stat();
    mustBeShort(file, size, mostBytes);
    const buffer = Buffer.allocUnsafe(size);
    let length = 0;
    while (length < size) {
      const { bytesRead } = await handle.read(buffer, length, size - length, length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return buffer.subarray(0, length);
  } finally {
    await handle.close();
  }
}

/** As `readStateFile`, at once: for files of a few hundred bytes. */
export function readStateFileSync(file: string, mostBytes: number): Buffer | undefined {
  let opened;
  try {
    opened = openStateFileSync(file, constants.O_RDONLY);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
  const { descriptor, size } = opened;
  try {
    mustBeShort(file, size, mostBytes);
    const buffer = Buffer.allocUnsafe(size);
    return buffer.subarray(0, readSync(descriptor, buffer));
  } finally {
    closeSync(descriptor);
  }
}

/** Does work in a directory, which is made first where there is none. @throws what the work throws; Error of the file system */
export function withDirectory<T>(directory: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!isGone(error)) throw error;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return work();
  }
}

/**
 * Puts a text, or its pieces, in a file's place as a whole, so that whoever reads it has all that was written at one time; makes its directory where there
 * is none.
 * @throws Error of the file system: the file is as it was then, and nothing is beside it
 */
export async function replaceStateFile(file: string, text: string | AsyncIterable<string>): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const made = `${file}.${randomUUID()}`;
  try {
    await writeFile(made, text, { mode: 0o600, flag: 'wx' });
    await rename(made, file);
  } catch (error) {
    await rm(made, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** The file that is about one repository below a directory of `state`: `<directory>/<hash>.json`. */
export function repositoryFile(
  state: string,
  directory: string,
  { store, prefix }: { readonly store: string; readonly prefix: string },
): string {
  const hash = createHash('sha256').update(`${store}\0${prefix}`).digest('hex').slice(0, 16);
  return join(state, directory, `${hash}.json`);
}

/** Puts a value in a file's place as JSON, for `readShape`. @throws GatewayError `state-unavailable` */
export async function replaceJson(file: string, value: unknown): Promise<void> {
  try {
    await replaceStateFile(file, `${JSON.stringify(value)}\n`);
  } catch (error) {
    throw new GatewayError('state-unavailable', {
      detail: `${file} cannot be written: ${messageOf(error)}; move away what is there`,
      cause: error,
    });
  }
}

/**
 * What a file holds as JSON, if it has that shape. Undefined for a file that is not there or is anything else: all that is read so can be
 * made anew.
 * @param mostBytes - what none of its kind has more of
 */
export async function readShape<T>(file: string, mostBytes: number, shape: Shape<T>): Promise<T | undefined> {
  const bytes = await readStateFile(file, mostBytes).catch(() => undefined);
  const value = bytes === undefined ? undefined : parseJson(bytes.toString());
  return shape(value) ? value : undefined;
}

/** The object that a text in JSON is, else undefined. */
export function parseJson(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isObject ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

function mustBeRegular(file: string, stats: Stats): void {
  if (!stats.isFile()) throw new Error(`${file} is not a regular file; move it away`);
}

function mustBeShort(file: string, size: number, mostBytes: number): void {
  if (size > mostBytes) throw new Error(`${file} has ${size} bytes, so the gateway has not written it; move it away`);
}

/** What the system says of a link, a socket or a FIFO that nobody reads is no help to a person. */
function explained(file: string, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ELOOP') return new Error(`${file} is a symbolic link; move it away`, { cause: error });
  if (code === 'ENXIO' || code === 'EISDIR')
    return new Error(`${file} is not a regular file; move it away`, { cause: error });
  return error;
}

function isGone(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}
