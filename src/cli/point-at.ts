/** What is wrong in a config, each with its line of the file and a caret under the place. */
import type { Problem } from '../config/problems.ts';
import { isPrintable } from '../core/printable.ts';

/** How much of a long line is shown, in characters. */
const MOST_SHOWN = 100;
/** A key or a line by which a secret may stand. */
const SECRET = /secret|password|passphrase|token|private/i;

/**
 * The line that a problem is on, and a caret below the place; two lines, each indented, or nothing where a secret may be near.
 * @param lines - the file's
 */
export function pointAt(lines: readonly string[], { path, line, column }: Problem): readonly string[] {
  const text = lines[line - 1];
  if (text === undefined || text.trim() === '') return [];
  // A secret on a line of its own has its key above it.
  const above = lines.slice(0, line - 1).findLast((one) => one.trim() !== '') ?? '';
  if ([path, text, above].some((one) => SECRET.test(one))) return [];
  const characters = Array.from(text, (character) => (isPrintable(character) ? character : ' '));
  // What is long and has no words may be a secret that stands in a wrong place.
  const shown = characters.join('').replace(/[A-Za-z0-9+/=]{32,}/g, (word) => '*'.repeat(word.length));
  const start = column > MOST_SHOWN - 20 ? column - MOST_SHOWN / 2 : 0;
  const part = Array.from(shown)
    .slice(start, start + MOST_SHOWN)
    .join('')
    .trimEnd();
  return [`    ${part}`, `    ${' '.repeat(Math.max(0, column - 1 - start))}^`];
}
