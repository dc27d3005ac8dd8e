/**
 * The composition root: from a config to open sessions. Here alone the stores, the audit and the restic handler meet.
 */
import type { GatewayConfig } from '../config/types.ts';
import { createClientLogs } from '../limits/client-log.ts';
import { createCountedRecords } from '../limits/counted-records.ts';
import { createMemoryBudget, type MemoryLimits } from '../limits/memory-budget.ts';
import { memoryOfServe } from '../limits/memory-limits.ts';
import type { Log } from '../ports/log.ts';
import type { Memory } from '../ports/memory.ts';
import type { Meter } from '../ports/meter.ts';
import type { OpenSession } from '../ports/sessions.ts';
import type { SharedSessions } from '../ports/shared-sessions.ts';
import { openSharedTime } from '../state/shared-time.ts';
import { openSharedTally, talliedBelow } from '../state/shared-tally.ts';
import { createAdmission } from './admission.ts';
import { openResources } from './resources.ts';
import { createSessionContexts } from './session-context.ts';
import { createSessions } from './sessions.ts';

/** A gateway: everything between an authenticated principal and the storage. */
export interface Gateway {
  readonly openSession: OpenSession;
  /** What its clients may hold, all of their connections together. */
  readonly memory: Memory;
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
  let current = options.config;
  const config = (): GatewayConfig => current;
  const memory = createMemoryBudget(memoryOf(current));
  const resources = await openResources(current, log);
  const logs = createClientLogs(log);
  const records = createCountedRecords({
    state: () => current.state,
    client: (name) => current.clients[name],
    audit: () => resources.audit(),
    shared: { sharedTime: openSharedTime, tally: openSharedTally, tallied: talliedBelow },
    log,
  });
  const parts = { config, resources, records, memory, logs, log, meter };
  let loading: Promise<SharedSessions> | undefined;
  const { database, state } = current;
  const shared =
    database &&
    ((): Promise<SharedSessions> =>
      (loading ??= import('../database/sessions.ts').then(({ openSharedSessions }) =>
        openSharedSessions({ config: database, state, log }),
      )));
  const admission = createAdmission(parts, shared);
  const contexts = createSessionContexts(parts, admission);
  const sessions = createSessions(parts, admission, contexts);

  return {
    openSession: sessions.open,
    memory,
    sessionCount: () => sessions.count(),
    reconfigure: async (next) => {
      const takeUp = await resources.prepare(next);
      takeUp();
      current = next;
      memory.resize(memoryOf(next));
      sessions.reevaluate();
    },
    drain: () => sessions.drain(),
    close: async () => {
      await sessions.close();
      await (await loading)?.close();
      await contexts.close();
      await records.close();
      await resources.close();
    },
  };
}
