/**
 * The short way through a config file, for the plain YAML that almost every config is. One process is started for each connection under
 * OpenSSH. To load the YAML library, in one file, and read 10 clients by it takes 32 ms more of CPU there (182 instead of 150 for
 * `authorized-keys`, the least of 50 runs in turn), linked into the bundle 15 ms more, and 0.25 ms for each further client instead of 0.04.
 *
 * It answers only where it is sure, and gives up at anything else: anchors, tags, escapes, values of several lines, and all that is
 * wrong. Where it answers, `readDocument` finds the same value and no problem; a test holds the two together on generated texts.
 */
import type { YamlValue } from './document.ts';
import type { Path } from './problems.ts';

/** Thrown and caught here: this text is not simple. */
const NOT_SIMPLE = new Error('not simple');

const KEY = /^([A-Za-z0-9_][A-Za-z0-9_.-]{0,63}):(?: +(.*))?$/;
const ITEM = /^- +(.*)$/;
/** Ends what stands before it in a line. */
const COMMENT = /^ *(?: #.*)?$/;

// Printable ASCII alone, and of the indicators only those that mean nothing where they may stand here.
const PLAIN = /^[A-Za-z0-9/._~$][ -~]*$/;
const FLOW_PLAIN = /[A-Za-z0-9/._~](?:[A-Za-z0-9 /._~+=@$*!?()<>|%^;&-]|:(?=[A-Za-z0-9/.]))*/y;
const FLOW_KEY = /([A-Za-z0-9_][A-Za-z0-9_.-]{0,63}): +/y;
const QUOTED = /"([^"\\]*)"|'([^']*)'/y;
const SPACES = / */y;

/** Deeper than any key of the schema. */
const MOST_NESTED = 8;

interface Line {
  readonly indent: number;
  readonly text: string;
}

/**
 * Reads a text as `readDocument` does.
 * @param replace - as there
 * @returns the value, or undefined where the long way has to be taken
 */
export function readSimpleDocument(
  text: string,
  replace: (value: string, path: Path) => string,
): YamlValue | undefined {
  // Line ends other than "\n", tabs, and whatever else could be taken for white space by the one and not by the other.
  if (/[^\n\x20-\x7e\u00a1-\u1fff\u2010-\u2027\u2030-\ud7ff]/.test(text)) return undefined;
  try {
    return readLines(significantLines(text), replace);
  } catch (error) {
    if (error === NOT_SIMPLE) return undefined;
    throw error;
  }
}

/** The lines that hold more than a comment. */
function significantLines(text: string): Line[] {
  const lines: Line[] = [];
  for (let start = 0; start < text.length;) {
    const end = text.indexOf('\n', start);
    const stop = end < 0 ? text.length : end;
    let first = start;
    while (first < stop && text[first] === ' ') first++;
    if (first < stop && text[first] !== '#') lines.push({ indent: first - start, text: text.slice(first, stop) });
    start = stop + 1;
  }
  return lines;
}

function readLines(lines: readonly Line[], replace: (value: string, path: Path) => string): YamlValue {
  const path: (string | number)[] = [];
  let at = 0;

  const section = (indent: number): YamlValue => {
    const result = Object.create(null) as Record<string, YamlValue>;
    for (let line = lines[at]; line !== undefined && line.indent >= indent; line = lines[at]) {
      const [, key = '', rest = ''] = (line.indent === indent && KEY.exec(line.text)) || [];
      claim(result, key);
      path.push(key);
      at++;
      result[key] = COMMENT.test(` ${rest}`) ? below(indent) : inline(rest);
      path.pop();
    }
    return result;
  };

  /** What stands in the lines after a key that has nothing beside it. */
  const below = (indent: number): YamlValue => {
    const next = lines[at];
    // The items of a list may stand below the first letter of their key.
    if (next !== undefined && next.indent >= indent && ITEM.test(next.text)) return list(next.indent);
    if (next === undefined || next.indent <= indent) return null;
    if (path.length > MOST_NESTED) throw NOT_SIMPLE;
    return section(next.indent);
  };

  // Whatever comes after the last item is no key of the section around it either, unless it is the next one.
  const list = (indent: number): YamlValue => {
    const result: YamlValue[] = [];
    for (let line = lines[at]; line?.indent === indent; line = lines[at]) {
      const match = ITEM.exec(line.text);
      if (match === null) break;
      path.push(result.length);
      at++;
      result.push(inline(match[1] ?? ''));
      path.pop();
    }
    return result;
  };

  /** A value that stands whole in its line. A deeper line after it, which would belong to it, is no key of any section. */
  const inline = (rest: string): YamlValue => {
    if (!/^[[{"']/.test(rest)) return plain(rest.replace(/ +(?:#.*)?$/, ''));
    const cursor: Cursor = { text: rest, at: 0 };
    const value = flow(cursor);
    if (!COMMENT.test(rest.slice(cursor.at))) throw NOT_SIMPLE;
    return value;
  };

  const plain = (text: string): YamlValue => {
    if (!PLAIN.test(text) || text.includes(': ') || text.includes(' #') || text.endsWith(':')) throw NOT_SIMPLE;
    return scalar(text);
  };

  const scalar = (text: string): YamlValue =>
    text === '~' || text === 'null' || text === 'Null' || text === 'NULL' ? null : replace(text, path);

  const flow = (cursor: Cursor): YamlValue => {
    if (path.length > MOST_NESTED) throw NOT_SIMPLE;
    const first = cursor.text[cursor.at];
    if (first === '[') return flowList(cursor);
    if (first === '{') return flowSection(cursor);
    if (first === '"' || first === "'") return replace(quoted(cursor), path);
    return scalar(take(cursor, FLOW_PLAIN)[0].trimEnd());
  };

  const flowList = (cursor: Cursor): YamlValue => {
    const result: YamlValue[] = [];
    for (let more = open(cursor, ']'); more; more = next(cursor, ']')) {
      path.push(result.length);
      result.push(flow(cursor));
      path.pop();
    }
    return result;
  };

  const flowSection = (cursor: Cursor): YamlValue => {
    const result = Object.create(null) as Record<string, YamlValue>;
    for (let more = open(cursor, '}'); more; more = next(cursor, '}')) {
      const key = take(cursor, FLOW_KEY)[1] ?? '';
      claim(result, key);
      path.push(key);
      result[key] = flow(cursor);
      path.pop();
    }
    return result;
  };

  if (lines[0]?.text === '---' && lines[0].indent === 0) at++;
  const first = lines[at];
  if (first === undefined) throw NOT_SIMPLE;
  const root = section(first.indent);
  if (at < lines.length) throw NOT_SIMPLE;
  return root;
}

interface Cursor {
  readonly text: string;
  at: number;
}

/** What the pattern, which is sticky, matches here. */
function take(cursor: Cursor, pattern: RegExp): RegExpExecArray {
  pattern.lastIndex = cursor.at;
  const match = pattern.exec(cursor.text);
  if (match === null) throw NOT_SIMPLE;
  cursor.at = pattern.lastIndex;
  return match;
}

function quoted(cursor: Cursor): string {
  const [, double, single = ''] = take(cursor, QUOTED);
  return double ?? single;
}

/** Steps into a list or section. @returns whether there is anything in it */
function open(cursor: Cursor, end: ']' | '}'): boolean {
  cursor.at++;
  return !closes(cursor, end);
}

/** Steps to the next item. @returns whether there is one */
function next(cursor: Cursor, end: ']' | '}'): boolean {
  if (closes(cursor, end)) return false;
  if (cursor.text[cursor.at] !== ',') throw NOT_SIMPLE;
  cursor.at++;
  return !closes(cursor, end);
}

function closes(cursor: Cursor, end: ']' | '}'): boolean {
  take(cursor, SPACES);
  if (cursor.text[cursor.at] !== end) return false;
  cursor.at++;
  return true;
}

/** The key is new, and none that every object has. */
function claim(section: object, key: string): void {
  if (key === '' || key === 'prototype' || key in Object.prototype || key in section) throw NOT_SIMPLE;
}
