/**
 * The audit's files as their copies know them: by their first lines, which no rotation changes as it does names. A copy of one is made of
 * chunks that lie end to end, `SEGMENT/OFFSET.jsonl`; joined in the order of their names they are the file.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline, type Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { parseLine } from './read.ts';

/** A file of the audit that has at least one line. */
export interface Segment {
  readonly file: string;
  /** `20261125T161500123Z-` (the time of its first line) and the first 16 hex digits of that line's SHA-256. */
  readonly id: string;
}

/** A part of a segment's copy. */
export interface Chunk {
  readonly segment: string;
  /** Where it begins in the file, in bytes. */
  readonly offset: number;
}

const LINE_BREAK = 0x0a;
/** What no line of the audit comes near. */
const MOST_LINE_BYTES = 4 * 1024 * 1024;

/** Undefined while it has no whole line. @throws Error of the file system */
export async function segmentOf(file: string): Promise<Segment | undefined> {
  let head = Buffer.alloc(0);
  for await (const bytes of bytesOf(file, 0)) {
    head = Buffer.concat([head, bytes]);
    let start = 0;
    while (head[start] === LINE_BREAK) start += 1;
    const end = head.indexOf(LINE_BREAK, start);
    if (end < 0) {
      if (head.length > MOST_LINE_BYTES) return undefined;
      continue;
    }
    const line = head.subarray(start, end);
    const time = parseLine(line)?.['time'];
    const stamp = typeof time === 'string' ? time.replace(/[^0-9TZ]/g, '').slice(0, 24) : '0';
    return { file, id: `${stamp}-${createHash('sha256').update(line).digest('hex').slice(0, 16)}` };
  }
  return undefined;
}

/** The bytes of a file from an offset on; one whose name ends in `.gz` is unpacked. @throws Error of the file system, or of zlib */
export async function* bytesOf(file: string, from: number): AsyncGenerator<Buffer> {
  const packed = file.endsWith('.gz');
  const raw = createReadStream(file, { highWaterMark: 256 * 1024, start: packed ? 0 : from });
  // What goes wrong is thrown by who reads.
  const stream: Readable = packed ? pipeline(raw, createGunzip(), () => undefined) : raw;
  let skip = packed ? from : 0;
  try {
    for await (const bytes of stream as AsyncIterable<Buffer>) {
      if (skip < bytes.length) yield bytes.subarray(skip);
      skip = Math.max(0, skip - bytes.length);
    }
  } finally {
    raw.destroy();
  }
}

/** The key of a chunk below the copy's prefix. Keys sort by time and offset. */
export function chunkKey({ segment, offset }: Chunk): string {
  return `${segment}/${String(offset).padStart(15, '0')}.jsonl`;
}

/** Undefined for a key that is none of a chunk's. */
export function parseChunkKey(key: string): Chunk | undefined {
  const [, segment, offset] = /^([0-9TZ]{1,24}-[0-9a-f]{16})\/(\d{15})\.jsonl$/.exec(key) ?? [];
  return segment === undefined ? undefined : { segment, offset: Number(offset) };
}
