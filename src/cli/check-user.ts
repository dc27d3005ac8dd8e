/**
 * `restic-gateway check --live --user NAME`: everything as the user that will run, `serve` or forced commands. Where sshd has this user as
 * the one whom clients log in as, its way in is tried too, by logins through a real sshd.
 */
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { loadConfig } from '../config/load.ts';
import { readSmallFile } from '../config/small-file.ts';
import { asGatewayError, GatewayError } from '../core/errors.ts';
import { findAccount, type Account } from './account.ts';
import { jsonLine } from './json.ts';
import { chooseConfigFile } from './own-user.ts';
import { ownProgram, refuseInForcedCommand } from './program.ts';
import { withProgress } from './progress.ts';
import { startAs } from './root.ts';
import { inTrialDirectory, tryLogins } from './sshd-setup/dry-login.ts';
import { effectiveSettings, whyProgramUnsafe } from './sshd-setup/match-block.ts';
import { SSHD, SSHD_CONFIG } from './sshd.ts';
import { prose } from './terminal.ts';

/** Of authorized_keys that is looked at. */
const MOST_BYTES = 16 * 1024 * 1024;

/** What came of sshd's part. */
interface SshdCheck {
  readonly outcome: 'holds' | 'fails' | 'note';
  readonly detail: string;
}

/** @returns the exit status, as of `check`; 1 when sshd's way in does not hold. @throws GatewayError `usage`, `invalid-config` */
export async function runCheckAs(given: {
  readonly config: string | undefined;
  readonly live: boolean;
  readonly user: string;
  readonly sshdConfig: string | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
}): Promise<number> {
  refuseInForcedCommand();
  if (!given.live) throw new GatewayError('usage', { detail: '--user is for check --live' });
  if (process.geteuid?.() !== 0)
    throw new GatewayError('usage', { detail: 'only root can check as another user; run this as root' });
  const account = await findAccount(given.user);
  if (account === undefined)
    throw new GatewayError('usage', {
      detail: `there is no user ${given.user}; to let clients log in as this user: restic-gateway sshd-setup --user ${given.user}`,
    });
  const file = chooseConfigFile(given.config);
  const { status, stdout } = await checkAs(account, file, given);
  // What is wrong in the config is told by then, and stands in the way of all else.
  if (status === 2) {
    process.stdout.write(stdout);
    return status;
  }
  const sshd = await withProgress(`trying logins as ${account.name}`, () =>
    checkSshd(account, file, resolve(given.sshdConfig ?? SSHD_CONFIG)),
  );
  const fails = sshd.outcome === 'fails';
  if (given.json) {
    const told = JSON.parse(stdout === '' ? '{}' : stdout) as Record<string, unknown>;
    const good = told['good'] === true && !fails;
    process.stdout.write(jsonLine('check', { ...told, good, user: account.name, sshd }));
  } else {
    process.stdout.write(stdout);
    if (!given.quiet || fails) process.stdout.write(prose(`sshd: ${sshd.outcome}: ${sshd.detail}`));
  }
  return status === 0 && fails ? 1 : status;
}

/** `check --live` as the user; stderr is this process's. */
async function checkAs(
  account: Account,
  file: string,
  { json, quiet }: { readonly json: boolean; readonly quiet: boolean },
): Promise<{ readonly status: number; readonly stdout: string }> {
  const [, script = ''] = process.argv;
  const words = ['check', '--live', ...(json ? ['--json'] : []), ...(quiet ? ['--quiet'] : []), '-c', file];
  const child = await startAs(account, [script, ...words], {}, ['ignore', 'pipe', 'inherit']);
  const [stdout] = await Promise.all([child.stdout === null ? '' : textOf(child.stdout), once(child, 'close')]);
  return { status: child.exitCode ?? 1, stdout };
}

async function checkSshd(account: Account, file: string, sshdConfig: string): Promise<SshdCheck> {
  const { name: user } = account;
  try {
    if (!existsSync(SSHD)) return { outcome: 'note', detail: 'there is no OpenSSH server on this machine' };
    const [, command = ''] = /^authorizedkeyscommand (.*)$/m.exec(effectiveSettings(sshdConfig, user)) ?? [];
    const byCommand = / authorized-keys(?: |$)/.test(command);
    if (!byCommand && !hasLines(account))
      return {
        outcome: 'note',
        detail: `${user} is not set up as a login user; if clients are to come through sshd: restic-gateway sshd-setup --user ${user}`,
      };
    const program = ownProgram();
    const [named = ''] = command.split(' ');
    if (byCommand && !existsSync(named)) return { outcome: 'fails', detail: `${named}: there is no such program` };
    const unsafe = byCommand ? (whyProgramUnsafe([named]) ?? whyProgramUnsafe(program)) : undefined;
    if (unsafe !== undefined) return { outcome: 'fails', detail: unsafe };
    const config = loadConfig(file);
    const text = readFileSync(sshdConfig, 'utf8');
    await inTrialDirectory((directory) => tryLogins(directory, { user, text, program, config, byCommand }));
    return { outcome: 'holds', detail: `a login as ${user} starts the forced command, and a key of nobody is refused` };
  } catch (error) {
    return { outcome: 'fails', detail: asGatewayError(error).message };
  }
}

/** Whether the user's own authorized_keys start the gateway. */
function hasLines({ home }: Account): boolean {
  try {
    return / stdio /.test(readSmallFile(join(home, '.ssh/authorized_keys'), MOST_BYTES).toString());
  } catch {
    return false;
  }
}
