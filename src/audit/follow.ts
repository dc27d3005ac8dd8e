/**
 * Reads the audit once, from its beginning over the rotated files to its end, and then what comes to it, whatever rotation does.
 *
 * A place in the audit is known by its file's first line, which rotation does not change as it does names and inodes, and is held to the
 * hash of the last line before it.
 */
import type { FileHandle } from 'node:fs/promises';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { GatewayError, messageOf } from '../core/errors.ts';
import { hashLine } from './chain.ts';
import { LINE_BREAK, LineSplitter, parseLine, splitLines } from './lines.ts';
import { inodeOf, isGone, openAuditFile, statOrNone } from './open-file.ts';
import { auditFiles, readLines } from './read.ts';
import { segmentId, segmentOf } from './segments.ts';

/** Up to where the audit has been read. */
export interface Position {
  /** The file, as `segmentId` knows it. */
  readonly first: string;
  /** Of its bytes and of its lines (empty ones too), those that have been read. */
  readonly offset: number;
  readonly lines: number;
  /** The last of these lines, without its line break: its length in bytes, its hash and its time. */
  readonly last: { readonly length: number; readonly hash: string; readonly time: string };
}

/** What follows an audit. */
export interface Follower {
  /**
   * Reads what has come since.
   * @returns false when what was read before is not there any more as it was: whoever added it up has to begin anew, and so does this
   * @throws GatewayError `audit-unavailable`; what was read until then counts, and the next call goes on after it
   */
  catchUp(): Promise<boolean>;
  /** Up to where it has read; undefined before the first line. */
  position(): Position | undefined;
  /** How much of what a long reading has to read is read, from 0 to 1; undefined while there is none. */
  reading(): number | undefined;
  /** Cuts off what is under way. */
  close(): Promise<void>;
}

/** What is shorter is read in a moment, in bytes. */
const LONG_BYTES = 32 * 1024 * 1024;
const READ_BYTES = 256 * 1024;
/** Empty lines that may stand between a line and the place behind it. */
const MOST_EMPTY = 64;
/** How often it may happen in a row that rotation moves the files while they are looked at. */
const MOST_MOVES = 20;

/** A file as it was found. */
interface Found {
  readonly name: string;
  readonly first: string;
  readonly time: string;
}

/** The file that is open. */
interface Reading {
  readonly handle: FileHandle;
  readonly inode: string;
}

/** The files have moved while they were looked at. */
const MOVED = Symbol('moved');

/** What a follower needs. */
interface FollowerOptions {
  readonly file: string;
  readonly from: Position | undefined;
  readonly take: (line: Readonly<Record<string, unknown>>, bytes: Buffer) => void;
  readonly pauseMs: number;
  readonly between?: () => Promise<void>;
}

/** Reads files on, and knows where it is. @param pause - awaited after each 256 KiB */
function openReader({ file, from, take }: FollowerOptions, pause: () => Promise<void>) {
  let position = from;
  /** What was at the path when it was last looked at: it stays open over a rotation, for what comes into it until then. */
  let reading: Reading | undefined;
  /** The file before that one, up to where it was read: a writer that had looked at the path just before a rotation still writes there. */
  let trailing: { readonly handle: FileHandle; readonly first: string; readonly offset: number } | undefined;

  /** Takes lines of the file that begins with `first`, and moves the place behind them. */
  const takeLines = (first: string, lines: readonly Buffer[], offset: number, count: number): void => {
    let last = position?.first === first ? position.last : undefined;
    for (const [index, bytes] of lines.entries()) {
      const line = parseLine(bytes);
      if (line !== undefined) take(line, bytes);
      if (index < lines.length - 1) continue;
      const time = typeof line?.['time'] === 'string' ? line['time'] : (position?.last.time ?? '');
      last = { length: bytes.length, hash: hashLine(bytes), time };
    }
    if (last !== undefined) position = { first, offset, lines: count, last };
  };

  /** Reads a plain file on, up to its last line break. */
  const readOn = async (handle: FileHandle, first: string): Promise<void> => {
    const splitter = new LineSplitter(position?.first === first ? position : undefined);
    for (let at = splitter.offset; ;) {
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      const lines = splitter.push(buffer.subarray(0, bytesRead)).map(({ bytes }) => bytes);
      takeLines(first, lines, splitter.offset, splitter.count);
      if (bytesRead === READ_BYTES) await pause();
    }
  };

  const readPacked = async ({ name, first }: Found): Promise<typeof MOVED | undefined> => {
    const known = position?.first === first ? position.lines : 0;
    let begun = false;
    for await (const lines of readLines(name)) {
      const [head] = lines;
      if (!begun && head !== undefined && segmentId(head.bytes) !== first) return MOVED;
      begun ||= head !== undefined;
      const fresh = lines.filter(({ number }) => number > known);
      const last = fresh.at(-1);
      const bytes = fresh.map((line) => line.bytes);
      if (last !== undefined) takeLines(first, bytes, 0, last.number);
      await pause();
    }
    return undefined;
  };

  const readPlain = async ({ name, first }: Found): Promise<typeof MOVED | undefined> => {
    const handle = await openAuditFile(name);
    try {
      if ((await segmentOf(handle)) !== first) return MOVED;
      await readOn(handle, first);
      if (name === file) reading = { handle, inode: inodeOf(await handle.stat()) };
      else {
        await trailing?.handle.close();
        trailing = { handle, first, offset: position?.first === first ? position.offset : 0 };
      }
      return undefined;
    } finally {
      if (reading?.handle !== handle && trailing?.handle !== handle) await handle.close();
    }
  };

  /** Takes the last lines of the file before, once. */
  const readTrailing = async (): Promise<void> => {
    if (trailing === undefined) return;
    const { handle, first, offset } = trailing;
    trailing = undefined;
    try {
      // It is where reading goes on, and nothing has come after it so far.
      if (position?.first === first) return;
      const { size } = await handle.stat();
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(Math.max(0, size - offset)), 0, null, offset);
      for (const bytes of splitLines(buffer.subarray(0, bytesRead)).lines) {
        const line = parseLine(bytes);
        if (line !== undefined) take(line, bytes);
      }
    } finally {
      await handle.close();
    }
  };

  /** Closes what was at the path. */
  const release = async (): Promise<void> => {
    const old = reading;
    reading = undefined;
    await old?.handle.close();
  };

  return {
    get position() {
      return position;
    },
    set position(to) {
      position = to;
    },
    reading: () => reading,
    readOn,
    /** Reads a file on to its end. @returns `MOVED` when it is another one by now */
    read: (found: Found) => (found.name.endsWith('.gz') ? readPacked(found) : readPlain(found)),
    readTrailing,
    release,
    /** Closes the file before that one, too. */
    close: async () => {
      await release();
      await trailing?.handle.close();
      trailing = undefined;
    },
  };
}

/**
 * @param options.from - where to go on; undefined: from the beginning
 * @param options.take - is given every line that can be read as an object, in order
 * @param options.between - is awaited after each 256 KiB, so that what was taken need not pile up; what it throws ends the reading for now
 * @param options.pauseMs - rest after each 256 KiB, for a process that has other things to do
 */
export function openFollower(options: FollowerOptions): Follower {
  const { file, pauseMs, between } = options;
  let closed = false;
  const reader = openReader(options, async () => {
    await (pauseMs > 0 ? sleep(pauseMs) : setImmediate());
    await between?.();
    if (closed) throw new GatewayError('shutting-down');
  });

  /** Bytes that the reading under way has read, of all that it is to read, and the file that it is at; packed ones count as they are packed. */
  let progress: { done: number; readonly all: number; current: Found | undefined } | undefined;
  const reading = (): number | undefined => {
    if (progress === undefined || progress.all < LONG_BYTES) return undefined;
    const { done, all, current } = progress;
    const { first, offset } = reader.position ?? { first: undefined, offset: 0 };
    return Math.min(1, Math.max(0, done + (first === current?.first ? offset : 0)) / all);
  };

  /** Finds the place among the files, and reads from there on to the end. @returns as `catchUp` */
  const readFiles = async (): Promise<boolean | typeof MOVED> => {
    const before = await statOrNone(file);
    const files = await findFiles(file);
    const after = await statOrNone(file);
    // What was at the path may be under no name that was seen.
    if ((before && inodeOf(before)) !== (after && inodeOf(after))) return MOVED;
    const { position } = reader;
    let begin = 0;
    if (position !== undefined) {
      const { first, last } = position;
      begin = files.findIndex((one) => one.first === first);
      const found = files[begin];
      if (found !== undefined) {
        if (!(await fits(found.name, position))) return false;
      } else {
        // Rotation has removed it; what came before stays known.
        begin = files.findIndex(({ time }) => time > last.time);
        if (begin < 0) return files.length === 0;
      }
    }
    try {
      const lengths = await lengthsOf(files.slice(begin));
      const start = files[begin]?.first === reader.position?.first ? (reader.position?.offset ?? 0) : 0;
      const all = lengths.reduce((sum, length) => sum + length, 0) - start;
      progress = { done: -start, all, current: undefined };
      for (const [index, found] of files.slice(begin).entries()) {
        progress.current = found;
        if ((await reader.read(found)) === MOVED) return MOVED;
        progress.done += lengths[index] ?? 0;
      }
      return true;
    } finally {
      progress = undefined;
    }
  };

  const readAll = async (): Promise<boolean> => {
    for (let moves = 0; ; moves++) {
      try {
        const done = await readFiles();
        if (done !== MOVED) return done;
      } catch (error) {
        if (moves === MOST_MOVES || !isGone(error)) throw error;
      }
      if (moves === MOST_MOVES) throw new Error('its files are moved again and again');
      await reader.release();
    }
  };

  const catchUp = async (): Promise<boolean> => {
    try {
      await reader.readTrailing();
      const [reading, position] = [reader.reading(), reader.position];
      if (reading !== undefined && position !== undefined) {
        const { handle, inode } = reading;
        const [mine, there] = await Promise.all([handle.stat(), statOrNone(file)]);
        const cut = mine.size < position.offset;
        if (!cut && mine.size > position.offset) await reader.readOn(handle, position.first);
        if (!cut && there !== undefined && inodeOf(there) === inode) return true;
        await reader.release();
      }
      if (await readAll()) return true;
      reader.position = undefined;
      return false;
    } catch (error) {
      await reader.release().catch(() => undefined);
      if (error instanceof GatewayError) throw error;
      throw new GatewayError('audit-unavailable', {
        detail: `the audit ${file} cannot be read: ${messageOf(error)}`,
        cause: error,
      });
    }
  };

  let running: Promise<unknown> = Promise.resolve();
  return {
    catchUp: () => {
      const done = running.then(catchUp);
      running = done.catch(() => undefined);
      return done;
    },
    position: () => reader.position,
    reading,
    close: async () => {
      closed = true;
      await running;
      await reader.close();
    },
  };
}

/** The audit's files that have a line, oldest first. */
async function findFiles(file: string): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const name of await auditFiles(file)) {
    for await (const lines of readLines(name)) {
      const [line] = lines;
      if (line === undefined) continue;
      const time = lines.map(({ bytes }) => parseLine(bytes)?.['time']).find((one) => typeof one === 'string');
      found.push({ name, first: segmentId(line.bytes), time: time ?? '' });
      break;
    }
  }
  return found;
}

/** How many bytes each of the files has. */
function lengthsOf(files: readonly Found[]): Promise<readonly number[]> {
  return Promise.all(files.map(async ({ name }) => (await statOrNone(name))?.size ?? 0));
}

/** Whether a file has before a place what was read there. */
async function fits(name: string, { offset, lines, last }: Position): Promise<boolean> {
  if (name.endsWith('.gz')) {
    let newest: Buffer | undefined;
    for await (const group of readLines(name))
      newest = group.findLast(({ number }) => number <= lines)?.bytes ?? newest;
    return newest !== undefined && hashLine(newest) === last.hash;
  }
  const handle = await openAuditFile(name);
  try {
    const from = Math.max(0, offset - last.length - MOST_EMPTY);
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(offset - from), 0, offset - from, from);
    if (bytesRead < offset - from) return false;
    let end = buffer.length;
    while (end > 0 && buffer[end - 1] === LINE_BREAK) end -= 1;
    return end >= last.length && hashLine(buffer.subarray(end - last.length, end)) === last.hash;
  } finally {
    await handle.close();
  }
}
