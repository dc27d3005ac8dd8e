/**
 * The lines of sshd_config by which clients get to the gateway and to nothing else.
 *
 * Source: sshd_config(5); servconf.c and misc.c of OpenSSH 9.2: AuthorizedKeysCommand is the rest of its line, split at blanks outside of
 * quotes, with % as an escape; its program, and each directory above that, must be root's and writable for root alone (`safe_path`).
 */
import { execFileSync } from 'node:child_process';
import { lstatSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import { invalid } from '../../config/problems.ts';
import { whyUntrusted } from '../../config/trusted-files.ts';
import { SSHD } from '../sshd.ts';

/** Keyword and value of each line. */
export type Settings = readonly (readonly [keyword: string, value: string])[];

/**
 * @param program - absolute paths of Node and of the gateway's executable
 * @param config - absolute path
 * @throws GatewayError `invalid-config` when one of these paths cannot stand there
 */
export function settingsFor(user: string, program: readonly string[], config: string): Settings {
  const [node = ''] = program;
  // sshd takes a quote at the beginning for no absolute path.
  if (!/^[\w@+=:,./-]+$/.test(node))
    throw invalid(`${node}: sshd takes no program with such a name; install Node elsewhere`);
  const command = [...program, 'authorized-keys', '-c', config].map(quote).join(' ');
  return [
    ['AuthorizedKeysCommand', `${command} --type %t --key %k`],
    ['AuthorizedKeysCommandUser', user],
    ['AuthorizedKeysFile', 'none'],
    // Certificates come in by AuthorizedKeysCommand, too. By a CA of all users one would get a shell: it brings no command of ours.
    ['TrustedUserCAKeys', 'none'],
    ['AuthenticationMethods', 'publickey'],
    ['PubkeyAuthentication', 'yes'],
    // Either, set for all users, would take the place of the gateway's command, or hide it.
    ['ForceCommand', 'none'],
    ['ChrootDirectory', 'none'],
    ['ExposeAuthInfo', 'yes'],
    // Within a Match, these are all that is taken: nothing that would run code in the shell.
    ['AcceptEnv', 'LANG'],
    ['DisableForwarding', 'yes'],
    ['PermitTTY', 'no'],
    ['PermitUserRC', 'no'],
    // A client that falls silent keeps its session for ten minutes, as at our own server, and not until TCP gives up.
    ['ClientAliveInterval', '15'],
    ['ClientAliveCountMax', '40'],
  ];
}

function quote(word: string): string {
  if (/[\0\r\n]/.test(word))
    throw invalid(`a path with a line break cannot stand in sshd_config; move ${JSON.stringify(word)}`);
  const escaped = word.replaceAll('%', '%%');
  return /^[\w@%+=:,./-]+$/.test(escaped) ? escaped : `"${escaped.replaceAll(/["\\]/g, '\\$&')}"`;
}

/** As lines of sshd_config. */
export function matchBlock(user: string, settings: Settings): string {
  return [`Match User ${user}`, ...settings.map((pair) => `    ${pair.join(' ')}`)].map((line) => `${line}\n`).join('');
}

/**
 * What sshd says that holds for a login of this user, as lines of `keyword value`.
 * @param file - sshd_config
 * @throws GatewayError `invalid-config` with what sshd says is wrong
 */
export function effectiveSettings(file: string, user: string): string {
  try {
    return execFileSync(SSHD, ['-T', '-f', file, '-C', `user=${user},host=localhost,addr=127.0.0.1`], {
      encoding: 'utf8',
      timeout: 10_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (error) {
    const { stderr, message, code } = error as Error & { readonly stderr?: string; readonly code?: string };
    if (code === 'ENOENT')
      throw invalid(`${SSHD}: there is no OpenSSH server on this machine; run: apt-get install openssh-server`);
    const said = (stderr ?? '').trim() || message;
    // Its service makes that directory.
    const hint = said.startsWith('Missing privilege separation') ? '; start sshd first: systemctl start ssh' : '';
    throw invalid(`sshd does not take its settings in ${file}: ${said}${hint}`);
  }
}

/** Which of the settings do not hold, each as `keyword value`, where `effective` is what sshd says that holds. */
export function missingIn(effective: string, settings: Settings): readonly string[] {
  const held = new Map<string, string[]>();
  for (const line of effective.split('\n')) {
    const [keyword = ''] = line.split(' ');
    held.set(keyword, [...(held.get(keyword) ?? []), line.slice(keyword.length + 1).trim()]);
  }
  return settings.flatMap(([keyword, value]) => {
    const values = held.get(keyword.toLowerCase()) ?? [];
    return values.length === 1 && values[0] === value ? [] : [`${keyword} ${value}`];
  });
}

/**
 * Why sshd, or root, must not obey the program; undefined when everything is OK.
 * @param program - as for `settingsFor`
 */
export function whyProgramUnsafe(program: readonly string[]): string | undefined {
  const [node = '', script] = program;
  const install = 'install the gateway and Node for root alone to change, as the Debian package does';
  // sshd is stricter with the program: no directory on the way may be written to by others, sticky or not.
  for (let path = realpathSync(node); ; path = dirname(path)) {
    const { uid, mode } = lstatSync(path);
    if (uid !== 0 || (mode & 0o022) !== 0)
      return `${path}: sshd starts no AuthorizedKeysCommand from here (${node}), since it is not for root alone to change; ${install}`;
    if (path === '/') break;
  }
  // sshd looks no further, but whoever can change the script decides who logs in.
  if (script === undefined) return undefined;
  const unsafe = [script, dirname(dirname(script))]
    .map((path) => whyUntrusted(path, [0]))
    .find((why) => why !== undefined);
  return unsafe === undefined ? undefined : `${unsafe}; or ${install}`;
}
