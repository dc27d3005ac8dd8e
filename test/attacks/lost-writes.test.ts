/** Whoever sits between the gateway and its storage says that uploads are stored, and they are not: no snapshot counts that rests on them. */
import { readFileSync, rmSync, truncateSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { S3StoreConfig } from '../../src/config/types.ts';
import { startFaultProxy, type FaultProxy, type Rule } from '../support/fault-proxy.ts';
import { s3 } from '../support/lab.ts';
import { sample } from '../support/restic-client.ts';
import { bucketUnderTest } from '../support/s3-bucket.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';
import { secretFile } from '../support/stores.ts';

const PAGE = '<!DOCTYPE html><html><body>Please log in to the Wi-Fi</body></html>';
const LOST = "the storage lost a confirmed upload, so this backup does not count; tell the gateway's admin.";

const post = async (client: StackClient, type: string, one = sample()): Promise<number> =>
  (await client.request('POST', `/${type}/${one.name}`, { body: one.body })).status;

describe('on the way to S3', () => {
  let proxy: FaultProxy;
  let stack: Stack;
  let client: StackClient;

  beforeEach(async () => {
    const { config, secret, sdk } = await bucketUnderTest();
    sdk.destroy();
    proxy = await startFaultProxy(s3().endpoint);
    const credentials = { accessKeyId: secret.accessKeyId, secret: { file: secretFile(secret.secretAccessKey) } };
    const store: S3StoreConfig = { ...config, name: 'store', endpoint: proxy.endpoint, credentials };
    stack = await startStack({ appsrv: {} }, () => store);
    client = await stack.connect('appsrv');
    // The store is tried before anything goes wrong.
    expect(await post(client, 'data')).toBe(200);
    expect(await post(client, 'snapshots')).toBe(200);
  });
  afterEach(async () => {
    proxy.heal();
    await stack.close();
    await proxy.close();
  });

  const events = (): string[] =>
    stack
      .audit()
      .map(({ event, object, reason }) => [event, String(object).split('/')[0], reason].join(' ').trim())
      .slice(-6);
  const swallow = (path: RegExp): Rule => ({ method: 'PUT', path, fault: { kind: 'swallow' } });

  test('a captive portal answers each upload with 200 and its page: nothing counts as saved', async () => {
    const fault = { kind: 'say', status: 200, text: PAGE, headers: { 'content-type': 'text/html' } } as const;
    proxy.set({ method: 'PUT', fault });
    for (const type of ['data', 'index', 'snapshots']) expect([type, await post(client, type)]).toEqual([type, 502]);
    expect(client.reported).toEqual(['the storage behind the gateway failed.']);
    expect(events().filter((event) => event.includes('snapshots'))).toEqual([
      'create snapshots',
      'create-failed snapshots store-failed',
      'failed snapshots store-failed',
    ]);
    expect(stack.audit().at(-1)).toMatchObject({ detail: expect.stringMatching(/captive portal/) as unknown });
    proxy.set();
    for (const type of ['data', 'index', 'snapshots']) expect([type, await post(client, type)]).toEqual([type, 200]);
  });

  test('a cache loses packs: the snapshot is refused before it is stored, however often it is tried', async () => {
    proxy.set(swallow(/\/data\//));
    expect(await post(client, 'data')).toBe(200);
    proxy.set();
    expect(await post(client, 'snapshots')).toBe(502);
    expect(client.reported).toEqual([LOST]);
    expect(events().at(-1)).toBe('failed snapshots store-lost');
    for (let tries = 0; tries < 5; tries++) {
      expect(await post(client, 'data')).toBe(200);
      expect(await post(client, 'snapshots')).toBe(502);
    }
  });

  test('a cache loses the snapshot itself', async () => {
    const snapshot = sample();
    proxy.set(swallow(/\/snapshots\//));
    for (let tries = 0; tries < 2; tries++) expect(await post(client, 'snapshots', snapshot)).toBe(502);
    expect(events().slice(-3)).toEqual([
      'create snapshots',
      'create-failed snapshots store-lost',
      'failed snapshots store-lost',
    ]);
    expect(client.reported).toEqual([LOST]);
    proxy.set();
    expect(await post(client, 'snapshots', snapshot)).toBe(200);
  });

  test.each(['keys', 'config'])('a cache loses %s', async (type) => {
    const admin = await stack.connect('appsrv', { via: 'admin' });
    const { name, body } = sample();
    const path = type === 'config' ? '/config' : `/keys/${name}`;
    proxy.set(swallow(new RegExp(`/${type}`)));
    expect((await admin.request('POST', path, { body })).status).toBe(502);
    proxy.set();
    expect((await admin.request('POST', path, { body })).status).toBe(200);
  });

  test('a front stores only the beginning of what it takes', async () => {
    const { accessKeyId, secretAccessKey } = s3();
    const fault = { kind: 'truncate', after: 10, secret: { accessKeyId, secretAccessKey } } as const;
    proxy.set({ method: 'PUT', path: /\/data\//, fault });
    expect(await post(client, 'data')).toBe(200);
    expect(await post(client, 'snapshots')).toBe(502);
    expect(stack.audit().at(-1)).toMatchObject({ detail: expect.stringMatching(/has 10 of its \d+ bytes/) as unknown });
  });

  test('a portal that answers look-ups alone is not taken for what was stored', async () => {
    const headers = { 'content-type': 'text/html', 'content-length': '4096' };
    proxy.set({ method: 'HEAD', fault: { kind: 'say', status: 200, text: '', headers } });
    expect(await post(client, 'data')).toBe(200);
    expect(await post(client, 'snapshots')).toBe(502);
  });

  test('it costs two look-ups a snapshot, and none for anything else of a backup', async () => {
    const before = proxy.requests.length;
    for (const type of ['locks', 'data', 'data', 'data', 'index', 'snapshots', 'snapshots'])
      expect(await post(client, type)).toBe(200);
    const made = proxy.requests.slice(before).map((line) => line.split(' ')[0]);
    // The second snapshot has nothing fresh beneath it.
    expect(made.filter((method) => method === 'PUT')).toHaveLength(7);
    expect(made.filter((method) => method === 'HEAD')).toHaveLength(3);
  });
});

describe('on a file system', () => {
  let stack: Stack;
  beforeEach(async () => {
    stack = await startStack({ appsrv: {} });
  });
  afterEach(async () => {
    await stack.close();
  });

  test.each<readonly [string, (file: string) => void]>([
    ['is gone', rmSync],
    [
      'is short',
      (file) => {
        truncateSync(file, 3);
      },
    ],
  ])('a pack that %s after it was stored: the session’s snapshot is refused', async (_, spoil) => {
    const client = await stack.connect('appsrv');
    const pack = sample();
    expect(await post(client, 'data', pack)).toBe(200);
    spoil(stack.file('appsrv', `data/${pack.name.slice(0, 2)}/${pack.name}`));
    expect(await post(client, 'snapshots')).toBe(502);
    expect(client.reported).toEqual([LOST]);
    // Another session stands on its own.
    expect(await post(await stack.connect('appsrv'), 'snapshots')).toBe(200);
  });

  test('a prune removes nothing old while what it wrote anew is not there', async () => {
    const old = sample();
    expect(await post(await stack.connect('appsrv'), 'data', old)).toBe(200);
    const admin = await stack.connect('appsrv', { via: 'admin' });
    const repacked = sample();
    expect(await post(admin, 'data', repacked)).toBe(200);
    const file = stack.file('appsrv', `data/${repacked.name.slice(0, 2)}/${repacked.name}`);
    const bytes = readFileSync(file);
    rmSync(file);
    expect((await admin.request('DELETE', `/data/${old.name}`)).status).toBe(502);
    expect((await admin.request('GET', `/data/${old.name}`)).status).toBe(200);
    expect(await post(admin, 'data', { name: repacked.name, body: bytes })).toBe(200);
    expect((await admin.request('DELETE', `/data/${old.name}`)).status).toBe(200);
  });

  test('what a session has removed itself is not missed', async () => {
    const admin = await stack.connect('appsrv', { via: 'admin' });
    const passing = sample();
    expect(await post(admin, 'index', passing)).toBe(200);
    expect((await admin.request('DELETE', `/index/${passing.name}`)).status).toBe(200);
    expect(await post(admin, 'snapshots')).toBe(200);
  });
});
