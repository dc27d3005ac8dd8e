/** How far a command is: a line on stderr that is written over again and again, where that is a terminal and it takes longer than a moment. */
import type { RepositoryMaintenance } from '../ports/repository-maintenance.ts';
import { beforeWords } from './failure.ts';
import { saysOwn } from './own-words.ts';
import { formatDuration, printable, terminalWidth } from './terminal.ts';
import { fitted } from './text.ts';

const FIRST_MS = 2000;
const SHOW_MS = 250;

let hide = (): void => undefined;

/** Takes the line away that is shown, where words are to stand; it comes back below them. */
export function makeRoom(): void {
  hide();
}

/** A line of progress. */
export interface Progress {
  /** Shows it once it is time to, and keeps it up. @param text - one line; only then is it asked for */
  readonly show: (text: () => string) => void;
  /** Takes it away, before anything else is printed, until something is shown again. */
  readonly clear: () => void;
}

/**
 * Nothing is shown with `--quiet` or `--json`, nor where nobody sits.
 * @param waiting - what is shown, with the time that it takes, until something else is: half a sentence
 */
export function openProgress(waiting: string): Progress {
  const { stderr } = process;
  if (!stderr.isTTY || saysOwn('--quiet', '-q', '--json', '--nagios'))
    return { show: () => undefined, clear: () => undefined };
  const began = performance.now();
  let next = began + FIRST_MS;
  let isShown = false;
  let text: (() => string) | undefined;
  let timer: NodeJS.Timeout | undefined;
  const paint = (): void => {
    const now = performance.now();
    if (text === undefined || now < next) return;
    next = now + SHOW_MS;
    isShown = true;
    // In the last column some terminals would begin a new line.
    stderr.write(`\r\u001b[K${fitted(printable(text()), (terminalWidth(stderr) ?? 80) - 1, 'end')}`);
  };
  const show = (line: () => string): void => {
    text = line;
    // Whatever waits for one answer shows that it does; and what never waits comes to no timer.
    timer ??= setInterval(paint, SHOW_MS).unref();
    paint();
  };
  const clear = (): void => {
    clearInterval(timer);
    timer = undefined;
    text = undefined;
    hide();
  };
  // The next look at the clock brings it back.
  hide = () => {
    if (isShown) stderr.write('\r\u001b[K');
    isShown = false;
  };
  beforeWords(hide);
  show(() => `${waiting}: ${formatDuration(performance.now() - began)}`);
  return { show, clear };
}

/** Prints on stdout what comes in the middle of it. */
export function print(text: string): void {
  hide();
  process.stdout.write(text);
}

/** Does work, with a line of progress meanwhile. @param waiting - as of `openProgress` */
export async function withProgress<T>(waiting: string, work: (progress: Progress) => Promise<T>): Promise<T> {
  const progress = openProgress(waiting);
  try {
    return await work(progress);
  } finally {
    progress.clear();
  }
}

/** Hears how many lines of the audit's files more were read, and of which file, from 1. */
export function linesRead({ show }: Progress, files: readonly string[]): (lines: number, file: number) => void {
  let lines = 0;
  return (more, file) => {
    lines += more;
    show(() => `audit log: ${lines} lines read, file ${file} of ${files.length}`);
  };
}

/** The same repository, of which every file that is listed, moved or removed counts. @param what - before the counts */
export function watched(maintenance: RepositoryMaintenance, what: string, { show }: Progress): RepositoryMaintenance {
  const counts = { 'looked at': 0, moved: 0, removed: 0 };
  const count = (did: keyof typeof counts, more = 1): void => {
    counts[did] += more;
    show(() => {
      const done = (['moved', 'removed'] as const).filter((one) => counts[one] > 0);
      return `${what}: ${counts['looked at']} files looked at${done.map((one) => `, ${counts[one]} ${one}`).join('')}`;
    });
  };
  const pages = async function* <T>(listed: AsyncIterable<readonly T[]>): AsyncGenerator<readonly T[]> {
    for await (const page of listed) {
      count('looked at', page.length);
      yield page;
    }
  };
  const counted = async <T>(did: keyof typeof counts, doing: Promise<T>): Promise<T> => {
    const outcome = await doing;
    count(did);
    return outcome;
  };
  const { versions } = maintenance;
  return replaced(maintenance, {
    files: (under, options) => pages(maintenance.files(under, options)),
    move: (from, to, options) => counted('moved', maintenance.move(from, to, options)),
    discard: (key, options) => counted('removed', maintenance.discard(key, options)),
    ...(versions && {
      versions: replaced(versions, {
        removed: (under, options) => pages(versions.removed(under, options)),
        bringBack: (version, options) => counted('moved', versions.bringBack(version, options)),
        discard: (version, options) => counted('removed', versions.discard(version, options)),
      }),
    }),
  });
}

/** An object with some of its methods replaced. All else is the object's own, whose class keeps to itself what it needs for that. */
function replaced<T extends object>(whole: T, parts: Partial<T>): T {
  return new Proxy(whole, {
    get: (target, name) => {
      if (Object.hasOwn(parts, name)) return Reflect.get(parts, name) as unknown;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
