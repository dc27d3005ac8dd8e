/**
 * The composition root: from a config to open sessions. Here alone the stores, the audit and the restic handler meet.
 */
import { randomBytes } from 'node:crypto';
import { BlockList, isIPv6 } from 'node:net';
import { openJsonlSink } from './audit/jsonl-sink.ts';
import type { ClientConfig, GatewayConfig } from './config/types.ts';
import { refuseAdmission } from './core/admission.ts';
import { asGatewayError, GatewayError } from './core/errors.ts';
import type { Principal } from './core/principal.ts';
import type { AuditSink, SessionIdentity } from './ports/audit-sink.ts';
import type { Log } from './ports/log.ts';
import type { Storage } from './ports/repository-store.ts';
import type { OpenSession, Session } from './ports/sessions.ts';
import { serveRestic } from './restic/session.ts';
import { openStorage } from './stores/open-storage.ts';

/** A gateway: everything between a proved principal and the storage. */
export interface Gateway {
  readonly openSession: OpenSession;
  /**
   * Tries to reach every store that a client uses.
   * @returns what is wrong, by store name; empty when all is well
   */
  reachStores(): Promise<ReadonlyMap<string, GatewayError>>;
  /** The sessions that are open now. */
  sessionCount(): number;
  /** Ends all sessions, then lets go of storage and audit. */
  close(): Promise<void>;
}

/**
 * Makes a gateway. Storage is opened when a session first needs it.
 * @throws GatewayError `audit-unavailable` when the audit file cannot be opened
 */
export async function createGateway({
  config,
  log,
}: {
  readonly config: GatewayConfig;
  readonly log: Log;
}): Promise<Gateway> {
  const audit: AuditSink = await openJsonlSink({ file: config.audit.file });
  const storages = new Map<string, Promise<Storage>>();
  const sessions = new Set<Session>();
  /** How many sessions each client has open or opening. */
  const taken = new Map<string, number>();

  const storage = (name: string): Promise<Storage> => {
    let opened = storages.get(name);
    if (opened === undefined) {
      const store = config.stores[name];
      if (store === undefined) throw new GatewayError('invalid-config', { detail: `there is no store ${name}` });
      opened = openStorage(store);
      storages.set(name, opened);
      // A store that could not be opened (a secret that cannot be read) is tried again by the next session.
      opened.catch(() => storages.delete(name));
    }
    return opened;
  };

  const openSession: OpenSession = async ({ principal, stream, tell, ending }) => {
    const client = config.clients[principal.client];
    if (client === undefined)
      throw new GatewayError('session-refused', { detail: `client ${principal.client} is not known here.` });
    // The admin on the gateway host manages what the client may not, and is no one's guest.
    const admin = principal.door === 'admin';
    const access = admin ? 'full' : client.access;
    const identity: SessionIdentity = { session: sessionId(), principal, access, repository: client.repository };
    const before = taken.get(client.name) ?? 0;
    // The place is taken before anything is awaited, so that two that come at once cannot both have the last one.
    taken.set(client.name, before + 1);
    const leave = (): void => {
      taken.set(client.name, (taken.get(client.name) ?? 1) - 1);
    };
    try {
      if (!admin) await admit(client, identity, before);
      const session = await serveRestic(stream, await contextOf(client, identity, tell), ending);
      sessions.add(session);
      void session.ended.then((reason) => {
        leave();
        sessions.delete(session);
        log.info({ client: client.name, session: session.id, reason }, 'session ended');
      });
      log.info(
        { client: client.name, session: session.id, door: principal.door, from: principal.from },
        'session started',
      );
      return session;
    } catch (error) {
      leave();
      throw error;
    }
  };

  const contextOf = async (client: ClientConfig, identity: SessionIdentity, tell: (line: string) => void) => {
    const { access, repository } = identity;
    try {
      const store = (await storage(repository.store)).repository(repository.prefix);
      return { identity, grant: { access, addKeys: client.addKeys }, store, audit, log, tell };
    } catch (error) {
      const failure = asGatewayError(error);
      log.error({ err: error, store: repository.store }, failure.message);
      await audit.append(identity, { kind: 'session-refused', reason: failure.code, detail: failure.message });
      throw new GatewayError('session-refused', { detail: `${failure.tell}.`, cause: error });
    }
  };

  const admit = async (client: ClientConfig, identity: SessionIdentity, alreadyOpen: number): Promise<void> => {
    const refusal = refuseAdmission(client.name, client, {
      now: new Date(),
      open: alreadyOpen,
      addressAllowed: addressAllowed(client, identity.principal),
    });
    if (refusal === undefined) return;
    const { reason, line } = refusal;
    await audit.append(identity, { kind: 'session-refused', reason, detail: line });
    throw new GatewayError('session-refused', { detail: line });
  };

  return {
    openSession,
    reachStores: async () => {
      const names = new Set(Object.values(config.clients).map((client) => client.repository.store));
      const wrong = new Map<string, GatewayError>();
      await Promise.all(
        [...names].map(async (name) => {
          try {
            await (await storage(name)).reach({ signal: AbortSignal.timeout(30_000) });
          } catch (error) {
            wrong.set(name, asGatewayError(error));
          }
        }),
      );
      return wrong;
    },
    sessionCount: () => sessions.size,
    close: async () => {
      const ending = [...sessions];
      for (const session of ending) session.close('gateway-stopped');
      await Promise.all(ending.map((session) => session.ended));
      for (const opened of await Promise.allSettled([...storages.values()]))
        if (opened.status === 'fulfilled') await opened.value.close();
      await audit.close();
    },
  };
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
