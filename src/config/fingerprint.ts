/** What people compare keys by. */
import { createHash } from 'node:crypto';

/** The fingerprint as `ssh-keygen -l` prints it. @param wire - the key in SSH wire format */
export function fingerprintOf(wire: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(wire).digest('base64').replace(/=+$/, '')}`;
}
