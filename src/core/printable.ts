/**
 * Text of someone else's making, made fit for a terminal, a log and a page: the one place where that is done.
 *
 * What is taken out: all of Unicode's category C (control characters of C0 and C1, format characters such as the marks of direction, lone
 * surrogates, private and unassigned ones) and the separators of lines and paragraphs. They steer terminals, begin new lines, or have a
 * line read in another order than it is written.
 */

const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;
/** Nearly all text is ASCII, and the classes of Unicode are long. */
const PLAIN = /^[ -~]*$/;
/** The longest that anyone needs to read, in characters; beyond it, text is cut. */
const LONGEST = 2000;

/** One line of someone else's text: what is not printable is U+FFFD, and what is too long is cut, which is said. */
export function printable(text: string, longest = LONGEST): string {
  const short = text.length <= longest ? text : `${text.slice(0, longest)}… (cut from ${text.length} characters)`;
  return PLAIN.test(short) ? short : short.replace(UNPRINTABLE, '\ufffd');
}

/** The same of a text whose line breaks are one's own. */
export function printableLines(text: string): string {
  return text
    .split('\n')
    .map((line) => printable(line))
    .join('\n');
}

/** Whether a text is fit as it is, whatever its length. */
export function isPrintable(text: string): boolean {
  return PLAIN.test(text) || text.search(UNPRINTABLE) < 0;
}

/** JSON that says the same and is printable: what JSON leaves as it is in strings is escaped. Only for JSON without line breaks. */
export function printableJson(json: string): string {
  return PLAIN.test(json) ? json : json.replace(UNPRINTABLE, escaped);
}

/** One character beyond the first plane takes two escapes. */
function escaped(character: string): string {
  return character.replace(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** How deep values are looked into. */
const DEEPEST = 6;

/** A value of a log or an answer in which every text is printable, names included; what is nested absurdly deep is left out. */
export function printableValue(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return printable(value);
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= DEEPEST) return '…';
  if (Array.isArray(value)) return value.map((one) => printableValue(one, depth + 1));
  // What is no plain object (a date) knows how to say itself.
  if ('toJSON' in value && typeof value.toJSON === 'function') return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [printable(name), printableValue(one, depth + 1)]),
  );
}
