/**
 * Notices that the audit's file was removed, replaced or cut off while it is in use. What was changed inside of it, and what happened while
 * nobody looked, is for `verify` to find.
 */
import type { Stats } from 'node:fs';
import { rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { isoTime, line, record, type Shape } from '../core/shape.ts';
import { readShape, replaceJson } from '../state/state-file.ts';
import { inodeOf, openAuditFile, statOrNone } from './open-file.ts';
import { auditFileNames, readLines } from './read.ts';

/** The end of a file that is compared with the ends of those that were moved away, in bytes; longer than a line. */
const END_BYTES = 64 * 1024;
/** By how much a file system's times may be behind the clock, in ms. */
const CLOCK_MS = 2000;

/** Keeps an eye on one file. */
interface LossWatch {
  /** What has happened to the file since the last look; undefined: nothing, or it was rotated. @throws Error when it cannot be looked at */
  look(): Promise<string | undefined>;
  close(): Promise<void>;
}

/** @param keep - how many rotated files are kept; undefined: all, or they are removed by who copies them */
export function watchForLoss(file: string, keep: number | undefined): LossWatch {
  /** Open, so that it can be read when it has no name any more. */
  let mine: FileHandle | undefined;
  let seen = 0;
  let looked = Date.now();

  const follow = async (): Promise<void> => {
    await mine?.close();
    mine = undefined;
    if ((await statOrNone(file)) === undefined) return;
    mine = await openAuditFile(file);
    seen = (await mine.stat()).size;
  };

  return {
    look: async () => {
      if (mine === undefined) {
        await follow();
        return undefined;
      }
      const since = Math.min(looked, Date.now()) - CLOCK_MS;
      looked = Date.now();
      const [own, there] = [await mine.stat(), await statOrNone(file)];
      if (there !== undefined && inodeOf(there) === inodeOf(own)) {
        const before = seen;
        seen = own.size;
        return own.size < before ? `${file} was cut from ${before} to ${own.size} bytes` : undefined;
      }
      const lost = own.size > 0 && !(await wasRotated(file, mine, own, since, keep));
      try {
        await follow();
      } catch (error) {
        // What is in its place cannot be looked at; that it was lost is said first.
        if (!lost) throw error;
      }
      if (!lost) return undefined;
      return `${file} was ${there === undefined ? 'removed' : 'replaced'}: ${own.size} bytes of the audit are gone from its directory`;
    },
    close: async () => {
      await mine?.close();
      mine = undefined;
    },
  };
}

/**
 * Whether the file has another name in its directory, or was packed there, or is one of those that are no longer kept.
 * @param since - a file that was moved or packed later than that may be this one, in ms since 1970
 */
async function wasRotated(
  file: string,
  mine: FileHandle,
  own: Stats,
  since: number,
  keep: number | undefined,
): Promise<boolean> {
  const newer: string[] = [];
  for (const one of await auditFileNames(file)) {
    const stats = one === file ? undefined : await statOrNone(one);
    if (stats === undefined) continue;
    if (inodeOf(stats) === inodeOf(own)) return true;
    if (stats.ctimeMs >= since) newer.push(one);
  }
  if (keep !== undefined && newer.length >= keep) return true;
  const last = await lastLineOf(mine, own.size);
  for (const one of newer.filter((name) => name.endsWith('.gz')))
    if (last !== undefined && (await endsWith(one, last))) return true;
  return false;
}

async function lastLineOf(handle: FileHandle, size: number): Promise<Buffer | undefined> {
  const length = Math.min(size, END_BYTES);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
  const end = buffer.lastIndexOf(0x0a, bytesRead - 1);
  return end < 1 ? undefined : buffer.subarray(buffer.lastIndexOf(0x0a, end - 1) + 1, end);
}

async function endsWith(packed: string, last: Buffer): Promise<boolean> {
  let newest: Uint8Array = Buffer.of();
  for await (const lines of readLines(packed)) newest = lines.at(-1)?.bytes ?? newest;
  return last.equals(newest);
}

/** What was noticed last, until the admin has seen it: `audit-lost.json` in the state directory. */
interface AuditLoss {
  /** When, ISO 8601. */
  readonly at: string;
  readonly what: string;
}

const LONGEST = 4000;
const SHAPE: Shape<AuditLoss> = record({ at: isoTime, what: line(LONGEST) });
const MOST_BYTES = 64 * 1024;

/** Undefined when there is none that can be read. */
export function readAuditLoss(state: string): Promise<AuditLoss | undefined> {
  return readShape(fileOf(state), MOST_BYTES, SHAPE);
}

/** @throws GatewayError `state-unavailable` */
export function writeAuditLoss(state: string, { at, what }: AuditLoss): Promise<void> {
  return replaceJson(fileOf(state), { at, what: what.slice(0, LONGEST) });
}

/** The admin has seen it. @throws Error of the file system */
export function forgetAuditLoss(state: string): Promise<void> {
  return rm(fileOf(state), { force: true });
}

function fileOf(state: string): string {
  return join(state, 'audit-lost.json');
}
