/** The arithmetic of the waiting room: who goes when there are too many, by a clock and dice of the test's own. */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { createFairPool, networksOf, type Held } from '../../src/core/fair-pool.ts';
import { limitsOf, withinDescriptors } from '../../src/frontends/limits.ts';
import { shareOpenFiles } from '../../src/state/open-files.ts';
import { quietLog } from '../../src/frontends/quiet-log.ts';
import {
  createUnauthenticatedConnections,
  type Unauthenticated,
  type UnauthenticatedConnections,
} from '../../src/frontends/unauthenticated.ts';

/** Dice that fall the same way each time (mulberry32). */
function dice(seed = 1): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('an address is counted', () => {
  test.each([
    ['192.0.2.7', ['192.0.2.0/24', '192.0.2.7']],
    ['::ffff:192.0.2.7', ['192.0.2.0/24', '192.0.2.7']],
    ['2001:db8:1:2345::1', ['2001:db8:1::/48', '2001:db8:1:2300::/56', '2001:db8:1:2345::/64']],
    ['2001:db8:1:2345:ffff:ffff:ffff:ffff', ['2001:db8:1::/48', '2001:db8:1:2300::/56', '2001:db8:1:2345::/64']],
    ['2001:0db8:0001:23ff::1', ['2001:db8:1::/48', '2001:db8:1:2300::/56', '2001:db8:1:23ff::/64']],
    ['fe80::1%eth0', ['fe80:0:0::/48', 'fe80:0:0:0::/56', 'fe80:0:0:0::/64']],
    ['::1', ['0:0:0::/48', '0:0:0:0::/56', '0:0:0:0::/64']],
    ['2001:db8::', ['2001:db8:0::/48', '2001:db8:0:0::/56', '2001:db8:0:0::/64']],
  ])('%s', (address, networks) => {
    expect(networksOf(address)).toEqual(networks);
  });
});

describe('who goes', () => {
  const of = (address: string, since = 0): Held => ({ networks: networksOf(address), since });
  const poolOf = (...all: Held[]) => {
    const pool = createFairPool<Held>(dice());
    for (const one of all) pool.add(one);
    return pool;
  };

  test('of the one who holds most', () => {
    const pool = poolOf(of('192.0.2.1'), of('198.51.100.1'), of('198.51.100.1'));
    expect(pool.worst()?.networks[1]).toBe('198.51.100.1');
  });

  test('of one /48, however many of its networks it comes from', () => {
    const many = [1, 2, 3].map((net) => of(`2001:db8:bad:${net}00::1`));
    const pool = poolOf(of('2001:db8:1::1'), of('2001:db8:1::1'), ...many);
    expect(pool.worst()?.networks[0]).toBe('2001:db8:bad::/48');
  });

  test('in one /24, of the address that holds most, and not its neighbour', () => {
    const pool = poolOf(of('192.0.2.1', 1), of('192.0.2.2', 2), of('192.0.2.2', 3));
    expect(pool.worst()).toMatchObject({ networks: ['192.0.2.0/24', '192.0.2.2'], since: 2 });
  });

  test('among equals the oldest, and nobody who came too late', () => {
    const pool = poolOf(of('192.0.2.1', 5), of('198.51.100.1', 4), of('203.0.113.1', 6));
    expect(pool.worst()?.since).toBe(4);
    expect(pool.worst(4)).toBeUndefined();
    expect(createFairPool().worst()).toBeUndefined();
  });

  test('whoever has left counts no more', () => {
    const left = [of('198.51.100.1'), of('198.51.100.1')];
    const pool = poolOf(of('192.0.2.1', 1), ...left, of('203.0.113.1', 2));
    for (const one of [...left, ...left]) pool.remove(one);
    expect(pool.size).toBe(2);
    expect(pool.worst()?.since).toBe(1);
  });
});

/** What the room uses of a socket. */
class FakeSocket extends EventEmitter {
  destroyed = false;
  bytesRead = 0;
  readonly remoteAddress: string;
  constructor(address: string) {
    super();
    this.remoteAddress = address;
  }
  write(): boolean {
    return true;
  }
  pause(): this {
    return this;
  }
  unshift(): void {
    // What is read again by whoever serves it.
  }
  destroy(): this {
    if (!this.destroyed) {
      this.destroyed = true;
      this.emit('close');
    }
    return this;
  }
  say(line: string): void {
    this.bytesRead += line.length;
    this.emit('data', Buffer.from(line));
  }
}

describe('the room', () => {
  // No penalty: its timers are real ones, and it is the same for who is honest behind the address.
  const limits = { ...limitsOf({ extraCiphers: [] }, 1), maxDelaySeconds: 0 };
  let time = 0;
  let reported: number[] = [];
  const roomOf = (own: Partial<typeof limits> = {}): UnauthenticatedConnections => {
    time = 0;
    reported = [];
    return createUnauthenticatedConnections(
      { ...limits, ...own },
      (cut) => reported.push(cut),
      // All at once, as nobody here takes any time.
      { now: () => time, random: dice(), turns: { take: (_networks, work) => (work(), () => undefined) } },
    );
  };
  interface Guest {
    readonly socket: FakeSocket;
    readonly pending: Unauthenticated;
    readonly served: () => boolean;
  }
  const sockets = new Set<FakeSocket>();
  afterEach(() => {
    for (const socket of sockets) socket.destroy();
  });
  const enter = (room: UnauthenticatedConnections, address: string): Guest => {
    const socket = new FakeSocket(address);
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    let served = false;
    const pending = room.register(socket as unknown as Socket, {
      serve: () => {
        served = true;
      },
      refuse: () => undefined,
    });
    return { socket, pending, served: () => served };
  };
  /** How a hostile connection gets as far as it wants to. */
  const HOSTILE: Readonly<Record<string, (guest: Guest) => void>> = {
    'says nothing': () => undefined,
    'says its line by half': ({ socket }) => {
      socket.say('SSH-2.0-');
    },
    'says its line and no more': ({ socket }) => {
      socket.say('SSH-2.0-x\r\n');
    },
    'exchanges keys and does no more': ({ socket, pending }) => {
      socket.say('SSH-2.0-x\r\n');
      if (!socket.destroyed) pending.exchanged();
    },
  };

  /** 100 honest logins, one each 50 ms, each step 50 ms, while hostile addresses refill what is cut. @returns how many got in */
  const siege = (
    addresses: readonly string[],
    each: number,
    behave: (guest: Guest) => void,
    honestFrom: string,
    perTick = 20,
  ): number => {
    const room = roomOf();
    const held = addresses.map(() => [] as Guest[]);
    let turn = 0;
    // 2,000 a second unless said otherwise, of the addresses in turn, each as many as it can hold.
    const flood = (): void => {
      for (let i = 0; i < perTick; i++) {
        const index = turn++ % addresses.length;
        const before = held[index] ?? [];
        const mine = before.length < each ? before : before.filter(({ socket }) => !socket.destroyed);
        held[index] = mine;
        if (mine.length >= each) continue;
        const guest = enter(room, addresses[index] ?? '');
        behave(guest);
        mine.push(guest);
      }
    };
    const tick = (): void => {
      time += 10;
      flood();
    };
    for (let i = 0; i < 150; i++) tick();
    let honest: { readonly guest: Guest; at: number }[] = [];
    let inside = 0;
    for (let i = 0; i < 100 * 5 + 15; i++) {
      if (i % 5 === 0 && i < 500) honest.push({ guest: enter(room, honestFrom), at: 0 });
      tick();
      honest = honest.filter((one) => {
        if (one.guest.socket.destroyed) return false;
        if (++one.at === 5) one.guest.socket.say('SSH-2.0-OpenSSH_9.2\r\n');
        if (one.at === 10) one.guest.pending.exchanged();
        if (one.at < 15) return true;
        one.guest.pending.authenticated();
        inside++;
        return false;
      });
    }
    return inside;
  };
  const spread = (count: number): string[] =>
    Array.from({ length: count }, (_, index) => `10.${index >> 8}.${index & 255}.1`);

  test.each(Object.keys(HOSTILE).flatMap((how) => [6, 50, 500].map((count) => [count, how] as const)))(
    '%i addresses of whom each %s: newcomers get in',
    (count, how) => {
      const behave = HOSTILE[how] ?? (() => undefined);
      expect(siege(spread(count), 100, behave, '192.0.2.1')).toBeGreaterThan(95);
    },
  );

  test('a whole /48 with a network for each connection: newcomers get in', () => {
    const addresses = Array.from({ length: 2000 }, (_, index) => `2001:db8:bad:${index.toString(16)}::1`);
    expect(siege(addresses, 1, HOSTILE['says nothing'] ?? fail, '2001:db8:1::1')).toBeGreaterThan(95);
  });

  test.each(Object.keys(HOSTILE))('one behind the very address of who %s gets in', (how) => {
    expect(siege(['192.0.2.1'], 1000, HOSTILE[how] ?? fail, '192.0.2.1', 10)).toBeGreaterThan(75);
  });

  test('200 in one moment behind one address, none of whom is heard yet: all get in, though half of the room is taken', () => {
    const room = roomOf({ unauthenticated: 2000, unauthenticatedPerAddress: 500 });
    for (const address of spread(50)) for (let i = 0; i < 100; i++) enter(room, address);
    time += 2000;
    for (const address of spread(50)) for (let i = 0; i < 10; i++) enter(room, address);
    const all = Array.from({ length: 200 }, () => enter(room, '192.0.2.1'));
    for (const { socket } of all) socket.say('SSH-2.0-OpenSSH_9.2\r\n');
    expect(all.filter(({ served }) => served())).toHaveLength(200);
  });

  test('one address holds no more than its share, and those who have come furthest stay', () => {
    const room = roomOf({ unauthenticatedPerAddress: 3 });
    const [first, ...others] = Array.from({ length: 5 }, () => enter(room, '192.0.2.1'));
    expect([first, ...others].filter((guest) => guest?.socket.destroyed === false)).toHaveLength(3);
    const one = enter(room, '198.51.100.1');
    one.socket.say('SSH-2.0-x\r\n');
    for (let i = 0; i < 20; i++) enter(room, '198.51.100.1');
    expect(one.socket.destroyed).toBe(false);
  });

  /** A room in which nobody has his turn until it is given. */
  const slowRoom = (own: Partial<typeof limits>) => {
    const waiting: (() => void)[] = [];
    time = 0;
    const turns = { take: (_networks: readonly string[], work: () => void) => (waiting.push(work), () => undefined) };
    const room = createUnauthenticatedConnections({ ...limits, ...own }, undefined, {
      now: () => time,
      random: dice(),
      turns,
    });
    const speaking = (address: string): Guest => {
      const guest = enter(room, address);
      guest.socket.say('SSH-2.0-x\r\n');
      return guest;
    };
    return { room, waiting, speaking };
  };

  test('who waits for its turn loses no time by that, and who does not is closed when his is over', async () => {
    const { room, waiting, speaking } = slowRoom({ loginSeconds: 0.05 });
    const [patient, next] = [speaking('192.0.2.1'), speaking('192.0.2.1')];
    for (let i = 0; i < 2; i++) {
      const silent = enter(room, '192.0.2.1').socket;
      await new Promise((resolve) => silent.once('close', resolve));
    }
    expect([patient.socket.destroyed, next.socket.destroyed]).toEqual([false, false]);
    // From its turn on it has what was left.
    const closed = new Promise((resolve) => patient.socket.once('close', resolve));
    waiting[0]?.();
    expect(patient.served()).toBe(true);
    await closed;
    expect(next.socket.destroyed).toBe(false);
  });

  test('those who wait for their turn are not too many of their address, and none of them goes for who is stuck', () => {
    const { room, waiting, speaking } = slowRoom({ unauthenticatedPerAddress: 3 });
    const patient = Array.from({ length: 20 }, () => speaking('192.0.2.1'));
    const silent = Array.from({ length: 3 }, () => enter(room, '192.0.2.1'));
    time += 1500;
    const newcomers = Array.from({ length: 3 }, () => enter(room, '192.0.2.1'));
    expect([...patient, ...newcomers].filter(({ socket }) => socket.destroyed)).toEqual([]);
    expect(silent.filter(({ socket }) => !socket.destroyed)).toEqual([]);
    // From their turn on they count again.
    for (const work of waiting) work();
    enter(room, '192.0.2.1');
    expect([...patient, ...newcomers].filter(({ socket }) => socket.destroyed)).toHaveLength(1);
  });

  test('a step may have more places than its own while there are any, and gives them back', () => {
    const { room, speaking } = slowRoom({ unauthenticated: 200 });
    const patient = Array.from({ length: 180 }, () => speaking('192.0.2.1'));
    expect(patient.filter(({ socket }) => socket.destroyed)).toEqual([]);
    // All of the places are in use: whoever has most goes, be it in another step than who comes.
    const silent = spread(40).map((address) => enter(room, address));
    expect(room.size()).toBe(200);
    expect(silent.filter(({ socket }) => socket.destroyed)).toEqual([]);
    expect(patient.filter(({ socket }) => socket.destroyed)).toHaveLength(20);
  });

  test('an administrator is told that some are cut, and how many, once in a while', () => {
    const room = roomOf({ unauthenticatedPerAddress: 1 });
    for (let i = 0; i < 6; i++) enter(room, '192.0.2.1');
    expect(reported).toEqual([1]);
    time += 10_000;
    enter(room, '192.0.2.1');
    expect(reported).toEqual([1, 5]);
  });

  test('descriptors that are short are taken from those who are silent', () => {
    const room = roomOf();
    const silent = Array.from({ length: 40 }, () => enter(room, '192.0.2.1'));
    const speaking = enter(room, '192.0.2.1');
    speaking.socket.say('SSH-2.0-x\r\n');
    room.shrink();
    expect(silent.filter(({ socket }) => socket.destroyed)).toHaveLength(32);
    expect(speaking.socket.destroyed).toBe(false);
  });

  test('who hangs up while it waits for the penalty of its address makes the others behind it wait no longer', () => {
    const room = roomOf({ maxDelaySeconds: 10 });
    const speaks = (ms: number): Guest => {
      const guest = enter(room, '192.0.2.1');
      time += ms;
      guest.socket.say('SSH-2.0-x\r\n');
      return guest;
    };
    // Three are free, the fourth costs a second.
    for (let i = 0; i < 4; i++) speaks(0).socket.destroy();
    for (let i = 0; i < 5; i++) {
      const impatient = speaks(500);
      expect(impatient.served()).toBe(false);
      impatient.socket.destroy();
    }
    expect(speaks(1000).served()).toBe(true);
  });

  test('what is not SSH is refused at its first bytes, a line without an end at 1 KiB', () => {
    const room = roomOf();
    const web = enter(room, '192.0.2.1');
    web.socket.say('GET ');
    expect(web.socket.destroyed).toBe(true);
    const endless = enter(room, '192.0.2.1');
    endless.socket.say('SSH-2.0-');
    for (let i = 0; i < 1024 && !endless.socket.destroyed; i++) endless.socket.say('x');
    expect([endless.socket.destroyed, endless.socket.bytesRead]).toEqual([true, 1024]);
    const bit = enter(room, '192.0.2.1');
    for (const byte of 'SSH-2.0-x\r\n') bit.socket.say(byte);
    expect(bit.served()).toBe(true);
    bit.socket.destroy();
  });
});

test('a process that may open few files lets fewer wait, and says so', () => {
  const lines: unknown[] = [];
  const log = { info: () => undefined, warn: (fields: unknown) => lines.push(fields), error: () => undefined };
  const limits = limitsOf({ extraCiphers: [] }, 1);
  expect(withinDescriptors(limits, shareOpenFiles(1_048_576), log)).toBe(limits);
  expect(lines).toEqual([]);
  expect(withinDescriptors(limits, shareOpenFiles(1024), log).unauthenticated).toBe(216);
  expect(lines).toEqual([{ limit: 216, configured: 2000, openFiles: 1024 }]);
});

test('an address that floods the log does not keep another’s warning out of it', () => {
  let time = 0;
  const lines: unknown[] = [];
  const log = quietLog(
    { info: () => undefined, warn: (fields) => lines.push(fields), error: () => undefined },
    () => time,
  );
  for (; time < 60_000; time += 10) log.warn({ from: '192.0.2.1' }, 'x');
  expect(lines.length).toBeLessThan(20);
  log.warn({ from: '198.51.100.1' }, 'x');
  expect(lines.at(-1)).toMatchObject({ from: '198.51.100.1' });
});

function fail(): never {
  throw new Error('there is no such way to behave');
}
