/** The parser of the commands that sshd starts at every login and that therefore do without yargs: Node's own. */
import { GatewayError, messageOf } from '../core/errors.ts';

/**
 * What a call of `parseArgs` (node:util) makes of a command line.
 * @param usage - one line, said with every error
 * @throws GatewayError `usage`
 */
export function orUsage<T>(usage: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    // Node goes on with advice that is for other programs.
    throw new GatewayError('usage', { detail: `${messageOf(error).split('. ', 1)[0] ?? ''}; ${usage}`, cause: error });
  }
}
