/** The small parser of the commands that sshd starts at every login and that therefore do without a larger one. */
import { GatewayError } from '../core/errors.ts';

/** A parsed command line. */
export interface ParsedArguments {
  readonly help: boolean;
  readonly words: readonly string[];
  /** By long name; flags are `true`. */
  readonly options: Readonly<Record<string, string | true | undefined>>;
}

/**
 * Parses `--name VALUE`, `--name=VALUE`, `-c VALUE` and words.
 * @param options - the long names that take a value
 * @param flags - those that do not
 * @param usage - one line, said with every error
 * @throws GatewayError `usage`
 */
export function parseArguments(
  argv: readonly string[],
  {
    options,
    flags = [],
    usage,
  }: { readonly options: readonly string[]; readonly flags?: readonly string[]; readonly usage: string },
): ParsedArguments {
  const words: string[] = [];
  const found: Record<string, string | true> = {};
  let help = false;
  const rest = [...argv];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (!arg.startsWith('-')) {
      words.push(arg);
      continue;
    }
    const [, long = '', value] = /^--?([a-z-]+)(?:=(.*))?$/s.exec(arg) ?? [];
    const name = arg.startsWith('--') ? long : long === 'c' ? 'config' : '';
    if (name === 'help') help = true;
    else if (flags.includes(name) && value === undefined) found[name] = true;
    else if (options.includes(name)) {
      const given = value ?? rest.shift();
      if (given === undefined) throw new GatewayError('usage', { detail: `${arg} needs a value; ${usage}` });
      found[name] = given;
    } else throw new GatewayError('usage', { detail: `cannot make sense of ${arg}; ${usage}` });
  }
  return { help, words, options: found };
}

/** An option's value as text, undefined when it was not given. */
export function textOption(parsed: ParsedArguments, name: string): string | undefined {
  const value = parsed.options[name];
  return typeof value === 'string' ? value : undefined;
}
