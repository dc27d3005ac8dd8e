/**
 * While the admin works on a repository alone, its clients' new locks are held back: what all processes of this machine know of that.
 *
 * Below `holds` in the directory `state`, each repository that an admin's session holds has a directory, and in it each such session a file.
 * Its name says whose it is, so that a hold ends with the process that asked for it, however that ended; and it ends after a while in any case.
 *
 * A lock that was let through just before may still be on its way to the storage. So who makes one first leaves a mark below `locking` and looks
 * for holds then; an admin who has put a hold there waits for the marks that are there to go. One of the two always sees the other.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, renameSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { like, listOf, only, record, sum, type Shape } from '../core/shape.ts';
import { isRunning, ownProcess } from './processes.ts';
import { parseJson, readStateFileSync, withDirectory } from './state-file.ts';

/** How far an admin's session has come: it waits for the runs that hold a lock, or the repository is its own. */
type Phase = 'waiting' | 'closed';

/** What a hold's file says. */
interface Held {
  readonly phase: Phase;
  /** Ids of sessions that are to end. */
  readonly end: readonly string[];
  /** When it is over, in ms by the clock that runs since the machine started. */
  readonly untilMs: number;
}

/** The longest that a hold lasts, in ms, whatever becomes of the admin's session. */
export const LONGEST_HOLD_MS = 24 * 60 * 60 * 1000;
const POLL_MS = 50;

/** The holds of one repository. */
interface LockHolds {
  /** Whether an admin's session holds new locks back now; of several the farthest counts. */
  held(): Phase | undefined;
  /** To be called before `held` by whoever makes a lock. @returns a function to call once it is made, or was not */
  making(): () => void;
  /** Begins a hold. @throws Error of the file system */
  hold(): LockHold;
}

/** A hold of one's own. */
interface LockHold {
  /** @param end - ids of sessions that are to end @throws Error of the file system */
  set(phase: Phase, end?: readonly string[]): void;
  /** Resolves when no lock is on its way any more that was let through before the last `set`, or on the signal. */
  settled(signal: AbortSignal): Promise<void>;
  release(): void;
}

/** @param identity - what is the same for all sessions of this repository, and for them alone */
export function openLockHolds(state: string, identity: string): LockHolds {
  const key = createHash('sha256').update(identity).digest('hex').slice(0, 32);
  const directory = join(state, 'holds', key);
  const marks = join(state, 'locking', key);
  return {
    held: () => {
      const phases = readHolds(directory).map(({ phase }) => phase);
      return phases.includes('closed') ? 'closed' : phases[0];
    },
    making: () => {
      const mark = join(marks, newName());
      try {
        write(marks, mark, '');
      } catch {
        // A full disk keeps no backup from its lock; at worst an admin's restic meets it, as without a hold.
        return () => undefined;
      }
      return () => {
        remove(mark);
      };
    },
    hold: () => {
      const file = join(directory, newName());
      const untilMs = nowMs() + LONGEST_HOLD_MS;
      return {
        set: (phase, end = []) => {
          const held: Held = { phase, end, untilMs };
          write(directory, `${file}.new`, JSON.stringify(held));
          renameSync(`${file}.new`, file);
        },
        settled: async (signal) => {
          const before = namesIn(marks);
          while (!signal.aborted) {
            const now = new Set(namesIn(marks));
            if (!before.some((name) => now.has(name) && isLive(marks, name))) return;
            await sleep(POLL_MS);
          }
        },
        release: () => {
          remove(file);
          try {
            rmdirSync(directory);
          } catch {
            // Another admin's hold is in it.
          }
        },
      };
    },
  };
}

/** The ids of the sessions that an admin wants to end, over all repositories. */
export function sessionsToEnd(state: string): ReadonlySet<string> {
  const holds = join(state, 'holds');
  return new Set(namesIn(holds).flatMap((key) => readHolds(join(holds, key)).flatMap(({ end }) => end)));
}

/** Those that last. */
function readHolds(directory: string): readonly Held[] {
  return namesIn(directory).flatMap((name) => {
    if (!isLive(directory, name)) return [];
    const held = read(join(directory, name));
    return held === undefined || held.untilMs < nowMs() || held.untilMs > nowMs() + LONGEST_HOLD_MS ? [] : [held];
  });
}

function read(file: string): Held | undefined {
  try {
    const held = parseJson(String(readStateFileSync(file, MOST_BYTES)));
    return HELD(held) ? held : undefined;
  } catch {
    // Over just now.
    return undefined;
  }
}

const HELD: Shape<Held> = record({
  phase: only('waiting', 'closed'),
  end: listOf(like(/^[\w.:-]{1,100}$/)),
  untilMs: sum,
});

/** Of some thousands of sessions that are to end. */
const MOST_BYTES = 256 * 1024;

const NAME = /^(\d+)\.(\d+)\.[0-9a-f]+$/;

function newName(): string {
  const { pid, begun } = ownProcess();
  return `${pid}.${begun}.${randomBytes(8).toString('hex')}`;
}

/** False for what a dead process has left, which it removes. */
function isLive(directory: string, name: string): boolean {
  const [, pid, begun] = NAME.exec(name) ?? [];
  if (pid === undefined) return false;
  if (isRunning({ pid: Number(pid), begun: Number(begun) })) return true;
  remove(join(directory, name));
  return false;
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    // Most often there is none; and one that cannot be read must not keep backups from being made.
    return [];
  }
}

function write(directory: string, file: string, text: string): void {
  withDirectory(directory, () => {
    writeFileSync(file, text, { mode: 0o600 });
  });
}

function remove(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // Gone already.
  }
}

/** By the clock that runs since the machine started, which nobody sets. */
function nowMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
