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

/** A connection that has logged in. */
interface LoggedIn {
  readonly socket: Socket;
  /** For how long nothing has come from the peer, in ms. */
  readonly silentMs: () => number;
  /** Resolves when the sessions that it has now have ended. */
  readonly sessionsEnded: () => Promise<unknown>;
}

/** All of them. */
export interface LoggedInConnections {
  /** Counts one that has authenticated until its socket closes, if it may stay. Another one of its client, which is silent, may have to go for it. */
  accept(client: ClientConfig, connection: LoggedIn): Acceptance;
  /** Ends the one of a client's connections that has been silent for longest. Resolves when its sessions have ended, to whether there was one. */
  makeRoom(client: ClientConfig): Promise<boolean>;
  /** Whether a client may ask for one more session now. */
  mayOpen(client: ClientConfig): boolean;
}

/**
 * @param processes - how many take turns at the port: each has its part of what a client may ask for
 * @param givesWayMs - after so much silence, a connection has to go for another one of its client
 * @param onShortage - told of each that is crowded out
 */
export function createLoggedInConnections(
  files: OpenFiles,
  processes: number,
  givesWayMs: number,
  onShortage: (about: { readonly client: string; readonly connections: number }) => void,
): LoggedInConnections {
  const ofClients = new Map<string, Set<LoggedIn>>();
  let all = 0;
  const opening = new Map<string, { readonly most: number; readonly allowance: Allowance }>();
  const forget = (name: string, one: LoggedIn): void => {
    const others = ofClients.get(name);
    if (others?.delete(one) !== true) return;
    if (others.size === 0) ofClients.delete(name);
    all -= 1;
  };
  /** Closes a client's most silent connection. */
  const cutSilent = (name: string): LoggedIn | undefined => {
    let found: LoggedIn | undefined;
    for (const one of ofClients.get(name) ?? [])
      if (one.silentMs() >= givesWayMs && !one.socket.destroyed && !(found && found.silentMs() >= one.silentMs()))
        found = one;
    found?.socket.destroy();
    return found;
  };
  return {
    accept: ({ name, maxSessions }, connection) => {
      const { socket } = connection;
      const others = ofClients.get(name) ?? new Set();
      let own = others.size;
      if (own >= maxSessions + SPARE_CONNECTIONS) {
        const gone = cutSilent(name);
        if (gone === undefined) return 'refused';
        // At once, not when its socket says that it has closed.
        forget(name, gone);
        own = others.size;
      }
      if (all >= files.connections || own >= files.connectionsOfClient) {
        onShortage({ client: name, connections: all });
        return 'crowded out';
      }
      others.add(connection);
      ofClients.set(name, others);
      all += 1;
      socket.once('close', () => {
        forget(name, connection);
      });
      return 'accepted';
    },
    makeRoom: async ({ name }) => {
      const gone = cutSilent(name);
      await gone?.sessionsEnded();
      return gone !== undefined;
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
