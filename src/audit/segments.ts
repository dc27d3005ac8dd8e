/**
 * The audit's files as their copies know them: by their first lines, which no rotation changes as it does names. A copy of one is made of
 * chunks that lie end to end, `SEGMENT/OFFSET.jsonl`; joined in the order of their names they are the file.
 */
import { hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { LineSplitter, MOST_LINE_BYTES, parseLine } from './lines.ts';
import { openAuditFile } from './open-file.ts';

/** A file of the audit that has at least one line, open: what it is and what it holds stay the same file's, whatever its path leads to. */
export interface Segment {
  /** Its path when it was opened. */
  readonly file: string;
  /** `20261125T161500123Z-` (the time of its first line) and the first 16 hex digits of that line's SHA-256. */
  readonly id: string;
  /** Its bytes from an offset on; one whose name ends in `.gz` is unpacked. @throws Error of the file system, or of zlib */
  bytes(from: number): AsyncGenerator<Buffer>;
  close(): Promise<void>;
}

/** A part of a segment's copy. */
interface Chunk {
  readonly segment: string;
  /** Where it begins in the file, in bytes. */
  readonly offset: number;
}

const READ_BYTES = 256 * 1024;

/** Undefined while it has no whole line. @throws Error of the file system */
export async function openSegment(file: string): Promise<Segment | undefined> {
  const handle = await openAuditFile(file);
  const bytes = (from: number): AsyncGenerator<Buffer> => bytesOf(handle, file.endsWith('.gz'), from);
  let id: string | undefined;
  try {
    id = await idOf(bytes(0));
  } finally {
    if (id === undefined) await handle.close();
  }
  return id === undefined ? undefined : { file, id, bytes, close: () => handle.close() };
}

async function idOf(bytes: AsyncIterable<Buffer>): Promise<string | undefined> {
  const splitter = new LineSplitter();
  for await (const more of bytes) {
    const [line] = splitter.push(more);
    if (line !== undefined) return line.bytes.length > MOST_LINE_BYTES ? undefined : segmentId(line.bytes);
  }
  return undefined;
}

/** The id of a plain file that is open; undefined while it has no whole line. @throws Error of the file system */
export function segmentOf(handle: FileHandle): Promise<string | undefined> {
  return idOf(readOn(handle, 0));
}

/** What a file is known by, whatever its name. @param first - its first line that is not empty */
export function segmentId(first: Buffer): string {
  const time = parseLine(first)?.['time'];
  const stamp = typeof time === 'string' ? time.replace(/[^0-9TZ]/g, '').slice(0, 24) : '0';
  return `${stamp}-${hash('sha256', first, 'hex').slice(0, 16)}`;
}

async function* bytesOf(handle: FileHandle, packed: boolean, from: number): AsyncGenerator<Buffer> {
  if (!packed) {
    yield* readOn(handle, from);
    return;
  }
  // What goes wrong is thrown by who reads.
  const unpacked = pipeline(Readable.from(readOn(handle, 0)), createGunzip(), () => undefined);
  let skip = from;
  for await (const bytes of unpacked as AsyncIterable<Buffer>) {
    if (skip < bytes.length) yield bytes.subarray(skip);
    skip = Math.max(0, skip - bytes.length);
  }
}

async function* readOn(handle: FileHandle, from: number): AsyncGenerator<Buffer> {
  for (let position = from; ;) {
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES, position);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    position += bytesRead;
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
