/** How far a command is: a line on stderr that is written over again and again, where that is a terminal and it takes longer than a moment. */
import type { RepositoryMaintenance } from '../ports/repository-maintenance.ts';
import { saysOwn } from './own-words.ts';
import { printable, terminalWidth } from './terminal.ts';
import { fitted } from './text.ts';

const FIRST_MS = 2000;
const SHOW_MS = 250;

/** A line of progress. */
export interface Progress {
  /** Shows it, if it is time to. @param text - one line; only then is it asked for */
  readonly show: (text: () => string) => void;
  /** Takes it away, before anything else is printed. */
  readonly clear: () => void;
}

/** Nothing is shown with `--quiet` or `--json`, nor where nobody sits. */
export function openProgress(): Progress {
  const { stderr } = process;
  if (!stderr.isTTY || saysOwn('--quiet', '-q', '--json', '--nagios'))
    return { show: () => undefined, clear: () => undefined };
  let next = performance.now() + FIRST_MS;
  let isShown = false;
  return {
    show: (text) => {
      const now = performance.now();
      if (now < next) return;
      next = now + SHOW_MS;
      isShown = true;
      // In the last column some terminals would begin a new line.
      stderr.write(`\r\u001b[K${fitted(printable(text()), (terminalWidth(stderr) ?? 80) - 1, 'end')}`);
    },
    clear: () => {
      if (isShown) stderr.write('\r\u001b[K');
      isShown = false;
    },
  };
}

/** The same repository, of which every file that is listed or moved counts. @param what - before the counts */
export function watched(maintenance: RepositoryMaintenance, what: string, { show }: Progress): RepositoryMaintenance {
  let [listed, moved] = [0, 0];
  const text = (): string => `${what}: ${listed} files looked at${moved === 0 ? '' : `, ${moved} moved`}`;
  const files: RepositoryMaintenance['files'] = async function* (under, options) {
    for await (const page of maintenance.files(under, options)) {
      listed += page.length;
      show(text);
      yield page;
    }
  };
  const move: RepositoryMaintenance['move'] = async (from, to, options) => {
    const outcome = await maintenance.move(from, to, options);
    moved += 1;
    show(text);
    return outcome;
  };
  // All else is the repository's own, whose class keeps to itself what it needs for that.
  return new Proxy(maintenance, {
    get: (target, name) => {
      if (name === 'files') return files;
      if (name === 'move') return move;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
