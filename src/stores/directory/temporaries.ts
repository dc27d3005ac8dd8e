/**
 * The files that uploads are written to before they get their names, and the end of those whose writer was killed.
 *
 * A file's name says which process writes it, so that what a dead one left is known at once, whoever looks. A process of another machine, or of
 * another container, cannot be looked at; a file of its is given up by its age, and therefore whoever writes one keeps it young.
 */
import { randomUUID } from 'node:crypto';
import { readlinkSync } from 'node:fs';
import { lstat, readdir, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { bootId, isRunning, ownProcess } from '../../state/processes.ts';
import type { Steps } from './bounded.ts';
import { errnoOf } from './failures.ts';

/** How often a file that is being written is touched, in ms. */
const TOUCH_MS = 60_000;
/** A file that was last touched so long ago belongs to a process that is gone, by clocks that need not agree to the minute. */
const ABANDONED_MS = 60 * 60 * 1000;

const NAME = /^([0-9a-f-]+)\.(\d+)\.(\d+)\.[0-9a-f-]+(?:\.json)?$/;

let scope: string | undefined;

/** A name for a temporary file of this process that no other has, in any process on any machine. */
export function temporaryName(): string {
  const { pid, begun } = ownProcess();
  return `${ownScope()}.${pid}.${begun}.${randomUUID()}`;
}

/** Within which process ids mean the same process: this run of this machine, and in it the namespace; unlike any other where that is not known. */
function ownScope(): string {
  if (scope !== undefined) return scope;
  try {
    const boot = bootId();
    const [namespace] = /\d+/.exec(readlinkSync('/proc/self/ns/pid')) ?? [];
    scope = boot === undefined || namespace === undefined ? randomUUID() : `${boot}-${namespace}`;
  } catch {
    scope = randomUUID();
  }
  return scope;
}

/**
 * Keeps a file young while it is written, however slowly.
 * @returns a function that ends it; once that has resolved, the file's time is moved no more
 */
export function keepYoung(handle: FileHandle): () => Promise<void> {
  let touching: Promise<unknown> | undefined;
  const timer = setInterval(() => {
    const now = new Date();
    // On a file system that hangs there is one call at a time; who writes the file hears of what goes wrong with it.
    touching ??= handle
      .utimes(now, now)
      .catch(() => undefined)
      .finally(() => (touching = undefined));
  }, TOUCH_MS);
  timer.unref();
  return async () => {
    clearInterval(timer);
    await touching;
  };
}

/** Removes what killed processes left in a directory of temporary files; nothing when there is no such directory. */
export async function sweepTemporaries(steps: Steps, directory: string): Promise<void> {
  let names: readonly string[];
  try {
    names = await steps.io(() => readdir(directory));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  for (const name of names) {
    const path = join(directory, name);
    try {
      if (isOfDeadProcess(name)) await steps.io(() => unlink(path));
      else {
        const file = await steps.io(() => lstat(path));
        if (file.isFile() && Date.now() - file.mtimeMs > ABANDONED_MS) await steps.io(() => unlink(path));
      }
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
}

function isOfDeadProcess(name: string): boolean {
  const [, itsScope, pid, begun] = NAME.exec(name) ?? [];
  return itsScope === ownScope() && !isRunning({ pid: Number(pid), begun: Number(begun) });
}
