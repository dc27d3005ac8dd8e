/**
 * As whom the gateway's commands run. What lies in `state`, the audit's directory and a directory store is its user's to write, so root
 * touches none of it: root's commands start themselves anew as that user, whom the config names (`user`) and nothing that this user owns.
 */
import { isatty } from 'node:tty';
import { findConfigFile, loadConfig, unusedConfigFile } from '../config/load.ts';
import type { GatewayConfig } from '../config/types.ts';
import { sayWarning } from './failure.ts';
import { saysOwn } from './own-words.ts';

/**
 * The config file of a command that people start: as `findConfigFile`, and says which on a terminal.
 * @throws GatewayError `invalid-config`
 */
export function chooseConfigFile(option: string | undefined): string {
  const unused = unusedConfigFile(option);
  const file = findConfigFile(option);
  if (unused !== undefined) sayWarning(`${file} is used; root uses ${unused} only when it is named: -c ${unused}`);
  return file;
}

/** Says on a terminal which config a command uses, unless that is to be quiet; scripts have `check --json`. */
export function sayConfigFile(file: string): void {
  if (isatty(2) && !saysOwn('--quiet', '-q', '--json')) process.stderr.write(`config: ${file}\n`);
}

/**
 * Loads the config for a command that uses storage, audit or state. Where this is root and the config names another user, the command goes
 * on as that user in a process of its own, whose end is this one's: then this does not return.
 * @param file - as for `findConfigFile`
 * @throws GatewayError `invalid-config`
 */
export async function loadOwnConfig(file: string | undefined): Promise<GatewayConfig> {
  const config = loadConfig(chooseConfigFile(file));
  await goOnAsUser(config);
  sayConfigFile(config.file);
  return config;
}

/** As `loadOwnConfig`, for a config that is loaded. */
export async function goOnAsUser(config: GatewayConfig): Promise<void> {
  if (process.geteuid?.() === 0) await (await import('./root.ts')).leaveRoot(config);
}
