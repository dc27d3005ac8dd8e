/** Whether the audit could take a line now, found out without writing one. */
import { constants } from 'node:fs';
import { access, open, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { GatewayError, messageOf } from '../core/errors.ts';
import { within } from '../core/waiting.ts';
import { statOrNone } from './open-file.ts';

/** How long the disk may take to answer, in ms. */
const PATIENCE_MS = 5000;

/** @throws GatewayError `audit-unavailable` that says why not */
export async function checkAuditWritable(file: string): Promise<void> {
  try {
    if ((await within(PATIENCE_MS, check(file))) === undefined) throw new Error('its disk does not respond');
  } catch (error) {
    throw new GatewayError('audit-unavailable', {
      detail: `the audit ${file} cannot be written: ${messageOf(error)}`,
      cause: error,
    });
  }
}

/** @returns true, for there is nothing else to say */
async function check(file: string): Promise<true> {
  const found = await statOrNone(file);
  // Moved away by logrotate a moment ago: it will be made anew.
  if (found === undefined) await access(dirname(file), constants.W_OK);
  else if (!found.isFile()) throw new Error('it is not a regular file');
  else await (await open(file, constants.O_WRONLY | constants.O_APPEND)).close();
  const { bavail } = await statfs(found === undefined ? dirname(file) : file);
  if (bavail === 0) throw new Error('its disk is full');
  return true;
}
