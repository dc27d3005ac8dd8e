/**
 * The sessions that are open on this machine, whichever process serves them: one small file for each, below `sessions` in the directory
 * `state`. What is counted is in the file's name, so that a count reads no file.
 *
 * A file's name is never used again, so a file that a dead process left behind can be removed by anyone at any time. Nobody holds a lock:
 * who comes writes its file first and counts then, so that of those who come at once the last one sees all others, and there are never
 * more than may be. When that is one too many, those who came at once step back and come again.
 */
import { readdirSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Via, Principal } from '../core/principal.ts';
import { count, isoTime, like, only, record, text } from '../core/shape.ts';
import { isRunning, ownProcess, type ProcessMark } from './processes.ts';
import { readShape, withDirectory } from './state-file.ts';

/** An open session, as its file says it. */
export interface LiveSession {
  readonly id: string;
  readonly client: string;
  readonly via: Via;
  /** IP address and port of the peer, and fingerprint of its key, where the front end knows them. */
  readonly from?: string;
  readonly fromPort?: number;
  readonly key?: string;
  /** The process that serves it. */
  readonly pid: number;
  /** As `ProcessMark.begun`. */
  readonly begun: number;
  readonly started: Date;
}

/** How many sessions may be open at once, over all processes that share `state`. */
interface Most {
  /** Of the client that comes. */
  readonly client: number;
  /** Of all clients. */
  readonly all: number;
}

/** Entered: the session is counted until `leave`. Else how many others are open, of the client or of all, which are as many as may be. */
type Entry =
  | { readonly entered: true; readonly leave: () => void }
  | { readonly entered: false; readonly of: keyof Most; readonly others: number };

/** A file that is there for longer than this, in ms, belongs to a session that was let in: counting takes a few. */
const SETTLED_MS = 500;
/** How long those who come at once may stand in each other's way before one is refused, in ms. */
const PATIENCE_MS = 3000;

/**
 * Writes down that a session is open, unless its client has as many as it may, or all together have. The admin's sessions do not count.
 * @throws Error of the file system when the directory cannot be used
 */
export async function enterLiveSessions(
  state: string,
  session: { readonly id: string; readonly principal: Principal },
  most: Most,
): Promise<Entry> {
  const { client, via, from, fromPort, key } = session.principal;
  const directory = join(state, 'sessions');
  const { pid, begun } = ownProcess();
  const name = nameOf({ id: session.id, via, pid, begun, client });
  const file = join(directory, name);
  const content = JSON.stringify({ id: session.id, client, via, from, fromPort, key, pid, begun, started: new Date() });
  const leave = (): void => {
    remove(file);
  };
  /** Whose places the others have all taken; undefined when there is room. */
  const full = (
    others: readonly string[],
  ): { readonly of: keyof Most; readonly others: readonly string[] } | undefined => {
    const own = others.filter((other) => clientOf(other) === client);
    if (own.length >= most.client) return { of: 'client', others: own };
    return others.length >= most.all ? { of: 'all', others } : undefined;
  };

  for (const patience = performance.now() + PATIENCE_MS; ;) {
    write(directory, file, `${content}\n`);
    if (via === 'admin') return { entered: true, leave };
    const others = counted(readdirSync(directory)).filter((other) => other !== name);
    // Most often there is room, and nobody needs to be looked at.
    if (full(others) === undefined) return { entered: true, leave };
    const live = others.filter((other) => isLive(directory, other));
    const found = full(live);
    if (found === undefined) return { entered: true, leave };
    leave();
    const settled = found.others.filter((other) => isOwn(other) || ageMs(join(directory, other)) > SETTLED_MS);
    if (settled.length >= most[found.of] || performance.now() > patience)
      return { entered: false, of: found.of, others: found.others.length };
    await sleep(5 + Math.random() * 45);
  }
}

/** All sessions that are open now, oldest first. Removes what dead processes have left. @throws Error of the file system */
export async function readLiveSessions(state: string): Promise<readonly LiveSession[]> {
  const directory = join(state, 'sessions');
  const found: LiveSession[] = [];
  for (const name of await orNone(readdir(directory))) {
    if (!NAME.test(name) || !isLive(directory, name)) continue;
    // One that is just being written or that ended meanwhile is none, nor is what no session has written: others may write there.
    const session = await readShape(join(directory, name), MOST_BYTES, SESSION);
    if (session !== undefined && name === nameOf(session))
      found.push({ ...session, started: new Date(session.started) });
  }
  return found.sort((a, b) => a.started.getTime() - b.started.getTime());
}

/** Of the sessions that are open now what the names of their files say: for who asks often. */
export function liveSessionIds(state: string): readonly Pick<LiveSession, 'id' | 'client' | 'via'>[] {
  const directory = join(state, 'sessions');
  let names: readonly string[];
  try {
    names = readdirSync(directory);
  } catch {
    // Before the first session there is no directory.
    return [];
  }
  return names.flatMap((name) => {
    const [, via, , , client] = NAME.exec(name) ?? [];
    if (via === undefined || client === undefined || !isLive(directory, name)) return [];
    return { id: name.slice(0, name.indexOf('.')), client, via: via as Via };
  });
}

const NAME = /^[0-9TZ]+-[0-9a-f]+\.(ssh|stdio|admin)\.(\d+)\.(\d+)\.([A-Za-z0-9][\w.-]{0,63})\.json$/;

function nameOf({ id, via, pid, begun, client }: Omit<LiveSession, 'started'>): string {
  return `${id}.${via}.${pid}.${begun}.${client}.json`;
}

/** How many sessions processes have open, or had when they ended, by what is written down; the admin's do not count. */
export function countLiveSessions(state: string, pids: readonly (number | undefined)[]): number {
  try {
    return counted(readdirSync(join(state, 'sessions'))).filter((name) => pids.includes(Number(NAME.exec(name)?.[2])))
      .length;
  } catch {
    // Before the first session there is no directory.
    return 0;
  }
}

function clientOf(name: string): string | undefined {
  return NAME.exec(name)?.[4];
}

/** Those that count to what clients may have. */
function counted(names: readonly string[]): readonly string[] {
  return names.filter((name) => (NAME.exec(name)?.[1] ?? 'admin') !== 'admin');
}

/** Of this process, which is let in as soon as it is seen: between writing and counting nothing else runs here. */
function isOwn(name: string): boolean {
  const [, , pid, begun] = NAME.exec(name) ?? [];
  const own = ownProcess();
  return Number(pid) === own.pid && Number(begun) === own.begun;
}

/** False for what a dead process has left, which it removes. */
function isLive(directory: string, name: string): boolean {
  const [, , pid, begun] = NAME.exec(name) ?? [];
  const mark: ProcessMark = { pid: Number(pid), begun: Number(begun) };
  if (isRunning(mark)) return true;
  remove(join(directory, name));
  return false;
}

function write(directory: string, file: string, content: string): void {
  try {
    withDirectory(directory, () => {
      writeFileSync(file, content, { mode: 0o600, flag: 'wx' });
    });
  } catch (error) {
    // What a full disk took a part of must not count.
    remove(file);
    throw error;
  }
}

/** A file that cannot be removed stays only until its process ends. */
function remove(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // Gone already, or not to be helped.
  }
}

/** Age in ms; 0 for one that is gone. */
function ageMs(file: string): number {
  const stats = statSync(file, { throwIfNoEntry: false });
  return stats === undefined ? 0 : Date.now() - stats.mtimeMs;
}

async function orNone(names: Promise<string[]>): Promise<string[]> {
  try {
    return await names;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}

/** A session's file has some 300. */
const MOST_BYTES = 4096;
/** The file's name has been held to its pattern; what is the same as in it needs no more. */
const SESSION = record(
  {
    id: text(64),
    client: text(64),
    via: only<Via>('ssh', 'stdio', 'admin'),
    pid: count,
    begun: count,
    started: isoTime,
  },
  {
    from: like(/^[\w.:%-]{1,100}$/),
    fromPort: (value): value is number => count(value) && value <= 65_535,
    key: like(/^SHA256:[\w+/]{1,64}$/),
  },
);
