/** How the copy of the audit stands, in `audit-copy.json` in the state directory: for whoever asks, and for the next one who copies. */
import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { isoTime, line, readShape } from '../state/shapes.ts';

/** What is known. */
export interface CopyState {
  /** `STORE:PREFIX`. */
  readonly copy: string;
  /** When all that was there then was copied, ISO 8601; undefined: never. */
  readonly complete?: string;
  /** Since when it fails, ISO 8601, and why it did last; undefined when it does not. */
  readonly failing?: { readonly since: string; readonly why: string; readonly late: boolean };
}

/** Undefined when there is none that can be read. */
export async function readCopyState(state: string): Promise<CopyState | undefined> {
  return readShape(fileOf(state), MOST_BYTES, SHAPE);
}

/** Why it fails is the storage's to say, and may be a long line. */
const MOST_BYTES = 64 * 1024;
const LONGEST = 4000;

const SHAPE: v.GenericSchema<unknown, CopyState> = v.object({
  copy: line(LONGEST),
  complete: v.exactOptional(isoTime),
  failing: v.exactOptional(v.object({ since: isoTime, why: line(LONGEST), late: v.boolean() })),
});

/** @throws Error of the file system */
export async function writeCopyState(state: string, value: CopyState): Promise<void> {
  await mkdir(state, { recursive: true, mode: 0o700 });
  const made = `${fileOf(state)}.${randomBytes(6).toString('hex')}`;
  try {
    await writeFile(made, `${JSON.stringify(value)}\n`, { mode: 0o600 });
    await rename(made, fileOf(state));
  } catch (error) {
    await rm(made, { force: true });
    throw error;
  }
}

function fileOf(state: string): string {
  return join(state, 'audit-copy.json');
}
