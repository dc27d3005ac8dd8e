/**
 * How `stdio --admin`, which has full access, knows that `restic-gateway restic` has started it and no forced command: by a file that is
 * there as long as that runs, and that nobody else can have written. Which it is need not be secret: a forced command that was set up wrong
 * names none.
 */
import { chmodSync, existsSync, fstatSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { shellQuote } from '../frontends/authorized-keys.ts';
import { readSmallFile } from '../config/small-file.ts';
import { mustBeTrusted, whyUntrusted } from '../config/trusted-files.ts';
import { GatewayError } from '../core/errors.ts';
import { isRunning, ownProcess } from '../state/processes.ts';

/** What sshd sets for a session (ssh(1), ENVIRONMENT, and ExposeAuthInfo in sshd_config(5)). */
const OF_SSHD = ['SSH_CONNECTION', 'SSH_CLIENT', 'SSH_TTY', 'SSH_ORIGINAL_COMMAND', 'SSH_USER_AUTH'] as const;

/**
 * Says that this process runs restic for the admin.
 * @param command - what serves restic, word by word, given the file that says so
 * @returns restic's options by which it starts that, and what takes all of it away
 * @throws GatewayError `usage` when others can write to the temporary directory, since the other side would not believe it
 */
export function beginAdminRun(command: (file: string) => readonly string[]): {
  readonly options: readonly string[];
  end(): void;
} {
  // root's are read by the gateway's user, too, who may have no way into root's own temporary directory.
  const base = process.geteuid?.() === 0 && existsSync('/run') ? '/run' : tmpdir();
  const directory = mkdtempSync(join(/^[\w/.-]+$/.test(base) ? base : '/tmp', 'restic-gateway-admin-'));
  chmodSync(directory, 0o711);
  const file = join(directory, 'run');
  const { pid, begun } = ownProcess();
  writeFileSync(file, `${pid} ${begun}\n`, { mode: 0o644 });
  const end = (): void => {
    rmSync(directory, { recursive: true, force: true });
  };
  const untrusted = whyUntrusted(file);
  if (untrusted !== undefined) {
    end();
    throw new GatewayError('usage', {
      detail: `the temporary directory cannot be used: ${untrusted} (or chmod +t), or name another directory in TMPDIR`,
    });
  }
  // restic takes its option apart as CSV, and then into words by quotes that cannot be escaped: a path might hold anything.
  const script = join(directory, 'serve');
  writeFileSync(script, `exec ${command(file).map(shellQuote).join(' ')} "$@"\n`, { mode: 0o644 });
  return {
    options: ['rclone.program=/bin/sh', `rclone.args=${script}`],
    end,
  };
}

/** This process's environment without what sshd has set for the admin's own login. */
export function withoutSshd(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const rest = { ...env };
  for (const name of OF_SSHD) Reflect.deleteProperty(rest, name);
  return rest;
}

/** An environment without restic's passwords and what says where they are: they are restic's alone, which does not hand them on either. */
export function withoutPasswords(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !/^RESTIC_(?!GATEWAY_)\w*PASSWORD/.test(name)));
}

/** @param file - what `beginAdminRun` gave. @throws GatewayError `usage` when this was not started by such a run */
export function mustBeAdminRun(file: string): void {
  if (OF_SSHD.some((name) => process.env[name] !== undefined) || fstatSync(0).isSocket() || !saysSo(file))
    throw new GatewayError('usage', {
      detail:
        'full access is for the admin on the gateway host, not for a forced command: restic-gateway restic CLIENT -- ARGS starts this itself',
    });
}

function saysSo(file: string): boolean {
  try {
    mustBeTrusted(file);
    const [, pid, begun] = /^(\d+) (\d+)\n$/.exec(readSmallFile(file, 4096).toString()) ?? [];
    return pid !== undefined && isRunning({ pid: Number(pid), begun: Number(begun) });
  } catch {
    return false;
  }
}
