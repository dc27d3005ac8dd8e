/** The bytes of the audit as lines: the one place that splits them. */
import { parseJson } from '../state/state-file.ts';

/** A line of a file. */
export interface RawLine {
  /** Counts from 1. */
  readonly number: number;
  /** Without its end. */
  readonly bytes: Buffer;
}

/** What ends a line. */
export const LINE_BREAK = 0x0a;
/** What no line of the audit comes near; something so long without an end is cut there. */
export const MOST_LINE_BYTES = 4 * 1024 * 1024;
/** What an event comes to at most: the longest command and user name as written, and its links, are a third of it. */
const MOST_EVENT_BYTES = 64 * 1024;

/** The lines that have an end, empty ones included, and where the last of them ends. */
export function splitLines(bytes: Buffer): { readonly lines: readonly Buffer[]; readonly end: number } {
  const lines: Buffer[] = [];
  let begin = 0;
  for (let end = bytes.indexOf(LINE_BREAK); end >= 0; end = bytes.indexOf(LINE_BREAK, begin)) {
    lines.push(bytes.subarray(begin, end));
    begin = end + 1;
  }
  return { lines, end: begin };
}

/** Splits what comes piece by piece, in bounded memory. */
export class LineSplitter {
  /** Lines that have come so far, empty ones included. */
  count: number;
  /** Where the last of them ends. */
  offset: number;
  #rest: Buffer = Buffer.alloc(0);

  /** @param from - where the first piece begins: its offset, and the lines before it */
  constructor(from: { readonly offset: number; readonly lines: number } = { offset: 0, lines: 0 }) {
    this.offset = from.offset;
    this.count = from.lines;
  }

  /** The lines that end in this piece and are not empty. */
  push(piece: Buffer): readonly RawLine[] {
    const bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    const { lines, end } = splitLines(bytes);
    const found: RawLine[] = [];
    for (const line of lines) {
      this.count += 1;
      if (line.length > 0) found.push({ number: this.count, bytes: line });
    }
    this.#rest = bytes.subarray(end);
    this.offset += end;
    if (this.#rest.length > MOST_LINE_BYTES) {
      // Nothing that the gateway wrote.
      this.offset += this.#rest.length;
      found.push({ number: this.count + 1, bytes: this.#rest });
      this.#rest = Buffer.alloc(0);
    }
    return found;
  }

  /** What stands after the last line break, if anything. */
  end(): RawLine | undefined {
    return this.#rest.length === 0 ? undefined : { number: this.count + 1, bytes: this.#rest };
  }
}

/** A line's object, undefined when it is torn, or so long that no gateway wrote it. */
export function parseLine(bytes: Buffer): Readonly<Record<string, unknown>> | undefined {
  return bytes.length > MOST_EVENT_BYTES ? undefined : parseJson(bytes.toString());
}
