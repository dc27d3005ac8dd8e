/** `restic-gateway sshd-setup`: the login user, its files and sshd's settings for forced commands. All of it is done and holds, or nothing. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { loadConfig } from '../config/load.ts';
import { invalid } from '../config/problems.ts';
import { mustBeTrusted } from '../config/trusted-files.ts';
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError, messageOf } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import { findAccount, type Account } from './account.ts';
import { chooseConfigFile, sayConfigFile } from './own-user.ts';
import { ownProgram, refuseInForcedCommand } from './program.ts';
import { withProgress } from './progress.ts';
import { startAs } from './root.ts';
import { inTrialDirectory, tryLogins } from './sshd-setup/dry-login.ts';
import { planHandOver } from './sshd-setup/hand-over.ts';
import { planLoginUser } from './sshd-setup/login-user.ts';
import {
  effectiveSettings,
  matchBlock,
  missingIn,
  settingsFor,
  whyProgramUnsafe,
  type Settings,
} from './sshd-setup/match-block.ts';
import { stepsDone } from './sshd-setup/steps.ts';
import { SSHD_CONFIG, troubleIn } from './sshd.ts';

const UNIT = 'restic-gateway.service';

/** @returns the exit status. @throws GatewayError when something is missing or does not hold; nothing is changed then */
export async function runSshdSetup(given: {
  readonly config: string | undefined;
  readonly user: string | undefined;
  readonly sshdConfig: string | undefined;
  readonly dryRun: boolean;
  readonly quiet: boolean;
}): Promise<number> {
  refuseInForcedCommand({ takesInput: true });
  if (process.geteuid?.() !== 0)
    throw new GatewayError('usage', { detail: 'sshd-setup makes users and gives files away; run it as root' });
  const config = loadConfig(chooseConfigFile(given.config));
  const user = given.user ?? config.user;
  if (user === undefined)
    throw new GatewayError('usage', { detail: 'name the user that clients log in as: --user NAME' });
  mustBeOneUser(user, config);
  const sshdConfig = resolve(given.sshdConfig ?? SSHD_CONFIG);
  mustBeTrusted(sshdConfig, [0]);
  const program = ownProgram();
  const unsafe = whyProgramUnsafe(program);
  if (unsafe !== undefined) throw invalid(unsafe);
  const settings = settingsFor(user, program, config.file);
  const before = effectiveSettings(sshdConfig, user);
  const trouble = troubleIn(before).find((line) => line.includes('PermitUserEnvironment'));
  if (trouble !== undefined) throw invalid(`${sshdConfig}: ${trouble}`);

  let account = await findAccount(user);
  const steps = [
    ...(await planLoginUser(user, /^usepam yes$/m.test(before))),
    ...planHandOver(config, { name: user, account: () => account }),
  ];
  const block = matchBlock(user, settings);
  const isThere = missingIn(before, settings).length === 0;
  sayConfigFile(config.file);
  if (given.dryRun) {
    for (const { what } of steps) process.stdout.write(`would ${printable(what)}\n`);
    if (steps.length === 0) process.stdout.write('nothing to change on this machine\n');
    process.stdout.write(next(isThere, sshdConfig, block));
    return 0;
  }

  const done = stepsDone();
  const takeBack = (): string => {
    const left = done.undo();
    return left.length === 0 ? 'nothing was changed' : `not taken back: ${left.join('; ')}`;
  };
  // What runs as the user is ended first, and only then is all taken back.
  const stop = new AbortController();
  let by: NodeJS.Signals | undefined;
  const stopped = (signal: NodeJS.Signals): void => {
    by = signal;
    stop.abort();
  };
  process.once('SIGINT', stopped).once('SIGTERM', stopped);
  try {
    for (const step of steps) {
      stop.signal.throwIfAborted();
      done.run(step);
      account ??= await findAccount(user);
    }
    if (account === undefined) throw invalid(`there is no user ${user} after all`);
    const set = { user, account, config, sshdConfig, settings, isThere, program, signal: stop.signal };
    await withProgress(`trying everything as ${user}`, () => verify(set));
  } catch (error) {
    if (by !== undefined) {
      process.stderr.write(`restic-gateway: stopped; ${printable(takeBack())}\n`);
      process.off('SIGINT', stopped).off('SIGTERM', stopped);
      process.kill(process.pid, by);
    }
    const said = messageOf(error);
    throw new GatewayError('invalid-config', { detail: `${said}; ${takeBack()}`, cause: error });
  } finally {
    process.off('SIGINT', stopped).off('SIGTERM', stopped);
  }
  if (given.quiet) return 0;
  for (const { what } of steps) process.stdout.write(`done: ${printable(what)}\n`);
  process.stdout.write(
    `tried as ${user}: config, host keys, secrets, stores, audit and state; a login through sshd, and the forced command\n`,
  );
  process.stdout.write(next(isThere, sshdConfig, block));
  return 0;
}

/** Two users would need each other's files. @throws GatewayError `usage` */
function mustBeOneUser(user: string, { file, user: named }: GatewayConfig): void {
  const change = `let both ways in be one user's`;
  if (named !== undefined && named !== user)
    throw new GatewayError('usage', {
      detail: `${file} says user: ${named}, and --user says ${user}; ${change}: use --user ${named}, or change that line first`,
    });
  if (!existsSync('/run/systemd/system')) return;
  const { stdout } = spawnSync('systemctl', ['show', '--property=User', '--value', UNIT], {
    encoding: 'utf8',
    timeout: 10_000,
  });
  const unitUser = (stdout as string | null)?.trim() ?? '';
  if (unitUser !== '' && unitUser !== user)
    throw new GatewayError('usage', {
      detail: `the service ${UNIT} runs as ${unitUser}, and --user says ${user}; ${change}: use --user ${unitUser}, or change User= and Group= first (systemctl edit ${UNIT})`,
    });
}

/** Everything as the user that will run. @throws GatewayError with what does not hold */
async function verify(set: {
  readonly user: string;
  readonly account: Account;
  readonly config: GatewayConfig;
  readonly sshdConfig: string;
  readonly settings: Settings;
  readonly isThere: boolean;
  readonly program: readonly string[];
  readonly signal: AbortSignal;
}): Promise<void> {
  const { user, account, config, sshdConfig, settings, isThere, program, signal } = set;
  await checkAs(account, config.file, signal);
  await inTrialDirectory(async (directory) => {
    const before = readFileSync(sshdConfig, 'utf8');
    const text = isThere ? before : withBlock(before, sshdConfig, matchBlock(user, settings), directory);
    const trial = join(directory, 'trial');
    writeFileSync(trial, text, { mode: 0o600 });
    const [missing] = missingIn(effectiveSettings(trial, user), settings);
    if (missing !== undefined)
      throw invalid(
        `${sshdConfig}: another Match block for ${user} comes first, so that this would not hold: ${missing}; remove it, or what it sets of this`,
      );
    await tryLogins(directory, { user, text, program, config, byCommand: true, signal });
  });
}

/** The text of sshd_config with our lines where the admin is told to put them. */
function withBlock(text: string, sshdConfig: string, block: string, directory: string): string {
  const included = includedSnippets(text, sshdConfig);
  if (included === undefined) return `${text}\n${block}`;
  const snippet = join(directory, 'restic-gateway.conf');
  writeFileSync(snippet, block, { mode: 0o600 });
  return text.replace(included.line, (line) => `${line}\nInclude ${snippet}`);
}

/** Where sshd_config takes settings from beside its own, as on Debian; undefined where it does not. */
function includedSnippets(
  text: string,
  sshdConfig: string,
): { readonly line: string; readonly directory: string } | undefined {
  const directory = join(dirname(sshdConfig), 'sshd_config.d');
  const line = text.split('\n').find((one) => {
    const [keyword = '', ...patterns] = one.trim().split(/\s+/);
    return keyword.toLowerCase() === 'include' && patterns.includes(`${directory}/*.conf`);
  });
  return line === undefined ? undefined : { line, directory };
}

/** Runs `check --live` as the user. @throws GatewayError with what it says */
async function checkAs(account: Account, file: string, signal: AbortSignal): Promise<void> {
  const [, script = ''] = process.argv;
  const child = await startAs(account, [script, 'check', '--live', '-c', file], {}, ['ignore', 'pipe', 'pipe']);
  const end = (): boolean => child.kill();
  signal.addEventListener('abort', end);
  const output = (stream: typeof child.stdout) => (stream === null ? '' : textOf(stream));
  const [stdout, stderr] = await Promise.all([output(child.stdout), output(child.stderr), once(child, 'close')]);
  signal.throwIfAborted();
  signal.removeEventListener('abort', end);
  if (child.exitCode === 0) return;
  const failed = stdout.split('\n').filter((line) => / fails /.test(line));
  const said = [
    ...stderr
      .trim()
      .replace(/^restic-gateway: /, '')
      .split('\n'),
    ...failed,
  ].filter((line) => line.trim() !== '');
  throw invalid(
    `check --live fails as ${account.name}: ${said.join('; ').replaceAll(/ {2,}/g, ' ') || `status ${child.exitCode ?? 'none'}`}`,
  );
}

/** What is left for the admin to do. */
function next(isThere: boolean, sshdConfig: string, block: string): string {
  if (isThere) return `${sshdConfig} has the settings already\n`;
  const included = includedSnippets(readFileSync(sshdConfig, 'utf8'), sshdConfig);
  const place =
    included === undefined ? `at the end of ${sshdConfig}` : `into ${join(included.directory, 'restic-gateway.conf')}`;
  return `\nPut this ${place}, then run: sshd -t && systemctl reload ssh\n\n${block}`;
}
