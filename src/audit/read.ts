/** Reading the audit: its files, those that were rotated away too, line by line and in bounded memory. */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { GatewayError, messageOf } from '../core/errors.ts';
import { getOrMake } from '../core/get-or-make.ts';
import { hashLine, readLinks } from './chain.ts';
import { LineSplitter, parseLine, type RawLine } from './lines.ts';
import { inodeOf, isGone, openAuditFile } from './open-file.ts';

/**
 * The lines of a file that are not empty, in groups as they are read. A name that ends in `.gz` is unpacked.
 * @param start - the offset to begin at, of a file that is not packed; the first line may then be a part of one
 * @throws GatewayError `audit-unavailable` when it cannot be read
 */
export async function* readLines(file: string, start = 0): AsyncGenerator<readonly RawLine[]> {
  const handle = await openAuditFile(file).catch((error: unknown) => {
    throw unreadable(file, error);
  });
  const raw = handle.createReadStream({ highWaterMark: 256 * 1024, start });
  let stream: Readable = raw;
  if (file.endsWith('.gz')) {
    const unpacked = createGunzip();
    raw.on('error', (error) => unpacked.destroy(error));
    stream = raw.pipe(unpacked);
  }
  const splitter = new LineSplitter();
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) yield splitter.push(chunk);
  } catch (error) {
    throw unreadable(file, error);
  } finally {
    raw.destroy();
  }
  const last = splitter.end();
  if (last !== undefined) yield [last];
}

function unreadable(file: string, cause: unknown): GatewayError {
  return new GatewayError('audit-unavailable', { detail: `${file} cannot be read: ${messageOf(cause)}`, cause });
}

/**
 * The audit's file and those that were rotated away from it (`FILE.1`, `FILE-20261125`, `FILE.2.gz`, …), the oldest first by the time of
 * their first line.
 * @throws GatewayError `audit-unavailable` when one cannot be read
 */
export async function auditFiles(file: string): Promise<readonly string[]> {
  for (let tries = 1; ; tries++)
    try {
      return await inOrder(await auditFileNames(file));
    } catch (error) {
      // Rotated between its listing and its reading: it has another name now.
      if (tries === MOST_TRIES || !isGone(error)) throw error;
    }
}

/** The same files in no order, without a look into them. @throws GatewayError `audit-unavailable` */
export async function auditFileNames(file: string): Promise<readonly string[]> {
  const own = basename(file);
  const names = await readdir(dirname(file)).catch((error: unknown) => {
    throw new GatewayError('audit-unavailable', { detail: `the audit cannot be read: ${messageOf(error)}` });
  });
  const found = names.filter(
    (name) => name === own || (/^[.-]\d[\w.-]*$/.test(name.slice(own.length)) && name.startsWith(own)),
  );
  return found.map((name) => join(dirname(file), name));
}

/**
 * Does work with the audit's files in their order; anew when one of them was moved meanwhile, since lines would be missed then.
 * @throws as `auditFiles`, and what the work throws
 */
export async function withAuditFiles<T>(file: string, work: (files: readonly string[]) => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    const before = await identityOf(file);
    const moved = async (): Promise<boolean> => tries < MOST_TRIES && (await identityOf(file)) !== before;
    try {
      const result = await work(await auditFiles(file));
      if (!(await moved())) return result;
    } catch (error) {
      if (!(await moved())) throw error;
    }
  }
}

const MOST_TRIES = 5;

async function identityOf(file: string): Promise<string> {
  const stats = await stat(file).catch(() => undefined);
  return stats === undefined ? 'none' : inodeOf(stats);
}

/**
 * The files by the time of their first line, but after those that they continue, whatever the clock said; those without a line are left
 * out.
 * @throws as `readLines`
 */
export async function inOrder(files: readonly string[]): Promise<readonly string[]> {
  const begun = await Promise.all(files.map(async (file) => ({ file, ...(await beginningOf(file)) })));
  const order = begun
    .flatMap(({ file, time, prior }) => (time === undefined ? [] : [{ file, time, prior }]))
    .sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
  const ends = new Map<string, Promise<ReadonlySet<string>>>();
  const endOf = (file: string): Promise<ReadonlySet<string>> => getOrMake(ends, file, () => lastHashes(file));
  for (let index = 0, moves = 0; index < order.length && moves < order.length;) {
    const one = order[index];
    let after = -1;
    if (one !== undefined && one.prior.length > 0)
      for (let later = index + 1; later <= index + FARTHEST && later < order.length; later++) {
        const end = await endOf(order[later]?.file ?? '');
        if (one.prior.some((hash) => end.has(hash))) after = later;
      }
    if (one === undefined || after < 0) {
      index += 1;
      continue;
    }
    // A line waits for its write, so that two files may begin out of the order of their times; or the clock was set back.
    order.splice(after + 1, 0, one);
    order.splice(index, 1);
    moves += 1;
  }
  return order.map(({ file }) => file);
}

/** How many files after its place by time one is looked for that a file continues. */
const FARTHEST = 8;
/** Each writer says in its own first line of a file what it continues; most have written one by then. */
const FIRST_LINES = 64;
/** Far more than what several writers have open at the end of a file. */
const END_BYTES = 64 * 1024;

/** The time of the first line that has one, and what the first lines say of the files before. */
async function beginningOf(
  file: string,
): Promise<{ readonly time: string | undefined; readonly prior: readonly string[] }> {
  for await (const lines of readLines(file))
    for (const { bytes } of lines) {
      const time = parseLine(bytes)?.['time'];
      if (typeof time !== 'string') continue;
      return { time, prior: lines.slice(0, FIRST_LINES).flatMap((line) => readLinks(line.bytes)?.prior ?? []) };
    }
  return { time: undefined, prior: [] };
}

/** The hashes of the last lines of a file that is not packed. */
async function lastHashes(file: string): Promise<ReadonlySet<string>> {
  const hashes = new Set<string>();
  if (file.endsWith('.gz')) return hashes;
  const { size } = await stat(file);
  for await (const lines of readLines(file, Math.max(0, size - END_BYTES)))
    for (const { bytes } of lines) hashes.add(hashLine(bytes));
  return hashes;
}
