/** Host keys from disk: OpenSSH's own format and its own rule that nobody else may read them. */
import { createPrivateKey, sign } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import ssh2, { type ParsedKey } from 'ssh2';
import { fingerprintOf } from '../config/fingerprint.ts';
import { isShared, whyUntrusted } from '../config/trusted-files.ts';
import { GatewayError } from '../core/errors.ts';

/** An ed25519 host key, ready for the server. */
export interface HostKey {
  readonly privateKey: ParsedKey;
  /** The public key in SSH's wire format. */
  readonly blob: Buffer;
  /** As `ssh-keygen -l` prints it. */
  readonly fingerprint: string;
  /** `ssh-ed25519 AAAA…`: what a known_hosts line says after the host's name. */
  readonly publicKey: string;
}

/**
 * @param users - ids of the users whose keys are taken; by default root and that of this process
 * @throws GatewayError `invalid-config` that says what is wrong with the file and what to do
 */
export async function readHostKey(file: string, users?: readonly number[]): Promise<HostKey> {
  const wrong = (what: string, cause?: unknown): GatewayError =>
    new GatewayError('invalid-config', { detail: `hostKeys: ${file}: ${what}`, cause });
  let content: Buffer;
  let stat: Stats;
  try {
    ({ content, stat } = await read(file));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT')
      throw wrong(`there is no such file; make one with: ssh-keygen -t ed25519 -N '' -f ${file}`, error);
    throw wrong(`cannot be read (${code ?? 'unknown error'})`, error);
  }
  if (!stat.isFile()) throw wrong('this is not a regular file; name the file of a private key');
  if (!isKeySized(stat)) throw wrong(`it is larger than ${MOST_BYTES / 1024} KiB, which no private key is`);
  if (isShared(stat)) throw wrong(`others can read it; run: chmod 600 ${file}`);
  const untrusted = whyUntrusted(file, users);
  if (untrusted !== undefined) throw wrong(untrusted);
  const key = ssh2.utils.parseKey(content);
  if (key instanceof Error)
    throw wrong(
      /encrypted|passphrase/i.test(key.message)
        ? 'it has a passphrase, which a server cannot ask for; remove it with: ssh-keygen -p'
        : 'it is not an OpenSSH private key',
      key,
    );
  if (key.type !== 'ssh-ed25519')
    throw wrong(`it is of type ${key.type}; make one with: ssh-keygen -t ed25519 -N '' -f FILE`);
  if (!key.isPrivateKey()) throw wrong('it is a public key; name the private one, without .pub');
  const blob = key.getPublicSSH();
  return {
    privateKey: signingFast(key),
    blob,
    fingerprint: fingerprintOf(blob),
    publicKey: `ssh-ed25519 ${blob.toString('base64')}`,
  };
}

/** The key, read by OpenSSL once and not from its PEM for each signature, which takes ten times as long as to sign. */
function signingFast(key: ParsedKey): ParsedKey {
  const privateKey = createPrivateKey(key.getPrivatePEM());
  return Object.assign(key, { sign: (data: Buffer) => sign(null, data, privateKey) });
}

/** Larger than any private key, comment included. */
const MOST_BYTES = 64 * 1024;

function isKeySized(stat: Stats): boolean {
  return stat.isFile() && stat.size <= MOST_BYTES;
}

/** What was opened is what is looked at, and a named pipe holds nothing up. */
async function read(file: string): Promise<{ readonly content: Buffer; readonly stat: Stats }> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = await handle.stat();
    return { stat, content: isKeySized(stat) ? await handle.readFile() : Buffer.alloc(0) };
  } finally {
    await handle.close();
  }
}
