/** Text, and the little Markdown that docs/reference.md has, in the language of manual pages: man(7). */

const escape = (text) =>
  text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/'/g, '\\(aq')
    .replace(/`/g, '\\(ga')
    .replace(/\^/g, '\\(ha')
    .replace(/~/g, '\\(ti')
    // Whatever the locale of the reader.
    .replace(/[^\0-\x7f]/gu, (one) => `\\[u${one.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}]`);

/** A line that begins as a request of roff would be taken for one. */
const guarded = (line) => line.replace(/^[.']/, '\\&$&');

/** Text in a line. */
export const plain = (text) => guarded(escape(text));
export const bold = (text) => `\\fB${escape(text)}\\fR`;

/** An argument of a macro. */
export const argument = (text) => `"${escape(text).replaceAll('"', '\\(dq')}"`;

/** A line of Markdown: code is bold, and of a link there is its text. */
export function inline(text) {
  const words = text.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll('\\|', '|');
  const parts = words.split(/(`[^`]+`)/);
  return guarded(parts.map((part) => (/^`.+`$/.test(part) ? bold(part.slice(1, -1)) : escape(part))).join(''));
}

/** What is shown as it is. */
export const verbatim = (lines) => ['.RS 2', '.EX', ...lines.map(plain), '.EE', '.RE'];

/** The cells of a table, row by row, without its head. */
export function cells(markdown) {
  return [...markdown.matchAll(/^\|(.*)\|$/gm)]
    .slice(2)
    .map(([, row]) => row.split(/(?<!\\)\|/).map((cell) => cell.trim()));
}

/** Paragraphs, lists, tables and code. */
export function blocks(markdown) {
  const out = [];
  for (const block of markdown.trim().split(/\n{2,}(?=(?:[^`]*```[^`]*```)*(?:(?!```)[^])*$)/)) {
    const lines = block.split('\n');
    if (block.startsWith('<!--')) continue;
    if (block.startsWith('```')) out.push('.PP', ...verbatim(lines.slice(1, -1)));
    else if (block.startsWith('- '))
      for (const item of block.slice(2).split(/\n- /)) out.push('.IP \\(bu 2', inline(item.replace(/\s+/g, ' ')));
    else if (block.startsWith('|'))
      for (const [name, ...rest] of cells(block)) out.push('.TP', inline(name), inline(rest.at(-1) ?? ''));
    else out.push('.PP', inline(lines.join(' ')));
  }
  return out;
}
