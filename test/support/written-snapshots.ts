/**
 * Snapshot files as restic writes them, without a backup each: so a year of them takes a second. Their trees are not there, and what reads
 * snapshots alone does not miss them.
 *
 * Source: restic's design document, "Keys, Encryption and MAC": AES-256 in counter mode, Poly1305-AES, scrypt.
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes, scryptSync } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** What a snapshot says. */
export interface WrittenSnapshot {
  /** With its zone: `2026-01-02T03:04:05+01:00`. */
  readonly time: string;
  readonly hostname: string;
  readonly paths: readonly string[];
  readonly tags?: readonly string[];
}

interface Keys {
  readonly encrypt: Buffer;
  readonly k: Buffer;
  readonly r: Buffer;
}

/** Writes snapshots into a repository in a directory. @returns their ids, in their order */
export function writeSnapshots(repository: string, password: string, snapshots: readonly WrittenSnapshot[]): string[] {
  const keys = masterKeys(repository, password);
  return snapshots.map((snapshot) => {
    const tree = createHash('sha256').update(JSON.stringify(snapshot)).digest('hex');
    const sealed = seal(keys, Buffer.from(JSON.stringify({ tree, username: 'root', ...snapshot })));
    const id = createHash('sha256').update(sealed).digest('hex');
    writeFileSync(path.join(repository, 'snapshots', id), sealed);
    return id;
  });
}

function masterKeys(repository: string, password: string): Keys {
  const [name = ''] = readdirSync(path.join(repository, 'keys'));
  const file = JSON.parse(readFileSync(path.join(repository, 'keys', name), 'utf8')) as Record<string, string | number>;
  const [N, r, p] = [Number(file['N']), Number(file['r']), Number(file['p'])];
  const salt = Buffer.from(String(file['salt']), 'base64');
  const derived = scryptSync(password, salt, 64, { N, r, p, maxmem: 2 ** 30 });
  const own = { encrypt: derived.subarray(0, 32), k: derived.subarray(32, 48), r: derived.subarray(48) };
  const data = Buffer.from(String(file['data']), 'base64');
  const [iv, body, mac] = [data.subarray(0, 16), data.subarray(16, -16), data.subarray(-16)];
  if (!authenticate(own, iv, body).equals(mac)) throw new Error('wrong password');
  const decipher = createDecipheriv('aes-256-ctr', own.encrypt, iv);
  const master = JSON.parse(Buffer.concat([decipher.update(body), decipher.final()]).toString()) as {
    readonly mac: { readonly k: string; readonly r: string };
    readonly encrypt: string;
  };
  const bytes = (text: string): Buffer => Buffer.from(text, 'base64');
  return { encrypt: bytes(master.encrypt), k: bytes(master.mac.k), r: bytes(master.mac.r) };
}

function seal(keys: Keys, text: Buffer): Buffer {
  const iv = randomBytes(16);
  const cipher = createCipheriv('aes-256-ctr', keys.encrypt, iv);
  const body = Buffer.concat([cipher.update(text), cipher.final()]);
  return Buffer.concat([iv, body, authenticate(keys, iv, body)]);
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
