/** Whether a process that wrote something down still runs, though its id may have been given to another one since. */
import { readFileSync } from 'node:fs';

/** A process of this machine, beyond the reuse of its id. */
export interface ProcessMark {
  readonly pid: number;
  /** When it began, in the kernel's ticks since boot (proc(5), field 22 of `stat`); 0 where the system does not tell. */
  readonly begun: number;
}

/** As far as pid_t reaches. */
const MOST_PID = 0x7fff_ffff;

let own: ProcessMark | undefined;

let boot: { readonly id: string | undefined } | undefined;

/** The kernel's id of this run of the machine (random(4)); undefined where it has none. */
export function bootId(): string | undefined {
  if (boot === undefined)
    try {
      boot = { id: readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim() };
    } catch {
      boot = { id: undefined };
    }
  return boot.id;
}

/** This very process. */
export function ownProcess(): ProcessMark {
  return (own ??= { pid: process.pid, begun: stateOf(process.pid)?.begun ?? 0 });
}

/** True as long as the process runs. One that belongs to another user, or that cannot be looked at, counts as running. */
export function isRunning({ pid, begun }: ProcessMark): boolean {
  if (pid === process.pid) return begun === ownProcess().begun;
  // 0 and what is no number that a process can have stand for others, or for none.
  if (!Number.isInteger(pid) || pid < 1 || pid > MOST_PID) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const state = stateOf(pid);
  if (state === undefined) return true;
  return !state.over && (begun === 0 || state.begun === begun);
}

function stateOf(pid: number): { readonly begun: number; readonly over: boolean } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name of the program comes first, in parentheses, and may hold anything.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    // One that has ended, and that its parent has not asked after yet.
    return { begun: Number(fields[19]), over: /^[ZX]/.test(fields[0] ?? '') };
  } catch {
    return undefined;
  }
}
