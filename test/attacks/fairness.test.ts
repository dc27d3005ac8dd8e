/** One client asks for as much as it may at once, while another asks for one thing: they are served by turns. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { END_HEADERS, END_STREAM, FRAME, frame, requestHeaders } from '../support/raw-http2.ts';
import { collectFrames, PREFACE, socketPair } from '../support/raw-http2.ts';
import { sample } from '../support/restic-client.ts';
import { bucketUnderTest, storeOn } from '../support/s3-bucket.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';
import { STORES } from '../support/stores.ts';

/** Sessions of the flood; the server of the lab takes some hundred look-ups a second. */
const SESSIONS = { directory: 8, s3: 3 };
const REQUESTS = 200;
const KIB = 1024;
const MIB = 1024 * KIB;

let stack: Stack;
let proxy: FaultProxy | undefined;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  // What it still holds would keep the stack from ending.
  proxy?.heal();
  await stack.close();
  await proxy?.close();
  proxy = undefined;
});

/** @returns all of its requests at once, and how many were answered so far */
async function attack(method: string, where: string) {
  const { client, server } = await socketPair();
  sockets.push(client);
  const frames = collectFrames(client);
  await stack.serve('hostile', server);
  client.write(PREFACE);
  const requests = Array.from({ length: REQUESTS }, (_, index) =>
    frame(FRAME.headers, END_HEADERS | END_STREAM, 2 * index + 1, requestHeaders(method, where)),
  );
  return {
    flood: () => client.write(Buffer.concat(requests)),
    answered: () => frames.filter(({ type }) => type === FRAME.headers).length,
  };
}

test('look-ups that the storage keeps waiting are few, and the one of another client is not behind them', async () => {
  const bucket = await bucketUnderTest();
  bucket.sdk.destroy();
  const held = await startFaultProxy(bucket.config.endpoint ?? '');
  proxy = held;
  stack = await startStack({ hostile: {}, appsrv: {} }, () => storeOn(bucket, held.endpoint));
  const { name, body } = sample(100);
  const honest = await stack.connect('appsrv');
  expect((await honest.request('POST', `/data/${name}`, { body })).status).toBe(200);
  const missing = '0'.repeat(64);
  const sessions: Awaited<ReturnType<typeof attack>>[] = [];
  for (let index = 0; index < SESSIONS.s3; index++) sessions.push(await attack('HEAD', `/data/${missing}`));
  held.set({ method: 'HEAD', path: new RegExp(missing), fault: { kind: 'hold' } });

  for (const { flood } of sessions) flood();
  for (let asked = 0; asked < 50; asked++) expect((await honest.request('HEAD', `/data/${name}`)).status).toBe(200);
  // As many as one client may have while there are others; the rest wait in the gateway.
  expect(held.underWay(new RegExp(missing))).toBe(4);
  held.release();
  while (sessions.some(({ answered }) => answered() < REQUESTS)) await sleep(10);
});

/** A gateway before a real S3 server, with a proxy between that shows and holds what is under way. */
async function startBehindProxy(
  clients: Parameters<typeof startStack>[0],
  overrides: Parameters<typeof startStack>[2] = {},
): Promise<FaultProxy> {
  const bucket = await bucketUnderTest();
  bucket.sdk.destroy();
  const between = await startFaultProxy(bucket.config.endpoint ?? '');
  proxy = between;
  stack = await startStack(clients, () => storeOn(bucket, between.endpoint), overrides);
  return between;
}

const store = async (client: StackClient, type: string, size: number): Promise<string> => {
  const { name, body } = sample(size);
  expect((await client.request('POST', `/${type}/${name}`, { body })).status).toBe(200);
  return name;
};

/** Begins downloads of which a few KiB are read now and then. @returns stops reading */
function trickle({ session }: StackClient, name: string, count: number): () => void {
  const streams = Array.from({ length: count }, () => session.request({ ':path': `/data/${name}` }));
  for (const stream of streams) stream.on('error', () => undefined);
  const reading = setInterval(() => {
    for (const stream of streams) stream.read(Math.min(4 * KIB, stream.readableLength));
  }, 100);
  return () => {
    clearInterval(reading);
    for (const stream of streams) stream.destroy();
  };
}

test('forty sessions of slow readers have a few downloads of the storage, and a backup beside them goes on', async () => {
  // So much memory that it bounds nothing here.
  const memory = { total: 4096 * MIB, perClient: 1024 * MIB };
  const seen = await startBehindProxy({ hostile: { maxSessions: 40 }, appsrv: {} }, { memory });
  const sessions: StackClient[] = [];
  while (sessions.length < 40) sessions.push(await stack.connect('hostile'));
  const name = await store(sessions[0] as StackClient, 'data', 4 * MIB);
  const honest = await stack.connect('appsrv');
  await store(honest, 'locks', 100);
  const stops = sessions.map((session) => trickle(session, name, 5));
  const theirs = new RegExp(`^GET .*${name}`);
  while (seen.underWay(theirs) < 6) await sleep(10);
  for (let pack = 0; pack < 10; pack++) {
    const own = await store(honest, 'data', 2 * MIB);
    expect((await honest.request('GET', `/data/${own}`)).body).toHaveLength(2 * MIB);
    // Six beside others; and no more than 32, should the others be too slow to be seen.
    expect(seen.underWay(theirs)).toBeLessThanOrEqual(32);
  }
  await store(honest, 'index', 1000);
  await store(honest, 'snapshots', 300);
  for (const stop of stops) stop();
});

test('slow readers of many clients take what memory there is, but for what a newcomer needs to begin', async () => {
  const memory = { total: 40 * MIB, perClient: 20 * MIB };
  const hostile = Array.from({ length: 20 }, (_, index) => `hostile-${index}`);
  const clients = Object.fromEntries([...hostile, 'appsrv'].map((name) => [name, {}]));
  const seen = await startBehindProxy(clients, { memory });
  const readers = [];
  for (const client of hostile) {
    const session = await stack.connect(client);
    readers.push({ session, name: await store(session, 'data', 4 * MIB) });
  }
  const stops = readers.map(({ session, name }) => trickle(session, name, 6));
  const theirs = /^GET .*\/data\//;
  // Of 120. What is left is less than one more takes.
  while (stack.gateway.memory.used < 36 * MIB) await sleep(10);
  for (let newcomers = 0; newcomers < 3; newcomers++) {
    const honest = await stack.connect('appsrv');
    for (const type of ['locks', 'index', 'snapshots', 'data']) await store(honest, type, 300);
    expect(stack.gateway.memory.used).toBeLessThanOrEqual(memory.total);
    expect(seen.underWay(theirs)).toBeLessThanOrEqual(64);
  }
  for (const stop of stops) stop();
});

test('while the storage holds the packs of 45 clients back, another one’s backup goes on, and each of them can refresh its lock', async () => {
  const hostile = Array.from({ length: 45 }, (_, index) => `hostile-${index}`);
  const clients = Object.fromEntries([...hostile, 'appsrv'].map((name) => [name, {}]));
  const held = await startBehindProxy(clients);
  const sessions: StackClient[] = [];
  for (const client of hostile) sessions.push(await stack.connect(client));
  held.set({ method: 'PUT', path: /hostile-\d+\/data\//, fault: { kind: 'hold' } });
  const uploads = sessions.flatMap((session) =>
    Array.from({ length: 10 }, async () => {
      const { name, body } = sample(300);
      return (await session.request('POST', `/data/${name}`, { body })).status;
    }),
  );
  const theirs = /^PUT .*hostile-\d+\/data\//;
  // A quarter of all that there are is kept.
  while (held.underWay(theirs) < 192) await sleep(10);
  const honest = await stack.connect('appsrv');
  for (const type of ['locks', 'data', 'index', 'snapshots']) await store(honest, type, 300);
  expect(held.underWay(theirs)).toBeLessThan(256);
  for (const session of [sessions[0], sessions.at(-1)]) await store(session as StackClient, 'locks', 100);
  held.release();
  expect(new Set(await Promise.all(uploads))).toEqual(new Set([200]));
});

describe.each(STORES)('%s', (kind) => {
  beforeEach(async () => {
    if (kind === 'directory') {
      stack = await startStack({ hostile: {}, appsrv: {} });
      return;
    }
    const bucket = await bucketUnderTest();
    bucket.sdk.destroy();
    stack = await startStack({ hostile: {}, appsrv: {} }, () => storeOn(bucket));
  });

  test.each([
    ['requests that are refused', 'GET', '/nothing/at/all'],
    ['look-ups of what is not there', 'HEAD', `/data/${'0'.repeat(64)}`],
  ])('%s, by the thousand, are not all served before the one request of another client', async (_, method, where) => {
    const { name, body } = sample(100);
    const honest = await stack.connect('appsrv');
    expect((await honest.request('POST', `/data/${name}`, { body })).status).toBe(200);
    const sessions: Awaited<ReturnType<typeof attack>>[] = [];
    for (let index = 0; index < SESSIONS[kind]; index++) sessions.push(await attack(method, where));
    const answered = (): number => sessions.reduce((sum, session) => sum + session.answered(), 0);

    for (const { flood } of sessions) flood();
    const { status } = await honest.request('HEAD', `/data/${name}`);
    const before = answered();
    expect({ status, many: before > (SESSIONS[kind] * REQUESTS) / 4 ? before : false }).toEqual({
      status: 200,
      many: false,
    });
    // Nor is any of them lost.
    while (answered() < SESSIONS[kind] * REQUESTS) await sleep(10);
  });
});
