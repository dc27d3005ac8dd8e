/**
 * The config's keys, CAs and principals as lines for sshd, each bound to its client's forced command.
 *
 * Source: sshd(8), AUTHORIZED_KEYS FILE FORMAT: options `command`, `restrict`, `from`, `expiry-time`, `cert-authority`, `principals`; in a quoted value only `\"` is an
 * escape. sshd hands the command to the login user's shell.
 */
import type { ClientConfig, PublicKey } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';

/** How the forced command is started. */
interface ForcedCommandLine {
  /** Absolute paths of Node and of the gateway's executable. */
  readonly program: readonly string[];
  /** Absolute path of the config. */
  readonly config: string;
}

/**
 * What the forced command gets of its environment, and no more: NODE_OPTIONS or LD_PRELOAD of a client, which an sshd may be set up to take,
 * would be its code in the gateway. The login user's shell puts in what sshd has set; what is not set comes as empty.
 */
const ENVIRONMENT = [
  'PATH=/usr/local/bin:/usr/bin:/bin',
  ...['SSH_CONNECTION', 'SSH_ORIGINAL_COMMAND', 'SSH_USER_AUTH', 'LOGNAME'].map((name) => `${name}="$${name}"`),
];

type Bound = Pick<ClientConfig, 'name' | 'from' | 'expires'>;

/** The line for one key of a client. A disabled client has one too: the forced command then says so, in words and in the audit. */
export function authorizedKeysLine(
  client: Bound,
  key: Pick<PublicKey, 'type' | 'blob'>,
  line: ForcedCommandLine,
): string {
  return `${optionsOf(client, line).join(',')} ${key.type} ${key.blob} ${client.name}`;
}

/** The line for certificates of a CA that have one of a client's principals. */
export function authorityLine(
  client: Bound & Pick<ClientConfig, 'principals'>,
  authority: Pick<PublicKey, 'blob'> & { readonly type: string },
  line: ForcedCommandLine,
): string {
  const options = [
    ...optionsOf(client, line),
    'cert-authority',
    `principals=${optionQuote(client.principals.join(','))}`,
  ];
  return `${options.join(',')} ${authority.type} ${authority.blob} ${client.name}`;
}

/** The line for one principal of a client, as AuthorizedPrincipalsCommand and AuthorizedPrincipalsFile have it. */
export function authorizedPrincipalsLine(client: Bound, principal: string, line: ForcedCommandLine): string {
  return `${optionsOf(client, line).join(',')} ${principal}`;
}

function optionsOf(client: Bound, line: ForcedCommandLine): readonly string[] {
  const program = [...line.program, 'stdio', client.name, '-c', line.config].map(shellQuote);
  const command = ['/usr/bin/env -i', ...ENVIRONMENT, ...program].join(' ');
  const options = [`command=${optionQuote(command)}`, 'restrict'];
  if (client.from.length > 0) options.push(`from=${optionQuote(client.from.join(','))}`);
  if (client.expires !== undefined)
    options.push(`expiry-time=${optionQuote(client.expires.toISOString().replace(/[-:T]|\.\d+/g, ''))}`);
  return options;
}

/** One word for a POSIX shell, as `'…'` where it needs to be. */
export function shellQuote(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function optionQuote(value: string): string {
  if (/[\0\r\n]/.test(value))
    throw new GatewayError('invalid-config', {
      detail: 'a path with a line break cannot stand in authorized_keys; move the config or the program elsewhere',
    });
  return `"${value.replaceAll('"', '\\"')}"`;
}
