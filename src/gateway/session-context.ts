/** Puts together what the requests of one session are served with: its store, its rates, its log and its counts. */
import { protectionOf, repositoryIdentity } from '../config/repositories.ts';
import { asGatewayError, GatewayError } from '../core/errors.ts';
import type { AdminHold } from '../limits/admin-hold.ts';
import { createFairTurns } from '../limits/fair-turns.ts';
import { createQuotas } from '../limits/quota.ts';
import { createStoreCalls } from '../limits/store-calls.ts';
import { createThrottles } from '../limits/throttles.ts';
import type { AuditEvent, SessionIdentity } from '../ports/audit-sink.ts';
import type { RepositoryStore } from '../ports/repository-store.ts';
import type { HoldRequest, SessionRequest } from '../ports/sessions.ts';
import type { Throttle } from '../ports/throttle.ts';
import type { HandlerContext } from '../restic/context.ts';
import { readLiveSessions } from '../state/live-sessions.ts';
import { openLockHolds } from '../state/lock-holds.ts';
import { openSharedTime } from '../state/shared-time.ts';
import type { Admission } from './admission.ts';
import type { GatewayParts } from './parts.ts';
import type { Served } from './served.ts';
import { sessionStore } from './session-store.ts';

/** Contexts of one gateway's sessions. */
export interface SessionContexts {
  /**
   * Opens the session's storage, noted in `served`, and what else it needs.
   * @throws GatewayError `session-refused`, which the audit has, and `audit-unavailable`
   */
  open(
    served: Served,
    identity: SessionIdentity,
    asked: Pick<SessionRequest, 'hold' | 'overrideProtect'>,
  ): Promise<HandlerContext>;
  /** Lets go of what all of them share. */
  close(): Promise<void>;
}

export function createSessionContexts(parts: GatewayParts, admission: Admission): SessionContexts {
  const { config, resources, records, logs, log, meter } = parts;
  const { database, state } = config();
  const quotas = createQuotas(
    log,
    database &&
      (async () => {
        const { openSharedLedgers } = await import('../database/ledgers.ts');
        return (openLocal) => openSharedLedgers({ config: database, state, log }, openLocal);
      }),
  );
  const throttles = createThrottles(() => config().state, openSharedTime);
  const calls = createStoreCalls();
  const turns = createFairTurns();
  /** Of its own, so that what is kept for each client keeps no session with it. */
  const throttleOf = (name: string): Throttle => throttles.of(name, () => config().clients[name]);

  const holdRepository = async (served: Served, store: RepositoryStore, request: HoldRequest, about: About) => {
    const { holdForAdmin } = await import('../limits/admin-hold.ts');
    served.hold = holdForAdmin(store, request, {
      holds: about.holds(),
      record: about.record,
      notify: served.notify,
      liveSessions: async () => new Set((await readLiveSessions(config().state)).map(({ id }) => id)),
      madeHere: async (locks) => (await import('../audit/made-here.ts')).locksMadeHere(config().audit.file, locks),
    });
  };

  return {
    open: async (served, identity, { hold, overrideProtect }) => {
      const { audit, notify, client } = served;
      const admin = served.principal.via === 'admin';
      // Whoever is no admin cannot ask for it.
      const override = admin && overrideProtect === true;
      const about: About = {
        admin,
        record: (event) => audit.append(identity, event),
        holds: once(() => openLockHolds(config().state, repositoryIdentity(config(), client.repository))),
      };
      try {
        served.storage = resources.storage(identity.repository.store);
        const store = sessionStore(await served.storage, { served, identity, config, meter, calls, quotas, ...about });
        if (admin && hold !== undefined) await holdRepository(served, store, hold, about);
        return {
          identity,
          grant: {
            ...{ access: identity.access, addKeys: client.addKeys },
            // The config has no other case; but without a trash they would be gone.
            removals: client.trashMs === undefined ? 'refused' : client.removals,
            // Asked at each removal of a snapshot: the newest config counts.
            get protectMs() {
              return override ? undefined : protectionOf(config(), served.client.repository).protectMs;
            },
          },
          overrideProtect: override,
          store,
          throttle: admin ? undefined : throttleOf(client.name),
          turns: admin ? undefined : turns.of(client.name),
          audit,
          records: records.of(client.name),
          log: logs.of(client.name),
          meter: meter?.session(client.name),
          notify,
          beforeLocks: beforeLocks(served.hold),
        };
      } catch (error) {
        const failure = asGatewayError(error);
        const { store } = identity.repository;
        logs.of(client.name).error({ err: error, store, client: client.name }, failure.message);
        meter?.refused(client.name, failure.code);
        await admission.refused(identity, failure.code, failure.message);
        throw new GatewayError('session-refused', { detail: `${failure.clientMessage}.`, cause: error });
      }
    },
    close: () => quotas.close(),
  };
}

/** What several parts of a session's context need. */
interface About {
  /** Whether it is the admin's own. */
  readonly admin: boolean;
  readonly record: (event: AuditEvent) => Promise<void>;
  readonly holds: () => ReturnType<typeof openLockHolds>;
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
