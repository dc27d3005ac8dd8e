/** How this very program is started again: for forced commands and for restic's rclone.program. */
import { realpathSync } from 'node:fs';
import { GatewayError } from '../core/errors.ts';

/** Absolute paths of Node and of the gateway's executable. */
export function ownProgram(): readonly string[] {
  const script = process.argv[1];
  return script === undefined ? [process.execPath] : [process.execPath, realpathSync(script)];
}

/**
 * Full access is for whoever may read the storage's secrets on this host. A forced command that was set up wrong must not pass it on.
 * @throws GatewayError `usage`
 */
export function refuseInForcedCommand(): void {
  if (process.env['SSH_ORIGINAL_COMMAND'] !== undefined)
    throw new GatewayError('usage', {
      detail: 'full access is for the admin on the gateway host, not for a forced command',
    });
}
