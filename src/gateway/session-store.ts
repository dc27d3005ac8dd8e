/** The store of one session: the storage, and around it one after the other of what a client is held to. */
import { protectionOf } from '../config/repositories.ts';
import type { GatewayConfig } from '../config/types.ts';
import { idOf } from '../core/principal.ts';
import { countedRepository } from '../limits/counted-repository.ts';
import { heedHolds, type Holds } from '../limits/lock-hold.ts';
import { limitLocks } from '../limits/lock-limit.ts';
import type { Quotas } from '../limits/quota.ts';
import type { StoreCalls } from '../limits/store-calls.ts';
import { measuredStore } from '../metrics/measured-store.ts';
import type { AuditEvent, SessionIdentity } from '../ports/audit-sink.ts';
import type { Meter } from '../ports/meter.ts';
import type { RepositoryStore } from '../ports/repository-store.ts';
import { safeCreation, type SafeStorage } from '../safeguard/safe-storage.ts';
import { verifiedStore } from '../safeguard/verified-store.ts';
import type { Served } from './served.ts';
import { withTrash } from './with-trash.ts';

/** What the store of a session depends on. */
interface StoreContext {
  readonly served: Served;
  readonly identity: SessionIdentity;
  /** Whether the session is the admin's own. */
  readonly admin: boolean;
  /** The newest config. */
  readonly config: () => GatewayConfig;
  readonly meter: Meter | undefined;
  readonly calls: StoreCalls;
  readonly quotas: Quotas;
  readonly holds: () => Holds;
  /** Writes into the audit. @throws GatewayError `audit-unavailable`; nothing is changed then */
  readonly record: (event: AuditEvent) => Promise<void>;
}

/** Each line puts something around all that is above it: a call goes through them from the last one to the first. */
export function sessionStore(storage: SafeStorage, context: StoreContext): RepositoryStore {
  const { served, identity, admin, config, calls, quotas, holds, record } = context;
  const { repository } = identity;
  const client = identity.principal.client;
  const stored = storage.repository(repository.prefix);
  // Outlives the session, so that it is the store without what is the session's own.
  const counted = aroundStorage(stored, storage, context);

  // What is removed goes to the trash, unless the newest config has none for any client of the repository.
  const isOn = (): boolean => (protectionOf(config(), repository).trashMs ?? served.client.trashMs) !== undefined;
  const trashed = withTrash(stored, { session: identity.session, by: admin ? 'admin' : 'client', isOn });
  let store = aroundStorage(trashed, storage, context);

  // Shares the storage among the clients. The admin, who may be about to help, does not wait behind them.
  if (!admin) store = calls.of(client, store);

  // Looks for what it has stored, before a snapshot counts.
  store = verifiedStore(store);

  // Makes no lock while the admin holds the repository, and never more than a client may have. The newest config counts.
  if (!admin) store = heedHolds(store, holds);
  if (!admin)
    store = limitLocks(store, { client: idOf(identity.principal), maxLocks: () => served.client.maxLocks, record });

  // Takes what has room. The admin, who makes room when there is none left, is held to nothing but counted, too.
  return quotas.limit(store, {
    state: () => config().state,
    identity: () => countedRepository(config(), served.client.repository),
    quota: () => (admin ? undefined : served.client.quota),
    // Kept as long as the count is: a function of this session would keep it all.
    removedByClients: stored.removedByClients.bind(stored),
    ...{ admin, counted, hasTrash: isOn },
  });
}

function aroundStorage(
  inner: RepositoryStore,
  { storeCheck }: SafeStorage,
  { identity: { access, repository }, meter }: StoreContext,
): RepositoryStore {
  let store = inner;

  // Creates only where the storage is known to replace nothing. Whoever has full access may change what is there anyway.
  if (access !== 'full' && storeCheck !== undefined) store = safeCreation(store, storeCheck);

  // Times what the storage takes, and not what a session waits for by itself.
  if (meter !== undefined) store = measuredStore(store, meter.store(repository.store));
  return store;
}
