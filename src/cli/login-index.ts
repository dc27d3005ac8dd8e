/** Writes down where each client of a large config stands, once the whole was found right: see `login-config.ts`. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { clientBlocks } from '../config/client-blocks.ts';
import { fileOfClient } from '../config/load.ts';
import { readSimpleDocument } from '../config/simple-document.ts';
import { readSmallFile } from '../config/small-file.ts';
import { whyUntrusted } from '../config/trusted-files.ts';
import type { GatewayConfig } from '../config/types.ts';
import { isSection } from '../config/words.ts';
import { replaceStateFile } from '../state/state-file.ts';
import { seeConfig, type Seen } from './seen-config.ts';

/** A file that has changed less than this before, in ms, may change again without its times telling: a file system's clock is coarse. */
const SETTLED_MS = 2000;
const MOST_FILE_BYTES = 16 * 1024 * 1024;

/**
 * Writes nothing where a part could be another thing than it is in the whole.
 * @param config - what the whole was found to be, after `seen`
 * @param began - when `seen` was looked at, or before
 * @throws Error of the file system
 */
export async function writeIndex(
  seen: Seen,
  config: GatewayConfig,
  began: number,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const { state, clientsDirectory = '' } = config;
  if (began - seen.changed < SETTLED_MS || !existsSync(state) || whyUntrusted(seen.index) !== undefined) return;
  if (Object.values(config.clients).some(({ principals }) => principals.length > 0)) return;
  const lines = linesOf('-', seen.text, seen.file, config, seen);
  for (const name of seen.files.keys()) {
    const file = join(clientsDirectory, name);
    const more = linesOf(name, readSmallFile(file, MOST_FILE_BYTES).toString('utf8'), file, config);
    if (lines === undefined || more === undefined) return;
    lines.push(...more);
  }
  if (lines?.length !== Object.keys(config.clients).length) return;
  // What was read is what was looked at.
  if (seeConfig(seen.file, env)?.key !== seen.key) return;
  await replaceStateFile(seen.index, `${[seen.key, ...lines].join('\n')}\n`);
}

/** @param main - for the config's own file. @returns undefined where the text is unusual */
function linesOf(name: string, text: string, file: string, config: GatewayConfig, main?: Seen): string[] | undefined {
  const whole = readSimpleDocument(text, (value) => value);
  const blocks = clientBlocks(text);
  if (!isSection(whole) || blocks === undefined) return undefined;
  const { clients = null, ...root } = whole;
  const entries = isSection(clients) ? clients : {};
  if (main !== undefined) {
    const { start, end } = main.cut;
    const rest = readSimpleDocument(text.slice(0, start) + text.slice(end), (value) => value);
    if (!isDeepStrictEqual({ ...(rest as object) }, root)) return undefined;
  }
  if (blocks.entries.size !== Object.keys(entries).length) return undefined;
  const lines: string[] = [];
  for (const [client, { start, end }] of blocks.entries) {
    const own = text.slice(start, end);
    const alone = readSimpleDocument(`clients:\n${own}`, (value) => value);
    const found = config.clients[client];
    const isSame =
      isSection(alone) && isDeepStrictEqual({ ...(alone['clients'] as object) }, { [client]: entries[client] });
    if (!isSame || found === undefined || fileOfClient(config, client) !== file || own.includes('${')) return undefined;
    const shared = isSection(entries[client]) && 'shared' in entries[client] ? 'shared' : 'alone';
    lines.push([client, name, start, end, shared, ...found.keys.map(({ blob }) => blob)].join(' '));
  }
  return lines;
}
