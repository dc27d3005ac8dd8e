/**
 * New ed25519 keys in OpenSSH's own format, without a passphrase.
 *
 * Source: OpenSSH, PROTOCOL.key; RFC 8709, 4 (a private key is its seed of 32 bytes and then the public key).
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { string, uint32 } from './messages.ts';

/** A key pair as the contents of its two files. */
interface OpenSshKey {
  /** What stands in `id_ed25519`. */
  readonly privateKey: string;
  /** What stands in `id_ed25519.pub`, without the line break. */
  readonly publicLine: string;
}

/** The cipher `none` pads to this many bytes. */
const BLOCK_BYTES = 8;

/** Makes a key. @param comment - the words after it; one line */
export function generateOpenSshKey(comment: string): OpenSshKey {
  const { d = '', x = '' } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  const secret = Buffer.from(d, 'base64url');
  const open = Buffer.from(x, 'base64url');
  const publicBlob = Buffer.concat([string('ssh-ed25519'), string(open)]);

  const check = randomBytes(4);
  const content = Buffer.concat([
    ...[check, check, publicBlob],
    ...[string(Buffer.concat([secret, open])), string(comment)],
  ]);
  const missing = (BLOCK_BYTES - (content.length % BLOCK_BYTES)) % BLOCK_BYTES;
  const padding = Buffer.from(Array.from({ length: missing }, (_, index) => index + 1));
  const file = Buffer.concat([
    Buffer.from('openssh-key-v1\0', 'latin1'),
    ...[string('none'), string('none'), string('')],
    ...[uint32(1), string(publicBlob), string(Buffer.concat([content, padding]))],
  ]);
  const lines = file.toString('base64').replace(/.{70}(?=.)/g, '$&\n');
  return {
    privateKey: `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines}\n-----END OPENSSH PRIVATE KEY-----\n`,
    publicLine: `ssh-ed25519 ${publicBlob.toString('base64')}${comment === '' ? '' : ` ${comment}`}`,
  };
}
