/**
 * The SSH server: a server in which a key opens one repository and nothing else.
 *
 * Source: RFC 4251–4254, RFC 5647 and OpenSSH's PROTOCOL (AES-GCM), RFC 8731 (curve25519), OpenSSH's strict KEX against Terrapin
 * (CVE-2023-48795; ssh2 offers it by itself).
 */
import { once } from 'node:events';
import { createServer, isIPv4, type AddressInfo, type Server, type Socket } from 'node:net';
import ssh2, { type Connection, type ServerChannel, type Session as SshSession } from 'ssh2';
import type { GatewayConfig } from '../config/types.ts';
import { createAllowance } from '../core/allowance.ts';
import { asGatewayError, GatewayError } from '../core/errors.ts';
import { whyNotListening, written } from '../core/listening.ts';
import { printable } from '../core/printable.ts';
import type { Principal } from '../core/principal.ts';
import { reportDefect, type Log } from '../ports/log.ts';
import type { Lease, Memory } from '../ports/memory.ts';
import { NO_SIBLINGS, type Siblings } from '../ports/siblings.ts';
import type { OpenSession, Session, SessionRequest } from '../ports/sessions.ts';
import { openFiles, type OpenFiles } from '../state/open-files.ts';
import { offeredAlgorithms } from './algorithms.ts';
import { announceSignatures, createHostKeyAnnouncement } from './announcements.ts';
import { createBalancers } from './balancers.ts';
import { certificatesOf, type Certificates } from './certificates.ts';
import { ChannelStream } from './channel-stream.ts';
import { keepDescriptors } from './descriptors.ts';
import { createHearing } from './heard.ts';
import { readHostKey, type HostKey } from './host-key.ts';
import { disconnectPacket, SOFTWARE, withoutOwnLine } from './identification.ts';
import { limitsOf, patienceOf, withinDescriptors, type SshLimits } from './limits.ts';
import { createLoggedInConnections, type Acceptance, type LoggedInConnections } from './logged-in.ts';
import { DISCONNECT, disconnectMessage } from './messages.ts';
import { addMlKemKex } from './mlkem-kex.ts';
import { guardPeer, UNSERVED_WINDOW } from './peer-guard.ts';
import { quietLog } from './quiet-log.ts';
import {
  clientSignatures,
  createAuthentication,
  type AuthenticatedKey,
  type KnownKey,
  type KnownKeys,
} from './ssh-auth.ts';
import { checkSsh2, protocolOf, sendMessage, sendsInClear, socketOf } from './ssh2-internals.ts';
import { createUnauthenticatedConnections, type Unauthenticated } from './unauthenticated.ts';

/** What who has to make place hears. */
const TOO_MANY = disconnectPacket(
  DISCONNECT.tooManyConnections,
  'too many connections are waiting to log in; try again in a while',
);
/** Connections that the kernel holds until they are accepted; Linux takes no more than net.core.somaxconn, 4096 by default. */
const BACKLOG = 4096;

type Endpoint = GatewayConfig['listen'][number];

/** An SSH server that listens. */
export interface SshServer {
  /** Where it listens. */
  readonly addresses: readonly Endpoint[];
  /** The first of them. */
  readonly address: Endpoint;
  readonly hostKeys: readonly HostKey[];
  /** Takes up the clients, keys and balancers of another config for all connections from now on. */
  reconfigure(config: GatewayConfig): void;
  /** Lets nobody in any more; those who are in are not disturbed. */
  stopListening(): void;
  /** Stops listening and ends every connection. */
  close(): Promise<void>;
}

/**
 * Opens the server.
 * @throws GatewayError `invalid-config` for host keys that cannot be used or an address that cannot be listened on; `internal` for an
 *   ssh2 that is not the one that this server was made for
 */
export async function openSshServer({
  config,
  processes = 1,
  siblings = NO_SIBLINGS,
  openSession,
  memory,
  log: loud,
}: {
  readonly config: GatewayConfig;
  /** How many processes take turns at the port, each with its part of the limits; and the others of them. */
  readonly processes?: number;
  readonly siblings?: Siblings | undefined;
  readonly openSession: OpenSession;
  /** Undefined: nobody bounds what is held. */
  readonly memory?: Memory | undefined;
  readonly log: Log;
}): Promise<SshServer> {
  const hostKeys = await readHostKeys(config);
  let known = keysOf(config);
  await checkSsh2();
  const mlKemKex = await addMlKemKex();
  const log = quietLog(loud);
  const files = openFiles();
  const limits = withinDescriptors(limitsOf(config.ssh, processes), files, log);
  const { givesWayMs, unanswered } = patienceOf(limits);
  const unauthenticated = createUnauthenticatedConnections(limits, createCrowdWarning(limits, log), { siblings });
  const pendingBySocket = new WeakMap<Socket, Unauthenticated>();
  const connectionBySocket = new WeakMap<Socket, Connection>();
  // They have the places of all that have not logged in; some are theirs, whatever floods the others.
  const balancers = createBalancers(config.proxyProtocol?.from ?? [], () =>
    Math.max(limits.unauthenticated - unauthenticated.size(), Math.ceil(limits.unauthenticated / 10)),
  );
  const warnOfShortage = createShortageWarning(files, log);
  const loggedIn = createLoggedInConnections({ files, processes, siblings, givesWayMs, onShortage: warnOfShortage });
  const ssh = new ssh2.Server(
    {
      // A key that is parsed is taken as it is, which the types do not say.
      hostKeys: hostKeys.map(({ privateKey }) => ({ key: privateKey as unknown as string })),
      ident: SOFTWARE,
      algorithms: offeredAlgorithms(config.ssh),
      keepaliveInterval: limits.keepaliveSeconds * 1000,
      keepaliveCountMax: unanswered,
    },
    (connection) => {
      mlKemKex.use(connection);
      connectionBySocket.set(socketOf(connection), connection);
      const pending = pendingBySocket.get(socketOf(connection));
      connection.once('handshake', () => pending?.exchanged());
      mlKemKex.inTurns(connection, (go) => pending?.takeTurn(go));
      serveConnection(connection, {
        ...{ known: () => known, takeTurn: (work) => pending?.takeTurn(work) },
        openSession,
        memory,
        log: balancers.logOf(socketOf(connection), log),
        limits,
        hostKeys,
        guardExchanges: (may) => {
          mlKemKex.guard(connection, may);
        },
        ...loggedIn,
        accept: (client, one) => accept(loggedIn.accept(client, one), pending),
        welcome: () => pending?.welcomed(),
      });
    },
  );
  const sockets = new Set<Socket>();
  const descriptors = keepDescriptors((code) => {
    balancers.shrink();
    unauthenticated.shrink();
    warnOfShortage({ error: code });
  });
  const take = (socket: Socket): void => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    // Whoever serves it later hears of its errors too; until then nobody would.
    socket.on('error', () => undefined);
    if (descriptors.isShort()) {
      socket.end(TOO_MANY, () => socket.destroy());
      return;
    }
    const outcomes = {
      serve: () => {
        withoutOwnLine(socket);
        ssh.injectSocket(socket);
      },
      cut: () => {
        const connection = connectionBySocket.get(socket);
        if (connection === undefined || sendsInClear(connection)) socket.write(TOO_MANY);
      },
      refuse: (why: string) => {
        balancers.logOf(socket, log).warn({ ...peerOf(socket), error: why }, 'connection failed');
      },
    };
    balancers.receive(socket, {
      refuse: outcomes.refuse,
      from: (origin) => pendingBySocket.set(socket, unauthenticated.register(socket, outcomes, origin)),
    });
  };

  const listeners = await listenAll(config.listen, take, log).catch((error: unknown) => {
    descriptors.stop();
    throw error;
  });
  const closed = Promise.all(listeners.map((each) => once(each, 'close')));
  const stopListening = (): void => {
    descriptors.stop();
    for (const each of listeners) if (each.listening) each.close();
  };
  return {
    addresses: listeners.map(addressOf),
    address: addressOf(listeners[0]),
    hostKeys,
    reconfigure: (next) => {
      balancers.list(next.proxyProtocol?.from ?? []);
      known = keysOf(next);
    },
    stopListening,
    close: async () => {
      stopListening();
      await endAll(sockets, closed);
    },
  };
}

/** @throws GatewayError `invalid-config` where there is none, or one that cannot be used */
async function readHostKeys({ hostKeys, file }: GatewayConfig): Promise<readonly HostKey[]> {
  if (hostKeys.length === 0)
    throw new GatewayError('invalid-config', {
      detail: `${file}: hostKeys is missing; make a key with: ssh-keygen -t ed25519 -N '' -f ssh_host_ed25519_key, and name it there`,
    });
  return Promise.all(hostKeys.map((one) => readHostKey(one)));
}

/** Clients whose session has just ended hang up by themselves, and are not told of a connection that was closed. */
async function endAll(sockets: ReadonlySet<Socket>, closed: Promise<unknown>): Promise<void> {
  const timers = [
    setTimeout(() => {
      for (const socket of sockets) socket.end();
    }, 500),
    setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, 1500),
  ];
  await closed;
  for (const timer of timers) clearTimeout(timer);
}

function createCrowdWarning({ unauthenticated: limit }: SshLimits, log: Log): (cut: number) => void {
  return (cut) => {
    log.warn({ cut, limit }, 'too many connections have not logged in; the addresses that have most lose some of them');
  };
}

/** Says once a minute, at most, that descriptors are short: one line for each connection that comes would fill the log. */
function createShortageWarning({ limit }: OpenFiles, log: Log): (about: Readonly<Record<string, unknown>>) => void {
  const warnings = createAllowance(1, 1 / 60, () => performance.now());
  return (about) => {
    if (warnings.take())
      log.warn(
        { openFiles: limit, ...about },
        'no file descriptor is left for one more connection; raise the limit of open files (LimitNOFILE)',
      );
  };
}

function addressOf(listener: Server): Endpoint {
  const { address, port } = listener.address() as AddressInfo;
  return { host: address, port };
}

/** What a machine without IPv6 says to all of its addresses. */
const NO_IPV6: readonly unknown[] = ['EAFNOSUPPORT', 'EADDRNOTAVAIL'];

/**
 * Listens at all of these places. A machine without IPv6 does without its addresses where those of IPv4 are listened on.
 * @throws GatewayError `invalid-config`; it listens nowhere then
 */
async function listenAll(
  places: readonly Endpoint[],
  take: (socket: Socket) => void,
  log: Log,
): Promise<readonly [Server, ...Server[]]> {
  const listeners: Server[] = [];
  const hasAllV4 = (port: number): boolean => places.some((other) => other.host === '0.0.0.0' && other.port === port);
  try {
    for (const place of places) {
      const listener = createServer({ noDelay: true, keepAlive: true }, take);
      try {
        // An IPv4 address of its own is not taken by the listener on all of IPv6, which would otherwise hold both.
        await listen(
          listener,
          place,
          places.some(({ host, port }) => isIPv4(host) && port === place.port),
        );
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (place.host !== '::' || !hasAllV4(place.port) || !NO_IPV6.includes(code))
          throw new GatewayError('invalid-config', {
            detail: whyNotListening(error as NodeJS.ErrnoException, 'listen', place),
            cause: error,
          });
        log.info({ error: code }, `listen: ${written(place)} is left out: this machine has no IPv6`);
        continue;
      }
      // Node has dropped the connection by then, and goes on.
      listener.on('error', (error) => {
        log.error({ err: error }, 'the listener failed');
      });
      listeners.push(listener);
    }
  } catch (error) {
    for (const listener of listeners) listener.close();
    throw error;
  }
  return listeners as [Server, ...Server[]];
}

/** @throws the system's error */
async function listen(listener: Server, { host, port }: Endpoint, ipv6Only: boolean): Promise<void> {
  listener.listen({ port, host, ipv6Only, backlog: BACKLOG });
  await once(listener, 'listening');
}

/** One that is crowded out stays among those that log in, who have descriptors of their own, and is told there. */
function accept(acceptance: Acceptance, pending: Unauthenticated | undefined): Acceptance {
  if (acceptance === 'accepted') pending?.authenticated();
  else if (acceptance === 'crowded out') pending?.crowdedOut();
  return acceptance;
}

function peerOf(socket: Socket): { readonly from: string; readonly fromPort: number } {
  return { from: socket.remoteAddress ?? '', fromPort: socket.remotePort ?? 0 };
}

/** What a config says of who may log in. */
interface Known {
  readonly keys: ReadonlyMap<string, KnownKey>;
  readonly certificates: Certificates;
}

function keysOf(config: GatewayConfig): Known {
  const keys = Object.values(config.clients).flatMap((client) =>
    client.keys.map(({ blob, fingerprint }) => [blob, { client, key: fingerprint }] as const),
  );
  return { keys: new Map(keys), certificates: certificatesOf(config) };
}

/** Of what a CA calls its certificate, which may be its 32 KiB, that is logged, in characters. */
const LONGEST_ID = 256;

/** What is known when a key is shown, which may be a while after its connection came. A CA's certificate that is refused is told of. */
function knownTo(known: () => Known, from: { readonly from: string }, log: Log): KnownKeys {
  return {
    find: (blob) => known().keys.get(blob),
    areCertified: () => known().certificates.areTaken,
    certified: (blob) => {
      const judged = known().certificates.judge(blob, from.from);
      if ('client' in judged) return judged;
      if (judged.refused === undefined) return undefined;
      const { why, key, certificate } = judged.refused;
      const { ca, keyId, serial } = certificate;
      log.warn({ ...from, ca, keyId: printable(keyId, LONGEST_ID), serial, key }, `a certificate is refused: ${why}`);
      return undefined;
    },
  };
}

/** @returns ends a connection; `text` is what the client's user reads */
function hangingUp(connection: Connection): (reason: number, text: string) => void {
  const socket = socketOf(connection);
  return (reason, text) => {
    if (socket.writable) {
      sendMessage(protocolOf(connection), disconnectMessage(reason, text));
      socket.end();
    }
    setTimeout(() => {
      socket.destroy();
    }, 1000).unref();
  };
}

/** Who asks for a session, and what its connection is. */
type SessionBy = Pick<SessionRequest, 'principal' | 'isCrowdedOut' | 'makeRoom'>;

interface ConnectionContext {
  readonly known: () => Known;
  /** Does work of a login in this connection's turn. */
  readonly takeTurn: (work: () => void) => void;
  readonly openSession: OpenSession;
  readonly memory: Memory | undefined;
  readonly log: Log;
  readonly limits: SshLimits;
  readonly hostKeys: readonly HostKey[];
  /** Has `may` be asked before each key exchange but the first. */
  readonly guardExchanges: (may: () => boolean) => void;
  /** Whether a client that has authenticated may have one more connection, or is told that there are no descriptors for it. */
  readonly accept: LoggedInConnections['accept'];
  readonly makeRoom: LoggedInConnections['makeRoom'];
  readonly mayOpen: LoggedInConnections['mayOpen'];
  /** Told of each session that is let in. */
  readonly welcome: () => void;
}

/** Has a connection log in by what is known. */
function authenticationOf(
  connection: Connection,
  { known, takeTurn, log }: ConnectionContext,
  from: { readonly from: string },
  hangUp: ReturnType<typeof hangingUp>,
): ReturnType<typeof createAuthentication> {
  const tooMany = (): void => {
    hangUp(DISCONNECT.protocolError, 'Too many authentication failures');
  };
  const authentication = createAuthentication(knownTo(known, from, log), tooMany, takeTurn);
  announceSignatures(connection, clientSignatures(known().certificates.areTaken));
  connection.on('authentication', (attempt) => {
    authentication.attempt(attempt);
  });
  return authentication;
}

function serveConnection(connection: Connection, context: ConnectionContext): void {
  const { openSession, memory, log, limits, hostKeys, guardExchanges, accept, makeRoom, mayOpen, welcome } = context;
  const socket = socketOf(connection);
  const hangUp = hangingUp(connection);
  const from = peerOf(socket);
  const authentication = authenticationOf(connection, context, from, hangUp);
  const announcement = createHostKeyAnnouncement(connection, hostKeys);
  const sessions = new Set<Session>();
  connection.on('error', (error: Error) => {
    log.warn({ ...from, error: error.message }, 'connection failed');
  });
  const link = guardPeer(connection, guardExchanges);
  const sessionsEnded = (): Promise<unknown> => Promise.all([...sessions].map(({ ended }) => ended));
  const refuse = (): void => {
    hangUp(DISCONNECT.tooManyConnections, 'this client has too many connections open; wait for one to end');
  };
  const loggedIn = { socket, silentMs: link.silentMs, sessionsEnded, refuse };
  // The socket may die without the channels hearing of it.
  connection.on('close', () => {
    for (const session of sessions) session.close('connection-lost');
  });
  connection.on('ready', () => {
    const authenticated = authentication.authenticated();
    const acceptance = authenticated === undefined ? 'refused' : accept(authenticated.client, loggedIn);
    if (authenticated === undefined || acceptance === 'refused') {
      refuse();
      return;
    }
    announcement.announce(link);
    const by = { isCrowdedOut: acceptance === 'crowded out', makeRoom: () => makeRoom(authenticated.client) };
    watchIdle(0);
    /** What the peer may send ahead on each of its channels; given back when it has closed the channel, as it may send until then. */
    const channels = new Set<Lease>();
    socket.once('close', () => {
      for (const lease of channels) lease.release();
    });
    const takeChannel = (): Lease | undefined => {
      if (channels.size >= limits.channels || socket.destroyed || !mayOpen(authenticated.client)) return undefined;
      return memory === undefined ? UNCOUNTED() : memory.of(authenticated.client.name).take(UNSERVED_WINDOW);
    };
    connection.on('session', (accept, reject) => {
      const lease = takeChannel();
      if (lease === undefined) {
        reject();
        return;
      }
      const session = accept();
      channels.add(lease);
      session.once('close', () => {
        channels.delete(lease);
        lease.release();
      });
      refuseAllBut(session);
      session.on('exec', (acceptExec, reject, { command }) => {
        // ssh2's types do not say so: there is none for a second command, or when the channel is closed already.
        const channel = acceptExec() as ServerChannel | undefined;
        if (channel === undefined) reject();
        else
          serveChannel(channel, { ...by, principal: principalOf(authenticated, from, command) }).catch(
            (error: unknown) => {
              reportDefect(log, error, { client: authenticated.client.name }, 'a defect at the end of a channel');
            },
          );
      });
    });
    // ssh2 refuses direct-tcpip, streamlocal, X11 and agent channels by itself where nobody listens for them.
    connection.on('request', (_accept, reject) => {
      reject?.();
    });
  });

  const watchIdle = idleWatch(socket, limits, () => {
    hangUp(DISCONNECT.byApplication, 'no session for a while');
  });

  const serveChannel = async (channel: ServerChannel, by: SessionBy): Promise<void> => {
    const hearing = createHearing(link.reached);
    const notify = (line: string): void => {
      if (!channel.stderr.writable) return;
      channel.stderr.write(`restic-gateway: ${printable(line)}\n`);
      hearing.said();
    };
    /** Before the channel is closed, which waits for the same. */
    const exit = (status: number): void => {
      hearing.after(() => {
        channel.exit(status);
      });
    };
    watchIdle(1);
    const stream = new ChannelStream(channel, link, hearing.heard);
    try {
      const session = await openSession({
        ...{ ...by, stream },
        widen: (bytes) => {
          stream.widen(bytes);
        },
        notify,
        ending: (reason) => {
          exit(reason === 'client-ended' ? 0 : 1);
        },
      });
      sessions.add(session);
      welcome();
      await session.ended;
      sessions.delete(session);
    } catch (error) {
      // The gateway has logged it, as often as its client may have it logged.
      const failure = asGatewayError(error);
      notify(failure.code === 'session-refused' ? failure.message : `${failure.clientMessage}.`);
      exit(1);
      // What has come goes with it, and what comes from now on is dropped.
      stream.destroy();
    } finally {
      watchIdle(-1);
    }
  };
}

/** @returns to be told of one session more or less: without any, the connection has not long to live */
function idleWatch(socket: Socket, { idleSeconds }: SshLimits, hangUp: () => void): (change: number) => void {
  let serving = 0;
  let idle: NodeJS.Timeout | undefined;
  socket.once('close', () => {
    clearTimeout(idle);
  });
  return (change) => {
    serving += change;
    clearTimeout(idle);
    if (serving > 0 || socket.destroyed) return;
    idle = setTimeout(hangUp, idleSeconds * 1000);
  };
}

const UNCOUNTED = (): Lease => ({ grow: () => true, release: () => undefined });

function principalOf(
  authenticated: AuthenticatedKey,
  from: { from: string; fromPort: number },
  command: string,
): Principal {
  const { client, key, certificate } = authenticated;
  return {
    client: client.name,
    via: 'ssh',
    key,
    ...(certificate && { certificate }),
    ...from,
    user: authenticated.user,
    command,
  };
}

/** Answers everything but `exec`: what a person would see gets one plain line, the rest is declined as the protocol has it. */
function refuseAllBut(session: SshSession): void {
  const refuse = (channel: ServerChannel | undefined, reject: () => void, what: string): void => {
    // The channel is closed already, or has its command.
    if (channel === undefined) {
      reject();
      return;
    }
    channel.stderr.write(`restic-gateway: this key serves restic only; there is no ${what} here.\n`);
    channel.exit(1);
    channel.end();
    // At once: until then ssh2 would take data, and widen the window for more.
    channel.eof();
    channel.close();
  };
  session.on('shell', (accept, reject) => {
    refuse(accept(), reject, 'shell');
  });
  session.on('subsystem', (accept, reject, { name }) => {
    refuse(accept(), reject, /^[a-z0-9@.-]{1,40}$/i.test(name) ? name : 'such subsystem');
  });
}
