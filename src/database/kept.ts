/**
 * What the processes of this machine know of the database, in one file of `state`: the revocations as last heard, and whether it is away. One
 * process keeps it (`serve`, or one of the forced commands where there is no `serve`), and shows by the file's time that it does.
 */
import { statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { line, listOf, moment, only, record, text } from '../core/shape.ts';
import { parseJson, readStateFileSync, replaceStateFile } from '../state/state-file.ts';
import type { Reason, Revocation } from './subjects.ts';

/** A file that was touched within this, in ms, is kept by somebody. */
const KEPT_MS = 3000;
/** A hundred thousand revocations. */
const MOST_BYTES = 32 * 1024 * 1024;

/** What is known. */
interface Known {
  readonly revocations: readonly Revocation[];
  /** Since when the database is away, and why. */
  readonly away?: { readonly since: Date; readonly why: string } | undefined;
}

const SHAPE = record(
  {
    revocations: listOf(
      record({
        subject: text(400),
        gateway: line(64),
        reason: only<Reason>('disabled', 'expired', 'removed', 'revoked'),
        since: moment,
      }),
    ),
  },
  { away: record({ since: moment, why: text(1000) }) },
);

function keptFile(state: string): string {
  return join(state, 'database.json');
}

/** Undefined where there is none that can be read: nothing is known then. */
export function readKept(state: string): (Known & { readonly isFresh: boolean }) | undefined {
  try {
    const file = keptFile(state);
    const value = parseJson(String(readStateFileSync(file, MOST_BYTES) ?? ''));
    if (!SHAPE(value)) return undefined;
    const { revocations, away } = value;
    return {
      isFresh: isFresh(state),
      revocations: revocations.map((one) => ({ ...one, since: new Date(one.since) })),
      ...(away && { away: { why: away.why, since: new Date(away.since) } }),
    };
  } catch {
    return undefined;
  }
}

/** Whether a process keeps it. A time in the future is of a clock that was set back. */
export function isFresh(state: string): boolean {
  const age = Date.now() - keptTime(state);
  return age >= -KEPT_MS && age < KEPT_MS;
}

/** When it was last touched, in ms since 1970; 0 where there is none. */
export function keptTime(state: string): number {
  return statSync(keptFile(state), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** What changes with its content alone. */
export function keptState(state: string): string {
  const found = statSync(keptFile(state), { throwIfNoEntry: false });
  return found === undefined ? '' : `${found.ino} ${found.size}`;
}

/** @throws Error of the file system */
export async function writeKept(state: string, { revocations, away }: Known): Promise<void> {
  const kept = {
    revocations: revocations.map(({ subject, gateway, reason, since }) => ({
      ...{ subject, gateway, reason, since: since.getTime() },
    })),
    ...(away && { away: { since: away.since.getTime(), why: away.why.slice(0, 1000) } }),
  };
  await replaceStateFile(keptFile(state), `${JSON.stringify(kept)}\n`);
}

/** Says that it is kept. @throws Error of the file system */
export function touchKept(state: string): void {
  const now = new Date();
  utimesSync(keptFile(state), now, now);
}
