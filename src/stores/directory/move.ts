/** Gives a file of a repository another key: by a second name, and the removal of the first once that one is durable. */
import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { lstat, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GatewayError } from '../../core/errors.ts';
import type { Steps } from './bounded.ts';
import { errnoOf } from './failures.ts';
import { assertRegular, linkIfFree, openRegular, syncDirectory } from './files.ts';
import { removeUploader, uploaderFile } from './uploaders.ts';

const READ_BYTES = 1024 * 1024;

/** What is moved. Keys are below the repository's directory. */
interface Move {
  readonly home: string;
  readonly from: string;
  readonly to: string;
  /** Makes a directory and its parents, durably. */
  readonly prepare: (directory: string) => Promise<void>;
}

/**
 * Moves a file with its side file. Cut off at any step, the file is under one of its names or both, and the same again completes it.
 * @returns `taken`: nothing was done, as other content has the new key
 */
export async function moveFile(steps: Steps, { home, from, to, prepare }: Move): Promise<'moved' | 'absent' | 'taken'> {
  const [source, target] = [join(home, from), join(home, to)];
  const [side, targetSide] = [uploaderFile(home, from), uploaderFile(home, to)];
  const file = await lookUp(steps, source);
  if (file === undefined) return 'absent';
  assertRegular(file, source);
  await prepare(dirname(target));
  let linked: boolean;
  try {
    linked = await linkIfFree(steps, source, target);
  } catch (error) {
    // Another one was quicker.
    if (errnoOf(error) === 'ENOENT' && (await lookUp(steps, source)) === undefined) return 'absent';
    throw error;
  }
  await syncDirectory(steps, dirname(target));
  // The first name goes only once the second one leads to the same file, or to one with the same content: it may be of an earlier attempt,
  // or the same was removed before, or the file system makes up inode numbers by name.
  const there = await lookUp(steps, target);
  const same = there?.ino === file.ino && there.dev === file.dev && there.size === file.size;
  if (!same && (there?.size !== file.size || !(await sameContent(steps, source, target)))) {
    if (!linked && there !== undefined) return 'taken';
    throw new GatewayError('store-failed', {
      detail: `${target}: link(2) succeeded, and the name does not lead to the file; nothing was moved`,
    });
  }
  steps.committed();
  // Before the name is free: after it, the side file could be the next one's. One that is about another file counts for nothing there either.
  if (linked || same) {
    await prepare(dirname(targetSide));
    await renameIfThere(steps, side, targetSide);
  } else await removeUploader(steps, side);
  try {
    await steps.io(() => unlink(source));
  } catch (error) {
    // Another one moved or removed it, too.
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
  await syncDirectory(steps, dirname(source));
  return 'moved';
}

async function lookUp(steps: Steps, path: string): Promise<BigIntStats | undefined> {
  try {
    return await steps.io(() => lstat(path, { bigint: true }));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function renameIfThere(steps: Steps, from: string, to: string): Promise<void> {
  try {
    await steps.io(() => rename(from, to));
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

async function sameContent(steps: Steps, one: string, other: string): Promise<boolean> {
  const first = await digest(steps, one);
  return first !== undefined && first === (await digest(steps, other));
}

async function digest(steps: Steps, path: string): Promise<string | undefined> {
  const opened = await openRegular(steps, path);
  if (opened === undefined) return undefined;
  const hash = createHash('sha256');
  try {
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
    for (;;) {
      const { bytesRead } = await steps.io(() => opened.handle.read(buffer, 0, buffer.length, null));
      if (bytesRead === 0) return hash.digest('hex');
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await steps.cleanUp(() => opened.handle.close());
  }
}
