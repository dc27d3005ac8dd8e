/**
 * The composition root: from a config to open sessions. Here alone the stores, the audit and the restic handler meet.
 */
import { randomBytes } from 'node:crypto';
import { BlockList, isIPv6 } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import { openAudit } from './audit/open-audit.ts';
import type { ClientConfig, GatewayConfig, StoreConfig } from './config/types.ts';
import { refuseAdmission } from './core/admission.ts';
import { asGatewayError, GatewayError, isGatewayError, messageOf } from './core/errors.ts';
import type { Principal } from './core/principal.ts';
import { createClientLogs } from './limits/client-log.ts';
import { createCountedRecords } from './limits/counted-records.ts';
import { countedRepository, repositoryIdentity } from './limits/counted-repository.ts';
import { createMemoryBudget, type MemoryLimits } from './limits/memory-budget.ts';
import { memoryOfServe } from './limits/memory-limits.ts';
import { createFairTurns } from './limits/fair-turns.ts';
import { createLimitedStores } from './limits/limited-store.ts';
import { createStoreCalls } from './limits/store-calls.ts';
import type { AdminHold } from './limits/admin-hold.ts';
import { createThrottles } from './limits/throttles.ts';
import { measuredStore } from './metrics/measured-store.ts';
import type { AuditSink, EndReason, SessionIdentity } from './ports/audit-sink.ts';
import { reportDefect, type Log } from './ports/log.ts';
import type { ClientMemory, Lease, Memory } from './ports/memory.ts';
import type { Meter } from './ports/meter.ts';
import type { HoldRequest, OpenSession, Session } from './ports/sessions.ts';
import type { Throttle } from './ports/throttle.ts';
import { serveRestic } from './restic/session.ts';
import { SESSION_BYTES } from './restic/stream-memory.ts';
import { openSafeStorage, type SafeStorage } from './safeguard/safe-storage.ts';
import { verifiedStore } from './safeguard/verified-store.ts';
import { enterLiveSessions, readLiveSessions } from './state/live-sessions.ts';
import { openLockHolds, sessionsToEnd } from './state/lock-holds.ts';
import { openSharedMoment } from './state/shared-moment.ts';
import { openSharedTally, talliedBelow } from './state/shared-tally.ts';

/** A gateway: everything between a proved principal and the storage. */
export interface Gateway {
  readonly openSession: OpenSession;
  /** What its clients may hold, all of their connections together. */
  readonly memory: Memory;
  /**
   * Tries to reach every store that a client uses, and removes what killed processes left there.
   * @returns what is wrong, by store name; empty when all is well
   */
  reachStores(): Promise<ReadonlyMap<string, GatewayError>>;
  /** The sessions that are open or opening now. */
  sessionCount(): number;
  /**
   * Takes up another config for all sessions from now on. Sessions whose key may no longer come in, or whose client has another
   * repository or other rights now, end as `revoked`; all others go on undisturbed, with the storage and the audit they began with.
   * @throws GatewayError `audit-unavailable` when the audit file cannot be opened; the config then stays as it was
   */
  reconfigure(config: GatewayConfig): Promise<void>;
  /** Opens no session from now on. Resolves when those that are open have ended. */
  drain(): Promise<void>;
  /** Ends all sessions, then lets go of storage and audit. */
  close(): Promise<void>;
}

/** A session that is open or opening, and what it was opened with. */
interface Served {
  /** As the newest config has it. */
  client: ClientConfig;
  readonly store: StoreConfig | undefined;
  readonly principal: Principal;
  readonly audit: AuditSink;
  readonly tell: (line: string) => void;
  /** What the session holds by itself; set once it is taken. */
  memory: Lease | undefined;
  /** Of an admin's that holds the repository; set once it may. */
  hold: AdminHold | undefined;
  /** Takes it out of the machine's live sessions; set once it is one of them. */
  leave: (() => void) | undefined;
  storage: Promise<SafeStorage> | undefined;
  /** Set once it is open. */
  session: Session | undefined;
  /** Set once it was told to end. */
  ending: boolean;
}

/** How often the passing of time is looked at, in ms: an expired key loses its sessions within this. */
const EXPIRY_LOOK_MS = 500;

/**
 * Makes a gateway. Storage is opened when a session first needs it.
 * @param options.meter - counts what the sessions do; by default nobody does
 * @param options.memory - what this process may hold under a config; by default all that `serve` may
 * @throws GatewayError `audit-unavailable` when the audit file cannot be opened
 */
export async function createGateway(options: {
  readonly config: GatewayConfig;
  readonly log: Log;
  readonly meter?: Meter | undefined;
  readonly memory?: (config: GatewayConfig) => MemoryLimits;
}): Promise<Gateway> {
  const { log, meter, memory: memoryOf = (given: GatewayConfig) => memoryOfServe(given, 1) } = options;
  let { config } = options;
  const memory = createMemoryBudget(memoryOf(config));
  let audit: AuditSink = await openAudit(config, log);
  const storages = new Map<string, Promise<SafeStorage>>();
  const limited = createLimitedStores(log);
  const throttles = createThrottles(() => config.state, openSharedMoment);
  const logs = createClientLogs(log);
  const records = createCountedRecords({
    state: () => config.state,
    client: (name) => config.clients[name],
    audit: () => audit,
    shared: { moment: openSharedMoment, tally: openSharedTally, tallied: talliedBelow },
    log,
  });
  const storeCalls = createStoreCalls();
  const turns = createFairTurns();
  /** Of its own, so that what is kept for each client keeps no session with it. */
  const throttleOf = (name: string): Throttle => throttles.of(name, () => config.clients[name]);
  const open = new Set<Served>();
  /** What earlier configs opened; closed when the last session that uses it has ended. */
  const retired = new Set<Promise<SafeStorage> | AuditSink>();
  /** Those who wait for the last session to end. */
  const waiting = new Set<() => void>();
  let state: 'open' | 'draining' | 'closing' = 'open';

  const storage = (name: string): Promise<SafeStorage> => {
    let opened = storages.get(name);
    if (opened === undefined) {
      const store = config.stores[name];
      if (store === undefined) throw new GatewayError('invalid-config', { detail: `there is no store ${name}` });
      const opening = openSafeStorage(store, config.state);
      opened = opening;
      storages.set(name, opening);
      // A store that could not be opened (a secret that cannot be read) is tried again by the next session.
      opening.catch(() => {
        if (storages.get(name) === opening) storages.delete(name);
      });
    }
    return opened;
  };

  const openSession: OpenSession = async ({ principal, stream, widen, tell, ending, hold }) => {
    const client = config.clients[principal.client];
    if (state !== 'open')
      throw new GatewayError('session-refused', { detail: 'the gateway is being stopped; try again in a while.' });
    if (client === undefined)
      throw new GatewayError('session-refused', { detail: `client ${principal.client} is not known here.` });
    // The admin on the gateway host manages what the client may not, and is no one's guest.
    const admin = principal.door === 'admin';
    const access = admin ? 'full' : client.access;
    const identity: SessionIdentity = { session: sessionId(), principal, access, repository: client.repository };
    const store = config.stores[client.repository.store];
    const served: Served = {
      ...{ client, store, principal, audit, tell },
      ...{
        hold: undefined,
        memory: undefined,
        leave: undefined,
        storage: undefined,
        session: undefined,
        ending: false,
      },
    };
    // Known before anything is awaited, so that whatever changes meanwhile finds it.
    open.add(served);
    try {
      const own = await admit(served, identity);
      const session = await serveRestic(stream, await contextOf(served, identity, hold), ending, { ...own, widen });
      served.session = session;
      const ended = session.ended.then((reason) => {
        forget(served);
        logs.of(client.name).info({ client: client.name, session: session.id, reason }, 'session ended');
      });
      ended.catch((error: unknown) => {
        reportDefect(log, error, { session: session.id }, 'a defect after the end of a session');
      });
      logs
        .of(client.name)
        .info(
          { client: client.name, session: session.id, door: principal.door, from: principal.from },
          'session started',
        );
      review(served);
      return session;
    } catch (error) {
      forget(served);
      if (!isGatewayError(error, 'session-refused'))
        logs.of(client.name).error({ err: error, client: client.name }, 'a session could not be opened');
      throw error;
    }
  };

  const forget = (served: Served): void => {
    open.delete(served);
    served.hold?.release();
    // Before its place is given to another, which would still find it there.
    served.leave?.();
    served.memory?.release();
    closeUnused();
    if (open.size > 0) return;
    for (const done of waiting) done();
    waiting.clear();
  };

  const closeUnused = (): void => {
    const used = new Set<unknown>([...open].flatMap((served) => [served.audit, served.storage]));
    for (const one of retired) {
      if (used.has(one)) continue;
      retired.delete(one);
      void closeResource(one);
    }
  };

  const closeResource = async (one: Promise<SafeStorage> | AuditSink): Promise<void> => {
    try {
      await (await one).close();
    } catch (error) {
      // What could not be opened needs no closing, and the sessions that met it have told.
      log.warn({ err: error }, 'what an earlier config had opened could not be closed');
    }
  };

  const contextOf = async (served: Served, identity: SessionIdentity, hold: HoldRequest | undefined) => {
    const { access, repository } = identity;
    const { audit, tell, client } = served;
    try {
      served.storage = storage(repository.store);
      const opened = await served.storage;
      // Whoever has full access may change what is there anyway.
      const open = access === 'full' ? opened.repository(repository.prefix) : opened.safeRepository(repository.prefix);
      const whole = meter === undefined ? open : measuredStore(open, meter.store(repository.store));
      const admin = served.principal.door === 'admin';
      const holds = once(() => openLockHolds(config.state, repositoryIdentity(config, client.repository)));
      // The admin, who may be about to help, does not wait behind the client.
      const bounded = admin ? whole : storeCalls.of(client.name, whole);
      const store = limited.limit(verifiedStore(bounded), whole, {
        client: client.name,
        state: () => config.state,
        counted: () => countedRepository(config, client.repository),
        // The newest config counts. The admin, who makes room when there is none left, is held to nothing.
        quota: () => (admin ? undefined : served.client.quota),
        maxLocks: () => (admin ? undefined : served.client.maxLocks),
        record: (event) => audit.append(identity, event),
        holds: admin ? undefined : holds,
      });
      if (admin && hold !== undefined) {
        const { holdForAdmin } = await import('./limits/admin-hold.ts');
        served.hold = holdForAdmin(store, hold, {
          holds: holds(),
          record: (event) => audit.append(identity, event),
          tell,
          liveSessions: async () => new Set((await readLiveSessions(config.state)).map(({ id }) => id)),
          madeHere: async (locks) => (await import('./audit/made-here.ts')).locksMadeHere(config.audit.file, locks),
        });
      }
      const throttle = admin ? undefined : throttleOf(client.name);
      const grant = { access, addKeys: client.addKeys };
      const counted = records.of(client.name);
      return {
        identity,
        grant,
        store,
        throttle,
        turns: admin ? undefined : turns.of(client.name),
        audit,
        records: counted,
        log: logs.of(client.name),
        meter: meter?.session(client.name),
        tell,
        beforeLocks: beforeLocks(served.hold),
      };
    } catch (error) {
      const failure = asGatewayError(error);
      logs.of(client.name).error({ err: error, store: repository.store, client: client.name }, failure.message);
      meter?.refused(client.name, failure.code);
      await refused(identity, failure.code, failure.message);
      throw new GatewayError('session-refused', { detail: `${failure.tell}.`, cause: error });
    }
  };

  const admit = async (
    served: Served,
    identity: SessionIdentity,
  ): Promise<{ readonly of: ClientMemory; readonly own: Lease }> => {
    const { client, principal } = served;
    const admin = principal.door === 'admin';
    let refusal = admin ? undefined : refusalOf(client, principal, 0);
    if (refusal === undefined && !admin) {
      const own = records.of(client.name);
      if (!own.session()) refusal = tooMany(client, own.sessionRate);
    }
    refusal ??= await enter(served, identity);
    const of = memory.of(client.name);
    if (refusal === undefined) {
      const own = of.take(SESSION_BYTES);
      served.memory = own;
      if (own !== undefined) return { of, own };
      refusal = NO_MEMORY;
    }
    const { reason, line } = refusal;
    meter?.refused(client.name, reason);
    await refused(identity, reason, line);
    throw new GatewayError('session-refused', { detail: line });
  };

  /** @throws GatewayError `audit-unavailable` */
  const refused = async (identity: SessionIdentity, reason: string, detail: string): Promise<void> => {
    const own = records.of(identity.principal.client);
    await own.record(identity, { kind: 'session-refused', reason, detail });
    void own.conclude();
  };

  /** Makes it one of the machine's live sessions. @returns why not, when its client or all have as many as they may in all processes together */
  const enter = async (served: Served, identity: SessionIdentity): Promise<AdmissionRefusal | undefined> => {
    const { client, principal } = served;
    try {
      const most = { client: client.maxSessions, all: config.maxSessions };
      const entry = await enterLiveSessions(config.state, { id: identity.session, principal }, most);
      if (!entry.entered) return entry.of === 'all' ? noRoom(entry.others) : refusalOf(client, principal, entry.others);
      served.leave = entry.leave;
      return undefined;
    } catch (error) {
      const detail = `the live sessions below ${config.state} cannot be counted: ${messageOf(error)}`;
      logs.of(client.name).error({ err: error, client: client.name }, detail);
      // The admin is let in, who may be about to help.
      if (principal.door === 'admin') return undefined;
      meter?.refused(client.name, 'state-unavailable');
      await refused(identity, 'state-unavailable', detail);
      throw new GatewayError('session-refused', {
        detail: 'the gateway cannot count its sessions; its admin finds why in the audit.',
        cause: error,
      });
    }
  };

  /** Ends a session that would not be opened like this now. */
  const review = (served: Served): void => {
    if (state === 'closing') {
      end(served, 'gateway-stopped', 'the gateway is being stopped; try again in a while.');
      return;
    }
    const { name } = served.client;
    const line = revocationOf(served, config);
    if (line !== undefined) end(served, 'revoked', line);
    else served.client = config.clients[name] ?? served.client;
  };

  const end = (served: Served, reason: EndReason, line: string): void => {
    // One that is still opening is looked at again when it is open.
    if (served.ending || served.session === undefined) return;
    served.ending = true;
    log.info({ client: served.client.name, session: served.session.id, reason }, line);
    try {
      served.tell(line);
    } catch {
      // Whoever cannot be told any more is let go all the same.
    }
    served.session.close(reason);
  };

  const noneLeft = async (): Promise<void> => {
    if (open.size > 0) await new Promise<void>((resolve) => waiting.add(resolve));
  };

  /** Ends the sessions that an admin wants out of the way, whatever process the admin's session is in. */
  const endForAdmin = (): void => {
    if (open.size === 0) return;
    const ids = sessionsToEnd(config.state);
    if (ids.size === 0) return;
    for (const served of open)
      if (served.principal.door !== 'admin' && ids.has(served.session?.id ?? ''))
        end(
          served,
          'ended-by-admin',
          'the admin needs the repository alone, and has ended this session; run it again later.',
        );
  };

  const clock = setInterval(() => {
    endForAdmin();
    const now = new Date();
    for (const served of open) if (served.client.expires !== undefined && now > served.client.expires) review(served);
  }, EXPIRY_LOOK_MS);
  clock.unref();

  return {
    openSession,
    memory,
    reachStores: async () => {
      const repositories = Object.values(config.clients).map((client) => client.repository);
      const names = new Set(repositories.map(({ store }) => store));
      const wrong = new Map<string, GatewayError>();
      await Promise.all(
        [...names].map(async (name) => {
          try {
            const opened = await storage(name);
            await opened.reach({ signal: AbortSignal.timeout(30_000) });
            const prefixes = repositories.filter(({ store }) => store === name).map(({ prefix }) => prefix);
            await opened.tidy([...new Set(prefixes)], { signal: AbortSignal.timeout(30_000) });
          } catch (error) {
            wrong.set(name, asGatewayError(error));
          }
        }),
      );
      return wrong;
    },
    sessionCount: () => open.size,
    reconfigure: async (next) => {
      if (!isDeepStrictEqual(next.audit, config.audit)) {
        const opened = await openAudit(next, log);
        retired.add(audit);
        audit = opened;
      }
      // All stores are opened anew, since the secrets that they read may be new ones under the same config.
      for (const one of storages.values()) retired.add(one);
      storages.clear();
      config = next;
      memory.resize(memoryOf(next));
      for (const served of open) review(served);
      closeUnused();
    },
    drain: async () => {
      if (state === 'open') state = 'draining';
      await noneLeft();
    },
    close: async () => {
      state = 'closing';
      for (const served of open) review(served);
      await noneLeft();
      clearInterval(clock);
      await limited.close();
      await records.close();
      const resources = [...retired, ...storages.values(), audit];
      retired.clear();
      storages.clear();
      await Promise.all(resources.map(closeResource));
    },
  };
}

/** Who holds no repository has nothing to wait for. */
function beforeLocks(hold: AdminHold | undefined): ((signal: AbortSignal) => Promise<void>) | undefined {
  return hold === undefined ? undefined : (signal) => hold.ready(signal);
}

/** A value that is made when it is first asked for. */
function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}

/** Why a client is not let in: a word for the audit, and one plain line for the client. */
interface AdmissionRefusal {
  readonly reason: string;
  readonly line: string;
}

/** Why a client is not let in now, or undefined. @param sessions - how many it has open */
function refusalOf(client: ClientConfig, principal: Principal, sessions: number): AdmissionRefusal | undefined {
  // A connection may have proved its key before that key was taken out of the config.
  if (isListable(client, principal) && !hasKey(client, principal))
    return { reason: 'key-removed', line: `this key is not, or no longer, one of client ${client.name}.` };
  return refuseAdmission(client.name, client, {
    now: new Date(),
    open: sessions,
    addressAllowed: addressAllowed(client, principal),
  });
}

/**
 * Whether the key must be one of the config's. At the forced command sshd decides on keys, but where it has told which one it took, a key
 * that was taken out of the config ends there, too. Left to authorized_keys alone are keys of other algorithms and certificates, which the
 * config cannot hold, and all keys of a client that has none in the config.
 */
function isListable(client: ClientConfig, { door, key, keyType }: Principal): boolean {
  if (key === undefined) return false;
  return door === 'ssh' || (door === 'stdio' && keyType === 'ssh-ed25519' && client.keys.length > 0);
}

function hasKey({ keys }: ClientConfig, { key }: Principal): boolean {
  return keys.some(({ fingerprint }) => fingerprint === key);
}

const NO_MEMORY: AdmissionRefusal = {
  reason: 'no-memory',
  line: 'the gateway holds as much as it may at the moment; try again in a while.',
};

/** @param sessions - how many all clients have open */
function noRoom(sessions: number): AdmissionRefusal {
  return {
    reason: 'max-sessions-of-all',
    line: `the gateway has ${sessions} sessions open already, the most it may; try again in a while.`,
  };
}

/** @param rate - at which it may open sessions, in words */
function tooMany(client: ClientConfig, rate: string): AdmissionRefusal {
  return {
    reason: 'too-many-sessions',
    line: `client ${client.name} opens more sessions than it may (${rate}); try again in a while.`,
  };
}

/** Why a session cannot go on under a config, as one plain line for its client; undefined when it can. */
function revocationOf({ client: before, store, principal }: Served, config: GatewayConfig): string | undefined {
  if (principal.door === 'admin') return undefined;
  const client = config.clients[before.name];
  if (client === undefined) return `client ${before.name} was removed; ask the gateway's admin.`;
  const refusal = refusalOf(client, principal, 0);
  if (refusal !== undefined) return refusal.line;
  // The last one may have gone.
  if (principal.keyType !== undefined && hasKey(before, principal) && !hasKey(client, principal))
    return `this key is no longer one of client ${before.name}.`;
  const same =
    client.access === before.access &&
    client.addKeys === before.addKeys &&
    isDeepStrictEqual(client.repository, before.repository) &&
    isDeepStrictEqual(config.stores[client.repository.store], store);
  return same ? undefined : `what client ${before.name} may do was changed; connect again.`;
}

/** `20261123T211500Z-` and ten random hex digits: sorts by time, unique over gateways, easy to type. */
function sessionId(): string {
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  return `${time}-${randomBytes(5).toString('hex')}`;
}

function addressAllowed(client: ClientConfig, principal: Principal): boolean {
  if (client.from.length === 0) return true;
  if (principal.from === undefined) return false;
  const list = new BlockList();
  for (const range of client.from) {
    const [address = '', bits] = range.split('/');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  // An IPv4 peer of a dual-stack listener comes as ::ffff:a.b.c.d.
  const address = principal.from.replace(/^::ffff:(?=\d+\.)/i, '');
  return list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}
