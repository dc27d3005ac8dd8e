/** Real OpenSSH: keys by ssh-keygen, an sshd on the loopback with a config of its own, and the client's arguments. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import path from 'node:path';
import { tempDir } from './lab-files.ts';
import { lab } from './lab-peers.ts';
import { freePort, run, startProcess, type LabProcess } from './lab-process.ts';

/** An ssh-ed25519 key as files. */
export interface KeyFiles {
  readonly privateFile: string;
  readonly publicFile: string;
  /** `ssh-ed25519 AAAA… comment`, as in authorized_keys. */
  readonly publicLine: string;
  /** `SHA256:` and 43 characters of base64. */
  readonly fingerprint: string;
}

/** What an sshd is started with. */
interface SshdOptions {
  /** Whom it lets in: lines of an authorized_keys file … */
  readonly authorizedKeysLines?: readonly string[];
  /** … or a command that prints them, with sshd's tokens (%t, %k, …); run as this process's user, found in its PATH. */
  readonly authorizedKeysCommand?: string;
  /** A new one by default. */
  readonly hostKey?: KeyFiles;
  /** The only user who may log in; this process's by default, and none but root can let in another. */
  readonly user?: string;
  /** Further lines of sshd_config. */
  readonly settings?: readonly string[];
  /** OpenSSH 10 or newer instead of this Debian's. */
  readonly newest?: boolean;
}

/** An sshd that runs. */
interface Sshd {
  readonly port: number;
  readonly user: string;
  /** A known_hosts file that holds its host key. */
  readonly knownHosts: string;
  /** Its log so far, at level VERBOSE; grows. */
  readonly lines: readonly string[];
  readonly process: LabProcess;
  stop(): Promise<void>;
}

/** How a client reaches a server on the loopback. */
interface SshTarget {
  readonly port: number;
  readonly key: KeyFiles;
  /** A known_hosts file; the connection is refused when the server's key is not in it. */
  readonly knownHosts: string;
  /** This process's by default. */
  readonly user?: string;
}

/** Makes a new key without a passphrase. */
export async function generateKey(comment = 'test'): Promise<KeyFiles> {
  const privateFile = path.join(tempDir(), 'key');
  const publicFile = `${privateFile}.pub`;
  const { sshKeygen } = lab();
  const made = await run(sshKeygen, ['-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', privateFile]);
  const printed = await run(sshKeygen, ['-l', '-f', publicFile]);
  const fingerprint = /SHA256:\S{43}/.exec(printed.stdout)?.[0];
  if (fingerprint === undefined) throw new Error(`ssh-keygen made no key: ${made.stderr}${printed.stderr}`);
  return { privateFile, publicFile, publicLine: readFileSync(publicFile, 'utf8').trim(), fingerprint };
}

/** Arguments for `ssh`, up to and including the destination; a command may follow. Nobody's own settings, keys or agent have a say. */
export function sshClientArgs({ port, key, knownHosts, user = userInfo().username }: SshTarget): string[] {
  const options = [
    `IdentityFile=${key.privateFile}`,
    'IdentitiesOnly=yes',
    'IdentityAgent=none',
    `UserKnownHostsFile=${knownHosts}`,
    'GlobalKnownHostsFile=none',
    'StrictHostKeyChecking=yes',
    'BatchMode=yes',
  ];
  return ['-F', 'none', '-p', String(port), ...options.flatMap((option) => ['-o', option]), `${user}@127.0.0.1`];
}

/** Starts an sshd; it listens when this resolves, and is stopped at the end of the test file at the latest. */
export async function startSshd({
  authorizedKeysLines = [],
  authorizedKeysCommand,
  hostKey,
  user = userInfo().username,
  newest = false,
  settings = [],
}: SshdOptions): Promise<Sshd> {
  const directory = tempDir();
  // sshd reads the keys as the user who logs in
  chmodSync(directory, 0o755);
  const keys = path.join(directory, 'authorized_keys');
  const configFile = path.join(directory, 'sshd_config');
  const knownHosts = path.join(directory, 'known_hosts');
  const port = await freePort();
  const { privateFile, publicLine } = hostKey ?? (await generateKey());
  const program = newest ? lab().sshdNewest : lab().sshd;
  // sshd drops PATH; and it takes a command only from a directory that is root's all the way up, as env's is
  const setPath = `PATH=${process.env['PATH'] ?? ''}`;
  // The user's shell is started at each login, and what the person's own profile does in it is no part of the test
  const home = path.join(directory, 'home');
  mkdirSync(home);
  chmodSync(home, 0o777);
  const config = [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${privateFile}`,
    'PidFile none',
    'LogLevel VERBOSE',
    'StrictModes no',
    'UsePAM no',
    'AuthenticationMethods publickey',
    'PermitRootLogin prohibit-password',
    'ExposeAuthInfo yes',
    `AllowUsers ${user}`,
    ...settings,
    `SetEnv "${setPath}" "HOME=${home}"`,
    ...(authorizedKeysCommand === undefined
      ? [`AuthorizedKeysFile ${keys}`]
      : [
          'AuthorizedKeysFile none',
          `AuthorizedKeysCommandUser ${userInfo().username}`,
          `AuthorizedKeysCommand /usr/bin/env "${setPath.replaceAll('%', '%%')}" ${authorizedKeysCommand}`,
        ]),
    ...(newest
      ? [`SshdSessionPath ${path.dirname(program)}/sshd-session`, `SshdAuthPath ${path.dirname(program)}/sshd-auth`]
      : []),
  ];
  writeFileSync(keys, authorizedKeysLines.map((line) => `${line}\n`).join(''));
  writeFileSync(configFile, `${config.join('\n')}\n`);
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${publicLine}\n`);
  // Where root's sshd locks up the part that talks before authentication; a service manager makes it otherwise
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const server = await startProcess(program, ['-D', '-e', '-f', configFile]);
  await server.waitForLine(/^Server listening on /);
  return {
    port,
    user,
    knownHosts,
    lines: server.lines,
    process: server,
    stop: async () => {
      await server.stop();
    },
  };
}
