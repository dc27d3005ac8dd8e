/**
 * Where the entry of each client stands in a plain text, by lines: what changes one of thousands then reads and writes that one alone.
 *
 * It goes by what `readSimpleDocument` accepts, where an entry is the line of its name and the deeper ones after it. Other texts are changed
 * by the YAML library.
 */

/** A part of a text, by offsets. */
interface Block {
  readonly start: number;
  readonly end: number;
}

/** A part of a text, and what comes in its place. */
export interface Splice extends Block {
  readonly text: string;
}

/** The entries of `clients` in a text. */
interface ClientBlocks {
  /** Whole lines, line break included, from the name to the last one that holds more than a comment. */
  readonly entries: ReadonlyMap<string, Block>;
  /** How many spaces stand before a name. */
  readonly indent: number;
  /** What puts lines of new entries, each with its line break, after the last one. */
  readonly append: (lines: string) => readonly Splice[];
  /** What says that there are none, once the last one is gone. */
  readonly none: Splice | undefined;
}

const KEY = /^( *)([A-Za-z0-9_][A-Za-z0-9_.-]{0,63}):(?: +(.*))?$/;
const CLIENTS = /^( *)clients:( *(?:\{ *\} *)?)(?:#.*)?$/;

/**
 * @param text - one that `readSimpleDocument` reads
 * @returns undefined where `clients` is written in another way than a name in each line
 */
export function clientBlocks(text: string): ClientBlocks | undefined {
  let root: number | undefined;
  let clients: { readonly start: number; readonly end: number; readonly line: string } | undefined;
  let isInside = false;
  let indent: number | undefined;
  const entries = new Map<string, Block>();
  let open: { readonly name: string; readonly start: number } | undefined;
  let lastEnd = 0;
  for (let start = 0; start < text.length;) {
    const found = text.indexOf('\n', start);
    const end = found < 0 ? text.length : found + 1;
    const line = text.slice(start, found < 0 ? text.length : found);
    const depth = line.search(/[^ ]/);
    if (depth >= 0 && line[depth] !== '#' && !(root === undefined && line === '---')) {
      root ??= depth;
      if (depth <= root) {
        isInside = false;
        if (line.startsWith('clients:', depth)) {
          // Twice is a mistake, which is found elsewhere.
          if (clients !== undefined) return undefined;
          clients = { start, end, line };
          isInside = true;
          lastEnd = end;
        }
      } else if (isInside) {
        indent ??= depth;
        if (depth === indent) {
          const name = KEY.exec(line)?.[2];
          if (name === undefined || entries.has(name)) return undefined;
          open = { name, start };
        }
        if (depth < indent || open === undefined) return undefined;
        entries.set(open.name, { start: open.start, end });
        lastEnd = end;
      }
    }
    start = end;
  }
  return located(text, { root: root ?? 0, clients, indent, entries, lastEnd });
}

function located(
  text: string,
  {
    root,
    clients,
    indent,
    entries,
    lastEnd,
  }: {
    readonly root: number;
    readonly clients: { readonly start: number; readonly line: string } | undefined;
    readonly indent: number | undefined;
    readonly entries: ReadonlyMap<string, Block>;
    readonly lastEnd: number;
  },
): ClientBlocks | undefined {
  const broken = (at: number, lines: string): Splice => ({
    ...{ start: at, end: at },
    text: `${at > 0 && text[at - 1] !== '\n' ? '\n' : ''}${lines}`,
  });
  const one = { entries, indent: indent ?? root + 2 };
  if (clients === undefined) {
    const head = `${' '.repeat(root)}clients:\n`;
    return { ...one, append: (lines) => [broken(text.length, `${head}${lines}`)], none: undefined };
  }
  const [, before = '', braces] = CLIENTS.exec(clients.line) ?? [];
  if (braces === undefined) return undefined;
  const at = clients.start + before.length + 'clients:'.length;
  const isBraced = braces.includes('{');
  if (isBraced && entries.size > 0) return undefined;
  const unbraced: Splice[] = isBraced ? [{ start: at, end: at + braces.trimEnd().length, text: '' }] : [];
  return {
    ...one,
    append: (lines) => [...unbraced, broken(lastEnd, lines)],
    none: isBraced ? undefined : { start: at, end: at, text: ' {}' },
  };
}

/** The comments right above a line, which are about what it begins: where they start. */
export function commentsAbove(text: string, start: number, indent: number): number {
  const comment = new RegExp(`^ {${indent}}#`);
  for (let at = start; at > 0;) {
    const before = text.lastIndexOf('\n', at - 2) + 1;
    if (!comment.test(text.slice(before, at))) return at;
    at = before;
  }
  return 0;
}

/** A text with parts of it replaced, which do not overlap. */
export function spliced(text: string, splices: readonly Splice[]): string {
  const parts: string[] = [];
  let at = 0;
  for (const splice of [...splices].sort((a, b) => a.start - b.start || a.end - b.end)) {
    parts.push(text.slice(at, splice.start), splice.text);
    at = splice.end;
  }
  return [...parts, text.slice(at)].join('');
}
