/** What root does at the beginning of a command that uses storage, audit or state: it goes on as the gateway's user. */
import type { ChildProcess, StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync } from 'node:fs';
import { dirname } from 'node:path';
import { isatty } from 'node:tty';
import { invalid } from '../config/problems.ts';
import { whyUntrusted } from '../config/trusted-files.ts';
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError, messageOf } from '../core/errors.ts';
import { withoutPasswords } from './admin-run.ts';
import { accountName, findAccount, type Account } from './account.ts';

/** From util-linux. Unlike what Node does itself, it gives the user's further groups, too. */
export const SETPRIV = '/usr/bin/setpriv';

/** Signals that a service manager or a person sends to the process that they have started. */
const PASSED_ON = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const;

/**
 * Goes on as the gateway's user, and then does not return; or returns where root is that user, and nobody else has a hand in its files.
 * @throws GatewayError `invalid-config`
 */
export async function leaveRoot(config: GatewayConfig): Promise<void> {
  const account = await userOf(config);
  if (account === undefined || account.uid === 0) {
    await mustBeRootsOwn(config);
    return;
  }
  const owner = lstatSync(config.state, { throwIfNoEntry: false })?.uid ?? 0;
  if (owner !== 0 && (await findAccount(owner)) === undefined)
    throw invalid(
      `${config.state}: belongs to ${await accountName(owner)}, but user: in ${config.file} says ${account.name}; run: chown -R ${account.name} ${config.state}`,
    );
  await continueAs(account, config);
}

/** The user that the config names, undefined when it names none. @throws GatewayError `invalid-config` when there is no such user */
async function userOf({ user, file }: Pick<GatewayConfig, 'user' | 'file'>): Promise<Account | undefined> {
  if (user === undefined) return undefined;
  const account = await findAccount(user);
  if (account === undefined)
    throw invalid(`${file}: user: there is no user ${user} on this machine; make one: useradd --system ${user}`);
  return account;
}

/** Where root is the gateway's user, nobody else may have a hand in what it writes. @throws GatewayError `invalid-config` */
async function mustBeRootsOwn({ file, user, state, audit, stores }: GatewayConfig): Promise<void> {
  const places = [state, dirname(audit.file), audit.file].map((place) => ({ place, leadsOn: false }));
  // Who else may write to a store's own directory is what `check --live` looks at.
  for (const store of Object.values(stores))
    if (store.type === 'directory') {
      const roots = foreignOwner(store.path) === undefined;
      places.push({ place: roots ? dirname(store.path) : store.path, leadsOn: roots });
    }
  for (const { place, leadsOn } of places) {
    const problem = whyUntrusted(place, [0], leadsOn);
    if (problem === undefined) continue;
    const owner = foreignOwner(place);
    const account = owner === undefined ? undefined : await findAccount(owner);
    if (owner === undefined || user !== undefined) throw invalid(`${file}: root does not work there: ${problem}`);
    throw invalid(
      account === undefined
        ? `${place}: belongs to ${await accountName(owner)}; give it to the gateway's user (chown), and name that one in ${file}: user: NAME`
        : `${place}: belongs to ${await accountName(owner)}, where root does not work; if that is the gateway's user, add this line to ${file}: user: ${account.name}`,
    );
  }
}

/** Whose a place is that is not root's: its own owner, else that of a directory above it. */
function foreignOwner(place: string): number | undefined {
  for (let path = place; ; path = dirname(path)) {
    const uid = lstatSync(path, { throwIfNoEntry: false })?.uid ?? 0;
    if (uid !== 0) return uid;
    if (dirname(path) === path) return undefined;
  }
}

/** Runs this very command once more as another user, and ends as it does. */
async function continueAs(account: Account, { file }: GatewayConfig): Promise<never> {
  const { uid } = account;
  // What stands for the config must be what this process has read, whatever lies in the working directory.
  const env = { RESTIC_GATEWAY_CONFIG: file };
  const child = await startAs(account, process.argv.slice(1), env, 'inherit');
  // A terminal sends its signals to both.
  const onTerminal = isatty(0) || isatty(1) || isatty(2);
  for (const signal of PASSED_ON)
    process.on(signal, () => {
      if (!(onTerminal && (signal === 'SIGINT' || signal === 'SIGQUIT'))) child.kill(signal);
    });
  const [code, signal] = (await once(child, 'exit').catch((error: unknown) => {
    throw new GatewayError('usage', {
      detail: `the command cannot go on as uid ${uid}: ${messageOf(error)}`,
      cause: error,
    });
  })) as [number | null, NodeJS.Signals | null];
  if (signal !== null) {
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  }
  process.exit(code ?? 1);
}

/**
 * Starts this program as another user.
 * @param argv - from the script on
 * @param env - beside this process's own environment, without restic's passwords: whoever has the gateway's user must not read them there
 */
export async function startAs(
  { uid, gid, home }: Account,
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  stdio: StdioOptions,
): Promise<ChildProcess> {
  const { spawn } = await import('node:child_process');
  const again = [process.execPath, ...process.execArgv, ...argv];
  const options = { env: { ...withoutPasswords(process.env), HOME: home, ...env }, stdio };
  // Not process.setuid and its kin: Debian's Node refuses them since io_uring may be in use, and threads might keep root's rights.
  const [program = '', ...args] = again;
  if (!existsSync(SETPRIV)) return spawn(program, args, { ...options, uid, gid });
  const rights = [`--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--inh-caps=-all', '--pdeathsig=TERM'];
  return spawn(SETPRIV, [...rights, ...again], options);
}
