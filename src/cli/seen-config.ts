/** The files of a large config as they are at the moment, so that it shows whether they are still those that were found right. */
import { createHash } from 'node:crypto';
import { lstatSync, statSync, type BigIntStats } from 'node:fs';
import { join } from 'node:path';
import { parseParts } from '../config/load.ts';
import { placeOf } from '../config/repositories.ts';
import { clientFileNames, readConfigText, sourceOf } from '../config/sources.ts';
import { mustBeTrusted, trustedUsers } from '../config/trusted-files.ts';
import type { GatewayConfig } from '../config/types.ts';
import { VERSION } from './version.ts';

/** With less, the whole costs little: some 250 clients. */
const FEW_BYTES = 64 * 1024;
const FEW_FILES = 200;

/** The files of a config as they are now, with all in them that is no client. */
export interface Seen {
  readonly file: string;
  readonly text: string;
  /** Where in the text the clients stand. */
  readonly cut: { readonly start: number; readonly end: number };
  /** The config without its clients. */
  readonly root: GatewayConfig;
  /** Names in `clientsDirectory`, with what changes whenever the file does. */
  readonly files: ReadonlyMap<string, string>;
  /** The same as long as a check of the whole would find the same. */
  readonly key: string;
  /** When a file has last changed, in ms. */
  readonly changed: number;
  readonly index: string;
}

/** @returns undefined where the config is small, or anything is wrong or unusual */
export function seeConfig(file: string, env: NodeJS.ProcessEnv): Seen | undefined {
  try {
    const before = statSync(file, { bigint: true });
    const text = readConfigText(file);
    const directory = /^clientsDirectory:/m.test(text);
    if (text.length < FEW_BYTES && !directory) return undefined;
    const cut = clientsPart(text);
    const main = sourceOf(file, text.slice(0, cut.start) + text.slice(cut.end), env);
    const root = parseParts(main, []);
    // A certificate is compared with all clients, and whom a config leaves out is refused by the gateways of a fleet.
    if (root === undefined || root.trustedUserCAKeys.length > 0 || root.database !== undefined) return undefined;
    const { files, changed } = clientFiles(root.clientsDirectory);
    if (text.length < FEW_BYTES && files.size < FEW_FILES) return undefined;
    const state = stateOf(before);
    if (state !== stateOf(statSync(file, { bigint: true }))) return undefined;
    const places = Object.values(root.stores).map((store) => placeOf(store));
    const hash = createHash('sha256').update(JSON.stringify([VERSION, file, state, cut, main.raw, places]));
    hash.update([...files].map(([name, one]) => `\n${name} ${one}`).join(''));
    const index = join(root.state, 'client-index', createHash('sha256').update(file).digest('hex').slice(0, 16));
    const newest = Math.max(changed, Number(before.ctimeMs), Number(before.mtimeMs));
    return { file, text, cut, root, files, key: hash.digest('hex'), changed: newest, index };
  } catch {
    // Whoever reads the whole says what is wrong.
    return undefined;
  }
}

/** From the line of `clients:` to the next one that begins at the left. */
function clientsPart(text: string): { readonly start: number; readonly end: number } {
  const found = /^clients:/m.exec(text);
  if (found === null) return { start: text.length, end: text.length };
  const next = /^[^\s#]/gm;
  next.lastIndex = found.index + 1;
  return { start: found.index, end: next.exec(text)?.index ?? text.length };
}

/** @throws Error for a file that is no plain one of a trusted user's */
function clientFiles(directory: string | undefined): Pick<Seen, 'files' | 'changed'> {
  const files = new Map<string, string>();
  let changed = 0;
  if (directory === undefined) return { files, changed };
  mustBeTrusted(directory);
  const users = trustedUsers();
  for (const name of clientFileNames(directory)) {
    const found = lstatSync(join(directory, name), { bigint: true });
    const isPlain = found.isFile() && users.includes(Number(found.uid)) && (found.mode & 0o022n) === 0n;
    if (!isPlain || !/^[\w.@+-]+$/.test(name)) throw new Error('left to whoever reads the whole');
    files.set(name, stateOf(found));
    changed = Math.max(changed, Number(found.ctimeMs), Number(found.mtimeMs));
  }
  return { files, changed };
}

/** What changes whenever a file is written or replaced. */
export function stateOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`;
}
