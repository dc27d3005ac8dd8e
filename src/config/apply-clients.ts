/** Brings the clients of a config to what a `clients:` block says, thousands in one write: all of them, or none. */
import { readdirSync, unlinkSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { clientBlocks, commentsAbove, spliced, type Splice } from './client-blocks.ts';
import { clientText } from './client-text.ts';
import { readDocument, type YamlValue } from './document.ts';
import { checked, isName, rewriteClients } from './edit-clients.ts';
import type { RawEntry } from './given-clients.ts';
import { parseConfig } from './load.ts';
import { didYouMean, invalid, quote } from './problems.ts';
import { workAlone } from './replace-file.ts';
import { replaceFiles, type FileChange } from './replace-files.ts';
import { readSimpleDocument } from './simple-document.ts';
import { mustFit, readClientFiles, readConfigText, sourceOf } from './sources.ts';
import type { GatewayConfig } from './types.ts';
import { isSection } from './words.ts';

/** A key of an entry that is another one than before, by its path (`bandwidth.upload`); undefined where it is not there. */
interface KeyDifference {
  readonly key: string;
  readonly before: YamlValue | undefined;
  readonly after: YamlValue | undefined;
}

/** What becomes of a client. */
export interface ClientDifference {
  readonly client: string;
  readonly change: 'added' | 'changed' | 'removed';
  /** Absolute path of the file that it stands in, or is to stand in. */
  readonly file: string;
  readonly keys: readonly KeyDifference[];
}

/** What `applyClients` has done, or would do. */
interface Applied {
  readonly differences: readonly ClientDifference[];
  /** How many clients of the config stay as they are. */
  readonly unchanged: number;
  readonly config: GatewayConfig;
}

/** What an entry keeps that it does not say: who it is, and that nobody is to come in by it. */
const KEPT = ['id', 'disabled'] as const;

/** A file of the config, with `${…}` as written. */
interface Held {
  readonly file: string;
  readonly text: string;
  readonly isPlain: boolean;
  readonly raw: YamlValue;
  readonly entries: ReadonlyMap<string, RawEntry>;
}

/** The entries that are to stand in a file; undefined: not any more. */
type Edits = Map<string, RawEntry | undefined>;

/** The entries of all clients as they stand in the files, in their order. @throws GatewayError `invalid-config` when the config is not right */
export function writtenClients(file: string): ReadonlyMap<string, RawEntry> {
  parseConfig(readConfigText(file), file);
  return new Map([...readHeld(file).held.values()].flatMap(({ entries }) => [...entries]));
}

/** The entries of these clients. @param names - empty: all of them. @throws GatewayError `invalid-config` that names the nearest one */
export function chosenEntries(
  all: ReadonlyMap<string, RawEntry>,
  names: readonly string[],
): ReadonlyMap<string, RawEntry> {
  if (names.length === 0) return all;
  return new Map(
    names.map((name) => {
      const entry = all.get(name);
      if (entry === undefined) throw invalid(`there is no client ${quote(name)}${didYouMean(name, all.keys())}`);
      return [name, entry];
    }),
  );
}

/**
 * Changes those clients that are given, adds those that are new, and with `prune` removes all others. A new one stands in a file of its own where
 * there is `clientsDirectory`. An entry that does not say its `id` or `disabled` keeps them.
 * @param file - the config's own, an absolute path
 * @throws GatewayError `invalid-config` when the config that would become of it is not right; nothing is written then
 */
export async function applyClients(
  file: string,
  given: ReadonlyMap<string, RawEntry>,
  { prune, dryRun }: { readonly prune: boolean; readonly dryRun: boolean },
): Promise<Applied> {
  if (dryRun) return plan(file, given, prune).applied;
  const end = workAlone(file);
  try {
    const { applied, changes, directory } = plan(file, given, prune);
    for (const one of [dirname(file), ...(directory === undefined ? [] : [directory])]) removeLeftovers(one);
    if (changes.length > 0) await replaceFiles(changes, file);
    return applied;
  } finally {
    end();
  }
}

function plan(
  file: string,
  given: ReadonlyMap<string, RawEntry>,
  prune: boolean,
): { readonly applied: Applied; readonly changes: readonly FileChange[]; readonly directory: string | undefined } {
  const { held, directory } = readHeld(file);
  const fileOf = new Map([...held.values()].flatMap((one) => [...one.entries.keys()].map((name) => [name, one.file])));
  const differences: ClientDifference[] = [];
  const edits = new Map<string, Edits>();
  const edit = (target: string, name: string, entry: RawEntry | undefined): void => {
    const known = edits.get(target) ?? new Map<string, RawEntry | undefined>();
    edits.set(target, known.set(name, entry));
  };
  for (const [client, entry] of given) {
    const known = fileOf.get(client);
    const before = known === undefined ? undefined : held.get(known)?.entries.get(client);
    const after = before === undefined ? entry : withKept(entry, before);
    if (before !== undefined && isDeepStrictEqual(before, after)) continue;
    const target = known ?? (directory === undefined || !isName(client) ? file : join(directory, `${client}.yaml`));
    edit(target, client, after);
    const keys = before === undefined ? [] : differencesOf(before, after);
    differences.push({ client, change: before === undefined ? 'added' : 'changed', file: target, keys });
  }
  if (prune)
    for (const [client, target] of fileOf) {
      if (given.has(client)) continue;
      edit(target, client, undefined);
      differences.push({ client, change: 'removed', file: target, keys: [] });
    }
  const changes = [...edits].map(([target, entries]): FileChange => {
    const one = held.get(target);
    return { file: target, before: one?.text, after: editedText(one, entries, target === file) };
  });
  const after = new Map(changes.map((change) => [change.file, change.after]));
  const main = after.get(file) ?? held.get(file)?.text ?? '';
  after.delete(file);
  const others = new Map([...held.values()].flatMap((one) => (one.file === file ? [] : [[one.file, one.text]])));
  mustFit(file, main, [...new Map<string, string | undefined>([...others, ...after])]);
  const config =
    changes.length === 0
      ? parseConfig(main, file)
      : checked(
          file,
          () => parseConfig(main, file, process.env, after),
          'nothing is changed, because this would be wrong',
        );
  const unchanged = [...fileOf.keys()].length - differences.filter(({ change }) => change !== 'added').length;
  return { applied: { differences, unchanged, config }, changes, directory };
}

/** The files as they are. @throws GatewayError `invalid-config` when one of them cannot be read as YAML */
function readHeld(file: string): { readonly held: ReadonlyMap<string, Held>; readonly directory: string | undefined } {
  const text = readConfigText(file);
  const { raw } = sourceOf(file, text, process.env);
  const said = isSection(raw) ? raw['clientsDirectory'] : undefined;
  const directory = typeof said === 'string' && said !== '' ? resolve(dirname(file), said) : undefined;
  const held = new Map<string, Held>();
  const take = (name: string, content: string): boolean => {
    const one = heldOf(name, content);
    if (one !== undefined) held.set(name, one);
    return one !== undefined;
  };
  const found = directory === undefined ? undefined : readClientFiles(directory);
  const isReadable = [[file, text] as const, ...(found?.texts ?? [])].map(([name, content]) => take(name, content));
  if (isReadable.includes(false) || (found?.problems.length ?? 0) > 0) {
    // It says what is wrong, and where.
    parseConfig(text, file);
    throw invalid(`${file}: its clients cannot be read; run: restic-gateway check`);
  }
  return { held, directory };
}

function heldOf(file: string, text: string): Held | undefined {
  const simple = readSimpleDocument(text, (value) => value);
  const long = simple === undefined ? readDocument(text, (value) => value) : undefined;
  const raw = simple ?? long?.value;
  if (!isSection(raw) || (long?.problems.length ?? 0) > 0) return undefined;
  const clients = raw['clients'];
  const entries = Object.entries(isSection(clients) ? clients : {});
  if (!entries.every(([, entry]) => isSection(entry))) return undefined;
  return {
    file,
    text,
    isPlain: simple !== undefined,
    raw: raw as YamlValue,
    entries: new Map(entries as [string, RawEntry][]),
  };
}

function withKept(entry: RawEntry, before: RawEntry): RawEntry {
  const kept = KEPT.flatMap((key) => {
    const value = before[key];
    return entry[key] === undefined && value !== undefined ? [[key, value] as const] : [];
  });
  if (kept.length === 0) return entry;
  return Object.assign(Object.create(null) as object, entry, Object.fromEntries(kept));
}

/** @returns what is to stand in the file; undefined: it goes with its last client */
function editedText(held: Held | undefined, edits: Edits, isMain: boolean): string | undefined {
  if (held === undefined) return `clients:\n${linesOf(edits, 2)}`;
  const clients = new Map<string, RawEntry>(held.entries);
  for (const [name, entry] of edits)
    if (entry === undefined) clients.delete(name);
    else clients.set(name, entry);
  if (clients.size === 0 && !isMain) return undefined;
  const wanted = { ...(held.raw as object), clients: { ...Object.fromEntries(clients) } };
  const short = held.isPlain ? splicedText(held.text, edits) : undefined;
  if (short !== undefined && says(short, wanted)) return short;
  const long = rewriteClients(held.text, edits);
  if (says(long, wanted)) return long;
  throw invalid(
    `${held.file}: its clients stand there in a way that cannot be changed by a command, such as by an alias (a word that begins with "*"); write them out, or change them by hand`,
  );
}

/** Whether a text reads as it is meant to. */
function says(text: string, wanted: unknown): boolean {
  const raw = readSimpleDocument(text, (value) => value);
  if (raw !== undefined) return isDeepStrictEqual(plain(raw), plain(wanted));
  const { value, problems } = readDocument(text, (one) => one);
  return problems.length === 0 && isDeepStrictEqual(plain(value), plain(wanted));
}

/** Sections have a prototype or none, which does not count. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null)) as unknown;
}

function splicedText(text: string, edits: Edits): string | undefined {
  const blocks = clientBlocks(text);
  if (blocks === undefined) return undefined;
  const { entries, indent, append, none } = blocks;
  const splices: Splice[] = [];
  const added: Edits = new Map();
  let left = entries.size;
  for (const [name, entry] of edits) {
    const block = entries.get(name);
    if (block === undefined) {
      if (entry !== undefined) added.set(name, entry);
      continue;
    }
    if (entry === undefined) left--;
    const start = entry === undefined ? commentsAbove(text, block.start, indent) : block.start;
    splices.push({ start, end: block.end, text: entry === undefined ? '' : clientText(name, entry, indent) });
  }
  if (added.size > 0) splices.push(...append(linesOf(added, indent)));
  else if (left === 0 && none !== undefined) splices.push(none);
  return spliced(text, splices);
}

function linesOf(edits: Edits, indent: number): string {
  return [...edits].map(([name, entry]) => (entry === undefined ? '' : clientText(name, entry, indent))).join('');
}

function differencesOf(before: RawEntry, after: RawEntry, under = ''): readonly KeyDifference[] {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].flatMap((name) => {
    const [was, is] = [before[name], after[name]];
    if (isDeepStrictEqual(was, is)) return [];
    const key = `${under}${name}`;
    if (isSection(was) && isSection(is)) return differencesOf(was, is, `${key}.`);
    return [{ key, before: was, after: is }];
  });
}

/** What an `apply` has left that was killed. Nobody else is at work. */
function removeLeftovers(directory: string): void {
  for (const name of readdirSync(directory))
    if (/^\..+\.[0-9a-f]{12}\.apply-(?:new|old)$/.test(name)) unlinkSync(join(directory, name));
}
