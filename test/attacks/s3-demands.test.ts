/**
 * Clients that have the gateway ask its S3 server for more than they take: lists and downloads that nobody reads. What the server sees of
 * them is counted by a proxy before a real radosgw, which has some dozens of threads for everybody.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { collectFrames, FRAME, frame, PREFACE, requestHeaders, socketPair } from '../support/raw-http2.ts';
import { sample } from '../support/restic-client.ts';
import { bucketUnderTest, storeOn, type BucketUnderTest } from '../support/s3-bucket.ts';
import { startStack, type Stack } from '../support/stack.ts';

const MIB = 1024 * 1024;
/** Packs in the attacker's repository: a page of those whose names begin with 0, and a hundred for each other digit. */
const PAGE = 1000;
const PACKS = 2500;
/** Lists and downloads of one client at once while another one works; the rest wait. */
const LISTS = 2;
const DOWNLOADS = 6;

let bucket: BucketUnderTest;
let proxy: FaultProxy;
let stack: Stack;
const sockets: Socket[] = [];

beforeAll(async () => {
  bucket = await bucketUnderTest();
  const names = Array.from({ length: PACKS }, (_, index) => {
    const { name } = sample(8);
    return (index < PAGE ? '0' : (1 + (index % 15)).toString(16)) + name.slice(1);
  });
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (let name = names.pop(); name !== undefined; name = names.pop())
        await bucket.sdk.send(
          new PutObjectCommand({
            ...{ Bucket: bucket.config.bucket, Body: 'x' },
            Key: `attacker/data/${name.slice(0, 2)}/${name}`,
          }),
        );
    }),
  );
  proxy = await startFaultProxy(bucket.config.endpoint ?? '');
  stack = await startStack({ attacker: {}, neighbour: {} }, () => storeOn(bucket, proxy.endpoint));
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await until(() => stack.gateway.memory.used === 0);
});
afterAll(async () => {
  await stack.close();
  await proxy.close();
  bucket.sdk.destroy();
});

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(10);
}

/** Pages of lists that the S3 server was asked for. */
const pages = (): number => proxy.requests.filter((line) => line === `GET /${bucket.config.bucket}`).length;

/** A session whose HTTP/2 is in the attacker's hands. @param window - what it lets come of each answer, in bytes */
async function attacker(window: number) {
  const { client, server } = await socketPair();
  await stack.serve('attacker', server);
  sockets.push(client);
  const frames = collectFrames(client);
  client.write(PREFACE);
  const initial = Buffer.alloc(6);
  // SETTINGS_INITIAL_WINDOW_SIZE (4), and as much for the connection.
  initial.writeUInt16BE(4);
  initial.writeUInt32BE(window, 2);
  client.write(frame(FRAME.settings, 0, 0, initial));
  const opened = (stream: number, bytes: number): Buffer => {
    const more = Buffer.alloc(4);
    more.writeUInt32BE(bytes);
    return frame(FRAME.window, 0, stream, more);
  };
  client.write(opened(0, 1024 * MIB));
  return {
    get: (path: string, count: number): void => {
      for (let index = 0; index < count; index++)
        client.write(
          frame(
            FRAME.headers,
            5,
            2 * index + 1,
            requestHeaders('GET', path, [['accept', 'application/vnd.x.restic.rest.v2']]),
          ),
        );
    },
    widen: (stream: number, bytes: number): void => {
      client.write(opened(stream, bytes));
    },
    answered: (): number => frames.filter(({ type }) => type === FRAME.headers).length,
    bytes: (): number =>
      frames.filter(({ type }) => type === FRAME.data).reduce((sum, { payload }) => sum + payload.length, 0),
  };
}

/** What somebody else does meanwhile: it is answered. */
async function neighbourWorks(): Promise<void> {
  const neighbour = await stack.connect('neighbour');
  const { name, body } = sample(4 * MIB);
  expect((await neighbour.request('POST', `/data/${name}`, { body })).status).toBe(200);
  expect((await neighbour.request('GET', `/data/${name}`)).body.equals(body)).toBe(true);
  expect((await neighbour.request('GET', '/data/')).status).toBe(200);
  neighbour.close();
}

test('a hundred lists with closed windows: as many as may run at once have their first page fetched, and no other is', async () => {
  const hostile = await attacker(0);
  await neighbourWorks();
  const before = pages();
  hostile.get('/data/', 100);
  await until(() => hostile.answered() === LISTS);
  await neighbourWorks();
  expect(pages() - before).toBe(LISTS + 1);
  expect(hostile.answered()).toBe(LISTS);
  expect(hostile.bytes()).toBe(0);
});

test('a list whose window takes little beyond a page is not fetched further than that', async () => {
  await neighbourWorks();
  const before = pages();
  const hostile = await attacker(88 * 1024);
  hostile.get('/data/', 1);
  await until(() => hostile.bytes() > 85_000);
  await neighbourWorks();
  // The first page, what is left of the window, and what Node keeps of a stream: 8 KiB each.
  expect(pages() - before - 1).toBeLessThan(9);
  // It is whole when it is read.
  hostile.widen(1, MIB);
  await until(() => hostile.bytes() >= PACKS * 85);
  expect(pages() - before - 1).toBe(1 + 16);
});

test('a list of a client that reads is fetched digit by digit at once', async () => {
  const client = await stack.connect('attacker');
  await client.request('HEAD', '/config');
  const before = pages();
  const { body } = await client.request('GET', '/data/');
  expect(JSON.parse(body.toString())).toHaveLength(PACKS);
  expect(pages() - before).toBe(1 + 16);
  client.close();
});

test('two hundred downloads that nobody reads hold no more of the server than one client may, and let go of it', async () => {
  const writer = await stack.connect('attacker');
  const { name, body } = sample(16 * MIB);
  expect((await writer.request('POST', `/data/${name}`, { body })).status).toBe(200);
  writer.close();
  let most = 0;
  const watching = setInterval(() => {
    most = Math.max(most, proxy.underWay(/^GET .*\/attacker\/data\//));
  });
  try {
    const hostile = await attacker(0);
    await neighbourWorks();
    hostile.get(`/data/${name}`, 200);
    await until(() => hostile.answered() >= DOWNLOADS);
    await neighbourWorks();
    expect(most).toBe(DOWNLOADS);
    // The next ones come when the first ones have let go of the server.
    await until(() => hostile.answered() > DOWNLOADS);
    await neighbourWorks();
    expect(hostile.bytes()).toBe(0);
  } finally {
    clearInterval(watching);
  }
});
