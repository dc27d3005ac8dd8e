/**
 * The user that all clients log in as: made, or made fit for sshd to start forced commands as.
 *
 * Source: sshd(8) (a login runs the user's shell with -c), sshd_config(5) UsePAM (without PAM, sshd refuses an account whose password is
 * locked by `!`), shadow(5).
 */
import { accessSync, constants, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { GatewayError } from '../../core/errors.ts';
import { findAccount, type Account } from '../account.ts';
import { runSystem, type Step } from './steps.ts';

const SHELL = '/bin/sh';
/** Shells that run no command. */
const NO_SHELLS = new Set(['nologin', 'false', 'true', 'sync', 'shutdown', 'halt']);
/** As useradd takes it. */
const NAME = /^[a-z_][a-z0-9_-]{0,31}$/;
/** No password that anybody could type, and not locked. */
const NO_PASSWORD = '*';

/** @throws GatewayError `usage` for a user that clients must not log in as */
export async function planLoginUser(name: string, usesPam: boolean): Promise<readonly Step[]> {
  if (!NAME.test(name)) throw new GatewayError('usage', { detail: `--user ${name}: this is no name of a user` });
  const account = await findAccount(name);
  if (account === undefined) return [makeUser(name)];
  if (account.uid === 0)
    throw new GatewayError('usage', { detail: `--user ${name}: clients must not log in as root; name another user` });
  const steps: Step[] = [];
  if (!isUsable(account.shell)) steps.push(changeShell(account));
  const password = passwordOf(name);
  // What is behind the lock is a password, and its user a person: whether that may log in is not for this command to decide.
  if (!usesPam && password !== undefined && /^!+\*?$/.test(password)) steps.push(unlock(name, password));
  return steps;
}

function makeUser(name: string): Step {
  const options = ['--system', '--user-group', '--no-create-home', '--home-dir', '/', '--shell', SHELL];
  return onceDone(
    `make the user ${name}, with the shell ${SHELL} and no password`,
    ['useradd', [...options, '--password', NO_PASSWORD, name]],
    // Although a process that was tried as this user may still be ending.
    ['userdel', ['--force', name]],
  );
}

function changeShell({ name, shell }: Account): Step {
  return onceDone(
    `give ${name} the shell ${SHELL} instead of ${shell === '' ? 'none' : shell}, so that sshd can start the gateway as this user`,
    ['usermod', ['--shell', SHELL, name]],
    ['usermod', ['--shell', shell, name]],
  );
}

function unlock(name: string, password: string): Step {
  return onceDone(
    `unlock ${name}, without a password, since sshd without PAM lets no locked user in`,
    ['usermod', ['--password', NO_PASSWORD, name]],
    ['usermod', ['--password', password, name]],
  );
}

type Call = Parameters<typeof runSystem>;

/** A program that changes something whole or not at all, and the one that takes it back. */
function onceDone(what: string, there: Call, back: Call): Step {
  let done = false;
  return {
    what,
    run: () => {
      runSystem(...there);
      done = true;
    },
    undo: () => {
      if (done) runSystem(...back);
    },
  };
}

function isUsable(shell: string): boolean {
  if (NO_SHELLS.has(basename(shell))) return false;
  try {
    accessSync(shell === '' ? SHELL : shell, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The password field of a user of this machine; undefined for one that a directory service has. */
function passwordOf(name: string): string | undefined {
  try {
    const line = readFileSync('/etc/shadow', 'utf8')
      .split('\n')
      .find((one) => one.startsWith(`${name}:`));
    return line?.split(':')[1];
  } catch {
    return undefined;
  }
}
