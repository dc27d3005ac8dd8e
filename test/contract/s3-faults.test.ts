/** The S3 store when the storage, or the way to it, fails: every failure is told as what it is, in time, and does no harm to the next call. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { GatewayError, type ErrorCode } from '../../src/core/errors.ts';
import type { Storage } from '../../src/ports/repository-store.ts';
import { createS3Storage } from '../../src/stores/s3-store.ts';
import { startFaultProxy, type Fault, type FaultProxy } from '../support/fault-proxy.ts';
import { bucketUnderTest, type BucketUnderTest } from '../support/s3-bucket.ts';
import {
  CALLS,
  codeOf,
  contentOf,
  create,
  hashOf,
  listAll,
  MIB,
  NEVER,
  UPLOADER,
  outcomeOf,
  PREFIX,
  readAll,
  refOf,
  SUCCESS,
  until,
  type CallName,
  type CallSubjects,
} from '../support/store-calls.ts';

/** Longer than anything takes here that is to succeed. */
const PATIENT = { connectMs: 30_000, answerMs: 30_000, idleMs: 30_000, pauseMs: 5 };
const IDLE_MS = 1500;
const NAMES = Object.keys(CALLS) as CallName[];

let bucket: BucketUnderTest;
let proxy: FaultProxy;
/** Through the proxy, also with short limits: on answers, and on bodies. */
let storage: Storage;
let answeredSoon: Storage;
let neverIdle: Storage;
/** Past the proxy. */
let direct: Storage;
let subjects: CallSubjects;

function throughProxy(limits: Partial<typeof PATIENT> = {}): Storage {
  return createS3Storage({ ...bucket.config, endpoint: proxy.endpoint }, bucket.secret, { ...PATIENT, ...limits });
}

beforeAll(async () => {
  bucket = await bucketUnderTest();
  proxy = await startFaultProxy(bucket.config.endpoint ?? '');
  storage = throughProxy();
  answeredSoon = throughProxy({ answerMs: 400 });
  neverIdle = throughProxy({ idleMs: IDLE_MS });
  direct = createS3Storage(bucket.config, bucket.secret);
});

afterAll(async () => {
  await Promise.all([storage, answeredSoon, neverIdle, direct].map((opened) => opened.close()));
  await proxy.close();
  bucket.sdk.destroy();
});

beforeEach(async () => {
  proxy.heal();
  subjects = { there: randomBytes(MIB), small: randomBytes(1000), large: randomBytes(3 * MIB) };
  await create(direct, subjects.there);
});

const refuse = (status: number, code: string): Fault => ({ kind: 'refuse', status, code });
const locate = (status: number, code: string, region: string): Fault => ({
  kind: 'refuse',
  status,
  code,
  headers: { 'x-amz-bucket-region': region },
});

/** Faults that hit every call alike, what they are told as, and a word of advice that the message must have. */
const FAULTS: readonly (readonly [string, Fault, ErrorCode, RegExp])[] = [
  ['500', refuse(500, 'InternalError'), 'store-failed', /answered 500/],
  ['502 of a balancer', refuse(502, ''), 'store-unavailable', /502/],
  ['503 SlowDown', refuse(503, 'SlowDown'), 'store-unavailable', /503/],
  ['503 ServiceUnavailable', refuse(503, 'ServiceUnavailable'), 'store-unavailable', /503/],
  ['429', refuse(429, 'TooManyRequests'), 'store-unavailable', /429/],
  ['409 of a conflict', refuse(409, 'ConditionalRequestConflict'), 'store-unavailable', /try again/],
  ['403 AccessDenied', refuse(403, 'AccessDenied'), 'store-misconfigured', /needs s3:ListBucket, s3:GetObject/],
  ['403 InvalidAccessKeyId', refuse(403, 'InvalidAccessKeyId'), 'store-misconfigured', /correct accessKeyId/],
  ['403 SignatureDoesNotMatch', refuse(403, 'SignatureDoesNotMatch'), 'store-misconfigured', /correct the secret/],
  ['400 ExpiredToken', refuse(400, 'ExpiredToken'), 'store-misconfigured', /renew the credentials/],
  ['403 RequestTimeTooSkewed', refuse(403, 'RequestTimeTooSkewed'), 'store-misconfigured', /clock is off by -?\d+ s/],
  ['403 of no known kind', refuse(403, 'Whatever'), 'store-misconfigured', /Whatever by order/],
  [
    '404 NoSuchBucket',
    refuse(404, 'NoSuchBucket'),
    'store-misconfigured',
    /bucket test-\S+ does not exist .*create it/,
  ],
  ['404 of a web server', refuse(404, ''), 'store-misconfigured', /correct endpoint/],
  ['301 with a region', locate(301, 'PermanentRedirect', 'eu-west-1'), 'store-misconfigured', /in region eu-west-1/],
  ['301 without', refuse(301, ''), 'store-misconfigured', /correct region or endpoint/],
  ['400 with a region', locate(400, 'AuthorizationHeaderMalformed', 'eu-west-1'), 'store-misconfigured', /eu-west-1/],
  ['413 of a proxy', refuse(413, ''), 'store-misconfigured', /takes no object of this size.*client_max_body_size/],
  ['400 EntityTooLarge', refuse(400, 'EntityTooLarge'), 'store-misconfigured', /takes no object of this size/],
  ['411 of a proxy', refuse(411, 'MissingContentLength'), 'store-misconfigured', /have it pass Content-Length on/],
  ['400 KeyTooLongError', refuse(400, 'KeyTooLongError'), 'store-misconfigured', /shorter prefix/],
  [
    '403 SignatureDoesNotMatch by way of a proxy',
    { ...refuse(403, 'SignatureDoesNotMatch'), headers: { via: '1.1 front' } } as Fault,
    'store-misconfigured',
    /something before http\S+ \(1\.1 front\) most likely changes the Host header/,
  ],
  [
    "a web server's page for 400",
    { kind: 'refuse', status: 400, code: '', headers: { server: 'nginx' }, page: true },
    'store-misconfigured',
    /scheme \(http, https\) and port/,
  ],
  ['501 NotImplemented', refuse(501, 'NotImplemented'), 'store-misconfigured', /lacks something/],
  ['403 QuotaExceeded', refuse(403, 'QuotaExceeded'), 'store-full', /takes no more/],
  ['507 XMinioStorageFull', refuse(507, 'XMinioStorageFull'), 'store-full', /takes no more/],
  ['400 of no known kind', refuse(400, 'InvalidArgument'), 'store-failed', /InvalidArgument/],
  ['a reset connection', { kind: 'reset' }, 'store-unavailable', /cannot be reached/],
  ['no answer', { kind: 'mute' }, 'store-timeout', /did not answer for 400 ms/],
  ['an answer of another protocol', { kind: 'say', status: 204, text: '' }, 'store-failed', /^store lab: http/],
];

describe.each(FAULTS)('%s', (_, fault, code, advice) => {
  test.each(NAMES)('%s', async (name) => {
    // A DELETE has a look before it; and 204 is what it wants to hear.
    const before = (await listAll(direct, 'data')).length;
    proxy.set({ fault });
    expect(await outcomeOf(CALLS[name](code === 'store-timeout' ? answeredSoon : storage, subjects))).toMatchObject({
      code,
      message: expect.stringMatching(advice),
    });
    expect((await listAll(direct, 'data')).length).toBe(before);
    proxy.set();
    expect(await CALLS[name](storage, subjects)).toBe(SUCCESS[name]);
  });
});

describe('what is wrong for a moment only is not noticed', () => {
  test.each<readonly [string, Fault]>([
    ['503 SlowDown', refuse(503, 'SlowDown')],
    ['500', refuse(500, 'InternalError')],
    ['409 of a conflict', refuse(409, 'ConditionalRequestConflict')],
  ])('%s, three times', async (_, fault) => {
    for (const name of NAMES) {
      proxy.set({ times: 3, fault });
      expect([name, await CALLS[name](storage, subjects)]).toEqual([name, SUCCESS[name]]);
    }
  });

  test('a reset connection, three times', async () => {
    for (const name of NAMES) {
      proxy.set({ times: 3, fault: { kind: 'reset' } });
      expect([name, await CALLS[name](storage, subjects)]).toEqual([name, SUCCESS[name]]);
    }
  });

  test('connections that the storage closed while they were idle', async () => {
    for (const name of NAMES) {
      await Promise.all(Array.from({ length: 4 }, () => storage.reach(NEVER)));
      proxy.heal();
      expect([name, await CALLS[name](storage, subjects)]).toEqual([name, SUCCESS[name]]);
    }
  });
});

describe('what a front or an old storage does not take is left out', () => {
  let opened: Storage[] = [];
  const fresh = (): Storage => {
    const storage = throughProxy();
    opened.push(storage);
    return storage;
  };
  afterEach(async () => {
    proxy.heal();
    await Promise.all(opened.map((storage) => storage.close()));
    opened = [];
  });
  const large = (): Buffer => randomBytes(3 * MIB);

  test('417 to `Expect: 100-continue`: the upload goes without, and so do all after it', async () => {
    const storage = fresh();
    proxy.set({ having: 'expect', fault: refuse(417, '') });
    expect(await create(storage, large())).toBe('created');
    const asked = proxy.requests.length;
    expect(await create(storage, large())).toBe('created');
    // One request each, none of them in vain.
    expect(proxy.requests.slice(asked).filter((line) => line.startsWith('PUT '))).toHaveLength(1);
  });

  test('a front that never says `100 Continue` makes three uploads wait, and no more', async () => {
    const storage = fresh();
    proxy.set({ having: 'expect', fault: { kind: 'silent-continue' } });
    for (let upload = 0; upload < 3; upload++) expect(await create(storage, large())).toBe('created');
    proxy.set({ having: 'expect', fault: { kind: 'reset' } });
    expect(await create(storage, large())).toBe('created');
  });

  test('an old storage that knows no checksums', async () => {
    const storage = fresh();
    proxy.set({
      having: 'x-amz-checksum-sha256',
      fault: { ...refuse(400, 'InvalidArgument'), text: 'unknown checksum' } as Fault,
    });
    expect(await create(storage, randomBytes(1000))).toBe('created');
    expect(await create(storage, large())).toBe('created');
  });

  test('wrong content is no reason to leave the checksum out', async () => {
    const storage = fresh();
    expect(await create(storage, randomBytes(1000))).toBe('created');
    proxy.set({
      having: 'x-amz-checksum-sha256',
      fault: { ...refuse(400, 'InvalidArgument'), text: 'unknown checksum' } as Fault,
    });
    expect(await codeOf(create(storage, randomBytes(1000)))).toBe('store-failed');
  });
});

describe('create', () => {
  test('a small object whose answer was lost exists', async () => {
    const { small } = subjects;
    proxy.set({ method: 'PUT', times: 1, fault: { kind: 'lose-answer' } });
    expect(await create(storage, small)).toBe('exists');
    expect((await readAll(await direct.repository(PREFIX).load(refOf(small), undefined, NEVER))).equals(small)).toBe(
      true,
    );
  });

  test('a large object whose answer was lost failed, and exists when it is sent again', async () => {
    const { large } = subjects;
    proxy.set({ method: 'PUT', times: 1, fault: { kind: 'lose-answer' } });
    expect(await codeOf(create(storage, large))).toBe('store-unavailable');
    expect(await create(storage, large)).toBe('exists');
  });

  test.each([0, 1, 64 * 1024, 2 * MIB])('an upload that is reset after %i bytes stores nothing', async (after) => {
    const { large } = subjects;
    proxy.set({ method: 'PUT', fault: { kind: 'reset-upload', after } });
    expect(await codeOf(create(storage, large))).toBe('store-unavailable');
    expect(await direct.repository(PREFIX).stat(refOf(large), NEVER)).toBeUndefined();
    proxy.set();
    expect(await create(storage, large)).toBe('created');
  });

  test('a small upload that is reset in the middle is sent again, though its content can be read only once', async () => {
    const bytes = randomBytes(900_000);
    proxy.set({ method: 'PUT', times: 3, fault: { kind: 'reset-upload', after: 300_000 } });
    expect(await create(storage, bytes)).toBe('created');
    expect((await readAll(await direct.repository(PREFIX).load(refOf(bytes), undefined, NEVER))).equals(bytes)).toBe(
      true,
    );
  });

  test('a storage that takes no more is a timeout, and stores nothing', async () => {
    // More than the buffers of both sides take.
    const bytes = randomBytes(48 * MIB);
    proxy.set({ method: 'PUT', fault: { kind: 'stall-upload', after: 2 * MIB } });
    expect(await outcomeOf(create(neverIdle, bytes))).toMatchObject({
      code: 'store-timeout',
      message: expect.stringMatching(/took no more of an upload for 1500 ms/),
    });
    proxy.heal();
    expect(await direct.repository(PREFIX).stat(refOf(bytes), NEVER)).toBeUndefined();
    expect(await create(storage, bytes)).toBe('created');
  });

  test('a client that is slower than every limit is no stalled storage', async () => {
    const { large } = subjects;
    async function* body() {
      for (let at = 0; at < large.length; at += MIB) {
        await sleep(IDLE_MS * 1.2);
        yield large.subarray(at, at + MIB);
      }
    }
    const content = { size: large.length, sha256: hashOf(large), body: body() };
    expect(await neverIdle.repository(PREFIX).create(refOf(large), content, UPLOADER, NEVER)).toBe('created');
  });

  test('a refusal stops the reading of the content', async () => {
    proxy.set({ method: 'PUT', fault: refuse(403, 'AccessDenied') });
    let pulled = 0;
    async function* body() {
      for (;;) {
        await new Promise(setImmediate);
        pulled += MIB;
        yield Buffer.alloc(MIB);
      }
    }
    const size = 1000 * MIB;
    const content = { size, sha256: '0'.repeat(64), body: body() };
    expect(await codeOf(storage.repository(PREFIX).create(refOf(subjects.large), content, UPLOADER, NEVER))).toBe(
      'store-misconfigured',
    );
    expect(pulled).toBe(0);
  });

  test('a refusal in the middle stops it too', async () => {
    proxy.set({ method: 'PUT', fault: { ...refuse(507, 'InsufficientStorage'), after: MIB } as Fault });
    let pulled = 0;
    async function* body() {
      for (;;) {
        await new Promise(setImmediate);
        pulled += MIB;
        yield Buffer.alloc(MIB);
      }
    }
    const content = { size: 1000 * MIB, sha256: '0'.repeat(64), body: body() };
    expect(await codeOf(storage.repository(PREFIX).create(refOf(subjects.large), content, UPLOADER, NEVER))).toBe(
      'store-full',
    );
    // What the buffers of both sides took.
    expect(pulled).toBeLessThan(100 * MIB);
  });

  test('content that the storage finds wrong is refused by it, and nothing is stored', async () => {
    for (const bytes of [subjects.small, subjects.large]) {
      const wrong = { ...contentOf(Buffer.alloc(bytes.length, 'x')), sha256: hashOf(bytes) };
      expect(await codeOf(direct.repository(PREFIX).create(refOf(bytes), wrong, UPLOADER, NEVER))).toBe(
        'content-mismatch',
      );
      expect(await direct.repository(PREFIX).stat(refOf(bytes), NEVER)).toBeUndefined();
    }
  });

  test('success before the upload is through is no success', async () => {
    const premature: Fault = { kind: 'refuse', status: 200, code: '' };
    proxy.set({ method: 'PUT', fault: premature });
    expect(await codeOf(create(storage, subjects.large))).toBe('store-failed');
  });

  test.each<readonly [string, () => Uint8Array]>([
    ['goes on after its declared length', () => Buffer.from('more')],
    [
      'complains after its last chunk',
      () => {
        throw new GatewayError('incomplete-upload');
      },
    ],
  ])('content that %s is not stored', async (_, after) => {
    for (const bytes of [subjects.small, subjects.large]) {
      async function* body() {
        yield* contentOf(bytes).body;
        yield after();
      }
      const content = { size: bytes.length, sha256: hashOf(bytes), body: body() };
      const creation = storage.repository(PREFIX).create(refOf(bytes), content, UPLOADER, NEVER);
      expect(await codeOf(creation)).toBe('incomplete-upload');
      expect(await direct.repository(PREFIX).stat(refOf(bytes), NEVER)).toBeUndefined();
    }
  });

  test('while a chunk is awaited the call does not end, so that nobody else reads the source meanwhile', async () => {
    const bytes = randomBytes(400_000);
    const events: string[] = [];
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    async function* body() {
      try {
        yield bytes.subarray(0, 200_000);
        await gate;
        events.push('second chunk');
        yield bytes.subarray(200_000);
      } finally {
        events.push('let go');
      }
    }
    proxy.set({ method: 'PUT', fault: refuse(412, 'PreconditionFailed') });
    const seen = proxy.requests.length;
    const content = { size: bytes.length, sha256: hashOf(bytes), body: body() };
    const creation = storage.repository(PREFIX).create(refOf(bytes), content, UPLOADER, NEVER);
    const ended = creation.then((outcome) => events.push(outcome));
    await until(() => proxy.requests.length > seen);
    // The answer has left the proxy; only the source is late. That nothing happens needs a bound: the answer's way over loopback, many times over.
    await until(() => proxy.underWay(/^PUT/) === 0);
    await sleep(100);
    expect(events).toEqual([]);
    open();
    await ended;
    expect(events).toEqual(['second chunk', 'let go', 'exists']);
    // A connection with half a request on it is of no more use.
    await until(() => proxy.open === 0);
  });
});

describe('load', () => {
  const load = (bytes: Uint8Array, from = storage) => from.repository(PREFIX).load(refOf(bytes), undefined, NEVER);

  test.each<readonly [Fault['kind'], ErrorCode]>([
    ['reset-download', 'store-failed'],
    ['cut-download', 'store-failed'],
    ['stall-download', 'store-timeout'],
  ])('%s in the middle', async (kind, code) => {
    const { there } = subjects;
    for (const after of [1, 100_000, there.length - 1]) {
      proxy.set({ method: 'GET', fault: { kind, after } as Fault });
      const loaded = await load(there, neverIdle);
      const chunks: Uint8Array[] = [];
      const reading = (async () => {
        for await (const chunk of loaded.body) chunks.push(chunk);
      })();
      expect(await codeOf(reading)).toBe(code);
      const got = Buffer.concat(chunks);
      expect(got.length).toBeLessThanOrEqual(after);
      expect(got.equals(there.subarray(0, got.length))).toBe(true);
      proxy.heal();
      expect((await readAll(await load(there))).equals(there)).toBe(true);
    }
  });

  test('a reader that is slower than every limit gets it all', async () => {
    const bytes = randomBytes(24 * MIB);
    await create(direct, bytes);
    const chunks: Uint8Array[] = [];
    let pauses = 0;
    for await (const chunk of (await load(bytes, neverIdle)).body) {
      chunks.push(chunk);
      if (chunks.length % 150 === 50) {
        pauses += 1;
        await sleep(IDLE_MS * 1.2);
      }
    }
    expect(pauses).toBeGreaterThan(1);
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
  });

  test.each<readonly [string, Record<string, string>, string]>([
    ['another part', { 'content-range': 'bytes 0-9/100' }, '0123456789'],
    ['a part without saying which', {}, '0123456789'],
  ])('%s than asked for is a failure', async (_, headers, text) => {
    proxy.set({
      fault: {
        kind: 'say',
        status: 206,
        headers: { ...headers, etag: '"0"', 'content-length': String(text.length) },
        text,
      },
    });
    const range = { first: 5, last: 14 };
    expect(await codeOf(storage.repository(PREFIX).load(refOf(subjects.there), range, NEVER))).toBe('store-failed');
  });

  test('the whole object, where a part of it was asked for, is a failure', async () => {
    const headers = { 'content-length': '10', etag: '"0"' };
    proxy.set({ fault: { kind: 'say', status: 200, headers, text: '0123456789' } });
    const asked = (first: number) => storage.repository(PREFIX).load(refOf(subjects.there), { first }, NEVER);
    expect(await codeOf(asked(5))).toBe('store-failed');
    expect((await readAll(await asked(0))).toString()).toBe('0123456789');
  });
});

describe('stat', () => {
  const stat = () => storage.repository(PREFIX).stat(refOf(subjects.there), NEVER);

  test('an answer without a time is a failure', async () => {
    proxy.set({ fault: { kind: 'say', status: 200, headers: { 'content-length': '0', etag: '"0"' }, text: '' } });
    expect(await codeOf(stat())).toBe('store-failed');
  });

  test('an object that comes while it is asked for is there', async () => {
    proxy.set({ method: 'HEAD', times: 1, fault: refuse(404, '') });
    expect(await stat()).toMatchObject({ size: subjects.there.length, uploader: UPLOADER });
  });
});

describe('list', () => {
  const head = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">';
  const entry = `<Contents><Key>${PREFIX}/data/00/${'0'.repeat(64)}</Key><Size>1</Size></Contents>`;
  const complete = '<IsTruncated>false</IsTruncated>';

  test.each<readonly [string, string]>([
    ['nothing', ''],
    ['a page of something else', '<html><body>It works!</body></html>'],
    ['half a list', `${head}${complete}${entry}`],
    ['truncated without a token', `${head}<IsTruncated>true</IsTruncated>${entry}</ListBucketResult>`],
    ['not saying whether it is truncated', `${head}${entry}</ListBucketResult>`],
    ['an object without a size', `${head}${complete}<Contents><Key>k</Key></Contents></ListBucketResult>`],
    ['an object without a key', `${head}${complete}<Contents><Size>1</Size></Contents></ListBucketResult>`],
    ['fewer objects than it says', `${head}${complete}<KeyCount>2</KeyCount>${entry}</ListBucketResult>`],
    ['an error with status 200', '<Error><Code>InternalError</Code></Error>'],
  ])('%s is a failure, not a short list', async (_, text) => {
    proxy.set({ fault: { kind: 'say', status: 200, text } });
    expect(await codeOf(listAll(storage, 'data'))).toBe('store-failed');
    expect(await codeOf(storage.reach(NEVER))).toBe('store-failed');
  });

  test('the same page for ever is a failure', async () => {
    const text = `${head}<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>`;
    proxy.set({ fault: { kind: 'say', status: 200, text } });
    expect(await codeOf(listAll(storage, 'snapshots'))).toBe('store-failed');
    expect(await codeOf(listAll(storage, 'data'))).toBe('store-failed');
  });

  test.each<readonly [Fault['kind'], unknown]>([
    ['cut-download', 'store-unavailable'],
    ['reset-download', 'store-unavailable'],
    ['stall-download', 'store-timeout'],
  ])('%s in the middle', async (kind, code) => {
    proxy.set({ fault: { kind, after: 100 } as Fault });
    expect(await codeOf(listAll(code === 'store-timeout' ? answeredSoon : storage, 'data'))).toBe(code);
  });
});

describe('the signal', () => {
  test.each(NAMES.filter((name) => name !== 'reach'))('ends a %s that the storage does not answer', async (name) => {
    proxy.set({ fault: { kind: 'mute' } });
    const patient = throughProxy();
    const controller = new AbortController();
    const repository = patient.repository(PREFIX);
    const { there, small, large } = subjects;
    const options = { signal: controller.signal };
    const calls: Record<string, () => Promise<unknown>> = {
      'create of a small object': () => repository.create(refOf(small), contentOf(small), UPLOADER, options),
      'create of a large object': () => repository.create(refOf(large), contentOf(large), UPLOADER, options),
      load: () => repository.load(refOf(there), undefined, options),
      stat: () => repository.stat(refOf(there), options),
      remove: () => repository.remove(refOf(there), options),
      list: () => repository.list('data', options)[Symbol.asyncIterator]().next(),
    };
    const seen = proxy.requests.length;
    const call = codeOf(calls[name]?.() ?? Promise.reject(new Error(name)));
    await until(() => proxy.requests.length > seen);
    controller.abort();
    expect(await call).toBe('client-gone');
    await patient.close();
  });
});

describe('connections', () => {
  test('one after the other, all calls share one', async () => {
    const fresh = throughProxy();
    const before = proxy.connections;
    for (let i = 0; i < 5; i += 1) {
      const bytes = randomBytes(i % 2 === 0 ? 1000 : 3 * MIB);
      await create(fresh, bytes);
      const loaded = await fresh.repository(PREFIX).load(refOf(bytes), undefined, NEVER);
      expect((await readAll(loaded)).length).toBe(bytes.length);
      expect(await create(fresh, bytes)).toBe('exists');
      expect(await fresh.repository(PREFIX).stat(refOf(randomBytes(9)), NEVER)).toBeUndefined();
      await listAll(fresh, 'locks');
    }
    expect(proxy.connections - before).toBe(1);
    await fresh.close();
  });

  test('downloads that nobody reads do not keep others waiting', async () => {
    const idle = await Promise.all(
      Array.from({ length: 300 }, () => storage.repository(PREFIX).load(refOf(subjects.there), undefined, NEVER)),
    );
    expect((await storage.repository(PREFIX).stat(refOf(subjects.there), NEVER))?.size).toBe(subjects.there.length);
    for (const { body } of idle) await body[Symbol.asyncIterator]().return?.();
  });

  test('a download that is left, or whose signal comes, closes its own at once', async () => {
    const fresh = throughProxy();
    proxy.heal();
    await until(() => proxy.open === 0);
    proxy.set({ method: 'GET', fault: { kind: 'stall-download', after: 100_000 } });
    const repository = fresh.repository(PREFIX);
    for await (const chunk of (await repository.load(refOf(subjects.there), undefined, NEVER)).body) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    await until(() => proxy.open === 0);
    await (await repository.load(refOf(subjects.there), undefined, NEVER)).body[Symbol.asyncIterator]().return?.();
    await until(() => proxy.open === 0);
    const controller = new AbortController();
    await repository.load(refOf(subjects.there), undefined, controller);
    expect(proxy.open).toBe(1);
    controller.abort();
    await until(() => proxy.open === 0);
    await fresh.close();
  });

  test('close leaves none', async () => {
    const fresh = throughProxy();
    proxy.heal();
    await until(() => proxy.open === 0);
    await Promise.all(Array.from({ length: 4 }, () => fresh.reach(NEVER)));
    expect(proxy.open).toBeGreaterThan(0);
    await fresh.close();
    await until(() => proxy.open === 0);
  });
});
