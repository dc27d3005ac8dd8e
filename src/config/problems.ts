/**
 * What is wrong in a config file, where in it, and how that is reported: one error for the whole file, one line for each problem.
 */
import { GatewayError } from '../core/errors.ts';
import { isPrintable, printableJson } from '../core/printable.ts';

/** The way from the file's root to a value: keys of sections and indexes of lists. */
export type Path = readonly (string | number)[];

/** One thing that is wrong in a config file. */
export interface Problem {
  /** Absolute path of the file of `clientsDirectory` that it is in; undefined for the config's own. */
  readonly file?: string;
  /** As `clients.appsrv.keys[0]`; empty for what concerns the file as a whole. */
  readonly path: string;
  /** Where it stands in the file; both count from 1, columns in characters. */
  readonly line: number;
  readonly column: number;
  /** One plain line that says what is wrong and what to do; it never repeats a value of the file. */
  readonly message: string;
}

/** How many problems are reported at most: a wrong file may have any number. */
const MOST_REPORTED = 100;

/** A config file that says something wrong. Its message has one line for each problem: `FILE:LINE:COLUMN: PATH: MESSAGE`. */
export class ConfigError extends GatewayError {
  readonly problems: readonly Problem[];

  constructor(file: string, problems: readonly Problem[], cause?: unknown) {
    const lines = problems.slice(0, MOST_REPORTED).map((problem) => {
      const { path, line, column, message } = problem;
      return `${problem.file ?? file}:${line}:${column}: ${path === '' ? '' : `${path}: `}${message}`;
    });
    if (problems.length > MOST_REPORTED) lines.push(`${file}: and ${problems.length - MOST_REPORTED} problems more`);
    super('invalid-config', { detail: lines.join('\n'), cause });
    this.problems = problems;
  }
}

/** A value of the config that is not what it should be. @param detail - one plain line, without the value */
export function invalid(detail: string): GatewayError {
  return new GatewayError('invalid-config', { detail });
}

/** The path as people write it; a key of unusual characters is quoted, so that the line stays one line. */
export function formatPath(path: Path): string {
  return path.reduce<string>((before, step) => {
    if (typeof step === 'number') return `${before}[${step}]`;
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(step)) return `${before}[${quote(step)}]`;
    return before === '' ? step : `${before}.${step}`;
  }, '');
}

/** Whether a text holds what could start a line or hide on it: control characters, line separators, marks of direction. */
export function hasControls(text: string): boolean {
  return !isPrintable(text);
}

/** A name of the file's own, which may be anything, as one short word without control characters. */
export function quote(name: string): string {
  return printableJson(JSON.stringify(name.slice(0, 64)));
}

/** `; did you mean "x"?` for the known word that is nearest to `word`, or nothing when none is near. */
export function didYouMean(word: string, known: Iterable<string>): string {
  // A word that is long is no slip of the fingers, and measuring it would cost.
  if (word.length > 64) return '';
  let best: string | undefined;
  let least = Math.min(3, Math.max(1, Math.floor(word.length / 3))) + 1;
  for (const candidate of known) {
    const distance = editDistance(fold(word), fold(candidate));
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best === undefined ? '' : `; did you mean ${quote(best)}?`;
}

/** A name that nothing in the config has. @param known - what it has, by name */
export function noSuch(what: 'client' | 'store' | 'target', name: string, known: object, file: string): GatewayError {
  const names = Object.keys(known);
  const few = names.length > MOST_NAMED ? `; it has ${names.length}` : `; it has: ${names.join(', ')}`;
  const meant = didYouMean(name, names) || (names.length === 0 ? '; it has none' : few);
  return new GatewayError('usage', { detail: `there is no ${what} ${name.slice(0, 64)} in ${file}${meant}` });
}

/** More names than this are no help. */
const MOST_NAMED = 8;

// `host-keys`, `host_keys` and `hostkeys` are all near to `hostKeys`.
function fold(word: string): string {
  return word.toLowerCase().replace(/[-_ ]/g, '');
}

/** Insertions, deletions, replacements and swaps of neighbours that lead from `a` to `b` (optimal string alignment). */
function editDistance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number): number => rows[row]?.[column] ?? Infinity;
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      row.push(
        Math.min(
          at(i - 1, j) + 1,
          at(i, j - 1) + 1,
          at(i - 1, j - 1) + same,
          swapped ? at(i - 2, j - 2) + 1 : Infinity,
        ),
      );
    }
  }
  return at(a.length, b.length);
}
