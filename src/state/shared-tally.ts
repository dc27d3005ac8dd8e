/**
 * Counts that all processes of this machine add to and any of them may take: for what happens so often that it is only counted, and in
 * processes that live for a moment.
 *
 * Below the directory of each owner, `now` has a line for each addition. Whoever takes the counts renames it, waits until those who were
 * just adding to it are done, and adds it up. A file that was renamed and whose process is gone is taken by the next one.
 */
import { closeSync, constants, readdirSync, renameSync, statSync, writeSync } from 'node:fs';
import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRunning, ownProcess } from './processes.ts';
import { openStateFileSync, readStateFile, withDirectory } from './state-file.ts';

/** Counts by name; names are of lower-case letters, `-` and `/`. */
type Counts = ReadonlyMap<string, number>;

/** The counts of one owner. */
interface SharedTally {
  /** Adds to them, by one write. @returns false when they cannot be kept, and are then not added */
  add(counts: Counts): boolean;
  /** Whether there is anything. */
  any(): boolean;
  /**
   * Takes all that is there. Of two who take at once, each gets a part.
   * @returns the counts, and what to call when they are reported: only then are they gone for good
   */
  take(): Promise<{ readonly counts: Counts; readonly settled: () => Promise<void> }>;
}

/** To add takes two calls of the system, one after the other; after so long, in ms, whoever was about to has. */
const SETTLE_MS = 50;
/** From this size on, in bytes, the lines are added up to a few. */
const SHORTEN_BYTES = 256 * 1024;
/** Who adds at once, each a line, does not come near it; what is longer was counted by nobody. */
const MOST_BYTES = 16 * 1024 * 1024;
const APPEND = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND;

const TAKEN = /^(\d+)\.(\d+)\.\d+$/;
let taken = 0;

/** @param directory - absolute, the owner's own; made when something is first added */
export function openSharedTally(directory: string): SharedTally {
  const now = join(directory, 'now');
  let shortening = false;

  const add = (counts: Counts): boolean => {
    if (counts.size === 0) return true;
    // The line break comes first, so that a line that a full disk has torn stays alone.
    const text = [...counts].map(([name, count]) => `\n${name} ${count}`).join('');
    try {
      const file = withDirectory(directory, () => openStateFileSync(now, APPEND, 0o600));
      try {
        if (writeSync(file.descriptor, `${text}\n`) < text.length) return false;
        if (file.size > SHORTEN_BYTES) shorten();
      } finally {
        closeSync(file.descriptor);
      }
      return true;
    } catch {
      return false;
    }
  };

  /** Of thousands of lines makes one for each name, in the background. */
  const shorten = (): void => {
    if (shortening) return;
    shortening = true;
    void take()
      .then(async ({ counts, settled }) => {
        if (add(counts)) await settled();
      })
      .catch(() => undefined)
      .finally(() => (shortening = false));
  };

  /** Makes a file this process's own. @returns its new name; undefined when it is gone, or another's by now */
  const claim = (name: string): string | undefined => {
    const { pid, begun } = ownProcess();
    const mine = join(directory, `${pid}.${begun}.${++taken}`);
    try {
      renameSync(join(directory, name), mine);
      return mine;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  };

  const take: SharedTally['take'] = async () => {
    const names = (await readdir(directory)).filter((name) => {
      const [, pid, begun] = TAKEN.exec(name) ?? [];
      return name === 'now' || (pid !== undefined && !isRunning({ pid: Number(pid), begun: Number(begun) }));
    });
    const files = names.map(claim).filter((file) => file !== undefined);
    if (files.length > 0) await sleep(SETTLE_MS);
    const counts = new Map<string, number>();
    for (const file of files) {
      // What cannot be read as a count is none, and goes with the others.
      const bytes = await readStateFile(file, MOST_BYTES).catch(() => undefined);
      for (const [, name = '', count] of String(bytes).matchAll(/^([a-z/-]{1,64}) (\d{1,12})$/gm))
        counts.set(name, (counts.get(name) ?? 0) + Number(count));
    }
    return {
      counts,
      settled: async () => {
        await Promise.all(files.map((file) => rm(file, { force: true, recursive: true }).catch(() => undefined)));
        // Whoever has nothing counted is not looked at; it fails when there is more by now.
        await rmdir(directory).catch(() => undefined);
      },
    };
  };

  return {
    add,
    any: () => {
      try {
        return statSync(now, { throwIfNoEntry: false }) !== undefined;
      } catch {
        return false;
      }
    },
    take,
  };
}

/** Those who have counts. @param directory - the one above the owners' own */
export function talliedBelow(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
