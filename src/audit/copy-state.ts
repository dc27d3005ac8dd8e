/** How the copy of the audit stands, in `audit-copy.json` in the state directory: for whoever asks, and for the next one who copies. */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

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
  try {
    const value: unknown = JSON.parse(await readFile(fileOf(state), 'utf8'));
    return typeof value === 'object' && value !== null && 'copy' in value ? (value as CopyState) : undefined;
  } catch {
    return undefined;
  }
}

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
