/**
 * What restic encrypts and authenticates with. Source: its design document, "Keys, Encryption and MAC": AES-256 in counter mode,
 * Poly1305-AES, scrypt.
 */
import { createCipheriv, createDecipheriv, randomBytes, scryptSync } from 'node:crypto';

/** A key file, as far as it is used here: what scrypt costs, and in base64 its salt and the sealed master key. */
export interface KeyFile {
  readonly N: number;
  readonly r: number;
  readonly p: number;
  readonly salt: string;
  readonly data: string;
}

/** A key to encrypt by and one to authenticate by. */
export interface Keys {
  readonly encrypt: Buffer;
  readonly k: Buffer;
  readonly r: Buffer;
}

/** The keys that a password makes. */
export function derive(password: string, { N, r, p, salt }: Omit<KeyFile, 'data'>): Keys {
  const derived = scryptSync(password, Buffer.from(salt, 'base64'), 64, { N, r, p, maxmem: 2 ** 30 });
  return { encrypt: derived.subarray(0, 32), k: derived.subarray(32, 48), r: derived.subarray(48) };
}

/** @returns nonce, ciphertext and MAC */
export function seal(keys: Keys, text: Uint8Array): Buffer {
  const iv = randomBytes(16);
  const body = createCipheriv('aes-256-ctr', keys.encrypt, iv).update(text);
  return Buffer.concat([iv, body, authenticate(keys, iv, body)]);
}

/**
 * What `seal` was given.
 * @throws Error when it was sealed by others
 */
export function unseal(keys: Keys, sealed: Buffer): Buffer {
  const [iv, body, mac] = [sealed.subarray(0, 16), sealed.subarray(16, -16), sealed.subarray(-16)];
  if (!authenticate(keys, iv, body).equals(mac)) throw new Error('wrong password');
  return createDecipheriv('aes-256-ctr', keys.encrypt, iv).update(body);
}

/** Poly1305-AES (D. J. Bernstein, "The Poly1305-AES message-authentication code"). */
function authenticate({ k, r }: Keys, nonce: Buffer, message: Buffer): Buffer {
  const number = (bytes: Buffer): bigint => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex') || '0'}`);
  const cipher = createCipheriv('aes-128-ecb', k, null).setAutoPadding(false);
  const pad = number(cipher.update(nonce));
  const clamped = number(r) & 0x0ffffffc0ffffffc0ffffffc0fffffffn;
  let sum = 0n;
  for (let at = 0; at < message.length; at += 16) {
    const block = Buffer.concat([message.subarray(at, at + 16), Buffer.of(1)]);
    sum = ((sum + number(block)) * clamped) % ((1n << 130n) - 5n);
  }
  const tag = ((sum + pad) % (1n << 128n)).toString(16).padStart(32, '0');
  return Buffer.from(tag, 'hex').reverse();
}
