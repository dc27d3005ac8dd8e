/** The live trial of a bucket: on a real radosgw in each state that a bucket may be in, and behind a proxy that drops conditions. */
import { ListObjectVersionsCommand, PutObjectLockConfigurationCommand } from '@aws-sdk/client-s3';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { S3StoreConfig } from '../../src/config/types.ts';
import type { StoreCheckResult } from '../../src/ports/repository-store.ts';
import { createS3Storage } from '../../src/stores/s3-store.ts';
import { startFaultProxy, type Rule } from '../support/fault-proxy.ts';
import { s3, type BucketOptions } from '../support/lab-s3.ts';
import { bucketUnderTest, type BucketUnderTest } from '../support/s3-bucket.ts';
import { NEVER, outcomeOf } from '../support/store-calls.ts';

const cleanUps: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
});

async function bucketOf(options: BucketOptions = {}): Promise<BucketUnderTest> {
  const bucket = await bucketUnderTest(options);
  cleanUps.push(() => {
    bucket.sdk.destroy();
    return Promise.resolve();
  });
  return bucket;
}

/** Tries it with a config that differs in this, through a proxy with these rules. */
async function probe(
  { config, secret }: BucketUnderTest,
  change: Partial<S3StoreConfig> = {},
  ...rules: Rule[]
): Promise<StoreCheckResult> {
  const proxy = await startFaultProxy(config.endpoint ?? '');
  proxy.set(...rules);
  const storage = createS3Storage({ ...config, endpoint: proxy.endpoint, ...change }, secret);
  cleanUps.push(
    () => storage.close(),
    () => proxy.close(),
  );
  return storage.check([], NEVER);
}

const checksOf = ({ checks }: StoreCheckResult) =>
  Object.fromEntries(checks.map(({ what, outcome }) => [what, outcome]));

async function leftIn({ sdk, config }: BucketUnderTest) {
  const { Versions = [], DeleteMarkers = [] } = await sdk.send(
    new ListObjectVersionsCommand({ Bucket: config.bucket }),
  );
  return { versions: Versions.length, markers: DeleteMarkers.length };
}

const LOCK = { mode: 'governance', days: 3 } as const;

describe('a bucket', () => {
  test.each([
    ['as it is made', {}, {}, { versioning: 'note', 'Object Lock': 'note' }],
    ['with versioning', { versioning: true }, {}, { versioning: 'note', 'Object Lock': 'note' }],
    ['with Object Lock', { objectLock: true }, { objectLock: LOCK }, { versioning: 'note', 'Object Lock': 'holds' }],
    ['with Object Lock that is not used', { objectLock: true }, {}, { versioning: 'note', 'Object Lock': 'note' }],
    [
      'without the Object Lock that the store wants',
      {},
      { objectLock: LOCK },
      { versioning: 'note', 'Object Lock': 'fails' },
    ],
  ] as const)(
    '%s: nothing is overwritten, content is checked, and nothing is left',
    async (_, options, change, wanted) => {
      const bucket = await bucketOf(options);
      const found = await probe(bucket, change);
      expect(checksOf(found)).toEqual({
        ...{ 'never overwrites': 'holds', 'checks content': 'holds', 'keeps packs': 'holds' },
        ...wanted,
      });
      expect(found.neverOverwrites).toBe(true);
      expect(found.keepsVersions).toBe('versioning' in options || 'objectLock' in options);
      expect(await leftIn(bucket)).toEqual({ versions: 0, markers: 0 });
    },
  );

  test('whose default retention would hold locks too', async () => {
    const bucket = await bucketOf({ objectLock: true });
    await bucket.sdk.send(
      new PutObjectLockConfigurationCommand({
        Bucket: bucket.config.bucket,
        ObjectLockConfiguration: {
          ObjectLockEnabled: 'Enabled',
          Rule: { DefaultRetention: { Mode: 'GOVERNANCE', Days: 2 } },
        },
      }),
    );
    const found = await probe(bucket, { objectLock: LOCK });
    expect(found.checks).toContainEqual({
      ...{ what: 'Object Lock', outcome: 'fails' },
      detail: expect.stringMatching(/default retention \(governance, 2 days\)/) as unknown,
    });
    expect(found.checks).toContainEqual({
      ...{ what: 'leaves nothing', outcome: 'note' },
      detail: expect.stringMatching(/a delete marker and what it hides stay/) as unknown,
    });
  });
});

describe('a storage that ignores conditions', () => {
  test.each([
    [{}, false, /replaces the first: If-None-Match is ignored$/],
    [{ versioning: true }, true, /replaces the first: If-None-Match is ignored; the first stays as an older version$/],
  ])('%j: fails, and nothing is left', async (options, keepsVersions, detail) => {
    const bucket = await bucketOf(options);
    const found = await probe(bucket, {}, { method: 'PUT', fault: { kind: 'drop-condition', secret: bucket.secret } });
    expect(found).toMatchObject({ neverOverwrites: false, keepsVersions });
    expect(found.checks[0]).toEqual({
      ...{ what: 'never overwrites', outcome: 'fails' },
      detail: expect.stringMatching(detail) as unknown,
    });
    expect(checksOf(found)['checks content']).toBe('holds');
    expect(await leftIn(bucket)).toEqual({ versions: 0, markers: 0 });
  });

  test('or does not know them', async () => {
    const refused = { kind: 'refuse', status: 501, code: 'NotImplemented' } as const;
    const found = await probe(await bucketOf(), {}, { method: 'PUT', times: 1, fault: refused });
    expect(found.neverOverwrites).toBe(false);
    expect(found.checks[0]).toMatchObject({
      outcome: 'fails',
      detail: expect.stringMatching(/refuses If-None-Match/) as unknown,
    });
  });
});

test('a storage that answers as if it took what it does not: the condition holds only if the first content stays', async () => {
  const bucket = await bucketOf();
  const found = await probe(
    bucket,
    {},
    { method: 'PUT', times: 2, fault: { kind: 'say', status: 412, text: '' } },
  ).catch((error: unknown) => error);
  expect(found).toMatchObject({ neverOverwrites: false });
});

describe('what stands before the storage', () => {
  const pack = { method: 'PUT', path: /-pack/ } as const;
  const refused = { kind: 'refuse', status: 413, code: '', after: 1 } as const;
  const { accessKeyId, secretAccessKey } = s3();
  const page = { kind: 'say', status: 200, text: '<html>log in</html>' } as const;

  test.each<readonly [string, Rule, RegExp]>([
    [
      'takes bodies up to 1 MiB alone',
      { method: 'PUT', over: 1024 * 1024, fault: refused },
      /16 MiB does not: .*raise its limit to 128 MiB.*413/,
    ],
    ['loses what it takes', { ...pack, fault: { kind: 'swallow' } }, /is not there: a cache or a proxy/],
    [
      'stores the beginning alone',
      { ...pack, fault: { kind: 'truncate', after: 1024 * 1024, secret: { accessKeyId, secretAccessKey } } },
      /has 1048576 bytes/,
    ],
    ['answers large uploads with a page', { ...pack, fault: page }, /captive portal/],
    ['breaks off large uploads', { ...pack, fault: { kind: 'reset-upload', after: 1024 * 1024 } }, /16 MiB does not/],
  ])('%s: packs are not kept, which is told, and nothing is left', async (_, rule, detail) => {
    const bucket = await bucketOf();
    const found = await probe(bucket, {}, rule);
    expect(found.keepsPacks).toBe(false);
    expect(found.neverOverwrites).toBe(true);
    expect(found.checks).toContainEqual({
      ...{ what: 'keeps packs', outcome: 'fails' },
      detail: expect.stringMatching(detail) as unknown,
    });
    expect(await leftIn(bucket)).toEqual({ versions: 0, markers: 0 });
  });

  test.each<readonly [string, Rule['method'] | undefined]>([
    ['everything', undefined],
    ['uploads', 'PUT'],
  ])('answers %s with a page: the store cannot be tried, and is told why', async (_, method) => {
    const rule = method === undefined ? { fault: page } : { method, fault: page };
    expect(await outcomeOf(probe(await bucketOf(), {}, rule))).toMatchObject({
      code: 'store-failed',
      message: expect.stringMatching(/captive portal/) as unknown,
    });
  });

  test('looks before it writes: of eight at once several are taken', async () => {
    const bucket = await bucketOf();
    const fault = { kind: 'drop-condition', secret: bucket.secret } as const;
    const found = await probe(bucket, {}, { method: 'PUT', path: /-race/, fault });
    expect(found.neverOverwrites).toBe(false);
    expect(found.checks[0]).toMatchObject({
      detail: expect.stringMatching(/of 8 uploads at once .* 8 are taken/) as unknown,
    });
  });

  test('does not remove what it was tried with: all that stays is named', async () => {
    const bucket = await bucketOf();
    const found = await probe(bucket, {}, { method: 'DELETE', fault: { kind: 'say', status: 204, text: '' } });
    const { detail = '' } = found.checks.find(({ what }) => what === 'leaves nothing') ?? {};
    expect(detail.match(/store-check\/locks\/\S+ cannot be removed; remove it/g)).toHaveLength(3);
  });
});

test.each([
  ['a bucket that is not there', { bucket: 'no-such-bucket' }, 'store-misconfigured', /does not exist/],
  ['nobody at the endpoint', { endpoint: 'http://127.0.0.1:9' }, 'store-unavailable', /cannot be reached/],
])('%s: it cannot be tried, and is told why', async (_, change, code, message) => {
  expect(await outcomeOf(probe(await bucketOf(), change))).toMatchObject({
    code,
    message: expect.stringMatching(message) as unknown,
  });
});

test('a wrong secret: it cannot be tried', async () => {
  const bucket = await bucketOf();
  const secret = { ...bucket.secret, secretAccessKey: 'wrong' };
  expect(await outcomeOf(probe({ ...bucket, secret }))).toMatchObject({
    code: 'store-misconfigured',
    message: expect.stringMatching(/secret access key does not belong/) as unknown,
  });
});
