/**
 * The processes of one system as a control group of their own: what they cost together, those that have ended included.
 *
 * Source: the kernel's cgroup-v2.rst (cpu.stat is there in every group, whatever controllers are on) and proc_pid_smaps_rollup(5).
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { environment } from './lab.ts';

const NAME = 'restic-gateway-bench-';
const groups = new Set<Group>();

/** A system's processes. */
export class Group {
  readonly #directory: string;
  #idle = 0;

  /** @throws Error in words for a person, when there is no cgroup v2 that may be written to */
  constructor(name: string) {
    this.#directory = path.join(root(), `${NAME}${process.pid}-${name}`);
    try {
      mkdirSync(this.#directory);
    } catch (cause) {
      throw new Error('CPU time is counted by cgroup v2, which cannot be written to here; run this as root', { cause });
    }
    groups.add(this);
  }

  /** Starts a program in the group, with `stdio` as in Node's spawn. It does not outlive this process. */
  spawn(
    command: string,
    args: readonly string[],
    stdio: 'ignore' | 'pipe',
    env: Record<string, string> = {},
  ): ChildProcess {
    const enter = 'echo $$ >"$0" && exec "$@"';
    return spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', '/bin/sh', '-c', enter, path.join(this.#directory, 'cgroup.procs'), command, ...args],
      { env: environment(env), stdio: ['ignore', stdio, stdio] },
    );
  }

  /** CPU time of all processes that are or were in the group, user and system. */
  cpuSeconds(): number {
    const stat = readFileSync(path.join(this.#directory, 'cpu.stat'), 'utf8');
    return Number(/^usage_usec (\d+)$/m.exec(stat)?.[1]) / 1e6;
  }

  /** Process ids of those that are in it now. */
  pids(): number[] {
    return readFileSync(path.join(this.#directory, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  }

  /** Memory in bytes; what processes share is counted once among all that share it (PSS). */
  memory(): number {
    let kilobytes = 0;
    for (const pid of this.pids()) {
      try {
        kilobytes += Number(/^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0);
      } catch {
        // It has just ended.
      }
    }
    return kilobytes * 1024;
  }

  /** Takes the processes that are there for those of the system when it has nothing to do. */
  markIdle(): void {
    this.#idle = this.pids().length;
  }

  /** Waits until there are no more processes than when idle, for 10 s at most. */
  async settle(): Promise<void> {
    for (let tries = 0; tries < 200 && this.pids().length > this.#idle; tries++) await sleep(50);
  }

  /** Ends all processes of the group, and the group. */
  async close(): Promise<void> {
    this.kill();
    this.#idle = 0;
    await this.settle();
    rmdirSync(this.#directory);
    groups.delete(this);
  }

  /** Kills all processes of the group. */
  kill(): void {
    writeFileSync(path.join(this.#directory, 'cgroup.kill'), '1');
  }
}

/** Kills the processes of every group, at once: for an end in the middle of a run. */
export function killGroups(): void {
  for (const group of groups) group.kill();
}

/** Removes groups that earlier runs, ended the hard way, have left without processes. */
export function sweepGroups(): void {
  for (const entry of readdirSync(root())) {
    if (!entry.startsWith(NAME)) continue;
    try {
      rmdirSync(path.join(root(), entry));
    } catch {
      // A run that is under way.
    }
  }
}

/** Where cgroup v2 is mounted. */
function root(): string {
  const mount = /^\S+ (\S+) cgroup2 /m.exec(readFileSync('/proc/self/mounts', 'utf8'))?.[1];
  if (mount === undefined) throw new Error('CPU time is counted by cgroup v2, which is not mounted here');
  return mount;
}
