/** The files that a config is made of, read and taken apart: the one that is named, and those of `clientsDirectory`. */
import { isUtf8 } from 'node:buffer';
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { GatewayError } from '../core/errors.ts';
import type { PathProblem } from './check.ts';
import { lineAndColumn, readDocument, type ConfigDocument, type YamlValue } from './document.ts';
import { unreadable } from './files.ts';
import { ConfigError, invalid, quote, type Path, type Problem } from './problems.ts';
import { readSimpleDocument } from './simple-document.ts';
import { MOST_CONFIG_BYTES, readSmallFile, TooLarge } from './small-file.ts';
import { mustBeTrusted, trustedUsers, whyUntrusted } from './trusted-files.ts';

/** The most files of `clientsDirectory`, and the most bytes in all of them. */
const MOST_FILES = 20_000;
const MOST_BYTES = 64 * 1024 * 1024;

/** A file's text, read. */
export interface Source {
  /** Absolute path. */
  readonly file: string;
  readonly text: string;
  /** Undefined when the text cannot be read as YAML. */
  readonly raw: YamlValue | undefined;
  /** Variables that are not set. */
  readonly unset: readonly PathProblem[];
  /** The text by the long way, which knows where everything stands. */
  readonly document: () => ConfigDocument;
  /** Whether something is wrong with the text by itself. */
  readonly isWrong: boolean;
}

/** The files of `clientsDirectory`: those that could be read, and why others could not. */
interface ClientFiles {
  readonly texts: ReadonlyMap<string, string>;
  readonly problems: readonly Problem[];
}

/**
 * Reads a config file, which must be one that is obeyed: see `trusted-files.ts`.
 * @param file - absolute path
 * @throws ConfigError, GatewayError `invalid-config` when it cannot be read or is not obeyed
 */
export function readConfigText(file: string): string {
  mustBeTrusted(file);
  return readText(file);
}

function readText(file: string): string {
  let bytes;
  try {
    bytes = readSmallFile(file, MOST_CONFIG_BYTES);
  } catch (error) {
    if (error instanceof TooLarge) throw invalid(`${file}: is too large for a config (over 16 MiB)`);
    throw unreadable(file, error);
  }
  const text = bytes.toString('utf8');
  if (isUtf8(bytes)) return text;
  const message = bytes.includes(0)
    ? 'this is UTF-16, as some Windows programs save text; convert it: iconv -f UTF-16 -t UTF-8 FILE'
    : 'this is not UTF-8 text; save the file as UTF-8';
  throw new ConfigError(file, [{ path: '', ...lineAndColumn(text, text.indexOf('\ufffd')), message }]);
}

/**
 * The names of the files that count: `*.yaml` and `*.yml`. Hidden files, and what editors and package managers leave behind (`x.yaml~`,
 * `.x.yaml.swp`, `x.yaml.dpkg-new`), do not.
 * @throws GatewayError `invalid-config` when the directory cannot be read, or holds too much
 */
export function clientFileNames(directory: string): string[] {
  let names;
  try {
    names = readdirSync(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT')
      throw invalid(`${directory}: there is no such directory; make it, or remove clientsDirectory`);
    if (code === 'ENOTDIR') throw invalid(`${directory}: clientsDirectory must be a directory`);
    throw unreadable(directory, error);
  }
  const counted = names.filter((name) => !name.startsWith('.') && /\.ya?ml$/.test(name)).sort();
  if (counted.length > MOST_FILES)
    throw invalid(`${directory}: holds more than ${MOST_FILES} files; write several clients into one`);
  return counted;
}

/**
 * Reads the files of `clientsDirectory`. One that cannot be read, or that others than root and this user could have written, is a problem and
 * does not keep the others from being read.
 * @throws GatewayError `invalid-config` when the directory itself cannot be read or is not obeyed
 */
export function readClientFiles(directory: string): ClientFiles {
  mustBeTrusted(directory);
  const users = trustedUsers();
  const texts = new Map<string, string>();
  const problems: Problem[] = [];
  let bytes = 0;
  for (const name of clientFileNames(directory)) {
    const file = join(directory, name);
    try {
      if (!/^[\w.@+-]+$/.test(name)) throw invalid('its name may have letters, digits and . _ @ + - only; rename it');
      if (!isPlainlyTrusted(file, users)) {
        const problem = whyUntrusted(file, users);
        if (problem !== undefined) throw invalid(problem);
      }
      const text = readText(file);
      bytes += text.length;
      texts.set(file, text);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      const [found] = error instanceof ConfigError ? error.problems : [];
      const shown = join(directory, /^[\w.@+-]+$/.test(name) ? name : quote(name));
      const message = error.message.replace(`${file}: `, '');
      problems.push({ ...(found ?? { path: '', line: 1, column: 1, message }), file: shown });
    }
    if (bytes > MOST_BYTES) throw invalid(`${directory}: holds more than ${MOST_BYTES / 1024 / 1024} MiB of clients`);
  }
  return { texts, problems };
}

/**
 * Whether files that are to be written could be read again.
 * @param others - those of `clientsDirectory`; undefined: one that is not to be there
 * @throws GatewayError `invalid-config`
 */
export function mustFit(file: string, main: string, others: Iterable<readonly [string, string | undefined]>): void {
  let files = 0;
  let bytes = 0;
  for (const [name, text] of [[file, main] as const, ...others]) {
    if (text === undefined) continue;
    if (Buffer.byteLength(text) > MOST_CONFIG_BYTES)
      throw invalid(`${name}: would be too large for a config (over 16 MiB); use clientsDirectory`);
    if (name === file) continue;
    files += 1;
    bytes += text.length;
  }
  if (files > MOST_FILES)
    throw invalid(`clientsDirectory would hold more than ${MOST_FILES} files; write several clients into one`);
  if (bytes > MOST_BYTES)
    throw invalid(`clientsDirectory would hold more than ${MOST_BYTES / 1024 / 1024} MiB of clients`);
}

/** Whether a file of a directory that is obeyed is a plain one that nobody else can have written: almost every one is. */
function isPlainlyTrusted(file: string, users: readonly number[]): boolean {
  const found = lstatSync(file, { throwIfNoEntry: false });
  return found?.isFile() === true && users.includes(found.uid) && (found.mode & 0o022) === 0;
}

/** Takes a text apart. @param env - what `${NAME}` stands for */
export function sourceOf(file: string, text: string, env: NodeJS.ProcessEnv): Source {
  const unset: PathProblem[] = [];
  const replace = (value: string, path: Path): string => {
    // Most values have none, and there are thousands.
    if (!value.includes('${')) return value;
    const replaced = replaceVariables(value, path, env);
    if ('value' in replaced) return replaced.value;
    unset.push({ path: [...path], part: 'value', message: replaced.problem });
    return value;
  };
  let document: ConfigDocument | undefined;
  const long = (): ConfigDocument => {
    if (document !== undefined) return document;
    unset.length = 0;
    return (document = readDocument(text, replace));
  };
  const simple = readSimpleDocument(text, replace);
  const raw = simple === undefined || unset.length > 0 ? long().value : simple;
  const isWrong = unset.length > 0 || (document?.problems.length ?? 0) > 0;
  return { file, text, raw, unset, document: long, isWrong };
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
