/**
 * What the lines of a ledger mean: pure, so that every process that reads the same lines comes to the same sum.
 *
 * A line is a JSON array, because one that a full disk or a crash cut short is then none at all.
 */
import type { LedgerUpload, LedgerWindow } from '../ports/ledger.ts';

/** One line. The last word of those that are not about an upload is there to make the line unlike any other. */
export type LedgerLine =
  /** The beginning: bytes in use without what is under way, when a count of the store is due (ms since 1970), number of counts. */
  | readonly ['base', used: number, due: number, counts: number]
  /** An upload is to begin. It counts if it fits under its limit at this place in the file, and else is nothing; null: always. */
  | readonly ['+', size: number, limit: number | null, token: string, key: string]
  /** That upload is stored. */
  | readonly ['.', token: string]
  /** That upload came to nothing. */
  | readonly ['x', token: string]
  /** So many bytes were removed from the store. */
  | readonly ['-', size: number, token: string]
  /** Someone begins to count the store; nobody else need before this time. */
  | readonly ['claim', due: number, token: string]
  /** The store was counted, and the sum is to be changed by so much. Void unless it is the next count, so that it holds once. */
  | readonly ['fix', change: number, counts: number, due: number, token: string]
  /** The end: what comes after counts nowhere, and goes into the next file. */
  | readonly ['seal'];

/** What the lines of a ledger come to. */
export interface LedgerState {
  /** Bytes in use, what is under way included. */
  used: number;
  /** When a count of the store is due, in ms since 1970. */
  due: number;
  /** How often the store was counted. */
  counts: number;
  sealed: boolean;
  /** Uploads under way, by token. */
  readonly underWay: Map<string, LedgerUpload>;
}

/** The state before the first line. */
export function emptyLedger(): LedgerState {
  return { used: 0, due: 0, counts: 0, sealed: false, underWay: new Map() };
}

/** A line as it stands in the file. */
export function formatLine(line: LedgerLine): string {
  return JSON.stringify(line);
}

/** Reads one line into the state and the windows. @returns whether it counted */
export function applyLine(text: string, state: LedgerState, windows: ReadonlySet<LedgerWindow>): boolean {
  const line = parseLine(text);
  if (line === undefined || state.sealed) return false;
  switch (line[0]) {
    case 'base':
      [, state.used, state.due, state.counts] = line;
      return true;
    case '+': {
      const [, size, limit, token, key] = line;
      if (limit !== null && Math.max(0, state.used) + size > limit) return false;
      // Beyond that no sum is right.
      if (!Number.isSafeInteger(state.used + size)) return false;
      state.used += size;
      state.underWay.set(token, { key, size });
      for (const window of windows) window.uploads.set(token, { key, size });
      return true;
    }
    case '.':
      return state.underWay.delete(line[1]);
    case 'x': {
      const upload = state.underWay.get(line[1]);
      if (upload === undefined) return false;
      state.underWay.delete(line[1]);
      state.used -= upload.size;
      for (const window of windows) window.uploads.delete(line[1]);
      return true;
    }
    case '-':
      state.used -= line[1];
      for (const window of windows) window.removals = true;
      return true;
    case 'claim':
      state.due = line[1];
      return true;
    case 'fix': {
      const [, change, counts, due] = line;
      if (counts !== state.counts + 1) return false;
      state.used += change;
      state.counts = counts;
      state.due = due;
      return true;
    }
    case 'seal':
      state.sealed = true;
      return true;
  }
}

type Check = (value: unknown) => boolean;

const isNumber: Check = (value) => Number.isSafeInteger(value);
const isCount: Check = (value) => Number.isSafeInteger(value) && Number(value) >= 0;
const isLimit: Check = (value) => value === null || isCount(value);
/** Tokens and keys are only compared. */
const isWord: Check = (value) => typeof value === 'string' && /^[ -~]{1,200}$/.test(value);

/** What follows the kind. */
const SHAPES: Readonly<Record<LedgerLine[0], readonly Check[]>> = {
  base: [isNumber, isCount, isCount],
  '+': [isCount, isLimit, isWord, isWord],
  '.': [isWord],
  x: [isWord],
  '-': [isCount, isWord],
  claim: [isCount, isWord],
  fix: [isNumber, isCount, isCount, isWord],
  seal: [],
};

/** Undefined for what is no line of a ledger: one that was cut short, or another program's. */
function parseLine(text: string): LedgerLine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(value)) return undefined;
  const items: readonly unknown[] = value;
  const [kind, ...rest] = items;
  if (typeof kind !== 'string' || !Object.hasOwn(SHAPES, kind)) return undefined;
  const shape = SHAPES[kind as LedgerLine[0]];
  const fits = rest.length === shape.length && shape.every((check, index) => check(rest[index]));
  return fits ? (value as unknown as LedgerLine) : undefined;
}
