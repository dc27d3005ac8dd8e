/** The local restic, run with full access to a client's repository: only restic itself runs as who has called it. */
import { spawn } from 'node:child_process';
import { isAbsolute } from 'node:path';
import { GatewayError } from '../core/errors.ts';
import type { HoldRequest } from '../ports/sessions.ts';
import { beginAdminRun, withoutSshd } from './admin-run.ts';
import { ownProgram } from './program.ts';

/** One run of restic. */
interface AdminRestic {
  readonly client: string;
  /** Absolute path of the config's file. */
  readonly file: string;
  readonly args: readonly string[];
  readonly hold?: HoldRequest | undefined;
  readonly overrideProtect?: boolean;
  /** Beside this process's own environment; undefined takes one away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Where its output goes: to this process's own, to its stderr, or to the caller, up to so many bytes. */
  readonly output?: 'inherit' | 'stderr' | { readonly mostBytes: number };
}

/**
 * @returns restic's exit status, and its output where that was asked for
 * @throws GatewayError `usage` when restic cannot be started, `store-failed` when it says more than was asked for
 */
export async function runAdminRestic(given: AdminRestic): Promise<{ readonly code: number; readonly output: string }> {
  const { client, file, args, hold, overrideProtect = false, env = {}, output = 'inherit' } = given;
  const program = process.env['RESTIC_GATEWAY_RESTIC'] ?? 'restic';
  if (program.includes('/') && !isAbsolute(program))
    throw new GatewayError('usage', {
      detail: `RESTIC_GATEWAY_RESTIC: ${program} depends on the working directory; name the whole path`,
    });
  const run = beginAdminRun((admin) => [
    ...ownProgram(),
    ...['stdio', '--admin', admin, ...holdWords(hold), ...(overrideProtect ? ['--override-protect'] : []), '-c', file],
  ]);
  const end = (): void => {
    run.end();
  };
  process.once('exit', end);
  const stdout = output === 'inherit' ? 'inherit' : output === 'stderr' ? 2 : 'pipe';
  const restic = spawn(
    program,
    ['-r', `rclone:${client}`, ...run.options.flatMap((option) => ['-o', option]), ...args],
    {
      stdio: ['inherit', stdout, 'inherit'],
      env: { ...withoutSshd(), ...env, PATH: absolutePath() },
    },
  );
  // Ctrl-C reaches restic as well; it removes its lock and ends, and this waits for that.
  const ignore = (): void => undefined;
  const pass = (): void => {
    restic.kill('SIGTERM');
  };
  process.on('SIGINT', ignore);
  process.on('SIGTERM', pass);
  const chunks: Buffer[] = [];
  const seen = { bytes: 0, overlong: false };
  restic.stdout?.on('data', (chunk: Buffer) => {
    seen.bytes += chunk.length;
    seen.overlong = typeof output === 'object' && seen.bytes > output.mostBytes;
    if (seen.overlong) restic.kill('SIGTERM');
    else chunks.push(chunk);
  });
  try {
    const code = await new Promise<number>((resolve, reject) => {
      restic.on('error', (error: NodeJS.ErrnoException) => {
        reject(cannotStart(error));
      });
      restic.on('close', (status) => {
        resolve(status ?? 1);
      });
    });
    if (seen.overlong)
      throw new GatewayError('store-failed', { detail: "restic's answer is longer than any that is known" });
    return { code, output: Buffer.concat(chunks).toString() };
  } finally {
    process.off('SIGINT', ignore);
    process.off('SIGTERM', pass);
    process.off('exit', end);
    end();
  }
}

function cannotStart(error: NodeJS.ErrnoException): GatewayError {
  return new GatewayError('usage', {
    detail:
      error.code === 'ENOENT'
        ? 'restic is not installed on this machine; install it (apt-get install restic), or name it in RESTIC_GATEWAY_RESTIC'
        : `restic cannot be started: ${error.message}`,
    cause: error,
  });
}

/** Where programs are looked for, without what depends on the working directory, which may be anybody's. */
function absolutePath(): string {
  return (process.env['PATH'] ?? '').split(':').filter(isAbsolute).join(':');
}

/** For `stdio`, which does the holding. */
function holdWords(hold: HoldRequest | undefined): readonly string[] {
  return hold === undefined ? [] : [`--hold=${hold.waitMs}`, ...(hold.endSessions ? ['--end-sessions'] : [])];
}
