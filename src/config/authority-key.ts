/**
 * The keys of CAs that sign users' certificates: of all types whose signatures Node verifies, since a CA is mostly there already.
 *
 * Source: RFC 8709, 4 (ed25519), RFC 5656, 3.1 (ECDSA), RFC 4253, 6.6 (RSA).
 */
import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { createReader, isCertificateType } from '../core/ssh-certificate.ts';
import { fingerprintOf } from './fingerprint.ts';
import { invalid } from './problems.ts';
import { damaged, readKeyLine, wireOf } from './public-key.ts';

/** The public key of a CA. */
export interface AuthorityKey {
  readonly type: string;
  /** In SSH wire format, base64. */
  readonly blob: string;
  /** As `ssh-keygen -l` prints it. */
  readonly fingerprint: string;
  readonly comment: string;
}

/** By their types: name in JWK, and length of a coordinate in bytes. */
const CURVES: ReadonlyMap<string, readonly [crv: string, bytes: number]> = new Map([
  ['ecdsa-sha2-nistp256', ['P-256', 32]],
  ['ecdsa-sha2-nistp384', ['P-384', 48]],
  ['ecdsa-sha2-nistp521', ['P-521', 66]],
]);
const ED25519 = 'ssh-ed25519';
const RSA = 'ssh-rsa';
/** Below, an RSA key can be broken; above, it makes strangers' certificates dear to verify. */
const RSA_BITS = { least: 2048, most: 8192 };
const MOST_EXPONENT_BYTES = 4;

/**
 * Reads one line of a CA's `.pub` file.
 * @throws GatewayError `invalid-config`; its message says what to do and holds nothing of the line
 */
export function parseAuthorityKey(line: string): AuthorityKey {
  const { type, blob, comment } = readKeyLine(line);
  if (isCertificateType(type)) throw invalid('this is a certificate; what belongs here is the public key of its CA');
  if (type !== ED25519 && type !== RSA && !CURVES.has(type))
    throw invalid(
      `the key of a CA is of type ${[ED25519, ...CURVES.keys(), RSA].join(', ')}, and its line begins with that`,
    );
  const wire = wireOf(blob);
  const reader = createReader(wire);
  if (reader.string().toString('latin1') !== type) throw damaged();
  if (type === RSA) {
    reader.string();
    const bits = bitsOf(reader.string());
    if (reader.isOver() && (bits < RSA_BITS.least || bits > RSA_BITS.most))
      throw invalid(`an RSA key of ${bits} bits is not taken; it must have ${RSA_BITS.least} to ${RSA_BITS.most}`);
  }
  if (keyObjectOf(wire) === undefined) throw damaged();
  return { type, blob, fingerprint: fingerprintOf(wire), comment };
}

/** A key that Node can verify with. @param wire - in SSH wire format. @returns undefined for what is no key of a CA */
export function keyObjectOf(wire: Buffer): KeyObject | undefined {
  const jwk = jwkOf(wire);
  try {
    return jwk && createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    return undefined;
  }
}

function jwkOf(wire: Buffer): JsonWebKey | undefined {
  const reader = createReader(wire);
  const type = reader.string().toString('latin1');
  const parts = [reader.string(), ...(type === ED25519 ? [] : [reader.string()])];
  const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = parts;
  if (!reader.isOver()) return undefined;
  const text = (bytes: Buffer): string => bytes.toString('base64url');
  if (type === ED25519) return first.length === 32 ? { kty: 'OKP', crv: 'Ed25519', x: text(first) } : undefined;
  if (type === RSA) {
    const bits = bitsOf(second);
    const good =
      bits >= RSA_BITS.least && bits <= RSA_BITS.most && bitsOf(first) > 0 && first.length <= MOST_EXPONENT_BYTES;
    return good ? { kty: 'RSA', e: text(withoutZeros(first)), n: text(withoutZeros(second)) } : undefined;
  }
  const [crv, bytes] = CURVES.get(type) ?? ['', 0];
  // A point that is not compressed: 4, and both coordinates.
  if (crv === '' || type !== `ecdsa-sha2-${first.toString('latin1')}`) return undefined;
  if (second.length !== 1 + 2 * bytes || second[0] !== 4) return undefined;
  return { kty: 'EC', crv, x: text(second.subarray(1, 1 + bytes)), y: text(second.subarray(1 + bytes)) };
}

/** The length of a number, most significant byte first, in bits; of a negative one 0. */
function bitsOf(number: Buffer): number {
  if (((number[0] ?? 0) & 0x80) !== 0) return 0;
  const bytes = withoutZeros(number);
  return bytes.length === 0 ? 0 : bytes.length * 8 - Math.clz32(bytes[0] ?? 0) + 24;
}

function withoutZeros(number: Buffer): Buffer {
  const from = number.findIndex((byte) => byte !== 0);
  return from < 0 ? Buffer.alloc(0) : number.subarray(from);
}
