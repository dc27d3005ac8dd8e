/** Users of this machine, by name and by number. */
import { readFileSync } from 'node:fs';

/** A user of this machine. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  /** Absolute path of the home directory; there need not be one. */
  readonly home: string;
  /** Absolute path of the login shell; empty for the system's own choice. */
  readonly shell: string;
}

/** Where the system's own programs are, whatever this process was given as PATH. */
export const SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * The user of a name or number, or undefined when there is none.
 *
 * Source: passwd(5); getent(1) for those that a directory service has.
 */
export async function findAccount(user: string | number): Promise<Account | undefined> {
  const key = String(user);
  const isNumber = /^\d+$/.test(key);
  return parse(localAccounts(), key, isNumber) ?? parse(await askedAccounts(key), key, isNumber);
}

/** `NAME (uid N)`, or the number alone where it has no name. */
export async function accountName(uid: number): Promise<string> {
  const account = await findAccount(uid);
  return account === undefined ? `the unknown uid ${uid}` : `${account.name} (uid ${uid})`;
}

function parse(text: string, key: string, isNumber: boolean): Account | undefined {
  for (const line of text.split('\n')) {
    const [name = '', , uid = '', gid = '', , home = '/', shell = ''] = line.split(':');
    if ((isNumber ? uid : name) !== key || !/^\d+$/.test(uid) || !/^\d+$/.test(gid)) continue;
    return { name, uid: Number(uid), gid: Number(gid), home, shell };
  }
  return undefined;
}

function localAccounts(): string {
  try {
    return readFileSync('/etc/passwd', 'utf8');
  } catch {
    return '';
  }
}

async function askedAccounts(key: string): Promise<string> {
  const { execFileSync } = await import('node:child_process');
  try {
    return execFileSync('getent', ['passwd', key], {
      encoding: 'utf8',
      env: { PATH: SYSTEM_PATH },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch {
    return '';
  }
}
