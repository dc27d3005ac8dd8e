/** Whether the state directory takes what each session writes there, found out by writing as much. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { within } from '../core/waiting.ts';
import { ownProcess } from './processes.ts';
import { replaceStateFile } from './state-file.ts';

/** How long the disk may take to answer, in ms. */
const PATIENCE_MS = 5000;
/** For so long an answer is given again, in ms: many who ask cost no more than one. */
const KEPT_MS = 1000;
/** More than a session's file takes. */
const BYTES = 4096;

let last: { readonly state: string; readonly at: number; readonly answer: Promise<boolean> } | undefined;

/** Never rejects. */
export function isWritable(state: string): Promise<boolean> {
  const now = performance.now();
  if (last?.state !== state || now - last.at > KEPT_MS) last = { state, at: now, answer: tryToWrite(state) };
  return last.answer;
}

async function tryToWrite(state: string): Promise<boolean> {
  const { pid, begun } = ownProcess();
  const file = join(state, `ready-${pid}-${begun}`);
  const write = async (): Promise<true> => {
    await replaceStateFile(file, '\n'.repeat(BYTES));
    await rm(file, { force: true });
    return true;
  };
  return (await within(PATIENCE_MS, write()).catch(() => undefined)) === true;
}
