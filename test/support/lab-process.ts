/** Programs under test: run to their end or kept running, of which nothing is left behind. */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll } from '@jest/globals';

/** What a program is started with. */
interface ProcessOptions {
  /** Added to this process's environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
}

/** What a program that runs to its end is given. */
export interface RunOptions extends ProcessOptions {
  /** What it reads on stdin; nothing by default. */
  readonly input?: string | Uint8Array;
  /** Then all its processes are killed and `run` rejects; 180,000 by default. */
  readonly timeoutMs?: number;
}

/** How a program ended. */
export interface Outcome {
  /** Its exit status; 128 and the number of the signal when one ended it, as in a shell. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that runs. It is stopped at the end of the test file at the latest. */
export interface LabProcess {
  readonly pid: number;
  /** All that it has written so far, stdout and stderr, line by line; grows. */
  readonly lines: readonly string[];
  /** Its exit status, once it ends; as in `Outcome`. */
  readonly exited: Promise<number>;
  /**
   * The first line that matches, one already written included.
   * @throws Error with its last words when it ends before, or the time is over (180,000 ms by default)
   */
  waitForLine(pattern: RegExp, timeoutMs?: number): Promise<string>;
  /** Sends a signal to the program itself, not to what it started. */
  signal(name: NodeJS.Signals): void;
  /** Resident memory of the program and all that it started, in bytes. */
  rssBytes(): number;
  /** Asks it to end by SIGTERM, kills whatever of it is there after a minute, and gives the exit status. May be called twice. */
  stop(): Promise<number>;
}

/** Settings of the person who runs the tests that would change what the programs do. */
const PRIVATE_SETTINGS = /^(NODE_OPTIONS$|JEST_|RESTIC_|RCLONE_|AWS_|SSH_|LC_|LANG)/;
const running = new Set<LabProcess>();

afterAll(async () => {
  await Promise.all([...running].map((one) => one.stop()));
});

/** For what a program leaves running to end by itself, in ms. */
const GRACE_MS = 5000;

/**
 * Runs a program to its end, and waits a little for what it leaves running: restic for one does not wait at the end of `init` for the program
 * it has started. Then that is killed.
 * @throws Error when it cannot be started, or does not end in time
 */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const { input, timeoutMs = 180_000 } = options;
  const { child, family } = await begin(command, args, options, input === undefined ? 'ignore' : 'pipe');
  const ended = statusOf(child);
  const output = Promise.all([text(child.stdout), text(child.stderr)]);
  // A program may end without reading all of its input
  child.stdin?.on('error', () => undefined).end(input);
  const timer = new AbortController();
  const code = await Promise.race([
    ended,
    sleep(timeoutMs, undefined, { signal: timer.signal }).catch(() => undefined),
  ]);
  timer.abort();
  if (code !== undefined)
    for (const end = performance.now() + GRACE_MS; performance.now() < end && membersOf(family).length > 0;)
      await sleep(20);
  await killAll(family);
  await inTime(output, () => {
    for (const pipe of [child.stdout, child.stderr]) pipe?.destroy();
  });
  const [stdout, stderr] = await output;
  if (code === undefined)
    throw new Error(`${command} ${args.join(' ')} did not end in ${timeoutMs} ms; it said: ${tail(stdout + stderr)}`);
  return { code, stdout, stderr };
}

/**
 * Starts a program that keeps running.
 * @throws Error when it cannot be started
 */
export async function startProcess(
  command: string,
  args: readonly string[],
  options: ProcessOptions = {},
): Promise<LabProcess> {
  const { child, family } = await begin(command, args, options, 'ignore');
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const look of waiting) look();
  };
  const pipes = [child.stdout, child.stderr].filter((stream) => stream !== null);
  const readers = pipes.map((input) => createInterface({ input }));
  const read = Promise.all(
    readers.map(async (reader) => {
      for await (const line of reader) {
        lines.push(line);
        wake();
      }
    }),
  );
  /** Those of the family that ran when it was to stop: a daemon that ends leaves its sessions to nobody. */
  let members: readonly Member[] = [];
  let over = false;
  const exited = statusOf(child).then(async (code) => {
    try {
      await killAll(family, members);
    } finally {
      await inTime(read, () => {
        for (const reader of readers) reader.close();
        for (const pipe of pipes) pipe.destroy();
      });
      over = true;
      running.delete(started);
      wake();
    }
    return code;
  });
  // Whoever waits for it hears of it.
  exited.catch(() => undefined);

  const started: LabProcess = {
    pid: family.leader,
    lines,
    exited,
    waitForLine: (pattern, timeoutMs = 180_000) =>
      new Promise((resolve, reject) => {
        const end = (): void => {
          clearTimeout(timer);
          waiting.delete(look);
        };
        const giveUp = (why: string): void => {
          end();
          reject(
            new Error(`${command} ${why} before a line matched ${String(pattern)}; it said: ${tail(lines.join('\n'))}`),
          );
        };
        const look = (): void => {
          const line = lines.find((one) => pattern.test(one));
          if (line !== undefined) {
            end();
            resolve(line);
          } else if (over) giveUp('ended');
        };
        const timer = setTimeout(giveUp, timeoutMs, `took over ${timeoutMs} ms`);
        waiting.add(look);
        look();
      }),
    signal: (name) => {
      if (!over) child.kill(name);
    },
    rssBytes: () => membersOf(family).reduce((sum, one) => sum + residentBytes(one), 0),
    stop: async () => {
      if (over) return exited;
      members = membersOf(family).map(memberOf);
      child.kill('SIGTERM');
      const timer = new AbortController();
      const tooLong = sleep(60_000, undefined, { signal: timer.signal }).then(
        () => killAll(family, members),
        () => undefined,
      );
      const code = await Promise.race([exited, tooLong.then(() => exited)]);
      timer.abort();
      return code;
    },
  };
  running.add(started);
  return started;
}

/** A TCP port of the loopback that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A program and all that it starts: known by its session, and by a mark in the environment where one left the session. */
interface Family {
  readonly leader: number;
  /** `NAME=value`, of no other family. */
  readonly mark: string;
}

/** Starts a program as the leader of a new session. */
async function begin(
  command: string,
  args: readonly string[],
  { env = {}, cwd }: ProcessOptions,
  stdin: 'ignore' | 'pipe',
): Promise<{ readonly child: ChildProcess; readonly family: Family }> {
  const id = randomUUID();
  const inherited = Object.entries(process.env).filter(([name]) => !PRIVATE_SETTINGS.test(name));
  const options: SpawnOptions = {
    env: { ...Object.fromEntries(inherited), LC_ALL: 'C.UTF-8', ...env, LAB_PROCESS: id },
    detached: true,
    stdio: [stdin, 'pipe', 'pipe'],
  };
  const child = spawn(command, args, cwd === undefined ? options : { ...options, cwd });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) => {
      reject(new Error(`${command} cannot be started: ${cause.message}`, { cause }));
    });
  });
  if (child.pid === undefined) throw new Error(`${command} was started without a process id`);
  return { child, family: { leader: child.pid, mark: `LAB_PROCESS=${id}` } };
}

function statusOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}

/** All that a pipe gives, or gave before it was destroyed. */
async function text(stream: Readable | null): Promise<string> {
  const chunks: Buffer[] = [];
  stream?.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => undefined);
  if (stream !== null) await new Promise((resolve) => stream.once('close', resolve));
  return Buffer.concat(chunks).toString();
}

const tail = (said: string): string => said.trimEnd().split('\n').slice(-10).join('\n') || '(nothing)';

/** The pids of a family that run. */
function membersOf({ leader, mark }: Family): number[] {
  const parents = new Map<number, number>();
  const members = new Set<number>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    // proc(5): "pid (name) state ppid pgrp session …"; the name may hold anything
    const [state, parent, , session] = readProc(`/proc/${entry}/stat`)
      .replace(/^.*\) /s, '')
      .split(' ');
    if (parent === undefined || state === 'Z') continue;
    const pid = Number(entry);
    parents.set(pid, Number(parent));
    if (Number(session) === leader || readProc(`/proc/${entry}/environ`).includes(mark)) members.add(pid);
  }
  for (let before = -1; before !== members.size;) {
    before = members.size;
    for (const [pid, parent] of parents) if (members.has(parent)) members.add(pid);
  }
  return [...members];
}

/** A process, told from a later one with its pid. */
interface Member {
  readonly pid: number;
  readonly started: string;
}

/** Of proc(5): field 22, what comes after the name begins with field 3. */
function memberOf(pid: number): Member {
  const fields = readProc(`/proc/${pid}/stat`)
    .replace(/^.*\) /s, '')
    .split(' ');
  return { pid, started: fields[0] === 'Z' ? '' : (fields[19] ?? '') };
}

/** Returns when nothing of the family runs. @param known - of it, though nothing may show it any more */
async function killAll(family: Family, known: readonly Member[] = []): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const stray = known.filter(({ pid, started }) => started !== '' && memberOf(pid).started === started);
    const left = [...new Set([...membersOf(family), ...stray.map(({ pid }) => pid)])];
    if (left.length === 0) return;
    if (tries === 200) throw new Error(`processes ${left.join(', ')} cannot be killed`);
    for (const pid of left)
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    await sleep(10);
  }
}

/** Waits for pipes to be read to their end, for a while; others may hold them, who are no longer known to be of the family. */
async function inTime(reading: Promise<unknown>, giveUp: () => void): Promise<void> {
  const timer = setTimeout(giveUp, GRACE_MS);
  await reading.finally(() => {
    clearTimeout(timer);
  });
}

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readProc(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
}

/** A file of /proc; empty when the process is gone by now. */
function readProc(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}
