/**
 * Connections that a balancer hands on: each begins with a PROXY header (see proxy-header.ts), and is the client's from then on.
 *
 * Who is listed must send one, since a connection without it would count as the balancer's own; who is not must not, and is told so where
 * lines are read (identification.ts). Until its header has come, a connection is nobody's: it costs a socket, and is the first to go.
 */
import { isIPv6, type Socket } from 'node:net';
import { rangesOf } from '../config/address-ranges.ts';
import type { Log } from '../ports/log.ts';
import { readProxyHeader, type Origin } from './proxy-header.ts';

/** How long a header may take, in ms. Balancers send it with the first packet. */
const HEADER_MS = 5000;
/** A header that comes byte by byte is no longer than this, in bytes; what follows it may have come along. */
const MOST_BYTES = 2048;

/** A connection that no balancer has handed on. */
const DIRECT: Origin = { client: undefined, isOwn: false, length: 0 };

/** What becomes of a connection. */
interface Reception {
  /** It is known whose it is: `socket.remoteAddress` and `remotePort` say so from now on. What follows the header is yet to be read. */
  readonly from: (origin: Origin) => unknown;
  /** It is cut after this. */
  readonly refuse: (why: string) => void;
}

/** All connections, by who has handed them on. */
interface Balancers {
  /** Who must send a header from now on. */
  list(ranges: readonly string[]): void;
  receive(socket: Socket, reception: Reception): void;
  /** Cuts those whose header has not come, to free descriptors. */
  shrink(): void;
  /** Where warnings about a connection go: nowhere, for what a balancer does by itself, such as its health checks. */
  logOf(socket: Socket, log: Log): Log;
}

/**
 * @param ranges - of addresses that must send a header, in CIDR notation as the config has them
 * @param places - how many connections may wait for their header now; the oldest give way
 */
export function createBalancers(ranges: readonly string[], places: () => number): Balancers {
  let isListed = listedIn(ranges);
  /** In the order of their coming. */
  const waiting = new Set<Socket>();
  const ownConnections = new WeakSet<Socket>();
  const keep = (most: number): void => {
    for (const socket of waiting) {
      if (waiting.size <= most) return;
      waiting.delete(socket);
      socket.destroy();
    }
  };
  return {
    list: (next) => {
      isListed = listedIn(next);
    },
    receive: (socket, reception) => {
      if (isListed === undefined || !isListed(socket.remoteAddress ?? '')) {
        reception.from(DIRECT);
        return;
      }
      waiting.add(socket);
      readHeader(socket, {
        from: (origin) => {
          waiting.delete(socket);
          if (origin.isOwn) ownConnections.add(socket);
          reception.from(origin);
        },
        refuse: reception.refuse,
      });
      socket.once('close', () => waiting.delete(socket));
      keep(places());
    },
    shrink: () => {
      keep(0);
    },
    logOf: (socket, log) => (ownConnections.has(socket) ? { ...log, warn: () => undefined } : log),
  };
}

function readHeader(socket: Socket, { from, refuse }: Reception): void {
  let read: Buffer = Buffer.alloc(0);
  const end = (): void => {
    clearTimeout(timer);
    socket.off('data', take).off('close', closed);
  };
  const cut = (why: string): void => {
    end();
    refuse(why);
    socket.destroy();
  };
  const take = (chunk: Buffer): void => {
    read = read.length === 0 ? chunk : Buffer.concat([read, chunk]);
    const header = readProxyHeader(read.subarray(0, MOST_BYTES));
    if (header === 'unfinished') return;
    if ('wrong' in header) {
      cut(
        `proxyProtocol.from lists its address, and what it sent is no PROXY header (${header.wrong}); have the balancer send one, or take the address off that list`,
      );
      return;
    }
    end();
    socket.pause();
    const rest = read.subarray(header.length);
    if (rest.length > 0) socket.unshift(rest);
    if (header.client !== undefined) speakFor(socket, header.client);
    from(header);
    socket.resume();
  };
  const closed = (): void => {
    end();
    // Whoever sent nothing has looked whether the port is open, as balancers do all the time.
    if (read.length > 0) refuse('it ended within its PROXY header');
  };
  const timer = setTimeout(() => {
    cut(`proxyProtocol.from lists its address, and no PROXY header came within ${HEADER_MS / 1000} s`);
  }, HEADER_MS);
  socket.on('data', take);
  socket.once('close', closed);
}

/** Before the getters of every socket, so that whoever asks this one hears of the client. */
function speakFor(socket: Socket, { address, port }: NonNullable<Origin['client']>): void {
  const remoteFamily = isIPv6(address) ? 'IPv6' : 'IPv4';
  for (const [key, value] of Object.entries({ remoteAddress: address, remotePort: port, remoteFamily }))
    Object.defineProperty(socket, key, { value, configurable: true });
}

/** Undefined where there are none, so that nobody has to be looked up. */
function listedIn(ranges: readonly string[]): ((address: string) => boolean) | undefined {
  return ranges.length === 0 ? undefined : rangesOf(ranges);
}
