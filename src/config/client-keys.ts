/** The keys of a client's entry, one by one, as the schema says them: what `client set` takes, and `client add` as options. */
import { invalid } from './problems.ts';
import { clientSchema } from './schema.ts';
import type { KeyInfo } from './words.ts';
import { yamlLibrary } from './yaml-library.ts';

/** A key that has a value of its own, or several: `['bandwidth', 'upload']`. */
export interface ClientKey {
  readonly path: readonly string[];
  readonly takes: 'boolean' | 'list' | 'value';
  /** The only values, where they are few. */
  readonly words: readonly string[] | undefined;
  /** Half a sentence, without Markdown. */
  readonly about: string;
}

/** A value as it stands in YAML, where every scalar is a text. */
export type Setting = string | readonly Setting[] | { readonly [key: string]: Setting };

/** What is to become of keys: undefined removes one. */
export type Changes = ReadonlyMap<string, Setting | undefined>;

/** A part of a valibot schema, as far as it is walked here. */
interface Part {
  readonly type?: string;
  readonly pipe?: readonly Part[];
  readonly wrapped?: Part;
  readonly entries?: Readonly<Record<string, Part>>;
  readonly options?: readonly string[];
  readonly item?: Part;
  readonly metadata?: Partial<KeyInfo> & { readonly form?: string };
}

/** What of a part `pick` finds first, in it or in what it is made of. */
function find<T>(part: Part, pick: (part: Part) => T | undefined): T | undefined {
  const own = pick(part);
  if (own !== undefined) return own;
  for (const next of [...(part.wrapped === undefined ? [] : [part.wrapped]), ...(part.pipe ?? [])]) {
    const found = find(next, pick);
    if (found !== undefined) return found;
  }
  return undefined;
}

function* keysIn(entries: Readonly<Record<string, Part>>, place: readonly string[]): Generator<ClientKey> {
  for (const [name, part] of Object.entries(entries)) {
    const path = [...place, name];
    const inner = find(part, (one) => one.entries);
    if (inner !== undefined) {
      yield* keysIn(inner, path);
      continue;
    }
    const form = find(part, (one) => one.metadata?.form);
    const takes = find(part, (one) => one.item) !== undefined ? 'list' : form === BOOLEAN_FORM ? 'boolean' : 'value';
    const words = find(part, (one) => (one.type === 'picklist' ? one.options : undefined));
    yield { path, takes, words, about: plain(find(part, (one) => one.metadata?.about) ?? '') };
  }
}

/** As the schema writes what is true or false. */
const BOOLEAN_FORM = '`true`, `false`';

/** Markdown without its marks, and without what only leads elsewhere. */
function plain(markdown: string): string {
  return markdown.replace(/: \[[^\]]*\]\([^)]*\)/g, '').replaceAll('`', '');
}

/** All keys of a client, in the schema's order. */
export function clientKeys(): readonly ClientKey[] {
  return [...keysIn(find(clientSchema('/') as unknown as Part, (one) => one.entries) ?? {}, [])];
}

/**
 * Reads `key=value` words. A list is given by commas, again and again, or as YAML has it; a section by its keys (`bandwidth.upload=…`) or as
 * YAML has it. Nothing after `=` removes a key; `""` is an empty text.
 * @throws GatewayError `invalid-config` for what is no such word. Keys that there are not, and wrong values, are found with the whole file
 */
export function readChanges(words: readonly string[]): Changes {
  const lists = new Set(clientKeys().flatMap(({ path, takes }) => (takes === 'list' ? [path.join('.')] : [])));
  const changes = new Map<string, Setting | undefined>();
  for (const word of words) {
    const [, key = '', text = ''] = /^([A-Za-z][\w.-]*)=([^]*)$/.exec(word) ?? [];
    if (key === '') throw invalid(`write KEY=VALUE, such as quota=500GiB; ${JSON.stringify(word)} is no such word`);
    const known = changes.get(key);
    if (changes.has(key) && (!lists.has(key) || !Array.isArray(known))) throw invalid(`${key} is given twice`);
    const value = read(key, text, lists.has(key));
    changes.set(
      key,
      Array.isArray(known) && Array.isArray(value) ? [...(known as Setting[]), ...(value as Setting[])] : value,
    );
  }
  return changes;
}

function read(key: string, text: string, isList: boolean): Setting | undefined {
  if (text === '') return undefined;
  if (text === '""' || text === "''") return '';
  if (/^[[{]/.test(text)) {
    const document = yamlLibrary().parseDocument(text, { schema: 'failsafe' });
    if (document.errors.length === 0) return document.toJS() as Setting;
    throw invalid(
      `${key}: what begins with a bracket is a list or a section as in YAML, such as [10.0.0.0/8, 10.1.0.0/16]`,
    );
  }
  if (!isList) return text;
  // A public key has spaces, and a comment in which anything may stand.
  return /\s/.test(text) ? [text] : text.split(',').filter((item) => item !== '');
}
