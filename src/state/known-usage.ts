/** What repositories had in use when a database that gateways share was last heard of: a file for each, below `usage-known` in `state`. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { count, record } from '../core/shape.ts';
import { readShape, replaceStateFile } from './state-file.ts';

const MOST_BYTES = 4096;
const KNOWN = record({ used: count });

/** A name for a repository that is fit for files and tables: the same on all machines, as its identity is. */
export function ledgerId(identity: string): string {
  return createHash('sha256').update(identity).digest('hex').slice(0, 32);
}

/** In bytes; undefined where it is not known. */
export async function readKnownUsage(state: string, identity: string): Promise<number | undefined> {
  return (await readShape(fileOf(state, identity), MOST_BYTES, KNOWN))?.used;
}

/** Never rejects: what is not written is asked again. */
export async function writeKnownUsage(state: string, identity: string, used: number): Promise<void> {
  await replaceStateFile(fileOf(state, identity), `${JSON.stringify({ used })}\n`).catch(() => undefined);
}

function fileOf(state: string, identity: string): string {
  return join(state, 'usage-known', `${ledgerId(identity)}.json`);
}
