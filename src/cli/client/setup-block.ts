/** What a client's machine needs to reach the gateway, as lines to paste into a shell there. */
import { hostname } from 'node:os';
import { trustedUsers } from '../../config/trusted-files.ts';
import { parseListen } from '../../config/values.ts';
import type { GatewayConfig } from '../../config/types.ts';
import { readHostKey } from '../../frontends/host-key.ts';
import { findAccount } from '../account.ts';

/** The parts of a client's set-up. */
interface ClientSetup {
  /** A block of ssh_config(5). */
  readonly sshConfig: string;
  /** Lines of a known_hosts file; empty when the config has no host key, because clients connect to OpenSSH. */
  readonly knownHosts: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** What `-o rclone.program=` is to say. */
  readonly program: string;
  /** Whether the host's name is a guess: this machine's own. */
  readonly guessedHost: boolean;
}

/** Where a gateway is for its clients. */
interface ClientAddress {
  readonly host: string;
  readonly port: number;
  readonly guessed: boolean;
}

/** @param option - what `--host` names: NAME or NAME:PORT. @throws GatewayError `invalid-config` when that is neither */
export function clientAddress(config: GatewayConfig, option: string | undefined): ClientAddress {
  const { host, port } = config.listen;
  if (option !== undefined) {
    const named = /:\d+$|^\[.*\]$/.test(option) ? option : `${option}:${port}`;
    return { ...parseListen(/\]$/.test(named) ? `${named}:${port}` : named), guessed: false };
  }
  if (host === '0.0.0.0' || host === '::') return { host: hostname(), port, guessed: true };
  return { host, port, guessed: false };
}

/** @throws GatewayError `invalid-config` when a host key cannot be read */
export async function clientSetup(
  config: GatewayConfig,
  client: string,
  { host, port, guessed }: ClientAddress,
): Promise<ClientSetup> {
  // Of host keys that are the gateway's user's, root takes what is public.
  const users = [...trustedUsers()];
  if (config.user !== undefined) users.push((await findAccount(config.user))?.uid ?? 0);
  const keys = await Promise.all(config.hostKeys.map((file) => readHostKey(file, users)));
  const name = port === 22 ? host : `[${host}]:${port}`;
  const alias = `restic-gateway-${client}`;
  return {
    sshConfig: [
      `Host ${alias}`,
      `    HostName ${host}`,
      `    Port ${port}`,
      '    User backup',
      `    IdentityFile ~/.ssh/${client}_ed25519`,
      '    IdentitiesOnly yes',
      '    StrictHostKeyChecking yes',
      '',
    ].join('\n'),
    knownHosts: keys.map(({ publicKey }) => `${name} ${publicKey}`),
    environment: { RESTIC_REPOSITORY: 'rclone:x', RESTIC_PASSWORD_FILE: '$HOME/.restic-password' },
    program: `ssh ${alias}`,
    guessedHost: guessed,
  };
}

/** The set-up as lines for a shell, each of which can be pasted as it stands. */
export function setupLines(client: string, { sshConfig, knownHosts, environment, program }: ClientSetup): string {
  const known =
    knownHosts.length === 0
      ? [
          '# known_hosts: add the host key of the OpenSSH server that clients connect to; its line ends in its ssh_host_ed25519_key.pub',
        ]
      : ["cat >> ~/.ssh/known_hosts <<'END'", ...knownHosts, 'END'];
  return [
    `# On the client, as the user who runs restic; the private key of ${client} goes to ~/.ssh/${client}_ed25519 (chmod 600).`,
    'mkdir -p -m 700 ~/.ssh',
    "cat >> ~/.ssh/config <<'END'",
    `${sshConfig}END`,
    ...known,
    '# The password of the repository: without it no backup can be read again, so keep a copy elsewhere.',
    '[ -e ~/.restic-password ] || (umask 077; head -c 32 /dev/urandom | base64 > ~/.restic-password)',
    ...Object.entries(environment).map(([name, value]) => `export ${name}="${value}"`),
    `restic -o rclone.program="${program}" init`,
    `restic -o rclone.program="${program}" backup /etc`,
    '',
  ].join('\n');
}
