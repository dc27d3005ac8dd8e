/** The arithmetic of the rates, in a time of its own: bytes over sessions and processes, requests and small objects. */
import { setMaxListeners } from 'node:events';
import { beforeEach, describe, expect, test } from '@jest/globals';
import type { SharedTime } from '../../src/core/schedule.ts';
import { createThrottles, type ClientRates } from '../../src/limits/throttles.ts';
import type { Throttle } from '../../src/ports/throttle.ts';
import { fakeClock, type FakeClock } from '../support/fake-clock.ts';

const MIB = 1024 * 1024;
const NEVER = new AbortController().signal;
setMaxListeners(0, NEVER);

let clock: FakeClock;
/** What all processes share: a moment by file. */
let shared: Map<string, number>;
beforeEach(() => {
  clock = fakeClock();
  shared = new Map();
});

/** One more process of the machine. */
function startProcess(rates: () => ClientRates | undefined): (client: string) => Throttle {
  const sharedTimes = shared;
  const openShared = (file: string): SharedTime => ({
    read: () => sharedTimes.get(file) ?? 0,
    move: (to) => sharedTimes.set(file, to),
  });
  const throttles = createThrottles(() => '/state', openShared, clock);
  return (client) => throttles.of(client, rates);
}

/** Moves bytes in chunks for as long as it can. @returns how many it has moved */
function stream(throttle: Throttle, direction: 'upload' | 'download', chunk: number, signal = NEVER) {
  const moved = { bytes: 0, over: false };
  void (async () => {
    for (;;) {
      await throttle[direction](chunk, signal);
      if (signal.aborted) break;
      moved.bytes += chunk;
      // A chunk has to come first, which takes a moment.
      await Promise.resolve();
    }
    moved.over = true;
  })();
  return moved;
}

describe('bandwidth', () => {
  test.each([
    ['one stream', 1, 1],
    ['five streams of a session', 1, 5],
    ['five streams each of three processes', 3, 5],
  ])('%s: no more than the rate, and all of it', async (_what, processes, streams) => {
    const moved = Array.from({ length: processes }, () => {
      const throttle = startProcess(() => ({ bandwidth: { upload: 8 * MIB } }))('appsrv');
      return Array.from({ length: streams }, () => stream(throttle, 'upload', 16_384));
    });
    const total = (): number => moved.flat().reduce((sum, { bytes }) => sum + bytes, 0);
    for (let second = 1; second <= 30; second++) {
      await clock.pass(1000);
      expect(total()).toBeLessThanOrEqual(8 * MIB * (second + 0.4));
    }
    expect(total()).toBeGreaterThan(8 * MIB * 29);
    // Nobody was left out.
    const each = moved.flat().map(({ bytes }) => bytes);
    expect(Math.min(...each)).toBeGreaterThan(total() / each.length / 2);
  });

  test('chunks of half a second keep to it as well', async () => {
    const throttle = startProcess(() => ({ bandwidth: { download: MIB } }))('appsrv');
    const moved = stream(throttle, 'download', MIB / 2);
    await clock.pass(20_000);
    expect(moved.bytes).toBeLessThanOrEqual(20.5 * MIB);
    expect(moved.bytes).toBeGreaterThan(19 * MIB);
  });

  test('directions and clients are apart; without a limit there is nothing to wait for and nothing is kept', async () => {
    const rates: ClientRates = { bandwidth: { upload: MIB } };
    const processOne = startProcess(() => rates);
    stream(processOne('appsrv'), 'upload', MIB);
    await clock.pass(1000);
    expect(processOne('appsrv').download(100 * MIB, NEVER)).toBeUndefined();
    expect(processOne('dbsrv').upload(1000, NEVER)).toBeUndefined();
    expect(startProcess(() => ({}))('free').upload(100 * MIB, NEVER)).toBeUndefined();
    expect([...shared.keys()].sort()).toEqual(['/state/rates/appsrv/upload', '/state/rates/dbsrv/upload']);
  });

  test('who was idle has no more than a moment of it in hand', async () => {
    const throttle = startProcess(() => ({ bandwidth: { upload: MIB } }))('appsrv');
    await clock.pass(3_600_000);
    const moved = stream(throttle, 'upload', 1024);
    await clock.pass(0);
    expect(moved.bytes).toBeLessThanOrEqual(0.4 * MIB);
  });

  test('a changed limit counts at once, and one that is taken away holds nobody', async () => {
    let rates: ClientRates = { bandwidth: { upload: 65_536 } };
    const throttle = startProcess(() => rates)('appsrv');
    const leave = new AbortController();
    const moved = stream(throttle, 'upload', 16_384, leave.signal);
    await clock.pass(10_000);
    expect(moved.bytes).toBeLessThan(700_000);
    rates = { bandwidth: { upload: 10 * MIB } };
    await clock.pass(10_000);
    expect(moved.bytes).toBeGreaterThan(90 * MIB);
    const waiting = throttle.upload(1000 * MIB, NEVER);
    leave.abort();
    rates = {};
    let gone = false;
    void waiting?.then(() => (gone = true));
    await clock.pass(1000);
    expect(gone).toBe(true);
    expect(clock.pending()).toBe(0);
  });

  test('who goes away waits no more, and leaves no timer', async () => {
    const throttle = startProcess(() => ({ bandwidth: { upload: 65_536 } }))('appsrv');
    const leave = new AbortController();
    const streams = [1, 2, 3].map(() => stream(throttle, 'upload', MIB, leave.signal));
    await clock.pass(100);
    expect(clock.pending()).toBe(1);
    leave.abort();
    await clock.pass(0);
    expect(streams.map(({ over }) => over)).toEqual([true, true, true]);
    expect(clock.pending()).toBe(0);
  });

  test('bytes that came for nothing are paid for by those that come next, up to ten seconds of it', async () => {
    const throttle = startProcess(() => ({ bandwidth: { upload: MIB } }))('appsrv');
    throttle.discarded(5 * MIB);
    const moved = stream(throttle, 'upload', 16_384);
    await clock.pass(4000);
    expect(moved.bytes).toBe(0);
    await clock.pass(6000);
    expect(moved.bytes).toBeGreaterThan(4 * MIB);
    for (let times = 0; times < 1000; times++) throttle.discarded(MIB);
    await clock.pass(20_000);
    expect(moved.bytes).toBeGreaterThan(10 * MIB);
  });

  test('a clock that is set back or forward by hours disturbs nobody for long', async () => {
    const throttle = startProcess(() => ({ bandwidth: { upload: MIB } }))('appsrv');
    const moved = stream(throttle, 'upload', 16_384);
    await clock.pass(5000);
    for (const step of [-7_200_000, 7_200_000]) {
      const before = moved.bytes;
      clock.set(clock.now() + step);
      await clock.pass(10_000);
      expect(moved.bytes - before).toBeGreaterThan(8 * MIB);
      expect(moved.bytes - before).toBeLessThan(11 * MIB);
    }
  });
});

describe('requests', () => {
  test('30,000 at once, then 1,000 a second, over all sessions of a client in a process', async () => {
    const of = startProcess(() => ({}));
    let held = 0;
    for (let times = 0; times < 30_000; times++) if (of('appsrv').request(NEVER) !== undefined) held++;
    expect(held).toBe(0);
    let answered = 0;
    for (let times = 0; times < 5000; times++)
      void of('appsrv')
        .request(NEVER)
        ?.then(() => answered++);
    expect(of('dbsrv').request(NEVER)).toBeUndefined();
    await clock.pass(2000);
    expect(answered).toBe(2000);
    await clock.pass(3000);
    expect(answered).toBe(5000);
    expect(shared.size).toBe(0);
  });

  test('a rate of its own; more than a minute of waiting is refused, and costs nothing', async () => {
    const throttle = startProcess(() => ({ requests: 10 }))('appsrv');
    for (let times = 0; times < 300; times++) expect(throttle.request(NEVER)).toBeUndefined();
    const waiting = Array.from({ length: 600 }, () => throttle.request(NEVER));
    expect(waiting).not.toContain(undefined);
    // Refused at once, restic before 0.17 would have used up its ten tries before those who wait had their turns.
    const outcomes: string[] = [];
    void throttle.request(NEVER)?.then(() => outcomes.push('served'));
    const leaving = new AbortController();
    void throttle.request(leaving.signal)?.then(() => outcomes.push('gone'));
    leaving.abort();
    await clock.pass(60_000);
    expect(outcomes).toEqual(['gone']);
    await clock.pass(200);
    expect(outcomes).toEqual(['gone', 'served']);
  });

  test('a client that goes on asking for more than it may is refused, after ten seconds each time', async () => {
    const throttle = startProcess(() => ({ requests: 10 }))('appsrv');
    const flood = () => {
      for (let times = 0; times < 1000; times++) throttle.request(NEVER)?.catch(() => undefined);
    };
    flood();
    let refused: unknown;
    void throttle.request(NEVER)?.catch((error: unknown) => (refused = error));
    for (let seconds = 0; seconds < 9; seconds++) {
      await clock.pass(1000);
      expect(refused).toBeUndefined();
      flood();
    }
    await clock.pass(1000);
    expect(refused).toMatchObject({ code: 'too-many-requests' });
  });

  test('what is never met by a client that makes less', async () => {
    const throttle = startProcess(() => ({ requests: 100 }))('appsrv');
    let met = 0;
    for (let seconds = 0; seconds < 600; seconds++) {
      for (let times = 0; times < 100; times++) if (throttle.request(NEVER) !== undefined) met++;
      await clock.pass(1000);
    }
    expect(met).toBe(0);
  });
});

describe('small objects', () => {
  test('20,000 at once, then 5,000 an hour, over all processes, also those that come one after the other', async () => {
    let made = 0;
    for (let processes = 0; processes < 40; processes++) {
      const throttle = startProcess(() => ({}))('appsrv');
      for (let times = 0; times < 500; times++) if (throttle.object(100, NEVER) === undefined) made++;
    }
    expect(made).toBe(20_000);
    const throttle = startProcess(() => ({}))('appsrv');
    let later = 0;
    for (let times = 0; times < 83; times++) void throttle.object(MIB - 1, NEVER)?.then(() => later++);
    await clock.pass(7200);
    expect(later).toBe(10);
    await clock.pass(60_000);
    expect(later).toBe(83);
  });

  test('packs are not small, and who has slept for four hours has all again', async () => {
    const throttle = startProcess(() => ({ smallObjects: 60 }))('appsrv');
    for (let times = 0; times < 240; times++) expect(throttle.object(100, NEVER)).toBeUndefined();
    for (let times = 0; times < 1000; times++) expect(throttle.object(MIB, NEVER)).toBeUndefined();
    expect(throttle.object(100, NEVER)).toBeInstanceOf(Promise);
    await clock.pass(4 * 3_600_000 + 60_000);
    for (let times = 0; times < 240; times++) expect(throttle.object(100, NEVER)).toBeUndefined();
  });

  test('a clock that is set back by a day makes nobody wait for a day', async () => {
    const throttle = startProcess(() => ({}))('appsrv');
    for (let times = 0; times < 20_000; times++) void throttle.object(100, NEVER);
    clock.set(clock.now() - 86_400_000);
    let made = false;
    void throttle.object(100, NEVER)?.then(() => (made = true));
    await clock.pass(1000);
    expect(made).toBe(true);
  });
});

test.each([
  [50 * MIB, '50MiB/s'],
  [2_500_000, '2.5MB/s'],
  [65_536, '64KiB/s'],
  [1024 ** 3, '1GiB/s'],
])('%d bytes a second are told as %s', (upload, words) => {
  expect(startProcess(() => ({ bandwidth: { upload } }))('appsrv').describe('upload')).toBe(words);
});
