/**
 * How many bytes a repository has in use, kept in a file that all of this machine's gateway processes append to, without locks.
 *
 * The file's order is the order of events: whoever sets room aside appends a line and reads on up to that line, and as everyone reads the
 * same lines by the same rules, of two who want the last room exactly one gets it. A file that has become long is sealed by a last line
 * and followed by a new one that begins with its sum.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { link, mkdir, readdir, unlink, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { asGatewayError, GatewayError, messageOf } from '../core/errors.ts';
import type { Ledger, LedgerWindow } from '../ports/ledger.ts';
import { isRunning, ownProcess, type ProcessMark } from '../state/processes.ts';
import { openStateFile } from '../state/state-file.ts';
import { applyLine, emptyLedger, formatLine } from './ledger-lines.ts';
import type { LedgerLine, LedgerState } from './ledger-lines.ts';

/** A file of this size is sealed, in bytes: some ten thousand lines, read in some ten ms. */
const SEAL_BYTES = 1024 * 1024;
const READ_BYTES = 64 * 1024;
/** Many who append at once, each a line, do not come near it; what is longer is no ledger. */
export const MOST_LEDGER_BYTES = 64 * SEAL_BYTES;
/** A line has some 200. */
export const MOST_LINE_BYTES = 4096;
/** After a first count: uploads that began before anyone kept a ledger may have been missed by it. In ms. */
const FIRST_DUE_MS = 60 * 60 * 1000;
/** No count is put off for so long, in ms: one that is due later was noted by a clock that has been set back since. */
const LONGEST_DUE_MS = 48 * 60 * 60 * 1000;

/**
 * Makes no call before it is needed.
 * @param directory - absolute path, of this repository alone
 * @param measure - counts the store, in bytes
 */
export function openLedger(directory: string, measure: () => Promise<number>): Ledger {
  const { pid, begun } = ownProcess();
  const identity = `${pid}.${begun}-${randomBytes(5).toString('hex')}`;
  const files = openFiles(directory, identity, measure);
  let tokens = 0;
  let closed = false;

  // One at a time: each appends and reads on.
  let last: Promise<unknown> = Promise.resolve();
  const exclusive = <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(async () => {
      try {
        return await work();
      } catch (error) {
        if (error instanceof GatewayError) throw error;
        throw new GatewayError('state-unavailable', {
          detail: `the ledger in ${directory} cannot be kept: ${messageOf(error)}; without the directory, the store is counted anew`,
          cause: error,
        });
      }
    });
    last = done.catch(() => undefined);
    return done;
  };

  const newToken = (): string => `${identity}-${++tokens}`;
  const ready = async (make: boolean): Promise<boolean> => {
    if (closed) throw new GatewayError('shutting-down');
    return files.ready(make);
  };
  const { append, windows } = files;

  return {
    reserve: (size, limit, key) =>
      exclusive(async () => {
        await ready(true);
        // Whoever is refused again and again must not fill the disk.
        if (limit !== undefined && Math.max(0, files.state().used) + size > limit) return undefined;
        const token = newToken();
        return (await append(['+', size, limit ?? null, token, key])) ? token : undefined;
      }),
    settle: (token, end) =>
      exclusive(async () => {
        if (await ready(false)) await append([end === 'stored' ? '.' : 'x', token]);
      }),
    removed: (size) =>
      exclusive(async () => {
        if (await ready(false)) await append(['-', size, newToken()]);
      }),
    claimCount: (claimMs) =>
      exclusive(async () => {
        if (!(await ready(false)) || !isDue(files.state().due)) return false;
        return append(['claim', Date.now() + claimMs, newToken()]);
      }),
    watch: () =>
      exclusive(async () => {
        await ready(true);
        const window: LedgerWindow = { uploads: new Map(files.state().underWay), removals: false, broken: false };
        windows.add(window);
        const { counts } = files.state();
        return {
          window,
          refresh: () =>
            exclusive(async () => {
              await ready(true);
            }),
          correct: (count, dueMs) =>
            exclusive(async () => {
              await ready(true);
              if (window.broken) return;
              const change = count(new Set(files.state().underWay.keys())) - files.state().used;
              await append(['fix', change, counts + 1, Date.now() + dueMs, newToken()]);
            }),
          isOver: (token) => {
            const owner = ownerOf(token);
            return owner === undefined || !isRunning(owner);
          },
          close: () => {
            windows.delete(window);
          },
        };
      }),
    close: async () => {
      // Work that is under way says its last word first.
      await last;
      closed = true;
      await exclusive(files.leave).catch((error: unknown) => {
        throw asGatewayError(error);
      });
    },
  };
}

/**
 * A ledger's files, of which the newest is open. Calls are made one at a time.
 * @param identity - of this process, for the name of what it is writing
 */
function openFiles(directory: string, identity: string, measure: () => Promise<number>) {
  /** Whoever watches; removed from it when they do no more. */
  const windows = new Set<LedgerWindow>();
  let state = emptyLedger();
  let file: { readonly handle: FileHandle; readonly number: number } | undefined;
  let offset = 0;
  let rest = Buffer.alloc(0);

  const leave = async (): Promise<void> => {
    const { handle } = file ?? {};
    file = undefined;
    await handle?.close();
  };

  /** Reads on to the end. @returns whether the line `own` counted; undefined when it was not met */
  const readOn = async (own?: string): Promise<boolean | undefined> => {
    let verdict: boolean | undefined;
    for (;;) {
      if (file === undefined) return verdict;
      const { bytesRead, buffer } = await file.handle.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES, offset);
      offset += bytesRead;
      const bytes = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
      const end = bytes.lastIndexOf(10) + 1;
      rest = bytes.subarray(end);
      // Nothing that anyone wrote as a line, so what is left of it will be none either.
      if (rest.length > MOST_LINE_BYTES) rest = Buffer.alloc(0);
      for (const text of bytes.toString('utf8', 0, end).split('\n')) {
        if (text === '' || state.sealed) continue;
        const counted = applyLine(text, state, windows);
        if (text === own) verdict = counted;
      }
      if (bytesRead < READ_BYTES) return verdict;
    }
  };

  /** Opens the newest file and reads it whole. @returns false when there is none */
  const openNewest = async (): Promise<boolean> => {
    for (;;) {
      const number = (await numbersIn(directory)).at(-1);
      if (number === undefined) return false;
      const before = file?.number;
      await leave();
      try {
        const path = join(directory, String(number));
        file = { handle: await openStateFile(path, constants.O_RDWR | constants.O_APPEND), number };
        if ((await file.handle.stat()).size > MOST_LEDGER_BYTES)
          throw new Error(`${path} is no ledger, it is too long`);
      } catch (error) {
        // Someone has put a newer one in its place.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        throw error;
      }
      if (before !== number - 1) for (const window of windows) window.broken = true;
      state = emptyLedger();
      offset = 0;
      rest = Buffer.alloc(0);
      await readOn();
      return true;
    }
  };

  /** Writes a file that is whole from the start, unless someone has. */
  const begin = async (number: number, lines: readonly LedgerLine[]): Promise<void> => {
    const temporary = join(directory, `.${identity}`);
    await writeFile(temporary, lines.map((line) => `${formatLine(line)}\n`).join(''), { mode: 0o600 });
    try {
      await link(temporary, join(directory, String(number)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      await unlink(temporary);
    }
  };

  /** Goes from a sealed file to the next. */
  const goOn = async (sealed: number): Promise<void> => {
    const under = [...state.underWay];
    const used = state.used - under.reduce((sum, [, { size }]) => sum + size, 0);
    await begin(sealed + 1, [
      ['base', used, state.due, state.counts],
      ...under.map(([token, { size, key }]): LedgerLine => ['+', size, null, token, key]),
    ]);
    // The one just sealed stays for those who still have to read its end.
    for (const old of await numbersIn(directory))
      if (old < sealed) await unlink(join(directory, String(old))).catch(() => undefined);
  };

  /** Has the newest file open and read to its end. @returns false when there is none and none is to be made */
  const ready = async (make: boolean): Promise<boolean> => {
    // Removed: replaced by newer ones, or by an admin who wants a new count.
    if (file !== undefined && (await file.handle.stat()).nlink === 0) await leave();
    if (file !== undefined) await readOn();
    else if (!(await openNewest())) {
      if (!make) return false;
      await mkdir(directory, { recursive: true, mode: 0o700 });
      await begin(1, [['base', await measure(), Date.now() + FIRST_DUE_MS, 0]]);
      if (!(await openNewest())) throw new Error('it was removed while it was being made');
    }
    while (state.sealed && file !== undefined) {
      const { number } = file;
      await goOn(number);
      await openNewest();
      // Else it would go on for ever; no name has so many digits by counting up.
      if (file.number <= number) throw new Error(`nothing can follow ${number}`);
    }
    return true;
  };

  /** Appends a line, in the next file if this one was sealed meanwhile. @returns whether it counted */
  const append = async (line: LedgerLine): Promise<boolean> => {
    const text = formatLine(line);
    for (;;) {
      if (file === undefined) throw new Error('it was removed while it was in use');
      // The line break before it ends a line that a crash cut short.
      const bytes = Buffer.from(`\n${text}\n`);
      const { bytesWritten } = await file.handle.write(bytes);
      if (bytesWritten !== bytes.length) throw new Error('it took only a part of a line; free space on its disk');
      const verdict = await readOn(text);
      if (verdict !== undefined) {
        if (offset > SEAL_BYTES && !state.sealed) await file.handle.write(`\n${formatLine(['seal'])}\n`);
        return verdict;
      }
      if (!state.sealed) throw new Error('what was appended is not in it; its disk must be a local one');
      await ready(true);
    }
  };

  return { state: (): LedgerState => state, windows, ready, append, leave };
}

/** The process that a token is of; undefined for a token that none has made. */
function ownerOf(token: string): ProcessMark | undefined {
  const [, pid, begun] = /^([1-9]\d{0,9})\.(\d{1,15})-/.exec(token) ?? [];
  return pid === undefined ? undefined : { pid: Number(pid), begun: Number(begun) };
}

/** The numbers of the files in a ledger's directory, lowest first; none when it is not there. */
export async function numbersIn(directory: string): Promise<readonly number[]> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names
    .filter((name) => /^[1-9]\d{0,14}$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

function isDue(due: number): boolean {
  const now = Date.now();
  return now >= due || due - now > LONGEST_DUE_MS;
}
