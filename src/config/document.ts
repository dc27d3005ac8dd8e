/**
 * YAML text as plain values, and where in the text each of them stands. What YAML allows beyond sections, lists and words is refused.
 *
 * Source: YAML 1.2.2, failsafe schema (10.1): a scalar is the text that stands there. `0755` and `1e3` stay what was written, and the
 * config's own schema says what is a number.
 */
import type { Node, Pair, ParsedNode } from 'yaml';
import type { Path } from './problems.ts';
import { yamlLibrary } from './yaml-library.ts';

/** A value of the file. `null` is an empty value. Sections have no prototype. */
export type YamlValue = string | null | YamlValue[] | { [key: string]: YamlValue };

/** Something wrong, by its offset in the text. */
interface PlacedProblem {
  readonly path: Path;
  readonly offset: number;
  readonly message: string;
}

/** A file's text, read. */
export interface ConfigDocument {
  /** Undefined when the text cannot be read as YAML. */
  readonly value: YamlValue | undefined;
  readonly problems: readonly PlacedProblem[];
  /** Offset of the value or the key at a path; for what is not there, of the nearest section above it. */
  offsetOf(path: Path, part: 'key' | 'value'): number;
}

/** Deeper than any key of the schema, and far from what the stack takes. */
const MOST_NESTED = 32;
const NESTED = 'nested too deeply for a config';
const TAGGED = 'tags (words that begin with "!") are not used here; remove it';

/** How many values aliases may repeat in all: enough for any list of addresses, too few for a billion laughs. */
const MOST_REPEATED = 10_000;

/**
 * Reads the text of a config file.
 * @param replace - called for each scalar value with its path, which is valid during the call; what it returns stands in its place
 */
export function readDocument(text: string, replace: (value: string, path: Path) => string): ConfigDocument {
  const { isAlias, isMap, isScalar, isSeq, parseDocument } = yamlLibrary();
  // Duplicate keys are found here, because the library compares every key with every other one.
  const document = parseDocument(text, { schema: 'failsafe', uniqueKeys: false, prettyErrors: false });
  if (document.errors.length > 0)
    return { value: undefined, problems: syntaxProblems(text, document.errors), offsetOf: () => 0 };

  const root = document.contents;
  const problems: PlacedProblem[] = [];
  const anchors = new Map<string, Node>();
  const targets = new Map<Node, Node>();
  const path: (string | number)[] = [];
  let repeating = 0;
  let repeated = 0;

  const problem = (node: Node, message: string): void => {
    problems.push({ path: [...path], offset: startOf(node), message });
  };

  const read = (node: Node): YamlValue => {
    if (repeating > 0 && ++repeated > MOST_REPEATED) return null;
    if (isAlias(node)) return readAlias(node, node.source);
    const { tag } = node as { tag?: string };
    if (tag !== undefined) problem(node, TAGGED);
    const nested = path.length > MOST_NESTED;
    if (nested) problem(node, NESTED);
    const value = nested ? null : readContent(node);
    // Known from here on only, so that nothing can contain itself.
    const { anchor } = node as { anchor?: string };
    if (anchor !== undefined && repeating === 0) anchors.set(anchor, node);
    return value;
  };

  const readAlias = (node: Node, name: string): YamlValue => {
    const target = targets.get(node) ?? anchors.get(name);
    if (target === undefined) {
      problem(node, 'there is nothing before this that the alias (a word that begins with "*") could stand for');
      return null;
    }
    targets.set(node, target);
    const before = repeated;
    repeating++;
    const value = read(target);
    repeating--;
    if (repeating === 0 && before <= MOST_REPEATED && repeated > MOST_REPEATED)
      problem(node, `aliases repeat more than ${MOST_REPEATED} values; write them out`);
    return value;
  };

  const readContent = (node: Node): YamlValue => {
    if (isMap(node)) return readSection(node.items as Pair<Node, Node | null>[]);
    if (isSeq(node))
      return node.items.map((item, index) => {
        path.push(index);
        const value = read(item as Node);
        path.pop();
        return value;
      });
    // In the failsafe schema a scalar that is left out is an empty one.
    const value = isScalar(node) ? String(node.value) : '';
    if (isScalar(node) && node.type === 'PLAIN' && /^(?:null|Null|NULL|~)?$/.test(value)) return null;
    return replace(value, path);
  };

  const readSection = (items: readonly Pair<Node, Node | null>[]): YamlValue => {
    const section = Object.create(null) as Record<string, YamlValue>;
    const firsts = new Map<string, Node>();
    for (const { key, value } of items) {
      if (!isScalar(key)) {
        problem(key, 'a key must be a plain word');
        continue;
      }
      const name = String(key.value);
      path.push(name);
      const first = firsts.get(name);
      // Nothing after this sees such a name, so that no look-up in any object can mistake it for what every object has.
      if (name in Object.prototype || name === 'prototype' || name === '') problem(key, 'this name cannot be used');
      else if (first !== undefined)
        problem(key, `stands here twice; the first is on line ${lineAndColumn(text, startOf(first)).line}`);
      else {
        firsts.set(name, key);
        section[name] = value === null ? null : read(value);
      }
      path.pop();
    }
    return section;
  };

  const value = root === null ? null : read(root);
  return {
    value: repeated > MOST_REPEATED ? undefined : value,
    problems,
    offsetOf: (wanted, part) => offsetOf(root, targets, wanted, part),
  };
}

function syntaxProblems(
  text: string,
  errors: readonly { readonly code: string; readonly pos: [number, number]; readonly message: string }[],
): PlacedProblem[] {
  const spaces = specialSpaces(text);
  if (spaces.length > 0) return [...spaces];
  const bare = errors.find(({ pos: [offset] }) => text[offset] === '{' && text[offset - 1] === '$');
  if (bare !== undefined)
    return [{ path: [], offset: bare.pos[0] - 1, message: 'a ${…} inside of { } needs quotes: "${NAME}"' }];
  // One slip makes several errors; the first of a line is the one that helps.
  const lines = new Set<number>();
  return errors.flatMap(({ code, pos: [offset], message }) => {
    const { line } = lineAndColumn(text, offset);
    if (lines.has(line)) return [];
    lines.add(line);
    return [{ path: [], offset, message: explain(code, message, text, offset) }];
  });
}

/** Where YAML wants a space, after the start of a line or a sign, and there is what only looks like one. */
const SPECIAL_SPACE = /(?:^ *(?:- )?|^[^#"']*[:,{[-] *)[\u00a0\u1680\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff]/;
/** As many as help. */
const MOST_SPACES = 5;

/** What editors, web pages and chats put in the place of spaces, which is a letter to YAML: the first in each line. */
export function specialSpaces(text: string): readonly PlacedProblem[] {
  const problems: PlacedProblem[] = [];
  let start = text.startsWith('\ufeff') ? 1 : 0;
  for (const line of text.slice(start).split('\n')) {
    const found = SPECIAL_SPACE.exec(line)?.[0];
    if (found !== undefined && problems.length < MOST_SPACES)
      problems.push({
        path: [],
        offset: start + found.length - 1,
        message: 'this is a no-break or another special space, which YAML takes for a letter; type a plain one',
      });
    start += line.length + 1;
  }
  return problems;
}

function explain(code: string, message: string, text: string, offset: number): string {
  switch (code) {
    case 'MULTIPLE_DOCS':
      return 'a second document begins here; a config is one document';
    case 'RESOURCE_EXHAUSTION':
      return NESTED;
    case 'TAG_RESOLVE_FAILED':
      return TAGGED;
    case 'TAB_AS_INDENT':
      return 'tabs cannot indent in YAML; use spaces';
    case 'BAD_DQ_ESCAPE':
      return 'a backslash in double quotes begins an escape, and there is none like this; use single quotes';
    default: {
      const line = text.slice(text.lastIndexOf('\n', offset - 1) + 1, offset);
      if (/^\s*listen:\s*\[[^"']*\]$/.test(line)) return 'an address in brackets needs quotes: listen: "[::]:2222"';
      // What follows a colon in the library's messages is what stands in the file.
      return `not valid YAML: ${message.replace(/(?<=\S): .*$/s, '')}`;
    }
  }
}

function offsetOf(root: ParsedNode | null, targets: Map<Node, Node>, path: Path, part: 'key' | 'value'): number {
  const { isMap, isScalar, isSeq } = yamlLibrary();
  let node: Node | null = root;
  let offset = root === null ? 0 : startOf(root);
  for (const [depth, step] of path.entries()) {
    node = (node && targets.get(node)) ?? node;
    if (isMap(node)) {
      const pair = (node.items as Pair<Node, Node | null>[]).find(
        ({ key }) => isScalar(key) && String(key.value) === step,
      );
      if (pair === undefined) return offset;
      node = pair.value;
      const wantsKey = part === 'key' && depth === path.length - 1;
      // While there is more of the path, the key is what to point at should the rest be missing.
      offset = startOf(depth < path.length - 1 || wantsKey || node === null || isEmpty(node) ? pair.key : node);
    } else if (isSeq(node) && typeof step === 'number' && node.items[step] !== undefined) {
      node = node.items[step] as Node;
      offset = startOf(node);
    } else return offset;
  }
  return offset;
}

function startOf(node: Node): number {
  return node.range?.[0] ?? 0;
}

function isEmpty(node: Node): boolean {
  return node.range?.[0] === node.range?.[1];
}

/** Where an offset lies; both count from 1, columns in characters. */
export function lineAndColumn(text: string, offset: number): { readonly line: number; readonly column: number } {
  const before = text.slice(0, offset).split('\n');
  return { line: before.length, column: Array.from(before.at(-1) ?? '').length + 1 };
}
