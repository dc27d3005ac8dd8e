/** Reading the audit: its files, those that were rotated away too, line by line and in bounded memory. */
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { GatewayError, messageOf } from '../core/errors.ts';

/** A line of a file. */
export interface RawLine {
  /** Counts from 1. */
  readonly number: number;
  /** Without its end. */
  readonly bytes: Buffer;
}

/** What no line of the audit comes near; something so long without an end is cut there. */
const MOST_LINE_BYTES = 4 * 1024 * 1024;
const LINE_BREAK = 0x0a;

/**
 * The lines of a file that are not empty, in groups as they are read. A name that ends in `.gz` is unpacked.
 * @throws GatewayError `audit-unavailable` when it cannot be read
 */
export async function* readLines(file: string): AsyncGenerator<readonly RawLine[]> {
  const raw = createReadStream(file, { highWaterMark: 256 * 1024 });
  let stream: Readable = raw;
  if (file.endsWith('.gz')) {
    const unpacked = createGunzip();
    raw.on('error', (error) => unpacked.destroy(error));
    stream = raw.pipe(unpacked);
  }
  let rest: Buffer = Buffer.alloc(0);
  let number = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      const lines: RawLine[] = [];
      let start = 0;
      for (let end = bytes.indexOf(LINE_BREAK); end >= 0; end = bytes.indexOf(LINE_BREAK, start)) {
        number += 1;
        if (end > start) lines.push({ number, bytes: bytes.subarray(start, end) });
        start = end + 1;
      }
      rest = bytes.subarray(start);
      if (rest.length > MOST_LINE_BYTES) {
        lines.push({ number: number + 1, bytes: rest });
        rest = Buffer.alloc(0);
      }
      yield lines;
    }
  } catch (error) {
    throw new GatewayError('audit-unavailable', {
      detail: `${file} cannot be read: ${messageOf(error)}`,
      cause: error,
    });
  } finally {
    raw.destroy();
  }
  if (rest.length > 0) yield [{ number: number + 1, bytes: rest }];
}

/** A line's object, undefined when it is torn. */
export function parseLine(bytes: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The audit's file and those that were rotated away from it (`FILE.1`, `FILE-20261125`, `FILE.2.gz`, …), the oldest first by the time of
 * their first line.
 * @throws GatewayError `audit-unavailable` when one cannot be read
 */
export async function auditFiles(file: string): Promise<readonly string[]> {
  const own = basename(file);
  const names = await readdir(dirname(file)).catch((error: unknown) => {
    throw new GatewayError('audit-unavailable', { detail: `the audit cannot be read: ${messageOf(error)}` });
  });
  const found = names.filter(
    (name) => name === own || (/^[.-]\d[\w.-]*$/.test(name.slice(own.length)) && name.startsWith(own)),
  );
  return inOrder(found.map((name) => join(dirname(file), name)));
}

/** The files by the time of their first line; those without one are left out. @throws as `readLines` */
export async function inOrder(files: readonly string[]): Promise<readonly string[]> {
  const dated = await Promise.all(files.map(async (file) => ({ file, time: await firstTime(file) })));
  return dated
    .flatMap(({ file, time }) => (time === undefined ? [] : [{ file, time }]))
    .sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0))
    .map(({ file }) => file);
}

async function firstTime(file: string): Promise<string | undefined> {
  for await (const lines of readLines(file))
    for (const { bytes } of lines) {
      const time = parseLine(bytes)?.['time'];
      if (typeof time === 'string') return time;
    }
  return undefined;
}
