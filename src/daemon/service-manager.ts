/** What the service manager hears of the daemon (sd_notify(3)): that clients can connect, that it stops, and a line for `systemctl status`. */
import type { ExecFileException } from 'node:child_process';
import { messageOf } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import type { Log } from '../ports/log.ts';

/** How long a message may take, in ms: the program waits for up to 5 s until systemd has taken it. */
const PATIENCE_MS = 10_000;

/** Who waits for the daemon. */
interface ServiceManager {
  /** Clients can connect. @param words - what the status says from now on */
  ready(words: string): void;
  /** What the status says from now on. */
  status(words: string): void;
  /** No client can connect any more. */
  stopping(words: string): void;
}

/**
 * The service manager that started this process, if one did and wants to know. What cannot be told is logged, and nobody waits for it.
 * @param env - loses `NOTIFY_SOCKET`, so that no process that this one starts can speak for it
 */
export function serviceManager(log: Log, env: NodeJS.ProcessEnv = process.env): ServiceManager {
  const { NOTIFY_SOCKET: socket = '' } = env;
  delete env['NOTIFY_SOCKET'];
  // One after the other, so that the newest stays.
  let told = Promise.resolve();
  const tell = (...variables: readonly string[]): void => {
    if (socket === '') return;
    told = told
      .then(() => notify(variables, { ...env, NOTIFY_SOCKET: socket }))
      .catch((error: unknown) => {
        log.error({}, `systemd could not be told ${printable(variables.join(', '))}: ${messageOf(error)}`);
      });
  };
  const status = (words: string): string => `STATUS=${printable(words)}`;
  return {
    ready: (words) => {
      tell('READY=1', status(words));
    },
    status: (words) => {
      tell(status(words));
    },
    stopping: (words) => {
      tell('STOPPING=1', status(words));
    },
  };
}

/**
 * By systemd's own program, since Node has no datagram sockets of AF_UNIX; its messages are not from the main process, so that the unit needs
 * `NotifyAccess=all`.
 */
async function notify(variables: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const { execFile } = await import('node:child_process');
  await new Promise<void>((resolve, reject) => {
    const done = (error: ExecFileException | null, _stdout: string, stderr: string): void => {
      if (error === null) resolve();
      else reject(stderr.trim() === '' ? error : new Error(stderr.trim(), { cause: error }));
    };
    const child = execFile('systemd-notify', variables, { env, timeout: PATIENCE_MS, encoding: 'utf8' }, done);
    // The end of the daemon does not wait for it.
    child.unref();
  });
}
