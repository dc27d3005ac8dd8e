/** Only what S3 says counts as done: on a real radosgw behind proxies, portals and caches that answer in its place. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Storage } from '../../src/ports/repository-store.ts';
import { createS3Storage } from '../../src/stores/s3-store.ts';
import { S3Maintenance } from '../../src/stores/s3-maintenance.ts';
import { startFaultProxy, type Fault, type FaultProxy } from '../support/fault-proxy.ts';
import { bucketUnderTest, type BucketUnderTest } from '../support/s3-bucket.ts';
import {
  CALLS,
  codeOf,
  create,
  hashOf,
  listAll,
  MIB,
  NEVER,
  outcomeOf,
  PREFIX,
  refOf,
  SUCCESS,
  type CallName,
  type CallSubjects,
} from '../support/store-calls.ts';

const LIMITS = { connectMs: 30_000, answerMs: 30_000, idleMs: 30_000, pauseMs: 5 };
const NAMES = Object.keys(CALLS) as CallName[];
const PAGE = '<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in to the Wi-Fi</body></html>';
const HTML = { 'content-type': 'text/html; charset=utf-8' };
const ETAG = { etag: `"${'0'.repeat(32)}"` };

let bucket: BucketUnderTest;
let proxy: FaultProxy;
/** Through the proxy. */
let storage: Storage;
let maintenance: S3Maintenance;
/** Past the proxy. */
let direct: Storage;
let subjects: CallSubjects;

beforeAll(async () => {
  bucket = await bucketUnderTest();
  proxy = await startFaultProxy(bucket.config.endpoint ?? '');
  const config = { ...bucket.config, endpoint: proxy.endpoint };
  storage = createS3Storage(config, bucket.secret, LIMITS);
  maintenance = new S3Maintenance(config, bucket.secret, PREFIX);
  direct = createS3Storage(bucket.config, bucket.secret);
});

afterAll(async () => {
  await Promise.all([storage, maintenance, direct].map((opened) => opened.close()));
  await proxy.close();
  bucket.sdk.destroy();
});

beforeEach(async () => {
  proxy.heal();
  subjects = { there: randomBytes(MIB), small: randomBytes(1000), large: randomBytes(3 * MIB) };
  await create(direct, subjects.there);
});

const say = (status: number, text: string, headers: Record<string, string> = {}): Fault => ({
  kind: 'say',
  status,
  text,
  headers,
});
const errorText = (code: string): string => `<?xml version="1.0"?>\n<Error><Code>${code}</Code></Error>`;
const isThere = async (bytes: Uint8Array): Promise<boolean> =>
  (await codeOf(direct.repository(PREFIX).stat(refOf(bytes), NEVER))) !== undefined;

describe.each<readonly [string, Fault]>([
  ['with a page', say(200, PAGE, HTML)],
  ['with a page that says it is none', say(200, PAGE, { 'content-type': 'application/xml' })],
  ['with a page and an ETag', say(200, PAGE, { ...HTML, ...ETAG, 'last-modified': new Date().toUTCString() })],
  ['with a page of a part', say(206, PAGE, { ...HTML, ...ETAG, 'content-range': 'bytes 10-99/100' })],
  ['with nothing', say(200, '')],
  ['with a page to what is created', say(201, PAGE, HTML)],
])('a portal that answers everything %s', (_, fault) => {
  test.each(NAMES)('%s', async (name) => {
    const before = (await listAll(direct, 'data')).length;
    proxy.set({ fault });
    expect(await codeOf(CALLS[name](storage, subjects))).toBe('store-failed');
    proxy.set();
    expect((await listAll(direct, 'data')).length).toBe(before);
    expect(await CALLS[name](storage, subjects)).toBe(SUCCESS[name]);
  });
});

test('the message says what seems to be the matter, and what to do', async () => {
  for (const fault of [say(200, PAGE, HTML), say(403, PAGE, HTML), say(511, PAGE, HTML)]) {
    proxy.set({ fault });
    expect(await outcomeOf(create(storage, subjects.small))).toMatchObject({
      message: expect.stringMatching(/a proxy, a firewall or a captive portal/) as unknown,
    });
  }
});

describe('an upload counts only with what S3 says', () => {
  test.each<readonly [string, Fault]>([
    ['a page with an ETag', say(200, PAGE, { ...HTML, ...ETAG })],
    ['other words with an ETag', say(200, 'OK', ETAG)],
    ['no ETag', say(200, '', { 'x-amz-request-id': 'tx1' })],
    ['an empty ETag', say(200, '', { etag: '""' })],
    ['a weak ETag, as a web server gives', say(200, '', { etag: 'W/"5f3c"' })],
    ['an ETag that is none', say(200, '', { etag: '"a b"c' })],
    ['an error under a 200', say(200, errorText('InvalidArgument'), ETAG)],
    ['a 412 that is a page', say(412, PAGE, HTML)],
    ['a 204, as WebDAV does', say(204, '', ETAG)],
    ['a 201, as WebDAV does', say(201, '', ETAG)],
  ])('%s', async (_, fault) => {
    proxy.set({ method: 'PUT', fault });
    for (const bytes of [subjects.small, subjects.large]) {
      expect(await codeOf(create(storage, bytes))).toBe('store-failed');
      expect(await isThere(bytes)).toBe(false);
    }
  });

  test.each([
    `"${'a'.repeat(32)}"`,
    'd41d8cd98f00b204e9800998ecf8427e',
    `"${'0'.repeat(32)}-3"`,
    '"0x8DB4A7B0F0C5F2E"',
    '"CKiH1eqW/4UDEAE="',
  ])('the form of an ETag is the storage’s own, with encryption above all: %s', async (etag) => {
    proxy.set({ method: 'PUT', fault: { kind: 'reword', headers: { etag } } });
    expect(await create(storage, subjects.small)).toBe('created');
  });

  test('an empty answer that calls itself a page, as Google’s does', async () => {
    proxy.set({ method: 'PUT', fault: { kind: 'reword', headers: { ...HTML, 'content-length': '0' } } });
    expect(await create(storage, subjects.small)).toBe('created');
  });

  test('an error under a 200 is told as what it is, and tried again where that helps', async () => {
    proxy.set({ method: 'PUT', fault: say(200, errorText('AccessDenied'), ETAG) });
    expect(await codeOf(create(storage, subjects.small))).toBe('store-misconfigured');
    for (const code of ['SlowDown', 'InternalError']) {
      proxy.set({ method: 'PUT', times: 2, fault: say(200, errorText(code), ETAG) });
      const bytes = randomBytes(1000);
      expect(await create(storage, bytes)).toBe('created');
    }
  });

  test('where the checksum was sent, the one in the answer must be the same', async () => {
    const locked = await bucketUnderTest({ objectLock: true });
    locked.sdk.destroy();
    const config = { ...locked.config, endpoint: proxy.endpoint, objectLock: { mode: 'governance', days: 1 } } as const;
    const lockedStorage = createS3Storage(config, locked.secret, LIMITS);
    const other = { 'x-amz-checksum-sha256': Buffer.alloc(32).toString('base64') };
    proxy.set({ method: 'PUT', fault: { kind: 'reword', headers: other } });
    expect(await codeOf(create(lockedStorage, subjects.small))).toBe('store-failed');
    const same = { 'x-amz-checksum-sha256': Buffer.from(hashOf(subjects.large), 'hex').toString('base64') };
    proxy.set({ method: 'PUT', fault: { kind: 'reword', headers: same } });
    expect(await create(lockedStorage, subjects.large)).toBe('created');
    await lockedStorage.close();
  });
});

describe('reading', () => {
  test.each<readonly [string, Fault]>([
    ['a page for the object', { kind: 'reword', headers: HTML }],
    ['no ETag', { kind: 'reword', headers: { etag: '' } }],
    ['another part', { kind: 'reword', headers: { 'content-range': `bytes 0-${MIB - 11}/${MIB}` } }],
    ['a part that ends elsewhere', { kind: 'reword', headers: { 'content-range': `bytes 10-20/${MIB}` } }],
    ['a part of nothing', { kind: 'reword', headers: { 'content-range': '' } }],
  ])('%s', async (_, fault) => {
    proxy.set({ method: 'GET', fault });
    const range = { first: 10 };
    expect(await codeOf(storage.repository(PREFIX).load(refOf(subjects.there), range, NEVER))).toBe('store-failed');
  });

  test('a page or no ETag for a HEAD', async () => {
    for (const fault of [say(200, '', { ...HTML, ...ETAG, 'content-length': '7' }), say(200, '')]) {
      proxy.set({ method: 'HEAD', fault });
      expect(await codeOf(storage.repository(PREFIX).stat(refOf(subjects.there), NEVER))).toBe('store-failed');
    }
  });

  test('a page for a HEAD that is refused says nothing of the object', async () => {
    proxy.set({ method: 'HEAD', fault: say(404, '', HTML) });
    expect((await storage.repository(PREFIX).stat(refOf(subjects.there), NEVER))?.size).toBe(MIB);
    proxy.set({ fault: say(404, PAGE, HTML) });
    expect(await codeOf(storage.repository(PREFIX).stat(refOf(subjects.there), NEVER))).toBe('store-misconfigured');
  });
});

test('a removal that is answered with a page removed nothing', async () => {
  for (const fault of [say(200, PAGE, HTML), say(200, 'OK'), say(200, errorText('InternalServer'))]) {
    proxy.set({ method: 'DELETE', fault });
    expect(await codeOf(storage.repository(PREFIX).remove(refOf(subjects.there), NEVER))).toBe('store-failed');
  }
});

describe('what the admin’s maintenance does', () => {
  const key = (bytes: Uint8Array): string => `data/${hashOf(bytes).slice(0, 2)}/${hashOf(bytes)}`;

  test.each<readonly [string, Fault]>([
    ['an error', say(200, errorText('InvalidRequest'))],
    ['a page', say(200, PAGE, HTML)],
    ['nothing', say(200, '')],
    ['success, though nothing was copied', say(200, '<CopyObjectResult><ETag>"0"</ETag></CopyObjectResult>')],
  ])('a copy that is answered 200 with %s moves nothing', async (_, fault) => {
    proxy.set({ method: 'PUT', fault });
    expect(await codeOf(maintenance.move(key(subjects.there), 'elsewhere', NEVER))).toBe('store-failed');
    expect(await isThere(subjects.there)).toBe(true);
  });

  test('a removal that is answered as done and was not is no move', async () => {
    proxy.set({ method: 'DELETE', fault: say(204, '') });
    expect(await codeOf(maintenance.move(key(subjects.there), 'elsewhere', NEVER))).toBe('store-failed');
    proxy.set();
    expect(await maintenance.move(key(subjects.there), 'elsewhere', NEVER)).toBe('moved');
    expect(await isThere(subjects.there)).toBe(false);
  });

  test.each<readonly [string, Fault]>([
    ['a page', say(200, PAGE, HTML)],
    ['an ETag, and is lost', { kind: 'swallow' }],
  ])('a manifest, and a piece of the audit’s copy, that is answered with %s was not written', async (_, fault) => {
    proxy.set({ method: 'PUT', fault });
    expect(await codeOf(maintenance.write('manifest', Buffer.from('{}'), NEVER))).toBe('store-failed');
    expect(await codeOf(maintenance.create('piece', Buffer.from('{}'), NEVER))).toBe('store-failed');
  });

  test('a 404 that is a portal’s is not taken for an object that is gone', async () => {
    proxy.set({ fault: say(404, PAGE, HTML) });
    expect(await codeOf(maintenance.facts(key(subjects.there), NEVER))).toBe('store-misconfigured');
  });
});
