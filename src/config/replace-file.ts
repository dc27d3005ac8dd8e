/** Replaces a file by a changed one, whole or not at all, and by one process at a time. */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { unreadable } from './files.ts';
import { invalid } from './problems.ts';
import { MOST_CONFIG_BYTES, readSmallFile } from './small-file.ts';

/**
 * Reads a file, has it changed, and puts the result in its place by a rename; owner and mode stay. A link is followed. While it works,
 * `FILE.new` beside the file holds what is to come and keeps others from changing it too.
 * @param change - gives the new content; when it throws, the file stays as it is. It is called with nobody else at work
 * @throws GatewayError `invalid-config` when the file cannot be read or replaced, or was changed by someone else meanwhile
 */
export function replaceFile(file: string, change: (content: Buffer) => string): void {
  const target = orUnreadable(file, () => realpathSync(file));
  const read = (): Buffer => orUnreadable(target, () => readSmallFile(target, MOST_CONFIG_BYTES));
  const next = `${target}.new`;
  const descriptor = begin(next, target);
  let renamed = false;
  try {
    const before = read();
    const after = change(before);
    const { mode, uid, gid } = statSync(target);
    writeFileSync(descriptor, after);
    const made = fstatSync(descriptor);
    if (made.uid !== uid || made.gid !== gid) fchownSync(descriptor, uid, gid);
    fchmodSync(descriptor, mode & 0o7777);
    fsyncSync(descriptor);
    // An editor knows nothing of FILE.new.
    if (!read().equals(before))
      throw invalid(`${target}: was changed by someone else meanwhile; nothing was done, so try again`);
    renameSync(next, target);
    renamed = true;
    syncDirectory(dirname(target));
  } catch (error) {
    throw readable(target, error);
  } finally {
    closeSync(descriptor);
    if (!renamed) unlinkSync(next);
  }
}

/**
 * Works alone: while it does, nobody else changes the file by `replaceFile`, nor works alone with it. For changes to files that belong to it.
 * @throws GatewayError `invalid-config` when someone else is at work
 */
export function aloneWith<T>(file: string, work: () => T): T {
  const end = workAlone(file);
  try {
    return work();
  } finally {
    end();
  }
}

/** As `aloneWith`, until what it returns is called. */
export function workAlone(file: string): () => void {
  const target = orUnreadable(file, () => realpathSync(file));
  const next = `${target}.new`;
  closeSync(begin(next, target));
  return () => {
    unlinkSync(next);
  };
}

/**
 * Makes a file that is not there yet, whole or not at all.
 * @param like - a file whose owner and mode it gets
 * @throws GatewayError `invalid-config` when it cannot be made
 */
export function createFile(file: string, content: string, like: string): void {
  const next = `${file}.new`;
  const descriptor = begin(next, file);
  try {
    const { mode, uid, gid } = statSync(like);
    writeFileSync(descriptor, content);
    const made = fstatSync(descriptor);
    if (made.uid !== uid || made.gid !== gid) fchownSync(descriptor, uid, gid);
    fchmodSync(descriptor, mode & 0o7777);
    fsyncSync(descriptor);
    // Unlike a rename, it replaces nothing.
    linkSync(next, file);
  } catch (error) {
    throw readable(file, error);
  } finally {
    closeSync(descriptor);
    unlinkSync(next);
  }
  syncDirectory(dirname(file));
}

/** Takes a file away for good. @throws GatewayError `invalid-config` */
export function removeFile(file: string): void {
  try {
    unlinkSync(file);
    syncDirectory(dirname(file));
  } catch (error) {
    throw readable(file, error);
  }
}

/** Gives a file another name in its directory, which must be free. @throws GatewayError `invalid-config` */
export function renameFile(file: string, to: string): void {
  try {
    renameSync(file, to);
    syncDirectory(dirname(to));
  } catch (error) {
    throw readable(file, error);
  }
}

function orUnreadable<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw unreadable(file, error);
  }
}

function begin(next: string, target: string): number {
  try {
    return openSync(next, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST')
      throw invalid(
        `${next}: someone else is changing ${target} now; if nobody is, a change was cut off: remove that file and try again`,
      );
    throw readable(target, error);
  }
}

/** A failure of the system as one that says what to do; any other as it is. */
export function readable(target: string, error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined) return error;
  const why = code === 'EACCES' || code === 'EPERM' || code === 'EROFS' ? 'run as a user who may, such as root' : code;
  return invalid(`${target}: cannot be replaced in ${dirname(target)} (${why}); it stays as it is`);
}

/** Has what was made, renamed or removed in a directory outlast the machine. */
export function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, constants.O_RDONLY);
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
