/**
 * Ends a connection whose peer breaks or exhausts what SSH leaves to trust: data beyond its window, absurd packets, floods, and answers
 * that are asked for and never read.
 *
 * ssh2 1.17 has no call for these, so this stands before its handlers of messages (server.js, messageHandlers) and looks at the state of
 * its protocol. Source: RFC 4254, 5.1 and 5.2 (windows, packet sizes); RFC 4253, 9 (key re-exchange).
 */
import type { Socket } from 'node:net';
import type { Connection } from 'ssh2';
import { createAllowance } from '../core/allowance.ts';
import { channelOf, protocolOf, socketOf, unexpectedSsh2, type Protocol } from './ssh2-internals.ts';

/** The smallest packets a peer may want, in bytes; with those of 0, ssh2 would send for ever. OpenSSH takes 32 KiB. */
const LEAST_PACKET = 4096;
/** Channels and requests a peer may ask for at once, and each second after that. */
const REQUESTS = { burst: 200, perSecond: 10 };
/** Packets, and bytes of all kinds, before authentication. OpenSSH with twenty keys sends some 50 of them, and 40 KiB. */
const LOGIN_PACKETS = 200;
const LOGIN_BYTES = 256 * 1024;
/**
 * Key exchanges after the login: OpenSSH asks for one a GiB, and by `RekeyLimit` as often as its user likes. Before it there is the first
 * one and no other: OpenSSH never asks for one then (packet.c, ssh_packet_need_rekeying).
 */
const REKEYS = { burst: 100, perSecond: 1 };
/** After so many bytes both ways, one more is no flood, however fast they came: they take far more than it does. */
const REKEY_BYTES = 8 * 1024 * 1024;
/** Answers that a peer may leave unread, in bytes. What a channel sends waits by itself far below that. */
const MOST_UNREAD = 16 * 1024 * 1024;
/** How long a key re-exchange may take, in ms. */
const REKEY_MS = 30_000;
/** How long a connection that is over may take to close, in ms. */
const CLOSING_MS = 1000;

/** What a peer may send ahead on a channel that nobody serves yet, or any more, in bytes. */
export const UNSERVED_WINDOW = 64 * 1024;
/** A message that ssh2 does not get to see. */
const DROP = Symbol('drop');

/** What a sender on a guarded connection has to wait for. */
export interface Link {
  readonly socket: Socket;
  /** Ssh2's state of the connection. */
  readonly protocol: Protocol;
  /** Calls `next` when no key exchange is under way, in which ssh2 would gather without bound what it is given to send. */
  whenOpen(next: () => void): void;
  /** Resolves when the peer has taken all that was sent before, or has gone; never for one that answers nothing. Never rejects. */
  readonly reached: () => Promise<void>;
  /** For how long nothing has come from the peer, in ms. */
  readonly silentMs: () => number;
}

/**
 * Guards a connection from now on.
 * @param guardExchanges - has `may` be asked before each key exchange but the first
 * @throws GatewayError `internal` when ssh2 is not built as expected
 */
export function guardPeer(connection: Connection, guardExchanges: (may: () => boolean) => void): Link {
  const [protocol, socket] = [protocolOf(connection), socketOf(connection)];
  const handlers = protocol._handlers;
  const clock = (): number => performance.now();
  const requests = createAllowance(REQUESTS.burst, REQUESTS.perSecond, clock);
  const rekeys = createAllowance(REKEYS.burst, REKEYS.perSecond, clock);

  const cut = (why: string): void => {
    if (socket.destroyed) return;
    connection.emit('error', new Error(why));
    socket.destroy();
  };

  /** Has `wrong` look at every message of a kind before ssh2 does, which does not get what is to be dropped. */
  const before = (kind: string, wrong: (...message: unknown[]) => string | typeof DROP | undefined): void => {
    const handler = handlers[kind];
    if (handler === undefined) throw unexpectedSsh2('?', `no handler of ${kind}`);
    handlers[kind] = (from, ...message) => {
      if (socket.destroyed) return undefined;
      const why = wrong(...message);
      if (why === undefined) return handler(from, ...message);
      if (why !== DROP) cut(why);
      return undefined;
    };
  };
  const tooMany = (): string | undefined => (requests.take() ? undefined : 'the peer sends too many requests');
  before('CHANNEL_OPEN', (message) => {
    const { packetSize } = message as { readonly packetSize: number };
    return packetSize < LEAST_PACKET ? `the peer wants packets of ${packetSize} bytes` : tooMany();
  });
  before('CHANNEL_REQUEST', tooMany);
  before('GLOBAL_REQUEST', tooMany);
  before('CHANNEL_DATA', (id, data) => {
    const channel = channelOf(connection, id as number);
    if (channel === undefined) return 'the peer sent data to a channel that is not open';
    const { incoming, outgoing } = channel;
    if (incoming.state !== 'open') return 'the peer sent data after its end';
    const { length } = data as Buffer;
    if (length > incoming.window) return 'the peer sent more than its window';
    if (channel.open && outgoing.state === 'open') return undefined;
    // Without a command yet, or closed by us: nobody reads it, and the window stays as it is.
    incoming.window -= length;
    return DROP;
  });
  // No client sends these (RFC 4254, 5.2: they are a program's stderr), and ssh2 takes them without a look at the window.
  before('CHANNEL_EXTENDED_DATA', () => 'the peer sent data of a kind that only servers send');
  // ssh2 has one window for all, of 2 MiB, which a peer could fill before anybody serves it, or after it was refused.
  const confirm = protocol.channelOpenConfirm.bind(protocol);
  protocol.channelOpenConfirm = (remote, local, _window, packetSize) => {
    const channel = channelOf(connection, local);
    if (channel !== undefined) channel.incoming.window = UNSERVED_WINDOW;
    confirm(remote, local, UNSERVED_WINDOW, packetSize);
  };

  // Every peer answers a request that it does not know, in order (RFC 4254, 4); ssh2's server takes no notice of that.
  const answers = createAnswers(socket);
  for (const kind of ['REQUEST_FAILURE', 'REQUEST_SUCCESS'])
    handlers[kind] = () => {
      answers.came();
    };
  let loggedIn = false;
  connection.once('ready', () => {
    loggedIn = true;
  });
  let packets = 0;
  const onPacket = protocol._onPacket;
  protocol._onPacket = () => {
    if (!loggedIn && ++packets > LOGIN_PACKETS) cut('the peer sends too much before it logs in');
    onPacket();
  };
  guardExchanges(() => {
    if (!loggedIn) cut('the peer asks for another key exchange before it logs in');
    return loggedIn;
  });
  let rekeyedAt = 0;
  connection.on('rekey', () => {
    const moved = socket.bytesRead + socket.bytesWritten;
    if (moved - rekeyedAt < REKEY_BYTES && !rekeys.take()) cut('the peer starts too many key exchanges');
    rekeyedAt = moved;
  });
  let exchange: NodeJS.Timeout | undefined;
  let heard = clock();
  // After ssh2, which listens for data since before this.
  socket.on('data', () => {
    heard = clock();
    if (!loggedIn && socket.bytesRead > LOGIN_BYTES) cut('the peer sends too much before it logs in');
    if (socket.writableLength > MOST_UNREAD) cut('the peer does not read its answers');
    if (protocol._kexinit === undefined) {
      clearTimeout(exchange);
      exchange = undefined;
    } else
      exchange ??= setTimeout(() => {
        cut('the peer did not finish a key exchange');
      }, REKEY_MS);
  });
  // ssh2 only ends its own half, which a peer that reads or answers no more would keep open for ever.
  const close = (): void => {
    const closing = setTimeout(() => {
      socket.destroy();
    }, CLOSING_MS);
    socket.once('close', () => {
      clearTimeout(closing);
    });
  };
  connection.once('error', close);
  socket.once('end', close);
  socket.once('finish', close);
  socket.once('close', () => {
    clearTimeout(exchange);
  });
  // One for each channel.
  socket.setMaxListeners(0);
  connection.setMaxListeners(0);

  return {
    socket,
    protocol,
    silentMs: () => clock() - heard,
    whenOpen: (next) => {
      if (protocol._kexinit === undefined) next();
      else connection.once('rekey', next);
    },
    reached: () =>
      new Promise((resolve) => {
        answers.wait(resolve);
        if (socket.writable) protocol.ping();
      }),
  };
}

/** Those who wait for an answer of the peer each, in that order. One that has gone answers all. */
function createAnswers(socket: Socket): { readonly came: () => void; readonly wait: (then: () => void) => void } {
  const waiting: (() => void)[] = [];
  socket.once('close', () => {
    for (const then of waiting.splice(0)) then();
  });
  return {
    came: () => waiting.shift()?.(),
    wait: (then) => {
      if (socket.destroyed) then();
      else waiting.push(then);
    },
  };
}
