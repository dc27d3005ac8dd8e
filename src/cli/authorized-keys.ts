/** `restic-gateway authorized-keys`: answers sshd's AuthorizedKeysCommand from the YAML. Runs at every login, so it loads little. */
import { findConfigFile, loadConfig } from '../config/load.ts';
import { GatewayError } from '../core/errors.ts';
import { authorizedKeysLine } from '../doors/authorized-keys.ts';
import { parseArguments, textOption } from './arguments.ts';
import { ownProgram } from './program.ts';

const USAGE = 'usage: restic-gateway authorized-keys [-c FILE] [--type %t --key %k]';

/** Prints the lines of all keys, or of the one that sshd asks for. @returns the exit status */
export function runAuthorizedKeys(argv: readonly string[]): number {
  const parsed = parseArguments(argv, { options: ['config', 'type', 'key'], usage: USAGE });
  if (parsed.words.length > 0) throw new GatewayError('usage', { detail: USAGE });
  if (parsed.help) {
    process.stdout.write(`${USAGE}\n\nPrints authorized_keys lines for sshd's AuthorizedKeysCommand.\n`);
    return 0;
  }
  const type = textOption(parsed, 'type');
  const blob = textOption(parsed, 'key');
  const config = loadConfig(findConfigFile(textOption(parsed, 'config')));
  const line = { program: ownProgram(), config: config.file };
  for (const client of Object.values(config.clients))
    for (const key of client.keys)
      if ((type ?? key.type) === key.type && (blob ?? key.blob) === key.blob)
        process.stdout.write(`${authorizedKeysLine(client, key, line)}\n`);
  return 0;
}
