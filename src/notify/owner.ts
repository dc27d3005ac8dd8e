/** Which process notifies where several `serve` have the same `state`: one, and another one once it has ended. */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { mkdir } from 'node:fs/promises';
import { count, record } from '../core/shape.ts';
import { isRunning, ownProcess } from '../state/processes.ts';
import { readShape } from '../state/state-file.ts';
import { notifyDirectory } from './told.ts';

const OWNER = record({ pid: count, begun: count });
const MOST_BYTES = 1000;

/** Whether it is this process, or is from now on. @throws Error of the file system */
export async function isOwner(state: string): Promise<boolean> {
  const file = fileOf(state);
  const own = ownProcess();
  const owner = await readShape(file, MOST_BYTES, OWNER);
  if (owner !== undefined && isRunning(owner)) return owner.pid === own.pid && owner.begun === own.begun;
  await mkdir(notifyDirectory(state), { recursive: true, mode: 0o700 });
  await rm(file, { force: true });
  try {
    await writeFile(file, `${JSON.stringify(own)}\n`, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    // Another one was quicker.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  // Of two that took it at the same moment, the last one has it; seen the next time.
  return false;
}

/** Lets another process do it. */
export async function leaveOwner(state: string): Promise<void> {
  const owner = await readShape(fileOf(state), MOST_BYTES, OWNER);
  if (owner?.pid === process.pid) await rm(fileOf(state), { force: true }).catch(() => undefined);
}

function fileOf(state: string): string {
  return join(notifyDirectory(state), 'owner.json');
}
