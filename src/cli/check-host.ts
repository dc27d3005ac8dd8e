/** What `check --live` finds out about this machine: whether whoever runs it can write what each session writes. Changes nothing. */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { dirname } from 'node:path';
import { checkAuditWritable } from '../audit/writable.ts';
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError, messageOf } from '../core/errors.ts';

/** @throws GatewayError `audit-unavailable`, `state-unavailable`: no session would be served */
export async function mustBeWritable({ audit, state }: GatewayConfig): Promise<void> {
  const directory = dirname(audit.file);
  // What is missing is made by the first session, if that may make it.
  if ((await nearest(directory, 'audit-unavailable', audit.file)) === directory) await checkAuditWritable(audit.file);
  await nearest(state, 'state-unavailable', state);
}

/** The nearest directory that exists, from this one upwards. @throws GatewayError when nothing can be made in it */
async function nearest(
  directory: string,
  code: 'audit-unavailable' | 'state-unavailable',
  wanted: string,
): Promise<string> {
  try {
    await access(directory, constants.W_OK | constants.X_OK);
    return directory;
  } catch (error) {
    const up = dirname(directory);
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && up !== directory) return nearest(up, code, wanted);
    const what = code === 'audit-unavailable' ? 'the audit' : 'state';
    const detail = `${what} ${wanted} cannot be written by uid ${process.geteuid?.() ?? '?'}: ${messageOf(error)}`;
    throw new GatewayError(code, { detail, cause: error });
  }
}
