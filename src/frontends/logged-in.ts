/**
 * Connections that have logged in: how many each client may have, and all together, by what its config and the process's descriptors allow.
 * What comes beyond the descriptors is kept among those that log in until it has been told.
 */
import type { Socket } from 'node:net';
import type { ClientConfig } from '../config/types.ts';
import { createAllowance, type Allowance } from '../core/allowance.ts';
import type { OpenFiles } from '../state/open-files.ts';

/** Connections of one client beyond its sessions: of runs that are told that there are too many, and of those just ending. */
const SPARE_CONNECTIONS = 10;

/**
 * Sessions that a client may ask for at once, over all of its connections, most of which are refused by then: so many times its `maxSessions`,
 * and at least so many; and how many more each second. What is beyond is turned away before it costs an answer in words.
 */
const OPENED_PER_SESSION = 10;
const LEAST_OPENED = 300;
const OPENED_PER_SECOND = 5;

/** Whether a connection may stay: without a share of the descriptors it is told so, and beyond what its client may have it is closed. */
export type Acceptance = 'accepted' | 'crowded out' | 'refused';

/** All of them. */
export interface LoggedInConnections {
  /** Counts one that has authenticated until its socket closes, if it may stay. */
  accept(client: ClientConfig, socket: Socket): Acceptance;
  /** Whether a client may ask for one more session now. */
  mayOpen(client: ClientConfig): boolean;
}

/**
 * @param processes - how many take turns at the port: each has its part of what a client may ask for
 * @param onShortage - told of each that is crowded out
 */
export function createLoggedInConnections(
  files: OpenFiles,
  processes: number,
  onShortage: (about: { readonly client: string; readonly connections: number }) => void,
): LoggedInConnections {
  const ofClients = new Map<string, number>();
  let all = 0;
  const opening = new Map<string, { readonly most: number; readonly allowance: Allowance }>();
  return {
    accept: ({ name, maxSessions }, socket) => {
      const own = ofClients.get(name) ?? 0;
      if (own >= maxSessions + SPARE_CONNECTIONS) return 'refused';
      if (all >= files.connections || own >= files.connectionsOfClient) {
        onShortage({ client: name, connections: all });
        return 'crowded out';
      }
      ofClients.set(name, own + 1);
      all += 1;
      socket.once('close', () => {
        ofClients.set(name, (ofClients.get(name) ?? 1) - 1);
        all -= 1;
      });
      return 'accepted';
    },
    mayOpen: ({ name, maxSessions }) => {
      const most = Math.ceil(Math.max(LEAST_OPENED, maxSessions * OPENED_PER_SESSION) / processes);
      let own = opening.get(name);
      if (own?.most !== most) {
        own = { most, allowance: createAllowance(most, OPENED_PER_SECOND / processes, () => performance.now()) };
        opening.set(name, own);
      }
      return own.allowance.take();
    },
  };
}
