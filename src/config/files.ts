/**
 * Reading the files that the config is made of, with failures explained so that an admin can mend them.
 */
import { userInfo } from 'node:os';
import { GatewayError } from '../core/errors.ts';

/** Why a file could not be read, as `invalid-config`. */
export function unreadable(file: string, error: unknown): GatewayError {
  return new GatewayError('invalid-config', { detail: `${file}: ${explain(error)}`, cause: error });
}

function explain(error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'there is no such file';
  if (code === 'EISDIR') return 'this is a directory; name the file in it';
  if (code === 'EACCES' || code === 'EPERM')
    return `${currentUser()} may not read this file; change its owner or mode, or run as another user`;
  return `cannot be read (${message})`;
}

function currentUser(): string {
  try {
    const { username, uid } = userInfo();
    return `the user ${username} (uid ${uid})`;
  } catch {
    // A container may run under a number that has no name.
    return `the user with uid ${process.geteuid?.() ?? '?'}`;
  }
}
