/**
 * The config as one login needs it: of thousands of clients, the one that is asked for. A process is started for each connection under
 * OpenSSH, and to check all clients each time would cost it more than all else together.
 *
 * What was found right once, as a whole, is right for as long as it is the same. An index in `state` says which files that were, by what changes
 * with every write (device, inode, size, times), what `${…}` and links stood for, and where each client stands. Whenever anything is another, is
 * unusual or is missing, the whole is read and checked as ever. Owners and modes are looked at each time.
 */
import { lstatSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { loadConfig, parseParts } from '../config/load.ts';
import { readSmallFile } from '../config/small-file.ts';
import { sourceOf, type Source } from '../config/sources.ts';
import { whyUntrusted } from '../config/trusted-files.ts';
import type { GatewayConfig } from '../config/types.ts';
import { readStateFileSync } from '../state/state-file.ts';
import { seeConfig, stateOf, type Seen } from './seen-config.ts';

/** 20,000 clients with keys make some 3 MB. */
const MOST_INDEX_BYTES = 64 * 1024 * 1024;
const MOST_FILE_BYTES = 16 * 1024 * 1024;
/** More that have something to be reported are left to the whole config. */
const MOST_COUNTED = 100;

/** Who logs in: by the name, or by the base64 of the key. */
type Wanted = { readonly client: string } | { readonly key: string };

/**
 * Loads a config as `loadConfig`, of whose clients those that do not matter to this login may be missing.
 * @throws as `loadConfig`
 */
export async function loadConfigFor(
  file: string,
  wanted: Wanted,
  env: NodeJS.ProcessEnv = process.env,
): Promise<GatewayConfig> {
  const began = Date.now();
  const seen = seeConfig(resolve(file), env);
  if (seen === undefined) return loadConfig(file, env);
  const config = fromIndex(seen, wanted, env);
  if (config !== undefined) return config;
  const whole = loadConfig(file, env);
  // The next login is what has use of it.
  await (await import('./login-index.ts')).writeIndex(seen, whole, began, env).catch(() => undefined);
  return whole;
}

/** @returns undefined where the index is of other files, or there is none */
function fromIndex(seen: Seen, wanted: Wanted, env: NodeJS.ProcessEnv): GatewayConfig | undefined {
  try {
    // root does not go by what the gateway's user has written.
    if (whyUntrusted(seen.index) !== undefined) return undefined;
    const index = readStateFileSync(seen.index, MOST_INDEX_BYTES)?.toString('latin1');
    if (index?.startsWith(`${seen.key}\n`) !== true) return undefined;
    const lines = linesFor(index, wanted, 'client' in wanted ? countedNames(seen.root.state) : []);
    return lines === undefined ? undefined : assembled(seen, lines, env);
  } catch {
    return undefined;
  }
}

/** Clients of whose refusals something is still to be reported, by whichever session ends next. */
function countedNames(state: string): readonly string[] | undefined {
  try {
    const names = readdirSync(join(state, 'counted'));
    return names.length > MOST_COUNTED ? undefined : names;
  } catch {
    return [];
  }
}

/** The lines of an index that matter, in its order: `NAME FILE START END SHARED KEY…`, the second line of it those who share. */
function linesFor(
  index: string,
  wanted: Wanted,
  also: readonly string[] | undefined,
): readonly (readonly string[])[] | undefined {
  if (also === undefined) return undefined;
  const found = new Map<number, readonly string[]>();
  const take = (at: number): readonly string[] => {
    const end = index.indexOf('\n', at);
    const line = index.slice(at, end < 0 ? index.length : end).split(' ');
    found.set(at, line);
    return line;
  };
  const takeName = (name: string): readonly string[] | undefined => {
    if (!/^[\w.-]+$/.test(name)) return undefined;
    const at = index.indexOf(`\n${name} `);
    return at < 0 ? undefined : take(at + 1);
  };
  let shared = false;
  if ('client' in wanted) shared = takeName(wanted.client)?.[4] === 'shared';
  else if (/^[A-Za-z0-9+/=]+$/.test(wanted.key)) {
    const at = index.indexOf(` ${wanted.key}`);
    if (at >= 0) take(index.lastIndexOf('\n', at) + 1);
  }
  // Who shares a repository goes by what all others say that share one.
  if (shared)
    for (let at = index.indexOf(' shared'); at >= 0; at = index.indexOf(' shared', at + 1))
      take(index.lastIndexOf('\n', at) + 1);
  for (const name of also) takeName(name);
  return [...found].sort(([a], [b]) => a - b).map(([, line]) => line);
}

function assembled(
  seen: Seen,
  lines: readonly (readonly string[])[],
  env: NodeJS.ProcessEnv,
): GatewayConfig | undefined {
  const { file, text, cut, root, files } = seen;
  const entries = new Map<string, string>();
  const texts = new Map<string, string>();
  for (const [, name = '', start, end] of lines) {
    const content = name === '-' ? text : (texts.get(name) ?? readAsSeen(root, name, files));
    texts.set(name, content);
    const entry = content.slice(Number(start), Number(end));
    entries.set(name, `${entries.get(name) ?? ''}${entry.endsWith('\n') ? entry : `${entry}\n`}`);
  }
  const base = `${text.slice(0, cut.start)}${text.slice(cut.end)}`;
  const own = entries.get('-');
  const main = own === undefined ? base : `${base.endsWith('\n') ? base : `${base}\n`}clients:\n${own}`;
  const directory = root.clientsDirectory ?? dirname(file);
  const others = [...entries].flatMap(([name, one]): Source[] =>
    name === '-' ? [] : [sourceOf(join(directory, name), `clients:\n${one}`, env)],
  );
  return parseParts(sourceOf(file, main, env), others);
}

/** @throws Error when the file has changed since it was looked at */
function readAsSeen({ clientsDirectory = '' }: GatewayConfig, name: string, files: Seen['files']): string {
  const file = join(clientsDirectory, name);
  const text = readSmallFile(file, MOST_FILE_BYTES).toString('utf8');
  if (files.get(name) !== stateOf(lstatSync(file, { bigint: true }))) throw new Error(`${name} has changed`);
  return text;
}
