/**
 * From a config file to a checked, resolved and frozen config, or to one error that names everything that is wrong with the file.
 */
import { isUtf8 } from 'node:buffer';
import { statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { crossCheck } from './cross-checks.ts';
import { lineAndColumn, readDocument, specialSpaces } from './document.ts';
import { unreadable } from './files.ts';
import { deepFreeze } from './freeze.ts';
import { ConfigError, formatPath, invalid, type Path } from './problems.ts';
import { checkRoot, clientChecker, entriesOf, resolveClient, storeChecker, type PathProblem } from './check.ts';
import { readSimpleDocument } from './simple-document.ts';
import { MOST_CONFIG_BYTES, readSmallFile, TooLarge } from './small-file.ts';
import { mustBeTrusted } from './trusted-files.ts';
import type { ClientConfig, ClientEntry, GatewayConfig, StoreConfig } from './types.ts';

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
 * Reads and checks a config file, which must be one that is obeyed: see `trusted-files.ts`.
 * @throws ConfigError with everything that is wrong in the file; GatewayError `invalid-config` when it cannot be read or is not obeyed
 */
export function loadConfig(file: string, env: NodeJS.ProcessEnv = process.env): GatewayConfig {
  const absolute = resolve(file);
  mustBeTrusted(absolute);
  let bytes;
  try {
    bytes = readSmallFile(absolute, MOST_CONFIG_BYTES);
  } catch (error) {
    if (error instanceof TooLarge) throw invalid(`${absolute}: is too large for a config (over 16 MiB)`);
    throw unreadable(absolute, error);
  }
  const text = bytes.toString('utf8');
  if (!isUtf8(bytes)) {
    const message = bytes.includes(0)
      ? 'this is UTF-16, as some Windows programs save text; convert it: iconv -f UTF-16 -t UTF-8 FILE'
      : 'this is not UTF-8 text; save the file as UTF-8';
    throw new ConfigError(absolute, [{ path: '', ...lineAndColumn(text, text.indexOf('\ufffd')), message }]);
  }
  return parseConfig(text, absolute, env);
}

/**
 * Checks the text of a config.
 * @param file - absolute path of the file that the text is from or for: relative paths in it start from there
 * @throws ConfigError with everything that is wrong in the text
 */
export function parseConfig(text: string, file: string, env: NodeJS.ProcessEnv = process.env): GatewayConfig {
  const unset: PathProblem[] = [];
  const replace = (value: string, path: Path): string => {
    // Most values have none, and there are thousands.
    if (!value.includes('${')) return value;
    const replaced = replaceVariables(value, path, env);
    if ('value' in replaced) return replaced.value;
    unset.push({ path: [...path], part: 'value', message: replaced.problem });
    return value;
  };

  const simple = readSimpleDocument(text, replace);
  const found = simple === undefined || unset.length > 0 ? undefined : checkAll(simple, file);
  if (found !== undefined && !('problems' in found)) return deepFreeze(found);

  // Something is wrong, or unusual: the long way knows where everything stands.
  unset.length = 0;
  const document = readDocument(text, replace);
  const checked = document.value === undefined ? { problems: [] } : checkAll(document.value, file);
  const problems = [...unset];
  if ('problems' in checked) {
    // What is wrong there is the variable that is not set or the alias of nothing, and that is reported already.
    const reported = new Set([...unset, ...document.problems].map(({ path }) => formatPath(path)));
    problems.push(...checked.problems.filter(({ path }) => !reported.has(formatPath(path))));
  }
  const anyProblem = problems.length > 0 || document.problems.length > 0;
  const spaces = anyProblem && document.value !== undefined ? specialSpaces(text) : [];
  // What else is wrong is mostly what comes of them.
  const placed =
    spaces.length > 0
      ? [...spaces]
      : [
          ...document.problems,
          ...problems.map(({ path, part, message }) => ({ path, offset: document.offsetOf(path, part), message })),
        ];
  if (placed.length === 0 && !('problems' in checked)) return deepFreeze(checked);
  placed.sort((a, b) => a.offset - b.offset);
  throw new ConfigError(
    file,
    placed.map(({ path, offset, message }) => ({ path: formatPath(path), ...lineAndColumn(text, offset), message })),
  );
}

function checkAll(raw: unknown, file: string): GatewayConfig | { readonly problems: readonly PathProblem[] } {
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

  const checkClient = clientChecker(base);
  const entries: ClientEntry[] = [];
  const claims = entriesOf(raw, 'clients').map(([name, entry]) => {
    const { checked, claim } = checkClient(name, entry);
    if ('problems' in checked) problems.push(...checked.problems);
    else entries.push(checked.value);
    return claim;
  });
  problems.push(...crossCheck(claims, named, 'value' in root ? root.value.config.audit.copy : undefined));
  if ('problems' in root) return { problems };

  const clients = Object.create(null) as Record<string, ClientConfig>;
  for (const entry of entries) {
    const store = named.get(entry.repository.store);
    if (store === undefined) continue;
    const resolved = resolveClient(entry, store, root.value.defaults);
    if ('problems' in resolved) problems.push(...resolved.problems);
    else clients[entry.name] = resolved.value;
  }
  if (problems.length > 0) return { problems };
  return { file, ...root.value.config, stores, clients };
}

/** `${NAME}` anywhere in a value stands for the environment's variable. There is no other use of `${`, and no way to write it. */
function replaceVariables(
  value: string,
  path: Path,
  env: NodeJS.ProcessEnv,
): { readonly value: string } | { readonly problem: string } {
  let problem: string | undefined;
  const replaced = value.replace(/\$\{([^}]*)(\}?)/g, (_whole, name: string, end: string) => {
    if (end === '' || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
      problem ??= 'after "${" must come the name of an environment variable and "}"';
    const found = Object.hasOwn(env, name) ? env[name] : undefined;
    if (found === undefined || found === '') problem ??= `the environment variable ${name} is not set`;
    return found ?? '';
  });
  if (problem !== undefined) return { problem };
  // The secret itself is read when it is needed, and never becomes a part of the config.
  const isSecret =
    (path.length === 3 && path[0] === 'stores' && path[2] === 'secretAccessKey') ||
    (path.length === 2 && path[0] === 'metrics' && path[1] === 'token');
  return { value: isSecret ? value : replaced };
}
