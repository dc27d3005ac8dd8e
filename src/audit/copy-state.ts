/** How the copy of the audit stands, in `audit-copy.json` in the state directory: for whoever asks, and for the next one who copies. */
import { join } from 'node:path';
import { flag, isoTime, line, record, type Shape } from '../core/shape.ts';
import { readShape, replaceStateFile } from '../state/state-file.ts';

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

const SHAPE: Shape<CopyState> = record(
  { copy: line(LONGEST) },
  { complete: isoTime, failing: record({ since: isoTime, why: line(LONGEST), late: flag }) },
);

/** @throws Error of the file system */
export function writeCopyState(state: string, value: CopyState): Promise<void> {
  return replaceStateFile(fileOf(state), `${JSON.stringify(value)}\n`);
}

function fileOf(state: string): string {
  return join(state, 'audit-copy.json');
}
