/** What serves clients in one process: a gateway and its SSH door, which take up another config and end together. */
import type { GatewayConfig } from '../../config/types.ts';
import type { Places } from '../../core/places.ts';
import { openSshDoor, type SshDoor } from '../../doors/ssh-server.ts';
import { createGateway } from '../../gateway.ts';
import type { Log } from '../../ports/log.ts';

/** Clients are served while it runs. */
export interface Service {
  readonly address: SshDoor['address'];
  /** Fingerprints of the host keys. */
  readonly hostKeys: readonly string[];
  sessionCount(): number;
  /** Whether whoever connects now is let in. */
  isListening(): boolean;
  /** As `Gateway.reconfigure`, for the door as well. @throws GatewayError `audit-unavailable`; nothing has changed then */
  reconfigure(config: GatewayConfig): Promise<void>;
  /** Lets nobody in any more. Resolves when the sessions that are open have ended. */
  drain(): Promise<void>;
  /** Ends what is left, and lets go of everything. */
  close(): Promise<void>;
}

/**
 * Starts to serve.
 * @param options.places - as for `createGateway`
 * @throws GatewayError `invalid-config`, `audit-unavailable`
 */
export async function startService(options: {
  readonly config: GatewayConfig;
  readonly log: Log;
  readonly places?: Places;
}): Promise<Service> {
  const gateway = await createGateway(options);
  let door: SshDoor;
  try {
    const { config, log } = options;
    door = await openSshDoor({ config, openSession: gateway.openSession, log });
  } catch (error) {
    await gateway.close();
    throw error;
  }
  let listening = true;
  return {
    address: door.address,
    hostKeys: door.hostKeys.map(({ fingerprint }) => fingerprint),
    sessionCount: () => gateway.sessionCount(),
    isListening: () => listening,
    reconfigure: async (config) => {
      await gateway.reconfigure(config);
      door.reconfigure(config);
    },
    drain: async () => {
      listening = false;
      door.stopListening();
      await gateway.drain();
    },
    close: async () => {
      listening = false;
      door.stopListening();
      await gateway.close();
      await door.close();
    },
  };
}
