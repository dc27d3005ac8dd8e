/** Certificates of users: real ones, by ssh-keygen, and such as no ssh-keygen makes. */
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { copyFileSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { generateKey, lab, run, tempDir, type KeyFiles } from './lab.ts';
import { message } from './hostile-ssh.ts';

/** A key with a certificate beside it, as ssh finds it. */
export interface CertifiedKey extends KeyFiles {
  /** In SSH wire format. */
  readonly certificate: Buffer;
}

/** A new CA. */
export async function generateAuthority(type = 'ed25519', bits = '2048'): Promise<KeyFiles> {
  if (type === 'ed25519') return generateKey('ca');
  const privateFile = path.join(tempDir(), 'ca');
  const publicFile = `${privateFile}.pub`;
  const { sshKeygen } = lab();
  await run(sshKeygen, ['-q', '-t', type, '-b', bits, '-N', '', '-C', 'ca', '-f', privateFile]);
  const { stdout } = await run(sshKeygen, ['-l', '-f', publicFile]);
  const fingerprint = /SHA256:\S{43}/.exec(stdout)?.[0] ?? '';
  return { privateFile, publicFile, publicLine: readFileSync(publicFile, 'utf8').trim(), fingerprint };
}

/** A copy of a key with a certificate. @param options - of ssh-keygen */
export async function certify(ca: KeyFiles, key: KeyFiles, ...options: readonly string[]): Promise<CertifiedKey> {
  const privateFile = path.join(tempDir(), 'key');
  const publicFile = `${privateFile}.pub`;
  copyFileSync(key.privateFile, privateFile);
  copyFileSync(key.publicFile, publicFile);
  const id = options.includes('-I') ? [] : ['-I', 'web-7'];
  const made = await run(lab().sshKeygen, ['-q', '-s', ca.privateFile, ...id, ...options, publicFile]);
  if (made.code !== 0) throw new Error(`ssh-keygen makes no certificate: ${made.stderr}`);
  const [, base64 = ''] = readFileSync(`${privateFile}-cert.pub`, 'utf8').split(' ');
  return { ...key, privateFile, publicFile, certificate: Buffer.from(base64, 'base64') };
}

/** A key pair in memory, and its public key in SSH wire format. */
interface PairInMemory {
  readonly privateKey: KeyObject;
  readonly blob: Buffer;
}

/** A new ed25519 pair. */
export function pairInMemory(): PairInMemory {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const { x = '' } = publicKey.export({ format: 'jwk' });
  return { privateKey, blob: strings('ssh-ed25519', Buffer.from(x, 'base64url')) };
}

/** Strings of SSH, one after the other. */
export function strings(...all: readonly (string | Buffer)[]): Buffer {
  return message(0, ...all).subarray(1);
}

/** What a certificate says that is made by hand. */
export interface Saying {
  readonly type: string;
  readonly nonce: Buffer;
  readonly serial: bigint;
  readonly kind: number;
  readonly keyId: string;
  readonly principals: Buffer;
  readonly validAfter: bigint;
  readonly validBefore: bigint;
  readonly options: Buffer;
  readonly extensions: Buffer;
  /** Stands for the CA's key. */
  readonly authority: Buffer;
  /** Stands for the type of the signature, and for the signature. */
  readonly signatureType: string;
  readonly signature: Buffer;
  readonly trailing: Buffer;
}

/** A certificate of any making, for web-7 unless said otherwise. */
export function makeCertificate(ca: PairInMemory, key: PairInMemory, said: Partial<Saying> = {}): Buffer {
  const all = {
    ...{ type: 'ssh-ed25519-cert-v01@openssh.com', nonce: Buffer.alloc(32, 7), serial: 9n, kind: 1, keyId: 'web-7' },
    ...{ principals: strings('web-7'), validAfter: 0n, validBefore: 2n ** 64n - 1n, options: Buffer.alloc(0) },
    ...{ extensions: Buffer.alloc(0), authority: ca.blob, signatureType: 'ssh-ed25519', trailing: Buffer.alloc(0) },
    ...said,
  };
  const uint64 = (value: bigint): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    return bytes;
  };
  const kind = Buffer.alloc(4);
  kind.writeUInt32BE(all.kind);
  const signed = Buffer.concat([
    ...[strings(all.type, all.nonce), strings(key.blob.subarray(-32)), uint64(all.serial), kind],
    ...[strings(all.keyId, all.principals), uint64(all.validAfter), uint64(all.validBefore)],
    strings(all.options, all.extensions, '', all.authority),
  ]);
  const signature = said.signature ?? sign(null, signed, ca.privateKey);
  return Buffer.concat([signed, strings(strings(all.signatureType, signature)), all.trailing]);
}
