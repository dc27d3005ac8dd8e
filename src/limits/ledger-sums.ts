/**
 * What repositories have in use by their ledgers, for who only reads: the status, the page and the metrics. Each ledger is read once and then
 * on from where it was, and all of them piece by piece, so that however long they are, the sessions of this process have their turn.
 */
import { constants } from 'node:fs';
import { stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { getOrMake } from '../core/get-or-make.ts';
import { openStateFile } from '../state/state-file.ts';
import { MOST_LEDGER_BYTES, MOST_LINE_BYTES, numbersIn } from './ledger.ts';
import { applyLine, emptyLedger, type LedgerState } from './ledger-lines.ts';

/** What is read and added up in one turn of the event loop, in bytes: some ms. */
const READ_BYTES = 32 * 1024;
/** How often a ledger's files may be replaced while they are looked at. */
const MOST_MOVES = 5;
/** Ledgers that are looked at at once, with a descriptor each. */
const AT_ONCE = 4;
/** By so many bytes of its beginning a file is known again: that line has a time in ms, and an inode may be another file's by now. */
const HEAD_BYTES = 64;
const NO_WINDOWS = new Set<never>();

/** The sums of ledgers. */
export interface LedgerSums {
  /**
   * What a repository has in use, in bytes; undefined when there is no ledger that can be read, whatever else can be.
   * @param directory - the ledger's
   */
  used(directory: string): Promise<number | undefined>;
  /** What the ledger came to when it was last read; undefined when it was not. */
  known(directory: string): number | undefined;
  /** Forgets the ledgers of all other directories. */
  keep(directories: ReadonlySet<string>): void;
}

/** A ledger's newest file, as far as it was read. */
interface Read {
  readonly number: number;
  readonly inode: bigint;
  readonly state: LedgerState;
  head: Buffer;
  /** Bytes that were read; what stands after the last line break among them is in `rest`. */
  offset: number;
  rest: Buffer;
  modified: bigint;
}

/** Reads nothing before it is asked. */
export function createLedgerSums(): LedgerSums {
  const read = new Map<string, Read>();
  const asked = new Map<string, Promise<number | undefined>>();

  // One piece at a time: of many that came from the disk at once, each would be added up in the same turn.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(async () => {
      const result = await work();
      await setImmediate();
      return result;
    });
    last = done.catch(() => undefined);
    return done;
  };

  /** Reads the newest file on. @throws Error of the file system, and for what is no ledger */
  const readOn = async (directory: string): Promise<Read | undefined> => {
    const number = (await numbersIn(directory)).at(-1);
    if (number === undefined) return undefined;
    const path = join(directory, String(number));
    const before = read.get(directory);
    const same = before?.number === number ? before : undefined;
    if (same !== undefined) {
      const { ino, size, mtimeNs } = await stat(path, { bigint: true });
      if (ino === same.inode && size === BigInt(same.offset) && mtimeNs === same.modified) return same;
    }
    const handle = await openStateFile(path, constants.O_RDONLY);
    try {
      const { ino, size, mtimeNs } = await handle.stat({ bigint: true });
      if (size > MOST_LEDGER_BYTES) throw new Error(`${path} is no ledger, it is too long`);
      const isSame =
        same !== undefined &&
        ino === same.inode &&
        size >= BigInt(same.offset) &&
        same.head.equals(await headOf(handle, same.head.length));
      const none = Buffer.alloc(0);
      const now: Read = isSame
        ? same
        : { number, inode: ino, state: emptyLedger(), head: none, offset: 0, rest: none, modified: mtimeNs };
      // What comes from here on is for the next time: nobody who appends without an end holds up who reads.
      while (now.offset < Number(size)) {
        const most = Math.min(READ_BYTES, Number(size) - now.offset);
        const more = await inTurn(async () => {
          const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(most), 0, most, now.offset);
          if (now.offset === 0) now.head = Buffer.from(buffer.subarray(0, Math.min(HEAD_BYTES, bytesRead)));
          take(now, buffer.subarray(0, bytesRead));
          return bytesRead > 0;
        });
        if (!more) break;
      }
      now.modified = mtimeNs;
      return now;
    } finally {
      await handle.close();
    }
  };

  const usedNow = async (directory: string): Promise<number | undefined> => {
    for (let moves = 1; ; moves++)
      try {
        const found = await readOn(directory);
        if (found === undefined) read.delete(directory);
        else read.set(directory, found);
        return usedOf(found);
      } catch (error) {
        // A newer one was put in its place.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT' && moves < MOST_MOVES) continue;
        read.delete(directory);
        return undefined;
      }
  };

  let free = AT_ONCE;
  const waiting: (() => void)[] = [];
  const usedSoon = async (directory: string): Promise<number | undefined> => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await usedNow(directory);
    } finally {
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
      asked.delete(directory);
    }
  };

  return {
    used: (directory) => getOrMake(asked, directory, () => usedSoon(directory)),
    known: (directory) => usedOf(read.get(directory)),
    keep: (directories) => {
      for (const directory of read.keys()) if (!directories.has(directory)) read.delete(directory);
    },
  };
}

function usedOf(found: Read | undefined): number | undefined {
  return found && Math.max(0, found.state.used);
}

async function headOf(handle: FileHandle, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, 0);
  return buffer.subarray(0, bytesRead);
}

/** Adds up the lines that end in a piece. */
function take(now: Read, piece: Buffer): void {
  now.offset += piece.length;
  const bytes = now.rest.length === 0 ? piece : Buffer.concat([now.rest, piece]);
  const end = bytes.lastIndexOf(10) + 1;
  // Nothing that anyone wrote as a line, so what is left of it will be none either.
  const rest = bytes.subarray(end);
  now.rest = rest.length > MOST_LINE_BYTES ? Buffer.alloc(0) : Buffer.from(rest);
  for (const text of bytes.toString('utf8', 0, end).split('\n'))
    if (text !== '') applyLine(text, now.state, NO_WINDOWS);
}
