/** What a client knows of a server's host key: a fingerprint, or a known_hosts file as OpenSSH itself reads it. */
import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { fingerprintOf } from '../config/fingerprint.ts';
import { GatewayError } from '../core/errors.ts';

/** A host's keys as they are known beforehand. */
export interface KnownHost {
  /** Key types to ask the server for; undefined for any. */
  readonly types: readonly string[] | undefined;
  /** Whether a key, in SSH wire format, is the host's. */
  accepts(key: Buffer): boolean;
  /** Why a key that is not accepted is refused, and what to do. */
  refusal(key: Buffer): string;
}

/** A host that is known by the fingerprint of its key. @throws GatewayError `usage` */
export function hostByFingerprint(fingerprint: string): KnownHost {
  if (!/^SHA256:[A-Za-z0-9+/]{43}$/.test(fingerprint))
    throw new GatewayError('usage', { detail: '--host-key takes a fingerprint as ssh-keygen -l prints it: SHA256:…' });
  return {
    types: undefined,
    accepts: (key) => fingerprintOf(key) === fingerprint,
    refusal: (key) =>
      `its host key is ${fingerprintOf(key)}, not ${fingerprint}: either the key was changed or someone is in between; ask its admin`,
  };
}

/**
 * A host as a known_hosts file has it, hashed names, patterns and ports included: looked up by `ssh-keygen -F`.
 * @throws GatewayError `usage` when the file cannot be read or OpenSSH's ssh-keygen is not there
 */
export async function hostByFile(file: string, host: string, port: number): Promise<KnownHost> {
  const name = port === 22 ? host : `[${host}]:${port}`;
  const lines = (await lookUp(file, name)).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const good = new Map<string, string>();
  const revoked = new Set<string>();
  for (const line of lines) {
    const words = line.trim().split(/\s+/);
    const marker = words[0]?.startsWith('@') === true ? words.shift() : undefined;
    const [, type = '', blob = ''] = words;
    if (marker === '@revoked') revoked.add(blob);
    else if (marker === undefined) good.set(blob, type);
  }
  for (const blob of revoked) good.delete(blob);
  return {
    types: good.size === 0 ? undefined : [...new Set(good.values())],
    accepts: (key) => good.has(key.toString('base64')),
    refusal: (key) => {
      const print = fingerprintOf(key);
      if (revoked.has(key.toString('base64'))) return `its host key ${print} is revoked in ${file}; ask its admin`;
      if (good.size === 0)
        return `its host key ${print} is not known: compare it with what the admin sees ("restic-gateway serve" prints it), then add its line to ${file}, or give --host-key ${print}`;
      return `its host key ${print} is not the one in ${file}: either the key was changed or someone is in between; ask its admin, and if it was changed, remove the old one with: ssh-keygen -R '${name}' -f ${file}`;
    },
  };
}

/** Larger than a known_hosts file of ten thousand hosts, in bytes. */
const MOST_BYTES = 16 * 1024 * 1024;
/** How long a look-up may take, in ms. */
const LOOK_UP_MS = 10_000;

async function lookUp(file: string, name: string): Promise<string> {
  const found = await stat(file).catch(() => undefined);
  if (found !== undefined && !found.isFile()) throw unusable(file, 'it is not a regular file');
  if (found !== undefined && found.size > MOST_BYTES) throw unusable(file, 'it is larger than 16 MiB');
  try {
    return (await promisify(execFile)('ssh-keygen', ['-F', name, '-f', file], { timeout: LOOK_UP_MS })).stdout;
  } catch (error) {
    const { code, stderr = '', killed } = error as { code?: unknown; stderr?: string; killed?: boolean };
    if (code === 'ENOENT')
      throw new GatewayError('usage', {
        detail: "known_hosts is looked up by OpenSSH's ssh-keygen, which is not here; give --host-key SHA256:… instead",
        cause: error,
      });
    if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER')
      throw unusable(file, 'it has more lines of this host than can be right', error);
    if (killed === true) throw unusable(file, `ssh-keygen took longer than ${LOOK_UP_MS / 1000} s`, error);
    // Exit status 1 without a word: the name is not in the file.
    if (stderr.trim() === '') return '';
    throw unusable(file, stderr.trim().split('\n')[0] ?? '', error);
  }
}

function unusable(file: string, why: string, cause?: unknown): GatewayError {
  return new GatewayError('usage', {
    detail: `${file} cannot be read; name another with --known-hosts, or give --host-key SHA256:… (${why})`,
    cause,
  });
}
