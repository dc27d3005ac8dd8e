/**
 * Where each process on this host notes the newest line that it has written, so that cutting the end of the audit shows.
 *
 * One small file of fixed slots, one line each: a process writes into the slot that its id selects, so none waits for another and nothing
 * has to be cleaned up. Should two share a slot, the later note stands; the lines of both are still linked to what follows them.
 */
import { constants } from 'node:fs';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GatewayError, messageOf } from '../core/errors.ts';
import { openStateFile, readStateFile } from '../state/state-file.ts';

/** A line that was written. */
export interface Head {
  /** Its hash, as `hashLine` makes it. */
  readonly hash: string;
  /** Its time, as it stands in it. */
  readonly time: string;
}

/** Notes of this process. */
export interface HeadNotes {
  /** Notes a line soon, in the background. */
  note(head: Head): void;
  /** The newest lines that any process has noted; empty when that is not known. */
  newest(): Promise<readonly string[]>;
  /** Resolves when what was noted last is written. */
  close(): Promise<void>;
}

const SLOT_BYTES = 96;
const SLOTS = 256;
/** How long a note may wait, so that a busy writer notes a few times a second and not at each line, in ms. */
const NOTE_MS = 100;

/** Where the notes are. @param state - the directory of what this host's processes share */
export function headsFile(state: string): string {
  return join(state, 'audit-heads');
}

/** @param file - absolute path; made with its directories when the first note is written. What fails here fails no one's session. */
export function openHeadNotes(file: string): HeadNotes {
  let latest: Head | undefined;
  let timer: NodeJS.Timeout | undefined;
  let handle: Promise<FileHandle> | undefined;
  let writing: Promise<void> = Promise.resolve();

  const write = async (): Promise<void> => {
    const head = latest;
    latest = undefined;
    if (head === undefined) return;
    try {
      handle ??= openFile(file);
      const slot = `${JSON.stringify({ head: head.hash, time: head.time }).padEnd(SLOT_BYTES - 1)}\n`;
      await (await handle).write(slot, (process.pid % SLOTS) * SLOT_BYTES);
    } catch {
      // A host without these notes still has the chain, and `audit verify` says that there are none.
      handle = undefined;
    }
  };

  return {
    note: (head) => {
      latest = head;
      timer ??= setTimeout(() => {
        timer = undefined;
        writing = writing.then(write);
      }, NOTE_MS).unref();
    },
    newest: async () => {
      const all = (await readHeads(file).catch(() => undefined)) ?? [];
      // A note of a time to come is from before the clock was set back, and would hide the newest ones for so long.
      const heads = all.filter(({ time }) => Date.parse(time) <= Date.now() + NOTE_MS);
      const last = Math.max(...heads.map(({ time }) => Date.parse(time)));
      return heads.filter(({ time }) => last - Date.parse(time) <= 2 * NOTE_MS).map((head) => head.hash);
    },
    close: async () => {
      clearTimeout(timer);
      await writing.then(write);
      const opened = await handle?.catch(() => undefined);
      await opened?.close();
    },
  };
}

async function openFile(file: string): Promise<FileHandle> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  try {
    return await open(file, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return openStateFile(file, constants.O_RDWR);
  }
}

/** What the processes of this host have noted; undefined when there are no notes. @throws GatewayError `state-unavailable` */
export async function readHeads(file: string): Promise<readonly Head[] | undefined> {
  let bytes;
  try {
    bytes = await readStateFile(file, SLOTS * SLOT_BYTES);
  } catch (error) {
    throw new GatewayError('state-unavailable', {
      detail: `the notes of the audit's newest lines cannot be read: ${messageOf(error)}`,
      cause: error,
    });
  }
  return bytes && [...bytes.toString('latin1').matchAll(NOTE)].map(([, hash = '', time = '']) => ({ hash, time }));
}

const NOTE = /\{"head":"([\w-]{22})","time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"\}/g;
