/**
 * Connections that have not proved a key yet: how many there may be, for how long, and how long an address that keeps failing waits.
 *
 * After OpenSSH's MaxStartups, LoginGraceTime and PerSourcePenalties, with two differences that keep a failing neighbour behind the same
 * NAT address from locking out the others: an address that failed is made to wait some seconds and not refused, and one success ends
 * its penalty. A full room makes place by cutting the oldest of the address that holds most, unless that one has only just come.
 */
import { isIPv6, type Socket } from 'node:net';
import type { SshLimits } from './limits.ts';

/** A connection in the room. */
export interface Visitor {
  /** It has proved a key, and leaves the room for good. */
  proved(): void;
}

/** The room. */
export interface WaitingRoom {
  /**
   * Takes a connection in.
   * @param serve - called when it may be served, at once or after its address's penalty
   * @returns undefined when there is no place; it is cut then
   */
  enter(socket: Socket, serve: () => void): Visitor | undefined;
}

/** What a connection is given at least before it may be cut for others, in ms: an honest one needs a fraction of it. */
const FAIR_MS = 5000;
/** Failures of an address that cost nothing: the port scan of a monitor, a mistyped key. */
const FREE_FAILURES = 3;
/** After this time without a failure, an address starts anew, in ms. */
const FORGIVEN_MS = 60_000;
/** How many addresses are remembered; the longest unheard of is forgotten first. */
const REMEMBERED = 10_000;

interface Present {
  readonly socket: Socket;
  readonly source: string;
  readonly since: number;
}

/** @param now - a clock that only goes forward, in ms */
export function createWaitingRoom(limits: SshLimits, now: () => number = () => performance.now()): WaitingRoom {
  // In the order of their coming.
  const present = new Set<Present>();
  const failures = new Map<string, { readonly count: number; readonly at: number }>();

  const delayOf = (source: string): number => {
    const record = failures.get(source);
    if (record === undefined || now() - record.at > FORGIVEN_MS || record.count <= FREE_FAILURES) return 0;
    return Math.min(limits.maxDelaySeconds, 2 ** (record.count - FREE_FAILURES - 1)) * 1000;
  };

  const failed = (source: string): void => {
    const record = failures.get(source);
    const before = record === undefined || now() - record.at > FORGIVEN_MS ? 0 : record.count;
    failures.delete(source);
    failures.set(source, { count: Math.min(before + 1, 32), at: now() });
    const [oldest] = failures.keys();
    if (failures.size > REMEMBERED && oldest !== undefined) failures.delete(oldest);
  };

  const makePlace = (source: string): boolean => {
    const held = new Map<string, number>();
    for (const each of present) held.set(each.source, (held.get(each.source) ?? 0) + 1);
    let from: string | undefined;
    if ((held.get(source) ?? 0) >= limits.unauthenticatedPerAddress) from = source;
    else if (present.size >= limits.unauthenticated) from = [...held].sort((a, b) => b[1] - a[1])[0]?.[0];
    if (from === undefined) return true;
    const oldest = [...present].find((each) => each.source === from);
    if (oldest === undefined || now() - oldest.since < FAIR_MS) return false;
    oldest.socket.destroy();
    present.delete(oldest);
    return true;
  };

  return {
    enter: (socket, serve) => {
      const source = sourceOf(socket.remoteAddress ?? '');
      if (!makePlace(source)) {
        socket.destroy();
        return undefined;
      }
      const visitor: Present = { socket, source, since: now() };
      present.add(visitor);
      const delay = delayOf(source);
      const grace = setTimeout(
        () => {
          socket.destroy();
        },
        delay + limits.loginSeconds * 1000,
      );
      const waiting = setTimeout(() => {
        if (!socket.destroyed) serve();
      }, delay);
      if (delay === 0) {
        clearTimeout(waiting);
        serve();
      }
      let over = false;
      const leave = (): void => {
        over = true;
        present.delete(visitor);
        clearTimeout(grace);
        clearTimeout(waiting);
      };
      socket.once('close', () => {
        if (over) return;
        leave();
        // One that never sent a byte is a load balancer's look at the port.
        if (socket.bytesRead > 0) failed(source);
      });
      return {
        proved: () => {
          leave();
          failures.delete(source);
        },
      };
    },
  };
}

/** What counts as one address: an IPv4 address, or the /64 that an IPv6 host has to itself. */
function sourceOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '');
  if (!isIPv6(plain)) return plain;
  const [head = '', tail] = plain.split('%', 1)[0]?.split('::') ?? [];
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const after = tail === '' ? 0 : tail.split(':').length;
    while (groups.length + after < 8) groups.push('0');
  }
  return `${groups.slice(0, 4).join(':')}::/64`;
}
