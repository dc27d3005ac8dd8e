/** One client asks for as much as it may at once, while another asks for one thing: they are served by turns. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { END_HEADERS, END_STREAM, FRAME, frame, requestHeaders } from '../support/raw-http2.ts';
import { collectFrames, PREFACE, socketPair } from '../support/raw-http2.ts';
import { sample } from '../support/restic-client.ts';
import { bucketUnderTest, storeOn } from '../support/s3-bucket.ts';
import { startStack, type Stack } from '../support/stack.ts';
import { STORES } from '../support/stores.ts';

/** Sessions of the flood; the server of the lab takes some hundred look-ups a second. */
const SESSIONS = { directory: 8, s3: 3 };
const REQUESTS = 200;

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
