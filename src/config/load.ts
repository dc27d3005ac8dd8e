/**
 * From a config file to a checked, resolved and frozen config, or to one error that names everything that is wrong with the file.
 */
import { statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { GatewayError } from '../core/errors.ts';
import { crossCheck } from './cross-checks.ts';
import { lineAndColumn, specialSpaces } from './document.ts';
import { deepFreeze } from './freeze.ts';
import { ConfigError, formatPath, invalid, type Problem } from './problems.ts';
import {
  checkClientFile,
  checkRoot,
  clientChecker,
  entriesOf,
  resolveClient,
  storeChecker,
  targetChecker,
  type Claim,
  type PathProblem,
} from './check.ts';
import type { NotifyTarget } from './notify.ts';
import { readClientFiles, readConfigText, sourceOf, type Source } from './sources.ts';
import type { ClientConfig, ClientEntry, GatewayConfig, StoreConfig } from './types.ts';
import { isSection } from './words.ts';

const SYSTEM_FILE = '/etc/restic-gateway/gateway.yaml';
const NEAR_FILE = 'gateway.yaml';

/**
 * The config file to use: the one named, else $RESTIC_GATEWAY_CONFIG, else ./gateway.yaml, else the system's. root does not take the one of
 * the working directory, which may be anybody's.
 * @param option - what `-c` names
 * @returns its absolute path
 * @throws GatewayError `invalid-config` that names every file that was looked for
 */
export function findConfigFile(
  option?: string,
  env: NodeJS.ProcessEnv = process.env,
  cwd: string = process.cwd(),
  systemFile: string = SYSTEM_FILE,
): string {
  if (option !== undefined) return mustExist(resolve(cwd, option), 'named by -c');
  const variable = env['RESTIC_GATEWAY_CONFIG'];
  if (variable !== undefined && variable !== '')
    return mustExist(resolve(cwd, variable), 'named by $RESTIC_GATEWAY_CONFIG');
  const near = resolve(cwd, NEAR_FILE);
  const candidates = process.geteuid?.() === 0 ? [systemFile] : [near, systemFile];
  // Where this user may not look, there is nothing of this user's.
  const found = candidates.find((file) => presence(file) === 'there' || (file === systemFile && exists(file)));
  if (found !== undefined) return found;
  const unused = unusedConfigFile(option, env, cwd);
  throw invalid(
    `no config file: $RESTIC_GATEWAY_CONFIG is not set, and there is ${candidates.length === 1 ? 'no' : 'neither'} ${candidates.join(' nor ')}; ` +
      (unused === undefined
        ? 'name one with -c FILE, or write one as the README shows'
        : `root does not use ${unused} unasked; if it is the one, name it: -c ${unused}`),
  );
}

/** The config file in the working directory that root does not use because it was not named; undefined when there is none or it was. */
export function unusedConfigFile(
  option?: string,
  env: NodeJS.ProcessEnv = process.env,
  cwd: string = process.cwd(),
): string | undefined {
  if (process.geteuid?.() !== 0 || option !== undefined || (env['RESTIC_GATEWAY_CONFIG'] ?? '') !== '')
    return undefined;
  const near = resolve(cwd, NEAR_FILE);
  return presence(near) === 'there' ? near : undefined;
}

function mustExist(file: string, named: string): string {
  if (!exists(file)) throw invalid(`${file}: there is no such file (${named})`);
  return file;
}

// Whatever else is wrong with a file, reading it says so.
function exists(file: string): boolean {
  return presence(file) !== 'not there';
}

function presence(file: string): 'there' | 'not there' | 'unknown' {
  try {
    return statSync(file, { throwIfNoEntry: false }) === undefined ? 'not there' : 'there';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOTDIR' ? 'not there' : 'unknown';
  }
}

/**
 * Reads and checks a config: its file and those of its `clientsDirectory`, which must be ones that are obeyed: see `trusted-files.ts`.
 * @throws ConfigError with everything that is wrong in the files; GatewayError `invalid-config` when one cannot be read or is not obeyed
 */
export function loadConfig(file: string, env: NodeJS.ProcessEnv = process.env): GatewayConfig {
  const absolute = resolve(file);
  return parseConfig(readConfigText(absolute), absolute, env);
}

/** What was read and checked, for whoever reads a config again and again, with one environment and from one directory. */
export interface Known {
  /** By their absolute paths. */
  readonly sources: Map<string, Source>;
  /** Clients by their names, with what stood in their entries. */
  readonly entries: Map<string, { readonly raw: unknown; readonly found: CheckedClient }>;
  /** The last one that was right, and of what. */
  whole?: { readonly of: readonly Source[]; readonly config: GatewayConfig };
}

type CheckedClient = ReturnType<ReturnType<typeof clientChecker>>;

/**
 * Checks the text of a config, with the files of `clientsDirectory` if it names one.
 * @param file - absolute path of the file that the text is from or for: relative paths in it, and in its clients' files, start from there
 * @param instead - texts of clients' files, by absolute path, that count in the place of what is there; undefined: as if it were not there
 * @param known - what was read before with the same `env`, and is kept for the next time
 * @throws ConfigError with everything that is wrong in the texts
 */
export function parseConfig(
  text: string,
  file: string,
  env: NodeJS.ProcessEnv = process.env,
  instead: ReadonlyMap<string, string | undefined> = new Map(),
  known?: Known,
): GatewayConfig {
  const read = (name: string, content: string): Source => {
    const before = known?.sources.get(name);
    if (before?.text === content) return before;
    const source = sourceOf(name, content, env);
    known?.sources.set(name, source);
    return source;
  };
  const main = read(file, text);
  const directory = directoryOf(main);
  const found = directory === undefined ? undefined : orProblem(directory);
  const texts = new Map([...(found?.texts ?? []), ...instead]);
  const others = [...texts].flatMap(([name, one]) => (one === undefined ? [] : read(name, one)));
  const sources = [main, ...others];
  const isKnown = known?.whole?.of.length === sources.length && sources.every((one, at) => known.whole?.of[at] === one);
  if (known?.whole !== undefined && isKnown && (found?.problems.length ?? 0) === 0 && found?.whole === undefined)
    return known.whole.config;
  const checked = checkAll(main, others, known);
  const unread = found?.problems.filter((problem) => !instead.has(problem.file ?? '')) ?? [];
  if (
    !('problems' in checked) &&
    unread.length === 0 &&
    found?.whole === undefined &&
    sources.every(({ isWrong }) => !isWrong)
  ) {
    filesOfClients.set(checked.config, checked.files);
    const config = deepFreeze(checked.config);
    if (known !== undefined) known.whole = { of: sources, config };
    return config;
  }
  const problems = [...('problems' in checked ? checked.problems : []), ...(found?.whole ?? [])];
  const documents = new Map(sources.map((source) => [source.file, source.document]));
  const placed = sources.flatMap((source) => {
    const own = problems.filter((problem) => (problem.file ?? file) === source.file);
    if (own.length === 0 && !source.isWrong) return [];
    return place(source, own, ({ file: other = file, path }) => {
      const offset = documents.get(other)?.().offsetOf(path, 'key') ?? 0;
      return `${other}:${lineAndColumn(texts.get(other) ?? text, offset).line}`;
    }).map((problem) => (source === main ? problem : { ...problem, file: source.file }));
  });
  throw new ConfigError(file, [...unread, ...placed]);
}

/**
 * Puts together what is read of a config that was found right before: its file and those of clients, or parts of them.
 * @returns undefined where anything is wrong with it
 */
export function parseParts(main: Source, others: readonly Source[]): GatewayConfig | undefined {
  if ([main, ...others].some(({ isWrong }) => isWrong)) return undefined;
  const checked = checkAll(main, others, undefined);
  if ('problems' in checked) return undefined;
  filesOfClients.set(checked.config, checked.files);
  return deepFreeze(checked.config);
}

/** The clients' files; `whole` is what is wrong with their directory. */
function orProblem(
  directory: string,
): ReturnType<typeof readClientFiles> & { readonly whole?: readonly PathProblem[] } {
  try {
    return readClientFiles(directory);
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    const whole = [{ path: ['clientsDirectory'], part: 'value' as const, message: error.message }];
    return { texts: new Map(), problems: [], whole };
  }
}

/** Which file each client stands in, for configs that were read from files. */
const filesOfClients = new WeakMap<GatewayConfig, ReadonlyMap<string, string>>();

/** The file that a client of a config stands in: an absolute path. */
export function fileOfClient(config: GatewayConfig, client: string): string {
  return filesOfClients.get(config)?.get(client) ?? config.file;
}

/** A config that was made of another one has its clients in the same files. */
export function keepFiles(from: GatewayConfig, to: GatewayConfig): void {
  const files = filesOfClients.get(from);
  if (files !== undefined) filesOfClients.set(to, files);
}

/** As the schema has it; what is wrong with it is found there. */
function directoryOf({ raw, file }: Source): string | undefined {
  const said = isSection(raw) ? raw['clientsDirectory'] : undefined;
  return typeof said === 'string' && said !== '' ? resolve(dirname(file), said) : undefined;
}

/** The problems of one file, in the order of their places. @param placeOf - FILE:LINE of another place */
function place(
  { text, unset, document: long }: Source,
  found: readonly PathProblem[],
  placeOf: (other: NonNullable<PathProblem['other']>) => string,
): Problem[] {
  const document = long();
  // What is wrong there is the variable that is not set or the alias of nothing, and that is reported already.
  const reported = new Set([...unset, ...document.problems].map(({ path }) => formatPath(path)));
  const problems = [...unset, ...found.filter(({ path }) => !reported.has(formatPath(path)))];
  const spaces = document.value === undefined ? [] : specialSpaces(text);
  // What else is wrong is mostly what comes of them.
  const placed =
    spaces.length > 0
      ? [...spaces]
      : [
          ...document.problems,
          ...problems.map(({ path, part, message, other }) => ({
            path,
            offset: document.offsetOf(path, part),
            message: other === undefined ? message : `${message}; the other one is at ${placeOf(other)}`,
          })),
        ];
  placed.sort((a, b) => a.offset - b.offset);
  return placed.map(({ path, offset, message }) => ({
    path: formatPath(path),
    ...lineAndColumn(text, offset),
    message,
  }));
}

/** A config, and which file each of its clients stands in. */
interface Whole {
  readonly config: GatewayConfig;
  readonly files: ReadonlyMap<string, string>;
}

function checkAll(
  main: Source,
  others: readonly Source[],
  known: Known | undefined,
): Whole | { readonly problems: readonly PathProblem[] } {
  const { raw, file } = main;
  if (raw === undefined) return { problems: [] };
  if (raw === null)
    return {
      problems: [{ path: [], part: 'value', message: 'the file is empty; the README shows a whole config' }],
    };
  const base = dirname(file);
  const problems: PathProblem[] = [];
  const root = checkRoot(raw, base);
  if ('problems' in root) problems.push(...root.problems);

  const checkStore = storeChecker(base);
  const stores = Object.create(null) as Record<string, StoreConfig>;
  const named = new Map<string, StoreConfig | undefined>();
  for (const [name, entry] of entriesOf(raw, 'stores')) {
    const checked = checkStore(name, entry);
    if ('problems' in checked) problems.push(...checked.problems);
    else stores[name] = checked.value;
    named.set(name, stores[name]);
  }

  const checkClient = checkedOnce(clientChecker(base), known);
  const entries: ClientEntry[] = [];
  const claims: Claim[] = [];
  const files = new Map<string, string>();
  for (const source of [main, ...others]) {
    const inFile = (found: readonly PathProblem[]): PathProblem[] =>
      source === main ? [...found] : found.map((problem) => ({ ...problem, file: source.file }));
    if (source !== main && source.raw !== undefined) problems.push(...inFile(checkClientFile(source.raw)));
    for (const [name, entry] of entriesOf(source.raw, 'clients')) {
      const first = files.get(name);
      if (first !== undefined) {
        const path = ['clients', name];
        const message = 'this client stands in two files; remove one of the two';
        problems.push(...inFile([{ path, part: 'key', message, other: { file: first, path } }]));
        continue;
      }
      files.set(name, source.file);
      const { checked, claim } = checkClient(name, entry);
      if ('problems' in checked) problems.push(...inFile(checked.problems));
      else entries.push(checked.value);
      claims.push(claim);
    }
  }
  const notify = Object.create(null) as Record<string, NotifyTarget>;
  const targets = entriesOf(raw, 'notify');
  const checkTarget = targets.length === 0 ? undefined : targetChecker(base);
  for (const [name, entry] of targets) {
    const checked = checkTarget?.(name, entry);
    if (checked === undefined) continue;
    if ('problems' in checked) problems.push(...checked.problems);
    else notify[name] = checked.value;
  }
  const placeOf = (client: string): string | undefined => {
    const found = files.get(client);
    return found === file ? undefined : found;
  };
  const { audit, trustedUserCAKeys = [] } = 'value' in root ? root.value.config : {};
  const wrong = crossCheck(claims, named, audit?.copy, trustedUserCAKeys);
  problems.push(...wrong.map((problem) => withFiles(problem, placeOf)));
  if ('problems' in root) return { problems };

  const clients = Object.create(null) as Record<string, ClientConfig>;
  for (const entry of entries) {
    const store = named.get(entry.repository.store);
    if (store === undefined) continue;
    const resolved = resolveClient(entry, store, root.value.defaults);
    if ('problems' in resolved) problems.push(...resolved.problems.map((problem) => withFiles(problem, placeOf)));
    else clients[entry.name] = resolved.value;
  }
  if (problems.length > 0) return { problems };
  return { config: { file, ...root.value.config, stores, clients, notify }, files };
}

/** Checks an entry that is still the same no second time. */
function checkedOnce(
  check: (name: string, raw: unknown) => CheckedClient,
  known: Known | undefined,
): (name: string, raw: unknown) => CheckedClient {
  if (known === undefined) return check;
  return (name, raw) => {
    const before = known.entries.get(name);
    if (before !== undefined && isDeepStrictEqual(before.raw, raw)) return before.found;
    const found = check(name, raw);
    known.entries.set(name, { raw, found });
    return found;
  };
}

/** A problem of a client with the file that it stands in; the other place is told where it is in another file. */
function withFiles(problem: PathProblem, fileOf: (client: string) => string | undefined): PathProblem {
  const { other, ...rest } = problem;
  const [under, client = ''] = rest.path;
  const file = under === 'clients' ? fileOf(String(client)) : undefined;
  const theirs = other && fileOf(String(other.path[1] ?? ''));
  return {
    ...rest,
    ...(file !== undefined && { file }),
    ...(other !== undefined &&
      theirs !== file && { other: { ...other, ...(theirs !== undefined && { file: theirs }) } }),
  };
}
