/** Values on a command line, written as in the YAML. */
import { UsageError } from './command-line/usage-error.ts';
import { messageOf } from '../core/errors.ts';

/** A value as the config's own parser reads it. @throws GatewayError `usage` that names the option */
export function parseOption<T>(option: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text);
  } catch (error) {
    throw new UsageError(`${option} ${text}: ${messageOf(error)}`);
  }
}
