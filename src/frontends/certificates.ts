/**
 * Which client a certificate stands for: that of a user, of a CA of the config, with one of the client's principals, now and from here.
 *
 * Strangers send what is read here. So a certificate is refused without a word until its CA's signature has been verified, and in that order, so that
 * nobody finds out by certificates of his own making which principals there are.
 *
 * Source: OpenSSH, PROTOCOL.certkeys; RFC 8709, 6 (ed25519), RFC 5656, 3.1.2 (ECDSA), RFC 8332, 3 (RSA) for signatures.
 */
import { verify, type KeyObject } from 'node:crypto';
import { isWithin, readRanges } from '../config/address-ranges.ts';
import { keyObjectOf } from '../config/authority-key.ts';
import { fingerprintOf } from '../config/fingerprint.ts';
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import {
  certifiedBy,
  createReader,
  isOver,
  isRevoked,
  readCertificate,
  refuseCertificate,
  secondsOf,
  stringsIn,
  type Certificate,
  type CertifiedBy,
} from '../core/ssh-certificate.ts';

/** A certificate that lets its client in, once whoever shows it has proved to have the key. */
export interface GoodCertificate {
  readonly client: ClientConfig;
  /** Fingerprint of the key that it is for, and that in SSH wire format. */
  readonly key: string;
  readonly keyBlob: Buffer;
  readonly certificate: CertifiedBy;
}

/** Why a certificate lets nobody in. */
interface BadCertificate {
  /** What the admin is told of one that a CA has signed; undefined for what anybody can make. */
  readonly refused?: { readonly why: string; readonly key: string; readonly certificate: CertifiedBy };
}

/** What a config makes of certificates. */
export interface Certificates {
  /** Whether there are CAs. */
  readonly areTaken: boolean;
  /**
   * @param blob - in SSH wire format
   * @param from - the peer's address; undefined where sshd looks at it
   */
  judge(blob: Buffer, from: string | undefined): GoodCertificate | BadCertificate;
}

/** The one critical option of sshd's that means something here. */
const SOURCE_ADDRESS = 'source-address';

export function certificatesOf(
  config: Pick<GatewayConfig, 'clients' | 'trustedUserCAKeys' | 'revokedCertificates'>,
): Certificates {
  const authorities = new Map(
    config.trustedUserCAKeys.map(({ blob, fingerprint }) => [blob, { blob, fingerprint, key: once(blob) }] as const),
  );
  const owners = new Map(
    Object.values(config.clients).flatMap((client) => client.principals.map((one) => [one, client] as const)),
  );
  return {
    areTaken: authorities.size > 0,
    judge: (blob, from) => {
      if (authorities.size === 0) return {};
      const certificate = readCertificate(blob);
      const authority = certificate && authorities.get(certificate.authority.toString('base64'));
      if (certificate === undefined || authority === undefined) return {};
      if (!isSignedBy(authority.key(), certificate)) return {};

      const key = fingerprintOf(certificate.key);
      const facts = certifiedBy(certificate, authority.fingerprint);
      const refused = (why: string): BadCertificate => ({ refused: { why, key, certificate: facts } });
      const unfit = whyUnfit(certificate, from, new Date());
      if (unfit !== undefined) return refused(unfit);
      if (isRevoked(config.revokedCertificates, key, facts)) return refused('it was revoked');
      const [client] = certificate.principals.flatMap((one) => owners.get(one) ?? []);
      if (client === undefined) return refused('none of its principals is one of a client');
      const refusal = refuseCertificate(facts, client, config);
      return refusal === undefined
        ? { client, key, keyBlob: certificate.key, certificate: facts }
        : refused(refusal.why);
    },
  };
}

/** A CA's key, made when it is first needed. */
function once(blob: string): () => KeyObject | undefined {
  let made: { readonly key: KeyObject | undefined } | undefined;
  return () => (made ??= { key: keyObjectOf(Buffer.from(blob, 'base64')) }).key;
}

/** Why a certificate is good for nobody, whatever its principals. */
function whyUnfit(certificate: Certificate, from: string | undefined, now: Date): string | undefined {
  if (!certificate.isForUsers) return "it is a host's, not a user's";
  if (secondsOf(now) < certificate.validAfter) return 'it is not valid yet';
  if (isOver(certificate.validBefore.toString(), now)) return 'it has expired';
  for (const [name, data] of certificate.criticalOptions) {
    // Whoever does not understand one must refuse. `force-command` would be obeyed by running it, which nothing here does.
    if (name !== SOURCE_ADDRESS) return 'it has a critical option other than source-address, such as force-command';
    const [text] = stringsIn(data, 1) ?? [];
    const ranges = text === undefined ? undefined : readRanges(text.toString('latin1'));
    if (ranges === undefined) return 'its source-address is no list of addresses';
    if (from !== undefined && !isWithin(from, ranges)) return 'it may not be used from this address';
  }
  return undefined;
}

/** What verifies the signatures of a CA, by their types: the type of its key, and the hash. */
const SIGNATURES: ReadonlyMap<string, readonly [key: string, hash: string | null, bytes: number]> = new Map([
  ['ssh-ed25519', ['ssh-ed25519', null, 64]],
  ['ecdsa-sha2-nistp256', ['ecdsa-sha2-nistp256', 'sha256', 32]],
  ['ecdsa-sha2-nistp384', ['ecdsa-sha2-nistp384', 'sha384', 48]],
  ['ecdsa-sha2-nistp521', ['ecdsa-sha2-nistp521', 'sha512', 66]],
  // Not `ssh-rsa`, which is SHA-1.
  ['rsa-sha2-256', ['ssh-rsa', 'sha256', 0]],
  ['rsa-sha2-512', ['ssh-rsa', 'sha512', 0]],
]);

function isSignedBy(key: KeyObject | undefined, { authority, signed, signature }: Certificate): boolean {
  const reader = createReader(signature);
  const [type, value] = [reader.string().toString('latin1'), reader.string()];
  const [keyType, hash, bytes] = SIGNATURES.get(type) ?? ['', null, 0];
  if (key === undefined || !reader.isOver() || createReader(authority).string().toString('latin1') !== keyType)
    return false;
  try {
    if (keyType.startsWith('ecdsa-')) {
      const numbers = stringsIn(value, 2) ?? [];
      const raw = numbers.map((number) => padded(number, bytes));
      if (raw.length !== 2 || raw.includes(undefined)) return false;
      return verify(hash, signed, { key, dsaEncoding: 'ieee-p1363' }, Buffer.concat(raw as Buffer[]));
    }
    if (hash === null) return value.length === bytes && verify(null, signed, key, value);
    // Some leave out zeros at its beginning.
    const size = Math.ceil((key.asymmetricKeyDetails?.modulusLength ?? 0) / 8);
    const whole = padded(value, size);
    return whole !== undefined && verify(hash, signed, key, whole);
  } catch {
    return false;
  }
}

/** A number of so many bytes. @returns undefined when it does not go into them */
function padded(number: Buffer, bytes: number): Buffer | undefined {
  const from = number.length > bytes && number[0] === 0 ? 1 : 0;
  const length = number.length - from;
  return length > bytes ? undefined : Buffer.concat([Buffer.alloc(bytes - length), number.subarray(from)]);
}

/** The one type of certificates by which a client logs in to our own server. */
export const ED25519_CERTIFICATE = 'ssh-ed25519-cert-v01@openssh.com';

/**
 * The raw signature of a login by a certificate, in which it is told by the type of the key alone.
 * @param signature - as ssh2 has it: with its type before it, which is not that of the certificate
 */
export function rawSignature(signature: Buffer): Buffer | undefined {
  const [type, value] = stringsIn(signature, 2) ?? [];
  return type?.toString('latin1') === 'ssh-ed25519' ? value : undefined;
}
