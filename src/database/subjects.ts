/** What a config says of who may come in, as others can hear it; and a config without those whom other gateways keep out. */
import { createHash } from 'node:crypto';
import { deepFreeze } from '../config/freeze.ts';
import { keepFiles } from '../config/load.ts';
import type { ClientConfig, GatewayConfig } from '../config/types.ts';

/** Why a subject is refused. */
export type Reason = 'disabled' | 'expired' | 'removed' | 'revoked';

/** That a gateway refuses a client, a key or a principal, and has told the others. */
export interface Revocation {
  /** `client/ID`, `key/SHA256:…` or `principal/NAME`. */
  readonly subject: string;
  /** The gateway that says so. */
  readonly gateway: string;
  readonly reason: Reason;
  readonly since: Date;
}

/** Every subject of a config, with why it is refused; undefined for those that may come in. */
export function subjectsOf(config: GatewayConfig, now: Date): ReadonlyMap<string, Reason | undefined> {
  const subjects = new Map<string, Reason | undefined>();
  for (const client of Object.values(config.clients)) {
    const isOver = client.expires !== undefined && now > client.expires;
    subjects.set(`client/${client.id}`, client.disabled ? 'disabled' : isOver ? 'expired' : undefined);
    for (const { fingerprint } of client.keys) subjects.set(`key/${fingerprint}`, undefined);
    for (const principal of client.principals) subjects.set(`principal/${principal}`, undefined);
  }
  for (const one of config.revokedCertificates) if (one.by === 'key') subjects.set(`key/${one.key}`, 'revoked');
  return subjects;
}

/** The same for the same subjects. */
export function digestOf(subjects: ReadonlyMap<string, Reason | undefined>): string {
  const hash = createHash('sha256');
  for (const subject of [...subjects.keys()].sort())
    hash.update(`${subject}\0${subjects.get(subject) === undefined ? '' : '-'}\n`);
  return hash.digest('hex').slice(0, 32);
}

/** What each host may have its own of: how it comes to the storage, and where its files are. */
const OF_A_HOST = new Set(['passwordFile', 'caFile', 'credentials', 'proxy']);

/** A digest of what gateways of one fleet must have in common: who the clients are, what they may do, and where their repositories are. */
export function commonDigest({ clients, stores }: GatewayConfig): string {
  const common = JSON.stringify({ clients, stores }, (key: string, value: unknown) =>
    OF_A_HOST.has(key)
      ? undefined
      : typeof value === 'bigint'
        ? value.toString()
        : isPlain(value)
          ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
          : value,
  );
  return createHash('sha256').update(common).digest('hex').slice(0, 12);
}

function isPlain(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The config as it holds here: without whom other gateways keep out. Itself where that is nobody.
 * @param gateway - this one: what it says itself is in its config
 */
export function withoutRefused(
  config: GatewayConfig,
  revocations: readonly Revocation[],
  gateway: string,
): GatewayConfig {
  const by = new Map<string, string>();
  const refusedKeys = new Set<string>();
  for (const { subject, gateway: other, reason } of revocations) {
    if (other === gateway) continue;
    by.set(subject, other);
    // Of a CA it may be, or of a key that is certified.
    if (reason === 'revoked') refusedKeys.add(subject.slice('key/'.length));
  }
  if (by.size === 0) return config;
  let changed = false;
  const clients = Object.create(null) as Record<string, ClientConfig>;
  for (const client of Object.values(config.clients)) {
    const disabledBy = by.get(`client/${client.id}`);
    const principals = client.principals.filter((one) => !by.has(`principal/${one}`));
    for (const { fingerprint } of client.keys) if (by.has(`key/${fingerprint}`)) refusedKeys.add(fingerprint);
    const isDisabled = disabledBy !== undefined && !client.disabled;
    const isLess = isDisabled || principals.length < client.principals.length;
    clients[client.name] = isLess
      ? { ...client, principals, ...(isDisabled && { disabled: true, disabledBy }) }
      : client;
    changed ||= isLess;
  }
  // Not taken out of the client's list: a client without keys in the config would be left to authorized_keys alone.
  const revoked = [...refusedKeys].map((key) => ({ by: 'key' as const, key }));
  if (!changed && revoked.length === 0) return config;
  const less = deepFreeze({
    ...config,
    clients,
    revokedCertificates: [...config.revokedCertificates, ...revoked],
  });
  keepFiles(config, less);
  return less;
}
