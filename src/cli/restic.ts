/** `restic-gateway restic CLIENT -- ARGS…`: the local restic with full access to a client's repository, for the admin on the gateway host. */
import { spawn } from 'node:child_process';
import { isAbsolute } from 'node:path';
import { loadConfig } from '../config/load.ts';
import { GatewayError } from '../core/errors.ts';
import { shellQuote } from '../frontends/authorized-keys.ts';
import { beginAdminRun, withoutSshd } from './admin-run.ts';
import type { HoldRequest } from '../ports/sessions.ts';
import { chooseConfigFile, sayConfigFile } from './own-user.ts';
import { ownProgram, refuseInForcedCommand } from './program.ts';
import { holdRequest } from './restic-hold.ts';

/**
 * Runs restic.
 * @returns restic's own exit status
 * @throws GatewayError `usage` when there is no such client, no restic, or this is a client's SSH session
 */
export async function runRestic({
  client,
  args,
  config: file,
  holdClient,
  endSessions,
  overrideProtect,
}: {
  readonly client: string;
  readonly args: readonly string[];
  readonly config: string | undefined;
  /** As `holdRequest`. */
  readonly holdClient: string | false | undefined;
  readonly endSessions: boolean;
  /** Whether it may remove snapshots that are protected. */
  readonly overrideProtect: boolean;
}): Promise<number> {
  refuseInForcedCommand({ takesInput: true });
  const hold = holdRequest(args, { holdClient, endSessions });
  const config = loadConfig(chooseConfigFile(file));
  sayConfigFile(config.file);
  if (config.clients[client] === undefined)
    throw new GatewayError('usage', {
      detail: `there is no client ${client} in ${config.file}; it has: ${Object.keys(config.clients).join(', ')}`,
    });
  const program = process.env['RESTIC_GATEWAY_RESTIC'] ?? 'restic';
  if (program.includes('/') && !isAbsolute(program))
    throw new GatewayError('usage', {
      detail: `RESTIC_GATEWAY_RESTIC: ${program} depends on the working directory; name the whole path`,
    });
  const run = beginAdminRun();
  process.once('exit', () => {
    run.end();
  });
  const options = [
    `rclone.program=${ownProgram().map(shellQuote).join(' ')}`,
    `rclone.args=stdio --admin ${shellQuote(run.file)} ${holdWords(hold)}${overrideProtect ? '--override-protect ' : ''}-c ${shellQuote(config.file)}`,
  ];
  const restic = spawn(program, ['-r', `rclone:${client}`, ...options.flatMap((option) => ['-o', option]), ...args], {
    stdio: 'inherit',
    env: { ...withoutSshd(), PATH: absolutePath() },
  });
  // Ctrl-C reaches restic as well; it removes its lock and ends, and this waits for that.
  const ignore = (): void => undefined;
  process.on('SIGINT', ignore);
  process.on('SIGTERM', () => restic.kill('SIGTERM'));
  return new Promise((resolve, reject) => {
    restic.on('error', (error: NodeJS.ErrnoException) => {
      reject(
        new GatewayError('usage', {
          detail:
            error.code === 'ENOENT'
              ? 'restic is not installed on this machine; install it (apt-get install restic), or name it in RESTIC_GATEWAY_RESTIC'
              : `restic cannot be started: ${error.message}`,
          cause: error,
        }),
      );
    });
    restic.on('close', (code) => {
      resolve(code ?? 1);
    });
  });
}

/** Where programs are looked for, without what depends on the working directory, which may be anybody's. */
function absolutePath(): string {
  return (process.env['PATH'] ?? '').split(':').filter(isAbsolute).join(':');
}

/** For `stdio`, which does the holding. */
function holdWords(hold: HoldRequest | undefined): string {
  return hold === undefined ? '' : `--hold=${hold.waitMs} ${hold.endSessions ? '--end-sessions ' : ''}`;
}
