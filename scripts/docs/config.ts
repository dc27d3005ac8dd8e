/**
 * What the schema of the config says of itself: the table of docs/reference.md, and the JSON Schema that editors check a YAML file with.
 * `npm run docs` writes both; a test holds them to the schema.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { format } from 'prettier';
import { targetSchema } from '../../src/config/notify.ts';
import { clientSchema, rootSchema, storeSchema } from '../../src/config/schema.ts';
import type { KeyInfo } from '../../src/config/words.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const REFERENCE = path.join(ROOT, 'docs/reference.md');
const JSON_SCHEMA = path.join(ROOT, 'docs/gateway.schema.json');

/** A part of a valibot schema, as far as it is walked here. */
interface Part {
  readonly kind?: string;
  readonly type?: string;
  readonly pipe?: readonly Part[];
  readonly wrapped?: Part;
  readonly default?: unknown;
  readonly entries?: Readonly<Record<string, Part>>;
  readonly options?: readonly unknown[];
  readonly item?: Part;
  readonly literal?: unknown;
  readonly metadata?: Partial<KeyInfo> & { readonly form?: string; readonly orList?: boolean };
}

/** All that is known of a key. */
interface Known {
  info: Partial<KeyInfo>;
  form: string | undefined;
  optional: boolean;
  default: unknown;
  entries: Readonly<Record<string, Part>> | undefined;
  words: readonly string[] | undefined;
  item: Part | undefined;
  /** Whether a list of such is taken, too. */
  orList: boolean;
}

function know(part: Part, known?: Known): Known {
  const found = known ?? {
    ...{ info: {}, form: undefined, optional: false, default: undefined },
    ...{ entries: undefined, words: undefined, item: undefined, orList: false },
  };
  if (part.type === 'optional' || part.type === 'exact_optional') {
    found.optional = true;
    found.default ??= part.default;
  }
  if (part.wrapped !== undefined) know(part.wrapped, found);
  if (part.entries !== undefined) found.entries = part.entries;
  if (part.item !== undefined) found.item = part.item;
  if (part.type === 'picklist') found.words = part.options as readonly string[];
  if (part.type === 'literal') found.words = [String(part.literal)];
  if (part.metadata !== undefined) {
    found.info = { ...found.info, ...part.metadata };
    found.form ??= part.metadata.form;
    found.orList ||= part.metadata.orList === true;
  }
  for (const next of part.pipe ?? []) know(next, found);
  return found;
}

/** The sections whose entries have names. */
const BY_NAME: readonly string[] = ['stores', 'clients', 'notify'];

/** Every key with its place: `stores.NAME.path`. */
function* keysBelow(entries: Readonly<Record<string, Part>>, place = ''): Generator<readonly [string, Known]> {
  for (const [name, part] of Object.entries(entries)) {
    const known = know(part);
    yield [place + name, known];
    const inner =
      place + name === 'stores'
        ? storeEntries()
        : place + name === 'clients'
          ? entriesOf(clientSchema('/'))
          : place + name === 'notify'
            ? entriesOf(targetSchema('/'))
            : known.entries;
    const named = BY_NAME.includes(place + name) ? '.NAME.' : '.';
    if (inner !== undefined) yield* keysBelow(inner, place + name + named);
  }
}

const entriesOf = (part: unknown): Readonly<Record<string, Part>> => know(part as Part).entries ?? {};

/** The kinds of stores. */
function storeKinds(): readonly Readonly<Record<string, Part>>[] {
  const variant = (storeSchema('/') as unknown as Part).pipe?.find(({ type }) => type === 'variant');
  return (variant?.options ?? []).map(entriesOf);
}

/** The keys of all kinds of stores together; `type` knows all of them. */
function storeEntries(): Readonly<Record<string, Part>> {
  const kinds = storeKinds();
  const types = kinds.flatMap((kind) => know(kind['type'] as Part).words ?? []);
  const type: Part = { type: 'picklist', options: types, metadata: know(kinds[0]?.['type'] as Part).info };
  return { ...Object.assign({}, ...kinds.toReversed()), type } as Readonly<Record<string, Part>>;
}

/** What a key takes, in Markdown. */
function formOf({ entries, item, words, form }: Known): string {
  if (entries !== undefined) return 'section';
  if (item !== undefined) return `list: ${formOf(know(item))}`;
  if (words !== undefined) return words.map((word) => `\`${word}\``).join(', ');
  return form ?? 'name';
}

function defaultOf({ info, optional, default: value, entries }: Known): string {
  if (info.unless !== undefined) return info.unless;
  if (!optional) return '';
  if (typeof value === 'string') return `\`${value}\``;
  return entries !== undefined && value !== undefined ? '' : 'none';
}

/** The table of all keys, in Markdown. */
function table(): string {
  const rows = [...keysBelow(entriesOf(rootSchema('/')))].map(([key, known]) => {
    const { about = '', restart } = known.info;
    const what = [about, ...(restart === true ? ['restart'] : [])].filter((part) => part !== '').join('; ');
    const form = BY_NAME.includes(key) ? 'section' : formOf(known);
    return `| \`${key}\` | ${form} | ${defaultOf(known)} | ${what} |`;
  });
  return ['| key | what it takes | default | what it means |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

const BEGIN = '<!-- the keys: made by `npm run docs` from src/config/schema.ts -->';
const END = '<!-- end of the keys -->';

/** docs/reference.md with the table as the schema has it. */
export async function reference(): Promise<string> {
  const text = readFileSync(REFERENCE, 'utf8');
  const [before = '', rest = ''] = text.split(BEGIN);
  const after = rest.split(END)[1] ?? '';
  return format(`${before}${BEGIN}\n\n${table()}\n\n${END}${after}`, { ...style(), parser: 'markdown' });
}

type Json = Readonly<Record<string, unknown>>;

function jsonOf(known: Known): Json {
  const { about = '' } = known.info;
  const description =
    about === '' ? {} : { description: about.replaceAll('`', '').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1') };
  if (known.entries !== undefined) return { ...description, ...objectOf(known.entries) };
  if (known.item !== undefined)
    return { ...description, type: 'array', items: jsonOf(know(known.item)), uniqueItems: true };
  if (known.words !== undefined) return { ...description, enum: known.words };
  const one = { type: ['string', 'number', 'boolean'] };
  if (known.orList)
    return { ...description, anyOf: [one, { type: 'array', items: one, minItems: 1, uniqueItems: true }] };
  return { ...description, ...one };
}

function objectOf(entries: Readonly<Record<string, Part>>): Json {
  const known = Object.entries(entries).map(([name, part]) => [name, know(part)] as const);
  return {
    type: 'object',
    properties: Object.fromEntries(known.map(([name, one]) => [name, jsonOf(one)])),
    required: known.filter(([, { optional }]) => !optional).map(([name]) => name),
    additionalProperties: false,
  };
}

/** docs/gateway.schema.json. Source: JSON Schema, draft 7, which editors know. */
export async function jsonSchema(): Promise<string> {
  const root = objectOf(entriesOf(rootSchema('/')));
  const each = (about: string, entry: Json): Json => ({
    description: about,
    type: 'object',
    additionalProperties: entry,
  });
  const properties = {
    ...(root['properties'] as Json),
    stores: each('stores by name', { oneOf: storeKinds().map(objectOf) }),
    clients: each('clients by name', objectOf(entriesOf(clientSchema('/')))),
    notify: each('whom the gateway tells of problems, by name', objectOf(entriesOf(targetSchema('/')))),
  };
  const schema = {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'gateway.yaml of restic-gateway',
    ...root,
    properties,
  };
  return format(JSON.stringify(schema), { ...style(), parser: 'json' });
}

function style(): Json {
  return JSON.parse(readFileSync(path.join(ROOT, '.prettierrc.json'), 'utf8')) as Json;
}

if (process.argv[1] === import.meta.filename) {
  writeFileSync(REFERENCE, await reference());
  writeFileSync(JSON_SCHEMA, await jsonSchema());
}
