/** Text on a terminal: how many columns it takes, cut and wrapped to fit. What is given is printable (src/core/printable.ts) already. */
import { eastAsianWidth } from 'get-east-asian-width';

const PLAIN = /^[ -~]*$/;
const SEGMENTER = new Intl.Segmenter(undefined, { granularity: 'grapheme' });
/** What makes a character be drawn as a picture, which is two columns wide. */
const PICTURE = /\p{Emoji_Presentation}|\ufe0f/u;
const NO_WIDTH = /[\p{Mn}\p{Me}\p{Default_Ignorable_Code_Point}]/u;

/** How many columns a text takes. A character of ambiguous width (UAX #11) counts as narrow, as nearly all terminals have it. */
export function textWidth(text: string): number {
  return PLAIN.test(text) ? text.length : pieces(text).reduce((sum, { width }) => sum + width, 0);
}

interface Piece {
  readonly text: string;
  readonly width: number;
}

/** The characters as people count them, each with its columns. */
function pieces(text: string): readonly Piece[] {
  return Array.from(SEGMENTER.segment(text), ({ segment }) => ({ text: segment, width: widthOf(segment) }));
}

/** As wcwidth(3) has it: most terminals add up what a character is made of, and where others do not, some columns stay empty. */
function widthOf(segment: string): number {
  let width = 0;
  for (const part of segment) if (!NO_WIDTH.test(part)) width += eastAsianWidth(part.codePointAt(0) ?? 0);
  return PICTURE.test(segment) ? Math.max(2, width) : width;
}

/** The text, or what of it fits into so many columns with a `…` in its middle (names) or at its end. */
export function fitted(text: string, width: number, at: 'middle' | 'end'): string {
  if (textWidth(text) <= width) return text;
  if (width <= 1) return width === 1 ? '…' : '';
  const all = pieces(text);
  const tail = at === 'end' ? 0 : Math.floor((width - 1) / 2);
  return `${taken(all, width - 1 - tail)}…${taken(all.toReversed(), tail, true)}`;
}

function taken(all: readonly Piece[], width: number, reversed = false): string {
  const parts: string[] = [];
  let left = width;
  for (const { text, width: columns } of all) {
    if (columns > left) break;
    left -= columns;
    parts.push(text);
  }
  return (reversed ? parts.toReversed() : parts).join('');
}

/** The text with blanks after it, so that it takes so many columns. */
export function padded(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - textWidth(text)));
}

/**
 * One line of prose as lines that fit, broken between words; a word that is longer than a line stays whole, so that it can be copied.
 * @param indent - before each line but the first
 */
export function wrapped(text: string, width: number, indent = ''): readonly string[] {
  if (textWidth(text) <= width) return [text];
  const lines: string[] = [];
  const [lead = ''] = /^ */.exec(text) ?? [];
  let line = lead;
  let isEmpty = true;
  for (const word of text.trim().split(/ +/)) {
    const longer = isEmpty ? line + word : `${line} ${word}`;
    if (!isEmpty && textWidth(longer) > width) {
      lines.push(line);
      line = `${indent}${word}`;
    } else line = longer;
    isEmpty = false;
  }
  return [...lines, line];
}
