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
  /** Units of systemd for a daily backup, to go below /etc/systemd/system; `%h` is the home of whoever runs them: root. */
  readonly service: string;
  readonly timer: string;
  /** A line of a crontab for the same. */
  readonly cron: string;
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
  const [{ host, port } = { host: '::', port: 22 }] = config.listen;
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
      // ssh, and with it restic, does not wait for ever for a gateway that has vanished, or that answers no more while they connect.
      '    ConnectTimeout 60',
      '    ServerAliveInterval 15',
      '    ServerAliveCountMax 4',
      '',
    ].join('\n'),
    knownHosts: keys.map(({ publicKey }) => `${name} ${publicKey}`),
    environment: { RESTIC_REPOSITORY: 'rclone:x', RESTIC_PASSWORD_FILE: '$HOME/.restic-password' },
    program: `ssh ${alias}`,
    service: [
      '[Unit]',
      `Description=Backup by restic to ${alias}`,
      'Wants=network-online.target',
      'After=network-online.target',
      '',
      '[Service]',
      'Type=oneshot',
      'Environment=HOME=%h RESTIC_REPOSITORY=rclone:x RESTIC_PASSWORD_FILE=%h/.restic-password',
      `ExecStart=restic -q ${RETRY} -o "rclone.program=ssh ${alias}" backup /etc`,
      '',
    ].join('\n'),
    timer: [
      '[Unit]',
      `Description=Daily backup by restic to ${alias}`,
      '',
      '[Timer]',
      'OnCalendar=daily',
      // Not all clients at once, and after a night switched off in the morning.
      'RandomizedDelaySec=1h',
      'Persistent=true',
      '',
      '[Install]',
      'WantedBy=timers.target',
      '',
    ].join('\n'),
    cron: `${minuteOf(client)} 2 * * * RESTIC_REPOSITORY=rclone:x RESTIC_PASSWORD_FILE="$HOME/.restic-password" restic -q ${RETRY} -o rclone.program="ssh ${alias}" backup /etc`,
    guessedHost: guessed,
  };
}

/** While the admin prunes, a backup waits for its lock. From restic 0.16. */
const RETRY = '--retry-lock 1h';

/** A minute of the hour for a client, so that not all of them come at once. */
function minuteOf(client: string): number {
  return Array.from(client).reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % 60, 0);
}

/** The set-up as lines for a shell, each of which can be pasted as it stands. */
export function setupLines(client: string, setup: ClientSetup): string {
  const { sshConfig, knownHosts, environment, program, service, timer, cron } = setup;
  const unit = `/etc/systemd/system/restic-gateway-${client}`;
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
    '# Then daily, if root runs restic, by systemd (restic before 0.16 has no --retry-lock: leave it out):',
    ...commented([
      `cat > ${unit}.service <<'END'`,
      `${service}END`,
      `cat > ${unit}.timer <<'END'`,
      `${timer}END`,
      `systemctl enable --now restic-gateway-${client}.timer`,
    ]),
    '# Or by cron, a line of "crontab -e" of any user:',
    ...commented([cron]),
    '',
  ].join('\n');
}

/** Lines that are not run when the whole is pasted: either the timer or cron, and what is backed up is to be changed first. */
function commented(blocks: readonly string[]): readonly string[] {
  return blocks
    .join('\n')
    .split('\n')
    .map((text) => `#   ${text}`.trimEnd());
}
