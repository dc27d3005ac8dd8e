/** How this very program is started again: for forced commands and for restic's rclone.program. */
import { fstatSync, realpathSync } from 'node:fs';
import { GatewayError } from '../core/errors.ts';

/** Absolute paths of Node and of the gateway's executable. */
export function ownProgram(): readonly string[] {
  const script = process.argv[1];
  return script === undefined ? [process.execPath] : [process.execPath, realpathSync(script)];
}

/**
 * Full access is for whoever may read the storage's secrets on this host. A forced command that was set up wrong must not pass it on. An
 * admin's own login by SSH looks the same but for the command that a client asks for: a forced command has it in SSH_ORIGINAL_COMMAND. A
 * client that asks for none chooses no word of what runs, and has its input alone.
 * @param options.takesInput - whether the command does something by what comes on stdin, which over SSH must then be a terminal or a file
 * @throws GatewayError `usage`
 */
export function refuseInForcedCommand({ takesInput = false }: { readonly takesInput?: boolean } = {}): void {
  if (process.env['SSH_ORIGINAL_COMMAND'] !== undefined)
    throw new GatewayError('usage', {
      detail: 'full access is for the admin on the gateway host, not for a forced command',
    });
  if (takesInput && process.env['SSH_CONNECTION'] !== undefined && isFromPeer())
    throw new GatewayError('usage', {
      detail:
        'full access is for the admin on the gateway host, not for a forced command; over ssh, log in with a terminal (ssh -t) or add </dev/null',
    });
}

/** Whether stdin may come through sshd: a pipe or a socket. */
function isFromPeer(): boolean {
  try {
    const stats = fstatSync(0);
    return stats.isSocket() || stats.isFIFO();
  } catch {
    return false;
  }
}
