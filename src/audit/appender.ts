/** A file that many processes append linked lines to, at a path that may be moved away and replaced meanwhile. */
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatLinks, hashLine, MOST_LINKS, readLinks, type Links } from './chain.ts';
import type { HeadNotes } from './heads.ts';
import { splitLines } from './lines.ts';
import { statOrNone } from './open-file.ts';
import { lastMovedLine, openOrMake, removeOldest, rotate, type Rotation } from './rotation.ts';

/** A line but for its links, which are known only when it is written. */
export interface Line {
  /** ISO 8601. */
  readonly time: string;
  /** The other members of its object, and its closing brace. */
  readonly rest: string;
}

/** A file at a path. */
export interface Appender {
  /**
   * Appends lines by one write(2), so that those of other processes never come in between. Resolves to the number of them that were
   * written whole: fewer when the disk is full.
   */
  append(lines: readonly Line[]): Promise<number>;
  close(): Promise<void>;
}

const LINE_BREAK = Buffer.from('\n');
/** How far back a writer looks, at first and at most, in a file that it has not read so far. */
const FIRST_LOOK_BYTES = 4 * 1024;
const LOOK_BACK_BYTES = 256 * 1024;

/** After a rotation that failed, the next try waits until the file has grown by this. */
const RETRY_BYTES = 1024 * 1024;

interface AppenderOptions {
  readonly file: string;
  readonly notes: HeadNotes | undefined;
  /** Undefined: it grows. */
  readonly rotation: Rotation | undefined;
  /** Is called once when it cannot be rotated or thinned out; it is written to all the same. */
  readonly warn: (error: unknown) => void;
}

/** @throws Error when it cannot be opened or is not a regular file */
export async function openAppender({ file, notes, rotation, warn }: AppenderOptions): Promise<Appender> {
  /** At this size it is rotated. */
  let rotateAt = rotation?.maxSize ?? Infinity;
  let warned = false;
  let handle = await openFile(file);
  /** Where the unread part of the file begins: always the beginning of a line. */
  let position = 0;
  let unlinked: string | undefined;
  /** The lines of this file that nothing refers to, in their order. */
  const heads = new Set<string>();
  /** Those of the file before. */
  const prior = new Set<string>();
  /** The last write and what it linked, to be spared reading it when it is all that has come. */
  let own: { readonly end: number; readonly last: string; readonly named: readonly string[] } | undefined;

  const take = (line: Buffer): void => {
    if (line.length === 0) return;
    const links = readLinks(line);
    for (const one of links?.prev ?? []) heads.delete(one);
    for (const one of links?.prior ?? []) prior.delete(one);
    // What is torn needs nobody to vouch for it.
    if (line[0] !== 0x7b || line.at(-1) !== 0x7d) return;
    const hash = hashLine(line);
    heads.add(hash);
    if (links !== undefined) return;
    // Of lines from before there were links, the last one stands for all.
    if (unlinked !== undefined) heads.delete(unlinked);
    unlinked = hash;
  };

  /** Reads what has come since. @returns whether the last line has no end and nobody is writing it */
  const readNew = async (from: FileHandle, size: number): Promise<boolean> => {
    if (own?.end === size) {
      for (const one of own.named) {
        heads.delete(one);
        prior.delete(one);
      }
      heads.add(own.last);
      position = size;
    }
    own = undefined;
    // Cut off or emptied: what was known stays named, so that it shows.
    if (size < position) position = 0;
    if (position === 0 || size - position > LOOK_BACK_BYTES) {
      // Whoever wrote so much since has named what this writer knew.
      if (position > 0) heads.clear();
      position = await unnamedFrom(from, size);
    }
    for (let before = -1; ;) {
      const bytes = await readRange(from, position, size);
      const { lines, end } = splitLines(bytes);
      for (const line of lines) take(line);
      position += end;
      if (end === bytes.length) return false;
      if (size === before) return true;
      // Of another process's long line one may see a part for a moment.
      before = size;
      await sleep(2);
      ({ size } = await from.stat());
    }
  };

  /** Reads what has come, and opens the path anew when it leads to another file than the open one, which logrotate or someone has moved. */
  const followPath = async (): Promise<{ readonly torn: boolean; readonly size: number }> => {
    for (;;) {
      const [mine, there] = await Promise.all([handle.stat(), statOrNone(file)]);
      if (position === 0 && mine.size === 0) for (const one of await endsBefore(file, notes, prior)) prior.add(one);
      const torn = await readNew(handle, mine.size);
      if (there?.ino === mine.ino && there.dev === mine.dev) return { torn, size: mine.size };
      const next = await openFile(file);
      const old = handle;
      handle = next;
      for (const one of heads) prior.add(one);
      heads.clear();
      position = 0;
      await old.close();
    }
  };

  const warnOnce = (error: unknown): void => {
    if (!warned) warn(error);
    warned = true;
  };

  const follow = async (): ReturnType<typeof followPath> => {
    const followed = await followPath();
    if (rotation === undefined || followed.size < rotateAt) return followed;
    try {
      rotate(file, await handle.stat());
      rotateAt = rotation.maxSize;
    } catch (error) {
      // That it is too long is no reason to lose a line.
      rotateAt = followed.size + RETRY_BYTES;
      warnOnce(error);
      return followed;
    }
    const { keep } = rotation;
    if (keep !== undefined) void removeOldest(file, keep).catch(warnOnce);
    return followPath();
  };

  return {
    async append(lines) {
      const { torn, size } = await follow();
      const { bytes, ends, hashes, named } = link(lines, [...heads], [...prior]);
      const { bytesWritten } = await handle.write(torn ? Buffer.concat([LINE_BREAK, bytes]) : bytes);
      const written = torn ? bytesWritten - 1 : bytesWritten;
      const whole = ends.filter((end) => end <= written).length;
      if (whole === lines.length && !torn) own = { end: size + bytesWritten, last: hashes.at(-1) ?? '', named };
      const [hash, time] = [hashes[whole - 1], lines[whole - 1]?.time];
      if (hash !== undefined && time !== undefined) notes?.note({ hash, time });
      return whole;
    },
    async close() {
      await handle.close();
      await notes?.close();
    },
  };
}

/** What a file that is still empty has to name of the one before it, which may have been written by others alone; they have noted it. */
async function endsBefore(
  file: string,
  notes: AppenderOptions['notes'],
  prior: ReadonlySet<string>,
): Promise<readonly string[]> {
  const noted = (await notes?.newest()) ?? [];
  if (noted.length > 0 || prior.size > 0) return noted;
  // Nobody may have noted one yet.
  const last = await lastMovedLine(file).catch(() => undefined);
  return last === undefined ? [] : [hashLine(last)];
}

/**
 * Makes lines that name what nothing refers to yet: the oldest first, so that whoever names a line has also named all before it, and
 * after the first line each names the one before.
 */
function link(
  lines: readonly Line[],
  heads: string[],
  prior: string[],
): {
  readonly bytes: Buffer;
  /** Where in `bytes` each line ends. */
  readonly ends: readonly number[];
  readonly hashes: readonly string[];
  /** All that were named of `heads` and `prior`. */
  readonly named: readonly string[];
} {
  const buffers: Buffer[] = [];
  const hashes: string[] = [];
  const named: string[] = [];
  const ends: number[] = [];
  let length = 0;
  for (const { time, rest } of lines) {
    const before = hashes.at(-1);
    const joined = before !== undefined;
    const old = heads.splice(0, joined ? MOST_LINKS - 1 : MOST_LINKS);
    const older = prior.splice(0, MOST_LINKS);
    named.push(...old, ...older);
    const links: Links = { prev: joined ? [...old, before] : old, prior: older, joined };
    const line = Buffer.from(`{"time":"${time}","v":1,${formatLinks(links)},${rest}`);
    hashes.push(hashLine(line));
    buffers.push(line, LINE_BREAK);
    length += line.length + 1;
    ends.push(length);
  }
  return { bytes: Buffer.concat(buffers), ends, hashes, named };
}

/** The bytes from one offset to another, fewer when the file ends before. */
async function readRange(handle: FileHandle, from: number, to: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(Math.max(0, to - from));
  let filled = 0;
  while (filled < buffer.length) {
    const { bytesRead } = await handle.read(buffer, filled, buffer.length - filled, from + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

/**
 * Where to begin reading a file of which nothing is known, so as to find all lines that nothing refers to: at the last line that names the
 * one before it. Its writer had seen that one, hence all that came before, and named what nobody else did.
 */
async function unnamedFrom(handle: FileHandle, size: number): Promise<number> {
  for (let look = FIRST_LOOK_BYTES; look < LOOK_BACK_BYTES; look *= 8) {
    const from = Math.max(0, size - look);
    const bytes = await readRange(handle, from, size);
    const start = lastNaming(bytes, from === 0);
    if (start !== undefined) return from + start;
    if (from === 0) return 0;
  }
  // With many writers at once it may be that none does.
  const from = Math.max(0, size - LOOK_BACK_BYTES);
  const end = from === 0 ? -1 : (await readRange(handle, from, size)).indexOf(LINE_BREAK);
  return from + end + 1;
}

/** Where the last line begins that names the line before it. @param whole - whether the first line begins with the bytes */
function lastNaming(bytes: Buffer, whole: boolean): number | undefined {
  let after: { readonly start: number; readonly named: readonly string[] } | undefined;
  let end = bytes.lastIndexOf(LINE_BREAK);
  while (end > 0) {
    const lineBreak = bytes.lastIndexOf(LINE_BREAK, end - 1);
    if (lineBreak < 0 && !whole) return undefined;
    const start = lineBreak + 1;
    const line = bytes.subarray(start, end);
    if (line.length > 0) {
      if (after?.named.includes(hashLine(line)) === true) return after.start;
      const links = readLinks(line);
      // One that was written together with another was not preceded by a look, and one that names as many as it may has perhaps left some out.
      after = {
        start,
        named: links === undefined || links.joined || links.prev.length >= MOST_LINKS ? [] : links.prev,
      };
    }
    end = lineBreak;
  }
  return undefined;
}

/** @throws Error when it cannot be opened or is not a regular file */
async function openFile(file: string): Promise<FileHandle> {
  const handle = await openOrMake(file);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new Error('it is not a regular file; name one in the config');
}
