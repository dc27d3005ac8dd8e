/** A bandwidth as a client meets it: over real HTTP/2, on a real directory store. No test holds that something is fast, only that it is not faster. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from '@jest/globals';
import type { ClientConfig } from '../../src/config/types.ts';
import { sample, sha256 } from '../support/restic-client.ts';
import { startStack, type Stack } from '../support/stack.ts';

const MIB = 1024 * 1024;
const KIB = 1024;

let stack: Stack;
afterEach(async () => {
  await stack.close();
});

/** How long it takes, in s. */
async function seconds(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(10);
}

const throttled = () =>
  stack
    .audit()
    .filter((line) => line['event'] === 'throttled')
    .map(({ client, reason, limit }) => ({ client, reason, limit }));

test('two sessions together keep to it in both directions, and each is told once', async () => {
  stack = await startStack({ appsrv: { bandwidth: { upload: MIB, download: 2 * MIB } } });
  const clients = [await stack.connect('appsrv'), await stack.connect('appsrv')];
  const packs = Array.from({ length: 6 }, () => sample(MIB / 2));
  const up = await seconds(() =>
    Promise.all(
      packs.map(async ({ name, body }, index) => {
        const answer = await clients[index % 2]?.request('POST', `/data/${name}`, { body });
        expect(answer?.status).toBe(200);
      }),
    ),
  );
  // Three MiB, of which a moment's worth may go ahead.
  expect(up).toBeGreaterThan(2.5);
  const down = await seconds(() =>
    Promise.all(
      [...packs, ...packs].map(async ({ name }, index) => {
        const answer = await clients[index % 2]?.request('GET', `/data/${name}`);
        expect(sha256(answer?.body ?? Buffer.alloc(0))).toBe(name);
      }),
    ),
  );
  expect(down).toBeGreaterThan(2.5);
  for (const { reported } of clients)
    expect(reported).toEqual([
      'uploads are slowed down to 1MiB/s, the most that client appsrv may.',
      'downloads are slowed down to 2MiB/s, the most that client appsrv may.',
    ]);
  const lines = throttled();
  expect(lines).toHaveLength(4);
  expect(lines).toEqual(
    expect.arrayContaining([
      { client: 'appsrv', reason: 'upload', limit: '1MiB/s' },
      { client: 'appsrv', reason: 'download', limit: '2MiB/s' },
    ]),
  );
});

test('a client that waits is not read from, so that it waits itself', async () => {
  stack = await startStack({ appsrv: { bandwidth: { upload: 64 * KIB } } });
  const client = await stack.connect('appsrv');
  const { name, body } = sample(16 * MIB);
  const uploading = client.request('POST', `/data/${name}`, { body }).catch(() => undefined);
  await until(() => client.reported.length > 0);
  const { bytesWritten } = client.socket;
  // A stream's window, and what sockets hold.
  expect(bytesWritten).toBeLessThan(6 * MIB);
  client.close();
  await uploading;
  // The end of the session does not wait for the rate.
  expect(await client.served.ended).not.toBe('gateway-stopped');
});

test('a changed limit counts for what is under way', async () => {
  stack = await startStack({ appsrv: { bandwidth: { upload: 64 * KIB, download: 64 * KIB } } });
  const client = await stack.connect('appsrv');
  // At the old rate this takes hours.
  const { name, body } = sample(32 * MIB);
  const uploading = client.request('POST', `/data/${name}`, { body });
  await until(() => client.reported.length > 0);
  const change = (bandwidth: NonNullable<ClientConfig['bandwidth']>): Promise<void> => {
    const { appsrv } = stack.config.clients;
    if (appsrv === undefined) throw new Error('there is no such client');
    return stack.gateway.reconfigure({ ...stack.config, clients: { appsrv: { ...appsrv, bandwidth } } });
  };
  await change({ upload: 1000 * MIB, download: 64 * KIB });
  expect((await uploading).status).toBe(200);
  const downloading = client.request('GET', `/data/${name}`);
  await until(() => client.reported.length > 1);
  await change({ upload: 64 * KIB });
  expect(sha256((await downloading).body)).toBe(name);
});

test("the admin's sessions and other clients are held to nothing", async () => {
  const slow = { bandwidth: { upload: 64 * KIB, download: 64 * KIB } };
  stack = await startStack({ appsrv: slow, dbsrv: {} });
  for (const client of [await stack.connect('appsrv', { via: 'admin' }), await stack.connect('dbsrv')]) {
    // At that rate this takes hours.
    const { name, body } = sample(16 * MIB);
    expect((await client.request('POST', `/data/${name}`, { body })).status).toBe(200);
    expect(sha256((await client.request('GET', `/data/${name}`)).body)).toBe(name);
    expect(client.reported).toEqual([]);
  }
  expect(throttled()).toEqual([]);
});

test('lists count, and so do bodies that are sent to be refused', async () => {
  stack = await startStack({ appsrv: { bandwidth: { upload: 512 * KIB, download: 64 * KIB } } });
  mkdirSync(stack.file('appsrv', 'index'), { recursive: true });
  for (let index = 0; index < 2000; index++)
    writeFileSync(stack.file('appsrv', `index/${index.toString(16).padStart(64, '0')}`), '');
  const client = await stack.connect('appsrv');
  // 67 bytes each.
  expect(await seconds(() => client.request('GET', '/index/'))).toBeGreaterThan(1);
  expect((await client.request('POST', '/nowhere', { body: Buffer.alloc(MIB) })).status).toBe(400);
  const { name, body } = sample(1000);
  expect(await seconds(() => client.request('POST', `/data/${name}`, { body }))).toBeGreaterThan(1);
});
