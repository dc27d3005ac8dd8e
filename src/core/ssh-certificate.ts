/**
 * SSH certificates of users: read from their wire format, and what of them the config decides on. Nothing here is proved: whoever reads one
 * has still to verify the signature of its CA.
 *
 * Source: OpenSSH, PROTOCOL.certkeys; RFC 4251, 5 (types of data).
 */

/** A certificate, as it says of itself. */
export interface Certificate {
  /** As `ssh-ed25519-cert-v01@openssh.com`. */
  readonly type: string;
  /** The key that it is for, in SSH wire format. */
  readonly key: Buffer;
  readonly serial: bigint;
  /** Else it is a host's. */
  readonly isForUsers: boolean;
  readonly keyId: string;
  readonly principals: readonly string[];
  /** In seconds since 1970; the second bound is itself no longer in it. */
  readonly validAfter: bigint;
  readonly validBefore: bigint;
  /** What must be understood by whoever accepts it, by name. */
  readonly criticalOptions: ReadonlyMap<string, Buffer>;
  /** Its CA's key in SSH wire format, and the CA's signature of `signed`. */
  readonly authority: Buffer;
  readonly signed: Buffer;
  readonly signature: Buffer;
}

/** Types, and of how many strings the key of each consists. */
const KEY_PARTS: ReadonlyMap<string, number> = new Map([
  ['ssh-ed25519-cert-v01@openssh.com', 1],
  ['ssh-rsa-cert-v01@openssh.com', 2],
  ['ecdsa-sha2-nistp256-cert-v01@openssh.com', 2],
  ['ecdsa-sha2-nistp384-cert-v01@openssh.com', 2],
  ['ecdsa-sha2-nistp521-cert-v01@openssh.com', 2],
  ['sk-ssh-ed25519-cert-v01@openssh.com', 2],
  ['sk-ecdsa-sha2-nistp256-cert-v01@openssh.com', 3],
]);

/** Some CAs put what their users may do into it, in kilobytes; more than this has no use. */
const MOST_BYTES = 32 * 1024;
/** As OpenSSH has it. */
const MOST_PRINCIPALS = 256;
const MOST_OPTIONS = 256;
const FOR_USERS = 1;

/** Whether a key's type is one of certificates. */
export function isCertificateType(type: string): boolean {
  return /-cert-v0\d@openssh\.com$/.test(type);
}

/** @returns undefined when it is no certificate, malformed, or larger than any has to be */
export function readCertificate(blob: Buffer): Certificate | undefined {
  if (blob.length > MOST_BYTES) return undefined;
  const reader = createReader(blob);
  const type = reader.string().toString('latin1');
  const parts = KEY_PARTS.get(type);
  if (parts === undefined) return undefined;
  reader.string(); // The nonce.
  const keyFrom = reader.position();
  for (let part = 0; part < parts; part++) reader.string();
  const keyParts = blob.subarray(keyFrom, reader.position());
  const serial = reader.uint64();
  const kind = reader.uint32();
  const keyId = reader.string().toString('utf8');
  const principals = stringsIn(reader.string(), MOST_PRINCIPALS);
  const [validAfter, validBefore] = [reader.uint64(), reader.uint64()];
  const criticalOptions = optionsIn(reader.string());
  const extensions = optionsIn(reader.string());
  reader.string(); // Reserved.
  const authority = reader.string();
  const signed = blob.subarray(0, reader.position());
  const signature = reader.string();
  if (!reader.isOver() || principals === undefined || criticalOptions === undefined || extensions === undefined)
    return undefined;
  if (kind !== FOR_USERS && kind !== FOR_USERS + 1) return undefined;
  const name = Buffer.from(type.replace('-cert-v01@openssh.com', type.startsWith('sk-') ? '@openssh.com' : ''));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(name.length);
  return {
    ...{ type, key: Buffer.concat([length, name, keyParts]), serial, isForUsers: kind === FOR_USERS, keyId },
    ...{ principals: principals.map((each) => each.toString('utf8')), validAfter, validBefore, criticalOptions },
    ...{ authority, signed, signature },
  };
}

/** What is left of a certificate once it has been proved: the part of a principal that came by it. */
export interface CertifiedBy {
  /** Fingerprint of its CA's key. */
  readonly ca: string;
  /** What the CA calls it, and its number, in decimal digits. */
  readonly keyId: string;
  readonly serial: string;
  readonly principals: readonly string[];
  /** In seconds since 1970, in decimal digits. */
  readonly validBefore: string;
}

/** @param ca - fingerprint of its CA's key */
export function certifiedBy({ keyId, serial, principals, validBefore }: Certificate, ca: string): CertifiedBy {
  return { ca, keyId, serial: serial.toString(), principals, validBefore: validBefore.toString() };
}

/** What the config revokes: certificates, and keys. */
export type Revocation =
  | { readonly by: 'keyId'; readonly keyId: string }
  /** Fingerprint of a key, of one that is certified, or of a CA. */
  | { readonly by: 'key'; readonly key: string }
  /** Both bounds are in it; without a CA, of each. */
  | { readonly by: 'serial'; readonly from: bigint; readonly to: bigint; readonly ca?: string };

/** Who a certificate may be for. */
interface Certifiable {
  readonly name: string;
  readonly principals: readonly string[];
}

/** What the config says of all certificates. */
interface CertificateRules {
  readonly trustedUserCAKeys: readonly { readonly fingerprint: string }[];
  readonly clients: Readonly<Record<string, Certifiable>>;
}

/** Why a certificate is good for no session: a stable word for the audit, and half a sentence. */
interface CertificateRefusal {
  readonly reason: 'ca-removed' | 'principal-removed' | 'several-clients';
  readonly why: string;
}

/** Why a certificate does not, or no longer, stand for a client; undefined when it does. Neither its times are asked for nor what is revoked. */
export function refuseCertificate(
  certificate: CertifiedBy,
  client: Certifiable,
  { trustedUserCAKeys, clients }: CertificateRules,
): CertificateRefusal | undefined {
  if (!trustedUserCAKeys.some(({ fingerprint }) => fingerprint === certificate.ca))
    return { reason: 'ca-removed', why: 'its CA is not, or no longer, trusted' };
  const named = new Set(certificate.principals);
  const isOf = ({ principals }: Certifiable): boolean => principals.some((principal) => named.has(principal));
  if (!isOf(client))
    return { reason: 'principal-removed', why: 'none of its principals is, or is any longer, one of the client' };
  if (Object.values(clients).some((other) => other.name !== client.name && isOf(other)))
    return { reason: 'several-clients', why: 'its principals are those of several clients, and it must be one' };
  return undefined;
}

/**
 * Whether a key is revoked, or the certificate it comes with.
 * @param key - its fingerprint
 */
export function isRevoked(revocations: readonly Revocation[], key: string, certificate?: CertifiedBy): boolean {
  return revocations.some((one) => {
    if (one.by === 'key') return one.key === key || one.key === certificate?.ca;
    if (certificate === undefined) return false;
    if (one.by === 'keyId') return one.keyId === certificate.keyId;
    const number = BigInt(certificate.serial);
    return (one.ca ?? certificate.ca) === certificate.ca && number >= one.from && number <= one.to;
  });
}

/** Whether the time of a certificate is over. */
export function isOver(validBefore: string, now: Date): boolean {
  return secondsOf(now) >= BigInt(validBefore);
}

/** A moment in whole seconds since 1970. */
export function secondsOf(moment: Date): bigint {
  return BigInt(Math.floor(moment.getTime() / 1000));
}

/** Reads one thing after the other. Beyond the end there is nothing: who has read all asks `isOver`. */
interface Reader {
  string(): Buffer;
  uint32(): number;
  uint64(): bigint;
  position(): number;
  /** Whether all was there that was read, and nothing more. */
  isOver(): boolean;
}

/** @param bytes - read from the beginning */
export function createReader(bytes: Buffer): Reader {
  let at = 0;
  let failed = false;
  const take = (count: number): Buffer | undefined => {
    if (failed || bytes.length - at < count) {
      failed = true;
      return undefined;
    }
    at += count;
    return bytes.subarray(at - count, at);
  };
  const uint32 = (): number => take(4)?.readUInt32BE() ?? 0;
  return {
    uint32,
    string: () => take(uint32()) ?? Buffer.alloc(0),
    uint64: () => take(8)?.readBigUInt64BE() ?? 0n,
    position: () => at,
    isOver: () => !failed && at === bytes.length,
  };
}

/** The strings that data consists of. @returns undefined when it consists of something else, or of more than `most` */
export function stringsIn(data: Buffer, most: number): readonly Buffer[] | undefined {
  const reader = createReader(data);
  const found: Buffer[] = [];
  while (reader.position() < data.length) {
    const before = reader.position();
    found.push(reader.string());
    if (found.length > most || reader.position() === before) return undefined;
  }
  return reader.isOver() ? found : undefined;
}

/** Options by their names, each of which may be there once. */
function optionsIn(data: Buffer): ReadonlyMap<string, Buffer> | undefined {
  const words = stringsIn(data, 2 * MOST_OPTIONS);
  if (words === undefined) return undefined;
  const options = new Map<string, Buffer>();
  for (let at = 0; at < words.length; at += 2)
    options.set((words[at] ?? Buffer.alloc(0)).toString('latin1'), words[at + 1] ?? Buffer.alloc(0));
  // Neither one twice nor one without its value.
  return options.size * 2 === words.length ? options : undefined;
}
