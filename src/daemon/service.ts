/** What serves clients in one process: a gateway and its SSH server, which take up another config and end together. */
import type { GatewayConfig } from '../config/types.ts';
import { openSshServer, type SshServer } from '../frontends/ssh-server.ts';
import { createGateway, type Gateway } from '../gateway/gateway.ts';
import { memoryOfServe, processesOf } from '../limits/memory-limits.ts';
import type { Figures } from '../metrics/figures.ts';
import type { ProcessMeter } from '../metrics/process-meter.ts';
import type { Log } from '../ports/log.ts';
import type { Memory } from '../ports/memory.ts';
import type { Siblings } from '../ports/siblings.ts';

/** What processes have counted. */
export interface Served {
  readonly processes: ReadonlyMap<string, Figures>;
  readonly ended: Figures['counted'];
}

/** The name of the process that serves alone, or that is above those that serve. */
const MAIN = 'main';

/** Clients are served while it runs. */
export interface Service {
  readonly addresses: SshServer['addresses'];
  /** Fingerprints of the host keys. */
  readonly hostKeys: readonly string[];
  sessionCount(): number;
  /** Whether whoever connects now is let in. */
  isListening(): boolean;
  /** What the processes that serve have counted, by the name of each, and those that are gone together; empty where nobody counts. */
  served(): Promise<Served>;
  /** As `Gateway.reconfigure`, for the server as well. @throws GatewayError `audit-unavailable`; nothing has changed then */
  reconfigure(config: GatewayConfig): Promise<void>;
  /** Lets nobody in any more. Resolves when the sessions that are open have ended. */
  drain(): Promise<void>;
  /** Ends what is left, and lets go of everything. */
  close(): Promise<void>;
}

/**
 * Starts to serve, and to count where the config has metrics.
 * @throws GatewayError `invalid-config`, `audit-unavailable`
 */
export async function startService({
  siblings,
  ...options
}: {
  readonly config: GatewayConfig;
  readonly log: Log;
  readonly siblings?: Siblings;
}): Promise<Service> {
  // Loaded before the first session comes, and only for who wants it.
  const meter = await openMeter(options.config, () => gateway.memory);
  const gateway: Gateway = await createGateway({
    ...options,
    meter,
    memory: (config) => memoryOfServe(config, processesOf(config)),
  });
  let via: SshServer;
  try {
    const { config, log } = options;
    const { openSession, memory } = gateway;
    via = await openSshServer({ config, processes: processesOf(config), siblings, openSession, memory, log });
  } catch (error) {
    await gateway.close();
    throw error;
  }
  let listening = true;
  return {
    addresses: via.addresses,
    hostKeys: via.hostKeys.map(({ fingerprint }) => fingerprint),
    sessionCount: () => gateway.sessionCount(),
    isListening: () => listening,
    served: async () => ({
      processes: new Map(meter === undefined ? [] : [[MAIN, await meter.figures()]]),
      ended: [],
    }),
    reconfigure: async (config) => {
      await gateway.reconfigure(config);
      via.reconfigure(config);
    },
    drain: async () => {
      listening = false;
      via.stopListening();
      await gateway.drain();
    },
    close: async () => {
      listening = false;
      via.stopListening();
      await gateway.close();
      await via.close();
    },
  };
}

/** @param memory - asked once sessions are served */
async function openMeter(
  { metrics, clients, stores }: GatewayConfig,
  memory: () => Memory,
): Promise<ProcessMeter | undefined> {
  if (metrics === undefined) return undefined;
  const { createProcessMeter } = await import('../metrics/process-meter.ts');
  return createProcessMeter({ clients: Object.keys(clients), stores: Object.keys(stores) }, memory);
}
