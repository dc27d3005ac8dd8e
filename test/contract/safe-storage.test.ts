/** A store is used for append-only clients only where it cannot replace what is there: on a real radosgw, some behind a proxy that drops conditions. */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { S3StoreConfig } from '../../src/config/types.ts';
import { CONFIG_REF } from '../../src/core/object.ts';
import { openSafeStorage, safeCreation, type SafeStorage } from '../../src/safeguard/safe-storage.ts';
import type { RepositoryStore } from '../../src/ports/repository-store.ts';
import { startFaultProxy, type FaultProxy, type Rule } from '../support/fault-proxy.ts';
import { s3, tempDir } from '../support/lab.ts';
import type { BucketOptions } from '../support/lab-s3.ts';
import { bucketUnderTest } from '../support/s3-bucket.ts';
import { freshStore, secretFile } from '../support/stores.ts';
import { codeOf, contentOf, NEVER, UPLOADER, outcomeOf, PREFIX, readAll, refOf } from '../support/store-calls.ts';

let proxy: FaultProxy;
let state: string;
let config: S3StoreConfig;
let dropped: Rule;
const opened: SafeStorage[] = [];

async function bucket(options: BucketOptions = {}, change: Partial<S3StoreConfig> = {}): Promise<void> {
  const made = await bucketUnderTest(options);
  made.sdk.destroy();
  const { accessKeyId, secretAccessKey } = made.secret;
  config = {
    ...made.config,
    ...{ endpoint: proxy.endpoint, credentials: { accessKeyId, secret: { file: secretFile(secretAccessKey) } } },
    ...change,
  };
  dropped = { method: 'PUT', fault: { kind: 'drop-condition', secret: made.secret } };
}

beforeEach(async () => {
  proxy = await startFaultProxy(s3().endpoint);
  state = path.join(tempDir(), 'state');
});
afterEach(async () => {
  for (const storage of opened.splice(0)) await storage.close();
  await proxy.close();
});

/** The store as a process that has just started has it. */
async function open(): Promise<SafeStorage> {
  const storage = await openSafeStorage(config, state);
  opened.push(storage);
  return storage;
}

/** A repository as append-only clients have it. */
function safeRepository(storage: SafeStorage): RepositoryStore {
  const repository = storage.repository(PREFIX);
  return storage.storeCheck === undefined ? repository : safeCreation(repository, storage.storeCheck);
}

async function store(bytes = randomBytes(1000)): Promise<unknown> {
  const repository = safeRepository(await open());
  return codeOf(repository.create(refOf(bytes), contentOf(bytes), UPLOADER, NEVER));
}

/** How many requests of a trial the storage has had since the last time this was asked. */
let counted = 0;
function trialRequests(): number {
  const all = proxy.requests.filter((request) => request.includes('/.restic-gateway/store-check/')).length;
  const since = all - counted;
  counted = all;
  return since;
}
beforeEach(() => {
  counted = 0;
});

describe('a store that honours conditions', () => {
  test('is tried before the first upload, once for all processes', async () => {
    await bucket();
    const storage = await open();
    expect(await safeRepository(storage).stat(CONFIG_REF, NEVER)).toBeUndefined();
    expect(trialRequests()).toBe(0);
    expect(await store()).toBe('created');
    expect(trialRequests()).toBeGreaterThan(0);
    expect(await store()).toBe('created');
    expect(trialRequests()).toBe(0);
  });

  test('many uploads at once wait for one trial', async () => {
    await bucket();
    const repository = safeRepository(await open());
    const all = Array.from({ length: 10 }, () => randomBytes(100)).map((bytes) =>
      repository.create(refOf(bytes), contentOf(bytes), UPLOADER, NEVER),
    );
    expect(await Promise.all(all)).toEqual(Array(10).fill('created'));
    const puts = proxy.requests.filter((request) => request.startsWith('PUT ') && request.includes('/store-check/'));
    // Two under one name, one of wrong content, eight at once, and a pack.
    expect(puts).toHaveLength(12);
  });

  test.each([
    ['older than a day', (text: string) => text.replace(/"time":\d+/, `"time":${Date.now() - 86_400_001}`)],
    ['from the future', (text: string) => text.replace(/"time":\d+/, `"time":${Date.now() + 600_000}`)],
    ['not legible', () => '{'],
    ['not what it must be', () => '[]'],
  ])('what is known is %s: it is tried anew', async (_, change) => {
    await bucket();
    expect(await store()).toBe('created');
    const [file = ''] = readdirSync(path.join(state, 'store-checks'));
    const known = path.join(state, 'store-checks', file);
    expect(readFileSync(known, 'utf8')).not.toContain(s3().secretAccessKey);
    writeFileSync(known, change(readFileSync(known, 'utf8')));
    trialRequests();
    expect(await store()).toBe('created');
    expect(trialRequests()).toBeGreaterThan(0);
    expect(await store()).toBe('created');
    expect(trialRequests()).toBe(0);
  });

  test('another config is another store', async () => {
    await bucket();
    expect(await store()).toBe('created');
    trialRequests();
    config = { ...config, region: 'eu-central-1' };
    await store();
    expect(trialRequests()).toBeGreaterThan(0);
  });

  test('no state directory can be made: each process tries for itself', async () => {
    await bucket();
    writeFileSync(state, 'a file');
    expect(await store()).toBe('created');
    trialRequests();
    expect(await store()).toBe('created');
    expect(trialRequests()).toBeGreaterThan(0);
  });

  test('one that cannot be reached takes nothing, and is tried again', async () => {
    await bucket();
    proxy.set({ method: 'PUT', fault: { kind: 'refuse', status: 403, code: 'AccessDenied' } });
    const storage = await open();
    const bytes = randomBytes(100);
    const create = () => safeRepository(storage).create(refOf(bytes), contentOf(bytes), UPLOADER, NEVER);
    expect(await codeOf(create())).toBe('store-misconfigured');
    proxy.heal();
    expect(await codeOf(create())).toBe('created');
  });
});

describe('a store that ignores conditions', () => {
  test('takes nothing, says what to do, and can be read', async () => {
    await bucket();
    const storage = await open();
    const [there, bytes] = [randomBytes(1000), randomBytes(1000)];
    await storage.repository(PREFIX).create(refOf(there), contentOf(there), UPLOADER, NEVER);
    proxy.set(dropped);
    const repository = safeRepository(storage);
    expect(await outcomeOf(repository.create(refOf(bytes), contentOf(bytes), UPLOADER, NEVER))).toMatchObject({
      code: 'store-unsafe',
      message: expect.stringMatching(
        /store lab does not honour If-None-Match.*conditionalWrites: versioned/,
      ) as unknown,
    });
    expect(await repository.stat(refOf(bytes), NEVER)).toBeUndefined();
    expect((await readAll(await repository.load(refOf(there), undefined, NEVER))).equals(there)).toBe(true);
  });

  test('counts again as soon as it honours them', async () => {
    await bucket();
    proxy.set(dropped);
    expect(await store()).toBe('store-unsafe');
    proxy.heal();
    expect(await store()).toBe('created');
  });

  test('is found out when it was good before: by a trial that is asked for', async () => {
    await bucket();
    expect(await store()).toBe('created');
    proxy.set(dropped);
    expect(await codeOf(open().then(({ storeCheck: proof }) => proof?.shown({ anew: true })))).toBe('store-unsafe');
    expect(await store()).toBe('store-unsafe');
  });

  test('conditionalWrites: versioned, a bucket without versioning: takes nothing', async () => {
    await bucket({}, { conditionalWrites: 'versioned' });
    proxy.set(dropped);
    expect(await store()).toBe('store-unsafe');
  });

  test('a bucket with versioning, which nobody has accepted: takes nothing', async () => {
    await bucket({ versioning: true });
    proxy.set(dropped);
    expect(await store()).toBe('store-unsafe');
  });

  test('conditionalWrites: versioned, a bucket with versioning: is looked at before it is written to', async () => {
    await bucket({ versioning: true }, { conditionalWrites: 'versioned' });
    proxy.set(dropped);
    const repository = safeRepository(await open());
    const [first, second] = [randomBytes(200), randomBytes(200)];
    expect(await repository.create(CONFIG_REF, contentOf(first), UPLOADER, NEVER)).toBe('created');
    expect(await repository.create(CONFIG_REF, contentOf(second), UPLOADER, NEVER)).toBe('exists');
    expect((await readAll(await repository.load(CONFIG_REF, undefined, NEVER))).equals(first)).toBe(true);
    proxy.set({ method: 'HEAD', fault: { kind: 'refuse', status: 500, code: 'InternalError' } }, dropped);
    expect(await codeOf(repository.create(refOf(second), contentOf(second), UPLOADER, NEVER))).toBe('store-failed');
  });
});

test('a directory needs no proof', async () => {
  const { path: place = '' } = await freshStore('directory');
  const storage = await openSafeStorage({ type: 'directory', name: 'local', path: place }, state);
  expect(storage.storeCheck).toBeUndefined();
  const bytes = randomBytes(100);
  expect(await safeRepository(storage).create(refOf(bytes), contentOf(bytes), UPLOADER, NEVER)).toBe('created');
  expect(await safeRepository(storage).create(refOf(bytes), contentOf(bytes), UPLOADER, NEVER)).toBe('exists');
});
