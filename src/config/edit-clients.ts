/** Changes to the clients of a config file, with its comments and order kept, and checked as a whole before they count. */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Document, YAMLMap, YAMLSeq } from 'yaml';
import type { Changes, Setting } from './client-keys.ts';
import { clientText } from './client-text.ts';
import type { YamlValue } from './document.ts';
import { clientBlocks, commentsAbove, spliced } from './client-blocks.ts';
import { fileOfClient, parseConfig, type Known } from './load.ts';
import { ConfigError, didYouMean, invalid, quote } from './problems.ts';
import { parsePublicKey } from './public-key.ts';
import { aloneWith, createFile, removeFile, renameFile, replaceFile } from './replace-file.ts';
import { readSimpleDocument } from './simple-document.ts';
import { readConfigText } from './sources.ts';
import type { ClientConfig, GatewayConfig } from './types.ts';
import { parseName } from './values.ts';
import { yamlLibrary } from './yaml-library.ts';

/** What a new client's entry says; values as they stand in YAML, checked like the rest of the file. */
interface NewClient {
  /** Lines as in a `.pub` file. */
  readonly keys: readonly string[];
  readonly store: string;
  /** The client's name unless given. */
  readonly prefix?: string;
  /** Further keys of the entry, by their paths (`access`, `bandwidth.upload`, …), in the order in which they are to stand. */
  readonly settings: Changes;
}

/** One change to one client. */
export type ClientChange =
  | { readonly do: 'add'; readonly client: NewClient }
  | { readonly do: 'remove' | 'disable' | 'enable' }
  | { readonly do: 'rename'; readonly to: string }
  | { readonly do: 'set'; readonly changes: Changes }
  | { readonly do: 'add-key'; readonly key: string }
  /** `key`: fingerprint, comment, or the line itself. */
  | { readonly do: 'remove-key'; readonly key: string };

/** A config, and the files of `clientsDirectory` that are left out of it because they are wrong. */
interface Loaded {
  readonly config: GatewayConfig;
  readonly leftOut: readonly string[];
}

/**
 * The config for a change. What takes a client's access away goes on although files of other clients are wrong.
 * @throws GatewayError `invalid-config`
 */
export function loadForChange(file: string, change: Pick<ClientChange, 'do'>): Loaded {
  const text = readConfigText(file);
  try {
    return { config: parsed(text, file), leftOut: [] };
  } catch (error) {
    if (!(error instanceof ConfigError) || !TAKES_AWAY.has(change.do)) throw error;
    const leftOut = new Set(error.problems.map((problem) => problem.file ?? file));
    if (leftOut.has(file)) throw error;
    try {
      return { config: parsed(text, file, without([...leftOut])), leftOut: [...leftOut] };
    } catch {
      // What is wrong is wrong however one looks at it.
      throw error;
    }
  }
}

/** More problems than this are no help. */
const MOST_REPORTED = 20;

/**
 * What was read and checked, by the config's file: a change reads the config before it, again with nobody else at work, and after it. These commands
 * end soon.
 */
const knownOf = new Map<string, Known>();

function parsed(text: string, file: string, instead?: ReadonlyMap<string, string | undefined>): GatewayConfig {
  const known = knownOf.get(file) ?? { sources: new Map(), entries: new Map() };
  knownOf.set(file, known);
  return parseConfig(text, file, process.env, instead, known);
}

function isSimple(text: string): boolean {
  return readSimpleDocument(text, (value) => value) !== undefined;
}

const TAKES_AWAY: ReadonlySet<ClientChange['do']> = new Set(['disable', 'remove', 'remove-key']);

function without(files: readonly string[]): Map<string, string | undefined> {
  return new Map(files.map((one) => [one, undefined]));
}

/**
 * Makes one change in the file of the config that the client stands in. A new one gets a file of its own where there is `clientsDirectory`.
 * @param file - the config's own, an absolute path
 * @returns the config that the files now hold
 * @throws GatewayError `invalid-config` when they or what would become of them is not valid; they then stay as they are
 */
export function editClient(file: string, name: string, change: ClientChange): GatewayConfig {
  // What is wrong already is reported with its place in the file.
  const { config } = loadForChange(file, change);
  const target = targetOf(config, name, change);
  if (target !== file) return aloneWith(file, () => editClientFile(file, target, name, change));
  let after: GatewayConfig | undefined;
  replaceFile(file, (content) => {
    const { config: before, leftOut } = loadForChange(file, change);
    const text = content.toString('utf8');
    mustStandIn(target, before, name, change);
    const next = edited(text, before, name, change);
    after = checked(target, () => parsed(next, file, without(leftOut)));
    return next;
  });
  return after ?? config;
}

/** With nobody else at work. */
function editClientFile(file: string, target: string, name: string, change: ClientChange): GatewayConfig {
  const { config: before, leftOut } = loadForChange(file, change);
  mustStandIn(target, before, name, change);
  const main = readConfigText(file);
  const check = (text: string | undefined): GatewayConfig =>
    checked(target, () => parsed(main, file, new Map([...without(leftOut), [target, text]])));
  const others = Object.keys(before.clients).filter((one) => one !== name && fileOfClient(before, one) === target);
  if (change.do === 'add' && !existsSync(target)) {
    const text = edited('clients: {}\n', before, name, change);
    const after = check(text);
    createFile(target, text, file);
    return after;
  }
  if (change.do === 'remove' && others.length === 0) {
    const after = check(undefined);
    removeFile(target);
    return after;
  }
  let after = before;
  replaceFile(target, (content) => {
    const text = edited(content.toString('utf8'), before, name, change);
    after = check(text);
    return text;
  });
  if (change.do !== 'rename' || others.length > 0) return after;
  const renamed = join(dirname(target), `${change.to}.yaml`);
  if (basename(target) !== `${name}.yaml` || existsSync(renamed)) return after;
  renameFile(target, renamed);
  return loadForChange(file, change).config;
}

/** The file that a client stands in, or is to stand in. */
function targetOf(config: GatewayConfig, name: string, change: ClientChange): string {
  const { file, clientsDirectory } = config;
  if (change.do !== 'add' || config.clients[name] !== undefined) return fileOfClient(config, name);
  // A name that could lead elsewhere is refused with the whole config, and has no file.
  return clientsDirectory === undefined || !isName(name) ? file : join(clientsDirectory, `${name}.yaml`);
}

function mustStandIn(target: string, config: GatewayConfig, name: string, change: ClientChange): void {
  if (targetOf(config, name, change) !== target)
    throw invalid(`${quote(name)} has just come to stand in another file; nothing was done, so try again`);
}

/** Whether a client of this name can have a file of its name. */
export function isName(name: string): boolean {
  try {
    return parseName(name) === name && !name.startsWith('.');
  } catch {
    return false;
  }
}

/** @param words - before what would be wrong; that the file stays as it is unless given */
export function checked(
  target: string,
  parse: () => GatewayConfig,
  words = `${target} stays as it is, because this would be wrong in it`,
): GatewayConfig {
  try {
    return parse();
  } catch (error) {
    // Its lines are those of a text that nobody sees.
    if (!(error instanceof ConfigError)) throw error;
    const lines = error.problems.slice(0, MOST_REPORTED).map(({ path, message }) => `${path}: ${message}`);
    const more = error.problems.length - lines.length;
    if (more > 0) lines.push(`and ${more} problems more`);
    throw invalid(`${words}:\n  ${lines.join('\n  ')}`);
  }
}

/** The client of this name. @throws GatewayError `invalid-config` that names the nearest one */
export function clientNamed({ clients, file }: GatewayConfig, name: string): ClientConfig {
  const client = clients[name];
  if (client === undefined)
    throw invalid(`there is no client ${quote(name)} in ${file}${didYouMean(name, Object.keys(clients))}`);
  return client;
}

/**
 * The text with these entries in the place of those of the same names, or after them; undefined removes one. By the YAML library, for what
 * is too unusual to be changed by lines.
 */
export function rewriteClients(
  text: string,
  entries: ReadonlyMap<string, { readonly [key: string]: YamlValue } | undefined>,
): string {
  const { parseDocument } = yamlLibrary();
  const document = parseDocument(text, { schema: 'failsafe', uniqueKeys: false });
  const { indent, write } = writing(document, text);
  const unchanged = write();
  const clients = clientsOf(document);
  for (const [name, entry] of entries) {
    if (entry === undefined) clients.delete(name);
    else {
      const made = parseDocument(clientText(name, entry, 0, indent), { schema: 'failsafe' }).get(name, true);
      clients.set(clients.has(name) ? name : document.createNode(name), made);
    }
  }
  let changed;
  try {
    changed = write();
  } catch {
    // An alias of what is gone.
    return text;
  }
  return keepLines(text, unchanged, changed);
}

/** How a text is written that is changed by the library. */
function writing(document: Document, text: string): { readonly indent: number; readonly write: () => string } {
  const found = /^[^\s#][^\n]*:[ \t]*(?:#[^\n]*)?\r?\n(?:[ \t]*(?:#[^\n]*)?\r?\n)*( {1,8})[^\s#-]/m.exec(text)?.[1];
  const indent = found?.length ?? 2;
  return { indent, write: () => document.toString({ lineWidth: 0, indent }) };
}

function edited(text: string, before: GatewayConfig, name: string, change: ClientChange): string {
  if (change.do === 'add' && before.clients[name] !== undefined)
    throw invalid(`there is a client ${quote(name)} already; for another key of it use: client add-key`);
  if (change.do === 'rename' && before.clients[change.to] !== undefined)
    throw invalid(`there is a client ${quote(change.to)} already`);
  return editedAlone(text, before, name, change) ?? editedWhole(text, before, name, change);
}

/**
 * The change made in the lines of the one client, as if it stood alone: what it costs does not grow with the number of the others.
 * @returns undefined where the text is too unusual for that
 */
function editedAlone(text: string, before: GatewayConfig, name: string, change: ClientChange): string | undefined {
  if (!isSimple(text)) return undefined;
  const blocks = clientBlocks(text);
  if (blocks === undefined) return undefined;
  const { entries, indent, append, none } = blocks;
  // A new one looks like the one before it.
  const block = change.do === 'add' ? [...entries.values()].at(-1) : entries.get(name);
  if (block === undefined) return undefined;
  if (change.do === 'remove') {
    const start = commentsAbove(text, block.start, indent);
    const gone = { start, end: block.end, text: '' };
    return spliced(text, entries.size === 1 && none !== undefined ? [gone, none] : [gone]);
  }
  const own = text.slice(block.start, block.end);
  const alone = `clients:\n${own.endsWith('\n') ? own : `${own}\n`}`;
  const after = editedWhole(alone, before, name, change);
  if (change.do !== 'add')
    return after.startsWith('clients:\n')
      ? spliced(text, [{ start: block.start, end: block.end, text: after.slice('clients:\n'.length) }])
      : undefined;
  return after.startsWith(alone) ? spliced(text, append(after.slice(alone.length))) : undefined;
}

function editedWhole(text: string, before: GatewayConfig, name: string, change: ClientChange): string {
  const { parseDocument } = yamlLibrary();
  const document = parseDocument(text, { schema: 'failsafe', uniqueKeys: false });
  const { write } = writing(document, text);
  const unchanged = write();
  if (change.do === 'add') {
    clientsOf(document).set(document.createNode(name), newEntry(document, name, change.client));
  } else changeEntry(document, clientNamed(before, name), change);
  return keepLines(text, unchanged, write());
}

/**
 * The library writes some things its own way (spaces in brackets, comments after a key). What the change does not touch keeps its own.
 * @param unchanged - what the library makes of `text`
 * @param changed - what it makes of it after the change
 */
function keepLines(text: string, unchanged: string, changed: string): string {
  const { parse } = yamlLibrary();
  const ending = text.includes('\r\n') ? '\r\n' : '\n';
  const linesOf = (one: string): string[] => one.replace(/\s*$/, '').split(/\r?\n/);
  const own = linesOf(text);
  const before = linesOf(unchanged);
  const after = linesOf(changed);

  const most = Math.min(before.length, after.length);
  let first = 0;
  while (first < most && before[first] === after[first]) first++;
  let last = 0;
  while (last < most - first && before.at(-1 - last) === after.at(-1 - last)) last++;
  // A place in both is known by what stands before it, spaces and line breaks left out.
  const places = new Map(inkBefore(own).map((ink, line) => [ink, line]));
  const ink = inkBefore(before);
  const placeOf = (line: number): number | undefined => places.get(ink[line] ?? -1);
  while (first > 0 && placeOf(first) === undefined) first--;
  while (last > 0 && placeOf(before.length - last) === undefined) last--;

  const head = own.slice(0, placeOf(first) ?? 0);
  const tail = last === 0 ? [] : own.slice(placeOf(before.length - last));
  const kept = [...head, ...after.slice(first, after.length - last), ...tail, ''].join(ending);
  const whole = changed.replace(/\r?\n/g, ending);
  try {
    const same = isDeepStrictEqual(parse(kept, { schema: 'failsafe' }), parse(changed, { schema: 'failsafe' }));
    return same ? kept : whole;
  } catch {
    return whole;
  }
}

/** For each line, and for the end, how many characters stand before it that are no white space. */
function inkBefore(lines: readonly string[]): number[] {
  let ink = 0;
  return [0, ...lines.map((line) => (ink += line.replace(/\s/g, '').length))];
}

function changeEntry(document: Document, client: ClientConfig, change: Exclude<ClientChange, { do: 'add' }>): void {
  const { isScalar } = yamlLibrary();
  const clients = clientsOf(document);
  const { name } = client;
  switch (change.do) {
    case 'remove':
      clients.delete(name);
      return;
    case 'disable':
      entryOf(clients, name).set('disabled', 'true');
      return;
    case 'enable':
      entryOf(clients, name).delete('disabled');
      return;
    case 'rename': {
      // Its repository stays where it is, also where the name alone says where that is.
      const repository = entryOf(clients, name).get('repository');
      if (!yamlLibrary().isMap(repository)) throw byHand(name, 'repository');
      if (!repository.has('prefix')) repository.set('prefix', client.repository.prefix);
      // So does its history.
      if (client.id === change.to) entryOf(clients, name).delete('id');
      else if (client.id === name) entryOf(clients, name).set('id', name);
      const pair = clients.items.find(({ key }) => isScalar(key) && key.value === name);
      if (pair !== undefined && isScalar(pair.key)) pair.key.value = change.to;
      return;
    }
    case 'set':
      for (const [key, value] of change.changes) setKey(document, entryOf(clients, name), { client: name, key }, value);
      return;
    case 'add-key':
      keysOf(clients, name).add(document.createNode(change.key));
      return;
    case 'remove-key': {
      const index = indexOfKey(client, change.key);
      if (client.keys.length === 1)
        throw invalid(
          `this is the last key of ${quote(name)}; add the new one first, or use: client disable, client remove`,
        );
      keysOf(clients, name).delete(index);
    }
  }
}

function newEntry(document: Document, name: string, { keys, store, prefix, settings }: NewClient): YAMLMap {
  const { YAMLMap } = yamlLibrary();
  const entry = document.createNode({
    keys,
    repository: { store, ...(prefix !== undefined && { prefix }) },
  });
  if (!(entry instanceof YAMLMap)) throw new TypeError('a section became something else');
  for (const [key, value] of settings) setKey(document, entry, { client: name, key }, value);
  const repository = entry.get('repository');
  if (repository instanceof YAMLMap) repository.flow = true;
  return entry;
}

/** Sets a key of an entry, or removes it; a section that has nothing left goes with its last key. */
function setKey(
  document: Document,
  entry: YAMLMap,
  { client, key }: { readonly client: string; readonly key: string },
  value: Setting | undefined,
): void {
  const { isMap, isScalar } = yamlLibrary();
  const [name = '', ...below] = key.split('.');
  if (below.length === 0) {
    if (value === undefined) entry.delete(name);
    else setValue(document, entry, name, value);
    return;
  }
  const found = entry.get(name, true);
  const isEmpty = found === undefined || (isScalar(found) && found.value === '');
  if (isEmpty && value === undefined) return;
  if (isEmpty) {
    const made = document.createNode({}) as YAMLMap;
    made.flow = name !== 'retention';
    entry.set(name, made);
  }
  const section = entry.get(name);
  if (!isMap(section)) throw byHand(client, name);
  setKey(document, section, { client, key: below.join('.') }, value);
  if (section.items.length === 0) entry.delete(name);
}

/** A value in the place of another keeps the comment beside it. */
function setValue(document: Document, section: YAMLMap, name: string, value: Setting): void {
  const { isScalar } = yamlLibrary();
  const before = section.get(name, true);
  if (isScalar(before) && typeof value === 'string' && (before as { anchor?: string }).anchor === undefined) {
    before.value = value;
    if (value === '') before.type = 'QUOTE_DOUBLE';
    return;
  }
  const node = document.createNode(value) as { flow?: boolean; type?: string };
  if (typeof value !== 'string') node.flow = true;
  // Nothing at all would be no value.
  else if (value === '') node.type = 'QUOTE_DOUBLE';
  section.set(name, node);
}

function clientsOf(document: Document): YAMLMap {
  const { isMap } = yamlLibrary();
  const found = document.get('clients');
  if (isMap(found)) {
    if (found.items.length === 0) found.flow = false;
    return found;
  }
  const made = document.createNode({}) as YAMLMap;
  document.set('clients', made);
  return made;
}

function entryOf(clients: YAMLMap, name: string): YAMLMap {
  const entry = clients.get(name);
  if (!yamlLibrary().isMap(entry)) throw byHand(name);
  return entry;
}

function keysOf(clients: YAMLMap, name: string): YAMLSeq {
  const keys = entryOf(clients, name).get('keys');
  if (!yamlLibrary().isSeq(keys)) throw byHand(name, 'keys');
  return keys;
}

function byHand(name: string, key?: string): Error {
  const where = key === undefined ? quote(name) : `${key} of ${quote(name)}`;
  return invalid(`${where} stands in the file as an alias (a word that begins with "*"); change it by hand`);
}

function indexOfKey({ name, keys }: ClientConfig, wanted: string): number {
  const blob = wanted.startsWith('ssh-') ? parsePublicKey(wanted).blob : undefined;
  const matches = keys.flatMap(({ fingerprint, comment, blob: own }, index) =>
    fingerprint === wanted || own === blob || (comment !== '' && comment === wanted) ? [index] : [],
  );
  const [index] = matches;
  if (index === undefined)
    throw invalid(`${quote(name)} has no such key; it has: ${keys.map((key) => key.fingerprint).join(', ')}`);
  if (matches.length > 1)
    throw invalid(`several keys of ${quote(name)} have this comment; name one by its fingerprint`);
  return index;
}
