/** Whether the audit is as it was written: follows the links of its lines (chain.ts) over all its files. */
import { hashLine, readLinks } from './chain.ts';
import type { Head } from './heads.ts';
import { parseLine } from './lines.ts';
import { readLines } from './read.ts';

/** A place in the audit. */
interface Position {
  readonly file: string;
  /** Counts from 1. */
  readonly line: number;
}

/** What is wrong at a place. */
interface AuditProblem extends Position {
  readonly message: string;
}

/** What was found. */
export interface AuditReport {
  readonly files: readonly string[];
  readonly lines: number;
  /** In order; the first hundred or so. Empty when the audit is as it was written. */
  readonly problems: readonly AuditProblem[];
  /** All of them. */
  readonly problemCount: number;
  /** Lines that a crash or a full disk cut off, at most 100 of them named. They count as not written. */
  readonly torn: readonly Position[];
  readonly tornCount: number;
  /** Where a line is more than a minute earlier than the one before: the clock was set back by so many ms. The first hundred. */
  readonly setBack: readonly (Position & { readonly ms: number })[];
  /** Lines at the beginning from before lines were linked. */
  readonly unlinked: number;
  /** Lines at the ends of files that no line refers to yet; of each file's last moment there may be some. */
  readonly loose: number;
  /** Whether the first file says that it continues one that was not among these. */
  readonly continues: boolean;
  /** Whether the ends were compared with what this host's processes have noted. */
  readonly endChecked: boolean;
}

const MOST_REPORTED = 100;
/** Lines of several writers, or of one that waited for its disk, may be out of the order of their times by less. */
const SET_BACK_MS = 60_000;
/** How many lines back a link may go: far more than are written between a writer's look at the file and its write. */
const WINDOW = 100_000;
/** As many of each file are kept for the links of the files after it, and for copies of lines there. */
const TAIL = 16_384;
/** Of files further back than this, only as many as a writer that was idle since then may refer to. */
const NEAR_FILES = 8;
const FAR_TAIL = 1024;

/** Hears how many lines more were read, and the number of their file, from 1. */
type Saw = (lines: number, file: number) => void;

async function* seen<T>(groups: AsyncIterable<readonly T[]>, file: number, saw: Saw | undefined) {
  for await (const group of groups) {
    saw?.(group.length, file);
    yield group;
  }
}

/**
 * Reads files in this order, in bounded memory.
 * @param saw - hears how far it is
 * @param heads - lines that must be there, unless they are older than all; undefined when that is not known
 * @throws GatewayError `audit-unavailable` when one cannot be read
 */
export async function verifyAudit(files: readonly string[], heads?: readonly Head[], saw?: Saw): Promise<AuditReport> {
  const problems: AuditProblem[] = [];
  const torn: Position[] = [];
  const missing = new Map(heads?.map((head) => [head.hash, head]));
  const tails = createTails();
  let [lines, problemCount, tornCount, unlinked, loose] = [0, 0, 0, 0, 0];
  let continues = false;
  let linked = false;
  let firstTime: string | undefined;
  let time: number | undefined;
  const setBack: (Position & { readonly ms: number })[] = [];
  let last: Position | undefined;

  const wrong = (file: string, line: number, message: string): void => {
    problemCount += 1;
    // What is found later may stand earlier.
    if (problems.length < 10 * MOST_REPORTED) problems.push({ file, line, message });
  };

  for (const [index, file] of files.entries()) {
    /** The latest lines of this file by hash, with their numbers. */
    const known = new Map<string, number>();
    /** Those that nothing refers to so far. */
    const open = new Map<string, number>();
    /** Its first line with links, and whether any refers to the files before. */
    let first: number | undefined;
    let joins = index === 0 || !linked;
    for await (const group of seen(readLines(file), index + 1, saw))
      for (const { number, bytes } of group) {
        lines += 1;
        last = { file, line: number };
        const hash = hashLine(bytes);
        missing.delete(hash);
        const event = parseLine(bytes);
        if (event === undefined) {
          known.set(hash, number);
          tornCount += 1;
          if (torn.length < MOST_REPORTED) torn.push({ file, line: number });
          continue;
        }
        if (known.has(hash) || tails.has(hash)) {
          wrong(file, number, 'it is a copy of an earlier line');
          continue;
        }
        known.set(hash, number);
        if (known.size > WINDOW) known.delete(known.keys().next().value ?? '');
        if (typeof event['time'] === 'string') {
          firstTime ??= event['time'];
          const here = Date.parse(event['time']);
          const ms = (time ?? here) - here;
          if (ms > SET_BACK_MS && setBack.length < MOST_REPORTED) setBack.push({ file, line: number, ms });
          time = here;
        }
        const links = readLinks(bytes);
        if (links === undefined) {
          if (linked || first !== undefined)
            wrong(file, number, 'it has no links: it was changed or inserted, or an older version wrote it');
          else {
            unlinked += 1;
            // The last one stands for all.
            open.clear();
            open.set(hash, number);
          }
          continue;
        }
        let seen = 0;
        let lost = false;
        for (const one of links.prev) {
          open.delete(one);
          const at = known.get(one);
          if (at === undefined) lost = true;
          else if (!links.joined) seen = Math.max(seen, at);
        }
        if (lost) wrong(file, number, 'a line that it refers to is not there: it was changed, removed or moved');
        joins ||= links.prior.some((one) => tails.has(one));
        if (links.prior.some((one) => !tails.has(one) && !known.has(one)))
          // A writer that was idle for long may know no more than a file that is older than all of these.
          if (index === 0 || continues) continues = true;
          else wrong(file, number, 'a line of an older file that it refers to is not there: it was changed or removed');
        first ??= number;
        // Whoever refers to a line has read the file up to there, and would have referred to whatever was open before it.
        for (const [one, at] of open) {
          if (at >= seen) break;
          open.delete(one);
          wrong(file, at, 'no later line refers to it: it was changed, moved or inserted');
        }
        open.set(hash, number);
      }
    linked ||= first !== undefined;
    if (first !== undefined && !joins)
      wrong(file, first, 'none of its lines refers to the file before it: that one was changed or removed');
    loose += Math.max(0, open.size - 1);
    tails.add([...known.keys()]);
  }

  const notFound = [...missing.values()].map((head) => head.time).sort();
  const newest = notFound.at(-1);
  if (last !== undefined)
    for (const noted of cutOff(notFound, firstTime))
      wrong(
        last.file,
        last.line,
        `the line that a process wrote at ${noted} is not there: the end was cut off or changed`,
      );
  else if (newest !== undefined)
    wrong(files[0] ?? 'audit', 1, `no line is there, and a process wrote one at ${newest}: all of it was removed`);
  return {
    files,
    lines,
    problems: inOrder(files, problems).slice(0, MOST_REPORTED),
    problemCount,
    torn,
    tornCount,
    setBack,
    unlinked,
    loose,
    continues,
    endChecked: heads !== undefined,
  };
}

/**
 * Of the times at which lines were noted that are not there, those that tell of an end that was cut off. A note of a time to come is from before
 * the clock was set back; what it is of may have been rotated away long since.
 */
function cutOff(noted: readonly string[], firstTime: string | undefined): readonly string[] {
  const now = new Date().toISOString();
  return noted.filter((time) => firstTime !== undefined && time >= firstTime && time <= now);
}

/** The last lines of the files before, by hash: more of the nearest ones. */
function createTails(): { has(hash: string): boolean; add(file: readonly string[]): void } {
  const tails = new Set<string>();
  const near: string[][] = [];
  return {
    has: (hash) => tails.has(hash),
    add: (file) => {
      const tail = file.slice(-TAIL);
      for (const hash of tail) tails.add(hash);
      near.push(tail);
      if (near.length > NEAR_FILES) for (const hash of near.shift()?.slice(0, -FAR_TAIL) ?? []) tails.delete(hash);
    },
  };
}

function inOrder(files: readonly string[], problems: readonly AuditProblem[]): readonly AuditProblem[] {
  const rank = new Map(files.map((file, index) => [file, index]));
  return problems.toSorted((a, b) => (rank.get(a.file) ?? 0) - (rank.get(b.file) ?? 0) || a.line - b.line);
}
