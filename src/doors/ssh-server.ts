/**
 * The SSH door: a server in which a key opens one repository and nothing else.
 *
 * Source: RFC 4251–4254, RFC 5647 and OpenSSH's PROTOCOL (AES-GCM), RFC 8731 (curve25519), OpenSSH's strict KEX against Terrapin
 * (CVE-2023-48795; ssh2 offers it by itself).
 */
import { createServer, type AddressInfo, type Socket } from 'node:net';
import ssh2, { type Connection, type ServerChannel, type Session as SshSession } from 'ssh2';
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import { asGatewayError, GatewayError } from '../core/errors.ts';
import type { Principal } from '../core/principal.ts';
import type { Log } from '../ports/log.ts';
import type { OpenSession, Session } from '../ports/sessions.ts';
import { offeredAlgorithms } from './algorithms.ts';
import { ChannelStream } from './channel-stream.ts';
import { readHostKey, type HostKey } from './host-key.ts';
import { addMlKemKex } from './mlkem-kex.ts';
import { createAuthentication, type KnownKey, type ProvedKey } from './ssh-auth.ts';

/** An SSH door that listens. */
export interface SshDoor {
  /** Where it listens. */
  readonly address: { readonly host: string; readonly port: number };
  readonly hostKeys: readonly HostKey[];
  /** Stops listening and ends every connection. */
  close(): Promise<void>;
}

/**
 * Opens the door.
 * @throws GatewayError `invalid-config` for host keys that cannot be used or an address that cannot be listened on; `internal` for an
 *   ssh2 that is not the one that this door was made for
 */
export async function openSshDoor({
  config,
  openSession,
  log,
}: {
  readonly config: GatewayConfig;
  readonly openSession: OpenSession;
  readonly log: Log;
}): Promise<SshDoor> {
  if (config.hostKeys.length === 0)
    throw new GatewayError('invalid-config', {
      detail: `${config.file}: hostKeys is missing; make a key with: ssh-keygen -t ed25519 -N '' -f ssh_host_ed25519_key, and name it there`,
    });
  const hostKeys = await Promise.all(config.hostKeys.map(readHostKey));
  const known = keysOf(Object.values(config.clients));
  const mlKemKex = await addMlKemKex();
  const ssh = new ssh2.Server(
    {
      hostKeys: hostKeys.map(({ privateKey }) => privateKey),
      ident: 'restic-gateway',
      algorithms: offeredAlgorithms(config.ssh),
    },
    (connection, { ip, port }) => {
      const socket = sockets.get(peerName(ip, port));
      if (socket === undefined) {
        connection.end();
        return;
      }
      mlKemKex.use(connection);
      serveConnection(connection, socket, { find: (blob) => known.get(blob), openSession, log });
    },
  );
  const sockets = new Map<string, Socket>();
  const listener = createServer({ noDelay: true, keepAlive: true }, (socket) => {
    const name = peerName(socket.remoteAddress, socket.remotePort);
    sockets.set(name, socket);
    socket.once('close', () => sockets.delete(name));
    ssh.injectSocket(socket);
  });

  const { host, port } = config.listen;
  await new Promise<void>((resolve, reject) => {
    listener.once('error', (error: NodeJS.ErrnoException) => {
      reject(new GatewayError('invalid-config', { detail: whyNotListening(error, host, port), cause: error }));
    });
    listener.listen(port, host, resolve);
  });
  listener.on('error', (error) => {
    log.error({ err: error }, 'the listener failed');
  });
  const bound = listener.address() as AddressInfo;
  return {
    address: { host: bound.address, port: bound.port },
    hostKeys,
    close: async () => {
      const closed = new Promise<void>((resolve) => {
        listener.close(() => {
          resolve();
        });
      });
      for (const socket of sockets.values()) socket.end();
      const timer = setTimeout(() => {
        for (const socket of sockets.values()) socket.destroy();
      }, 1000);
      await closed;
      clearTimeout(timer);
    },
  };
}

function whyNotListening(error: NodeJS.ErrnoException, host: string, port: number): string {
  const where = `listen: ${host}:${port}`;
  switch (error.code) {
    case 'EADDRINUSE':
      return `${where}: the port is in use by another program; stop that one or choose another port`;
    case 'EACCES':
      return `${where}: this user may not listen on that port; choose one from 1024 up, or grant CAP_NET_BIND_SERVICE`;
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return `${where}: this machine does not have that address`;
    case undefined:
    default:
      return `${where}: ${error.message}`;
  }
}

function keysOf(clients: readonly ClientConfig[]): ReadonlyMap<string, KnownKey> {
  return new Map(clients.flatMap((client) => client.keys.map((key) => [key.blob, { client, key }] as const)));
}

function peerName(address: string | undefined, port: number | undefined): string {
  return `${address ?? ''} ${port ?? 0}`;
}

interface ConnectionContext {
  readonly find: (blob: string) => KnownKey | undefined;
  readonly openSession: OpenSession;
  readonly log: Log;
}

function serveConnection(connection: Connection, socket: Socket, { find, openSession, log }: ConnectionContext): void {
  const authentication = createAuthentication(find);
  const from = { from: socket.remoteAddress ?? '', fromPort: socket.remotePort ?? 0 };
  const sessions = new Set<Session>();
  connection.on('authentication', (context) => {
    authentication.attempt(context);
  });
  connection.on('error', (error: Error) => {
    log.warn({ ...from, error: error.message }, 'connection failed');
  });
  // The socket may die without the channels hearing of it.
  connection.on('close', () => {
    for (const session of sessions) session.close('connection-lost');
  });
  connection.on('ready', () => {
    const proved = authentication.proved();
    if (proved === undefined) {
      connection.end();
      return;
    }
    connection.on('session', (accept) => {
      const session = accept();
      refuseAllBut(session);
      session.on('exec', (acceptExec, _reject, { command }) => {
        const channel = acceptExec();
        void serveChannel(channel, principalOf(proved, from, command));
      });
    });
    // ssh2 refuses direct-tcpip, streamlocal, X11 and agent channels by itself where nobody listens for them.
    connection.on('request', (_accept, reject) => {
      reject?.();
    });
  });

  const serveChannel = async (channel: ServerChannel, principal: Principal): Promise<void> => {
    const tell = (line: string): void => {
      if (channel.stderr.writable) channel.stderr.write(`restic-gateway: ${line}\n`);
    };
    try {
      const session = await openSession({
        principal,
        stream: new ChannelStream(channel, socket),
        tell,
        ending: (reason) => {
          channel.exit(reason === 'client-ended' ? 0 : 1);
        },
      });
      sessions.add(session);
      await session.ended;
      sessions.delete(session);
    } catch (error) {
      const failure = asGatewayError(error);
      if (failure.code !== 'session-refused')
        log.error({ err: error, client: principal.client }, 'a session could not be opened');
      tell(failure.code === 'session-refused' ? failure.message : `${failure.tell}.`);
      channel.exit(1);
      channel.end();
    }
  };
}

function principalOf(proved: ProvedKey, from: { from: string; fromPort: number }, command: string): Principal {
  return {
    client: proved.client.name,
    door: 'ssh',
    key: proved.key.fingerprint,
    ...from,
    user: proved.user,
    command,
  };
}

/** Answers everything but `exec`: what a person would see gets one plain line, the rest is declined as the protocol has it. */
function refuseAllBut(session: SshSession): void {
  const refuse = (channel: ServerChannel, what: string): void => {
    channel.stderr.write(`restic-gateway: this key serves restic only; there is no ${what} here.\n`);
    channel.exit(1);
    channel.end();
  };
  session.on('shell', (accept) => {
    refuse(accept(), 'shell');
  });
  session.on('subsystem', (accept, _reject, { name }) => {
    refuse(accept(), /^[a-z0-9@.-]{1,40}$/i.test(name) ? name : 'such subsystem');
  });
}
