/** Writes many files: all of them, or none. */
import { randomBytes } from 'node:crypto';
import { linkSync, lstatSync, realpathSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { readable, syncDirectory } from './replace-file.ts';
import { invalid } from './problems.ts';
import { MOST_CONFIG_BYTES, readSmallFile } from './small-file.ts';

/** What is to become of a file. */
export interface FileChange {
  /** Absolute path. */
  readonly file: string;
  /** What was read; undefined: there was none. */
  readonly before: string | undefined;
  /** What is to stand there; undefined: none. */
  readonly after: string | undefined;
}

/** Files that are written to disk at once. */
const AT_ONCE = 16;

/**
 * Writes what is new beside the files, to disk, and then renames all in one go; when that fails, what was there comes back. Names that begin
 * with a dot are used for that, which count in no `clientsDirectory`. Only the end of the machine itself in the moment of the renames can
 * leave a part.
 * @param like - a file whose owner and mode new ones get; others keep their own. A link is followed
 * @throws GatewayError `invalid-config` when a file cannot be written, or is not any more what was read
 */
export async function replaceFiles(changes: readonly FileChange[], like: string): Promise<void> {
  const mark = randomBytes(6).toString('hex');
  const staged: { target: string; change: FileChange; next: string; old: string }[] = [];
  const remove = (file: string): void => {
    try {
      unlinkSync(file);
    } catch {
      // It was not made, or has been renamed.
    }
  };
  try {
    for (const change of changes) {
      const target = change.before === undefined ? change.file : realpathSync(change.file);
      const beside = (kind: string): string => join(dirname(target), `.${basename(target)}.${mark}.${kind}`);
      staged.push({ target, change, next: beside('apply-new'), old: beside('apply-old') });
    }
    await eachOf(staged, async ({ target, change, next }) => {
      if (change.after !== undefined) await stage(next, change.after, change.before === undefined ? like : target);
    });
    for (const { change } of staged) mustBeAsRead(change);
    replaceAll(staged);
    for (const directory of new Set(staged.map(({ target }) => dirname(target)))) syncDirectory(directory);
  } catch (error) {
    throw readable((error as NodeJS.ErrnoException).path ?? changes[0]?.file ?? like, error);
  } finally {
    for (const { next, old } of staged) for (const one of [next, old]) remove(one);
  }
}

/** With nothing in between, so that whoever reads the files meets few states between the first and the last. */
function replaceAll(staged: readonly { target: string; change: FileChange; next: string; old: string }[]): void {
  const undo: (() => void)[] = [];
  try {
    for (const { target, change, next, old } of staged) {
      if (change.before === undefined) {
        // Unlike a rename, it replaces nothing.
        linkSync(next, target);
        undo.push(() => {
          unlinkSync(target);
        });
        continue;
      }
      linkSync(target, old);
      undo.push(() => {
        renameSync(old, target);
      });
      if (change.after === undefined) unlinkSync(target);
      else renameSync(next, target);
    }
  } catch (error) {
    for (const step of undo.reverse())
      try {
        step();
      } catch {
        // The others are put back all the same.
      }
    throw error;
  }
}

async function stage(next: string, text: string, like: string): Promise<void> {
  const file = await open(next, 'wx', 0o600);
  try {
    await file.writeFile(text);
    const { mode, uid, gid } = statSync(like);
    const made = await file.stat();
    if (made.uid !== uid || made.gid !== gid) await file.chown(uid, gid);
    await file.chmod(mode & 0o7777);
    await file.sync();
  } finally {
    await file.close();
  }
}

function mustBeAsRead({ file, before }: FileChange): void {
  const isSame =
    before === undefined
      ? lstatSync(file, { throwIfNoEntry: false }) === undefined
      : readSmallFile(file, MOST_CONFIG_BYTES).toString('utf8') === before;
  if (!isSame) throw invalid(`${file}: was changed by someone else meanwhile; nothing was done, so try again`);
}

async function eachOf<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let one = all[next++]; one !== undefined; one = all[next++]) await work(one);
  };
  const done = await Promise.allSettled(Array.from({ length: Math.min(AT_ONCE, all.length) }, worker));
  for (const one of done) if (one.status === 'rejected') throw one.reason;
}
