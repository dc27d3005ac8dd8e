/** Why a client may not open a session, or may not go on with one: decided from the config and the principal alone. */
import { isDeepStrictEqual } from 'node:util';
import { isWithin } from '../config/address-ranges.ts';
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import { refuseAdmission } from '../core/admission.ts';
import type { Principal } from '../core/principal.ts';
import { isCertificateType, isOver, isRevoked, refuseCertificate } from '../core/ssh-certificate.ts';
import type { Served } from './served.ts';

/** Why a client is not let in: a word for the audit, and one plain line for the client. */
export interface AdmissionRefusal {
  readonly reason: string;
  readonly line: string;
}

/** Why a client is not let in now, or undefined. @param sessions - how many it has open */
export function refusalOf(
  client: ClientConfig,
  principal: Principal,
  sessions: number,
  config: GatewayConfig,
): AdmissionRefusal | undefined {
  const { certificate } = principal;
  if (certificate !== undefined && isOver(certificate.validBefore, new Date()) && isHeldToConfig(principal, config))
    return {
      reason: 'certificate-expired',
      line: `the certificate of client ${client.name} has expired; get a new one.`,
    };
  return refusalBut(client, principal, sessions, config);
}

/**
 * The same but for the time of a certificate, which is that of logging in and of opening sessions. One that is open goes on: certificates may be good
 * for minutes, and a backup takes hours.
 */
function refusalBut(
  client: ClientConfig,
  principal: Principal,
  sessions: number,
  config: GatewayConfig,
): AdmissionRefusal | undefined {
  const { via, certificate, key, keyType = '' } = principal;
  if (certificate === undefined && via === 'stdio' && isCertificateType(keyType) && hasSayOn(client, config))
    return { reason: 'certificate-unreadable', line: 'the gateway cannot read this certificate; ask its admin.' };
  if (key !== undefined && isRevoked(config.revokedCertificates, key, certificate)) {
    const what = certificate === undefined ? 'key' : 'certificate';
    return { reason: `${what}-revoked`, line: `this ${what} of client ${client.name} was revoked.` };
  }
  if (certificate !== undefined) {
    const refusal = isHeldToConfig(principal, config) ? refuseCertificate(certificate, client, config) : undefined;
    if (refusal !== undefined)
      return { reason: refusal.reason, line: `this certificate is not for client ${client.name}: ${refusal.why}.` };
    // A connection may have authenticated before that key was taken out of the config.
  } else if (isListable(client, principal) && !hasKey(client, principal))
    return { reason: 'key-removed', line: `this key is not, or no longer, one of client ${client.name}.` };
  return refuseAdmission(client.name, client, {
    now: new Date(),
    open: sessions,
    addressAllowed: addressAllowed(client, principal),
  });
}

/**
 * Whether the key must be one of the config's. At the forced command sshd decides on keys, but where it has told which one it took, a key
 * that was taken out of the config ends there, too. Left to authorized_keys alone are keys of other algorithms, which the config cannot hold,
 * and all keys of a client that has none in the config.
 */
function isListable(client: ClientConfig, { via, key, keyType }: Principal): boolean {
  if (key === undefined) return false;
  return via === 'ssh' || (via === 'stdio' && keyType === 'ssh-ed25519' && client.keys.length > 0);
}

/** Whether a certificate must be as the config says. */
export function isHeldToConfig({ client, via, certificate }: Principal, config: GatewayConfig): boolean {
  if (certificate === undefined) return false;
  return via === 'ssh' || (via === 'stdio' && hasSayOn(config.clients[client], config));
}

/**
 * Whether the config decides on certificates at the forced command: where it has a CA, or had one, of which the principals are left. Else sshd alone does.
 */
function hasSayOn(client: ClientConfig | undefined, { trustedUserCAKeys }: GatewayConfig): boolean {
  return trustedUserCAKeys.length > 0 || (client !== undefined && client.principals.length > 0);
}

function hasKey({ keys }: ClientConfig, { key }: Principal): boolean {
  return keys.some(({ fingerprint }) => fingerprint === key);
}

export const NO_MEMORY: AdmissionRefusal = {
  reason: 'no-memory',
  line: 'the gateway has no memory left for another session; try again in a while.',
};

export const NO_DESCRIPTORS: AdmissionRefusal = {
  reason: 'no-descriptors',
  line: 'the gateway is short of file descriptors; tell its admin to raise the limit of open files (LimitNOFILE), and try again in a while.',
};

/** @param sessions - how many all clients have open */
export function noRoom(sessions: number): AdmissionRefusal {
  return {
    reason: 'max-sessions-of-all',
    line: `the gateway has ${sessions} sessions open already, the most it may; try again in a while.`,
  };
}

/** @param rate - at which it may open sessions, in words */
export function tooMany(client: ClientConfig, rate: string): AdmissionRefusal {
  return {
    reason: 'too-many-sessions',
    line: `client ${client.name} opens more sessions than it may (${rate}); try again in a while.`,
  };
}

/** Why a session cannot go on under a config, as one plain line for its client; undefined when it can. */
export function revocationOf(
  { client: before, store, principal, byCertificate }: Pick<Served, 'client' | 'store' | 'principal' | 'byCertificate'>,
  config: GatewayConfig,
): string | undefined {
  if (principal.via === 'admin') return undefined;
  const client = config.clients[before.name];
  if (client === undefined) return `client ${before.name} was removed; ask the gateway's admin.`;
  const refusal = refusalBut(client, principal, 0, config);
  if (refusal !== undefined) return refusal.line;
  // The last one may have gone.
  if (byCertificate && !isHeldToConfig(principal, config)) return `this certificate's CA is no longer trusted.`;
  if (principal.keyType !== undefined && hasKey(before, principal) && !hasKey(client, principal))
    return `this key is no longer one of client ${before.name}.`;
  const same =
    client.access === before.access &&
    client.addKeys === before.addKeys &&
    client.removals === before.removals &&
    isDeepStrictEqual(client.repository, before.repository) &&
    isDeepStrictEqual(config.stores[client.repository.store], store);
  return same ? undefined : `what client ${before.name} may do was changed; connect again.`;
}

function addressAllowed(client: ClientConfig, principal: Principal): boolean {
  if (client.from.length === 0) return true;
  if (principal.from === undefined) return false;
  return isWithin(principal.from, client.from);
}
