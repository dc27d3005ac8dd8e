/** `restic-gateway authorized-keys`: answers sshd's AuthorizedKeysCommand from the YAML. Runs at every login, so it loads little. */
import { parseArgs } from 'node:util';
import { findConfigFile, loadConfig } from '../config/load.ts';
import { authorizedKeysLine } from '../frontends/authorized-keys.ts';
import { orUsage } from './arguments.ts';
import { ownProgram } from './program.ts';

const USAGE = 'usage: restic-gateway authorized-keys [-c FILE] [--type %t --key %k]';

/** Prints the lines of all keys, or of the one that sshd asks for. @returns the exit status */
export function runAuthorizedKeys(argv: readonly string[]): number {
  const {
    config: file,
    type,
    key: blob,
    help,
  } = orUsage(USAGE, () =>
    parseArgs({
      args: [...argv],
      options: {
        config: { type: 'string', short: 'c' },
        help: { type: 'boolean' },
        type: { type: 'string' },
        key: { type: 'string' },
      },
    }),
  ).values;
  if (help === true) {
    process.stdout.write(`${USAGE}\n\nPrints authorized_keys lines for sshd's AuthorizedKeysCommand.\n`);
    return 0;
  }
  const config = loadConfig(findConfigFile(file));
  const line = { program: ownProgram(), config: config.file };
  for (const client of Object.values(config.clients))
    for (const key of client.keys)
      if ((type ?? key.type) === key.type && (blob ?? key.blob) === key.blob)
        process.stdout.write(`${authorizedKeysLine(client, key, line)}\n`);
  return 0;
}
