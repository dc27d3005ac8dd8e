/**
 * Connections that have logged in: how many each client may have, and all together, by what its config and the process's descriptors allow.
 * What comes beyond the descriptors is kept among those that log in until it has been told.
 */
import type { Socket } from 'node:net';
import type { ClientConfig } from '../config/types.ts';
import { createAllowance, type Allowance } from '../core/allowance.ts';
import { getOrMake } from '../core/get-or-make.ts';
import type { Siblings } from '../ports/siblings.ts';
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
  /** Tells its client that it has too many, and ends it. */
  readonly refuse: () => void;
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

interface LoggedInOptions {
  readonly files: OpenFiles;
  /** How many take turns at the port: each has its part of what a client may ask for. */
  readonly processes: number;
  /** The others of them: a client's connections count wherever they are. */
  readonly siblings: Siblings;
  /** After so much silence, in ms, a connection has to go for another one of its client. */
  readonly givesWayMs: number;
  /** Told of each that is crowded out. */
  readonly onShortage: (about: { readonly client: string; readonly connections: number }) => void;
}

/** Nobody has logged in yet. */
export function createLoggedInConnections({
  files,
  processes,
  siblings,
  givesWayMs,
  onShortage,
}: LoggedInOptions): LoggedInConnections {
  const ofClients = new Map<string, Set<LoggedIn>>();
  let all = 0;
  const opening = new Map<string, { readonly most: number; readonly allowance: Allowance }>();
  /** Of each client that has some in other processes: how many, by process. */
  const elsewhere = new Map<string, Map<number, number>>();
  /** Clients for one more connection of which the other processes are asked for a place. */
  const asking = new Set<string>();
  const countOf = (name: string): number => {
    let count = ofClients.get(name)?.size ?? 0;
    for (const more of elsewhere.get(name)?.values() ?? []) count += more;
    return count;
  };
  /** A run of restic has one connection, of which nobody needs to know: that costs each session a message. */
  const tell = (client: string, count: number, before = 0): void => {
    if (Math.max(count, before) > 1) siblings.tell({ kind: 'connections', client, count: count > 1 ? count : 0 });
  };
  const forget = (name: string, one: LoggedIn): void => {
    const others = ofClients.get(name);
    if (others?.delete(one) !== true) return;
    if (others.size === 0) ofClients.delete(name);
    all -= 1;
    tell(name, others.size, others.size + 1);
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
  const makeRoomHere = async (name: string): Promise<boolean> => {
    const gone = cutSilent(name);
    // At once, not when its socket says that it has closed.
    if (gone !== undefined) forget(name, gone);
    await gone?.sessionsEnded();
    return gone !== undefined;
  };
  /** Has the other processes make a place for one that is in already. @returns false while they are asked for another one of its client */
  const askOthers = (name: string, connection: LoggedIn): boolean => {
    if (asking.has(name)) return false;
    asking.add(name);
    void siblings.makeRoom(name).then((made) => {
      asking.delete(name);
      if (!made && !connection.socket.destroyed) connection.refuse();
    });
    return true;
  };
  siblings.listen({
    heard: (from, news) => {
      if (news.kind !== 'connections') return;
      const counts = getOrMake(elsewhere, news.client, () => new Map<number, number>());
      if (news.count > 0) counts.set(from, news.count);
      else counts.delete(from);
      if (counts.size === 0) elsewhere.delete(news.client);
    },
    came: () => {
      for (const [name, { size }] of ofClients) tell(name, size);
    },
    gone: (from) => {
      for (const [name, counts] of elsewhere) if (counts.delete(from) && counts.size === 0) elsewhere.delete(name);
    },
    makeRoom: makeRoomHere,
  });
  return {
    accept: ({ name, maxSessions }, connection) => {
      const { socket } = connection;
      const others = ofClients.get(name) ?? new Set();
      const most = maxSessions + SPARE_CONNECTIONS;
      if (countOf(name) >= most) {
        const gone = cutSilent(name);
        if (gone !== undefined) forget(name, gone);
        else if (others.size >= most || !elsewhere.has(name) || !askOthers(name, connection)) return 'refused';
      }
      const own = others.size;
      if (all >= files.connections || own >= files.connectionsOfClient) {
        onShortage({ client: name, connections: all });
        return 'crowded out';
      }
      others.add(connection);
      ofClients.set(name, others);
      all += 1;
      tell(name, others.size);
      socket.once('close', () => {
        forget(name, connection);
      });
      return 'accepted';
    },
    makeRoom: async ({ name }) => (await makeRoomHere(name)) || siblings.makeRoom(name),
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
