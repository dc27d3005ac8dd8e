/** Lists of many pages on a real S3 server, and the reading of pages. */
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseObjectName, type NamedType, type ObjectRef } from '../../src/core/object.ts';
import type { Storage } from '../../src/ports/repository-store.ts';
import { createS3Storage } from '../../src/stores/s3-store.ts';
import { parseError } from '../../src/stores/s3/xml.ts';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { bucketUnderTest, type BucketUnderTest } from '../support/s3-bucket.ts';
import { codeOf, contentOf, hashOf, listAll, NEVER, UPLOADER, PREFIX, until } from '../support/store-calls.ts';

/** So long that nothing here ends by them. */
const LIMITS = { connectMs: 600_000, answerMs: 600_000, idleMs: 600_000, pauseMs: 5 };

describe('on a real S3 server', () => {
  const namesOf = (type: string, count: number): string[] =>
    Array.from({ length: count }, (_, i) => hashOf(Buffer.from(`${type} ${i}`))).sort();
  /** Nothing hashes to it; S3 does not care. */
  const refTo = (type: NamedType, text: string): ObjectRef & { readonly type: NamedType } => {
    const name = parseObjectName(text);
    if (name === undefined) throw new Error(text);
    return { type, name };
  };
  const snapshots = namesOf('snapshots', 1500);
  const data = namesOf('data', 2600);
  let bucket: BucketUnderTest;
  let proxy: FaultProxy;
  let storage: Storage;

  beforeAll(async () => {
    bucket = await bucketUnderTest();
    proxy = await startFaultProxy(bucket.config.endpoint ?? '');
    storage = createS3Storage({ ...bucket.config, endpoint: proxy.endpoint }, bucket.secret, LIMITS);
    const repository = storage.repository(PREFIX);
    const left = [...snapshots.map((name) => refTo('snapshots', name)), ...data.map((name) => refTo('data', name))];
    const worker = async (): Promise<void> => {
      for (let ref = left.pop(); ref !== undefined; ref = left.pop())
        await repository.create(ref, contentOf(Buffer.from(`${ref.type} ${ref.name}`)), UPLOADER, NEVER);
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    // Before, among and after the objects, where a shard's prefix would find it or miss it.
    for (const key of ['data/!', 'data/0', 'data/a0/readme', 'data/f', 'data/g', 'data/ff/z'])
      await bucket.sdk.send(
        new PutObjectCommand({ Bucket: bucket.config.bucket, Key: `${PREFIX}/${key}`, Body: 'foreign' }),
      );
  });

  afterAll(async () => {
    await storage.close();
    await proxy.close();
    bucket.sdk.destroy();
  });

  test('1,500 snapshots', async () => {
    expect(await listAll(storage, 'snapshots')).toEqual(snapshots);
  });

  test('2,600 data objects, each once', async () => {
    expect(await listAll(storage, 'data')).toEqual(data);
  });

  test('with failures for a moment on the way', async () => {
    const refuse = { kind: 'refuse', status: 503, code: 'SlowDown' } as const;
    proxy.set({ times: 3, fault: refuse });
    expect(await listAll(storage, 'data')).toEqual(data);
    proxy.set();
  });

  test('a failure after the first page ends it, and lets go of the rest', async () => {
    proxy.heal();
    await until(() => proxy.open === 0);
    const pages = storage.repository(PREFIX).list('data', NEVER)[Symbol.asyncIterator]();
    expect((await pages.next()).value).toHaveLength(1000 - 2);
    proxy.set({ times: 1, fault: { kind: 'refuse', status: 403, code: 'AccessDenied' } }, { fault: { kind: 'mute' } });
    expect(await codeOf(pages.next())).toBe('store-misconfigured');
    await until(() => proxy.open <= 1);
    proxy.set();
    expect(await pages.next()).toEqual({ done: true, value: undefined });
    expect(await listAll(storage, 'data')).toEqual(data);
  });

  test('left after any page, it lets go of the rest', async () => {
    for (const wanted of [1, 2, 5]) {
      let pages = 0;
      for await (const page of storage.repository(PREFIX).list('data', NEVER)) {
        pages += page.length > 0 ? 1 : 0;
        if (pages === wanted) break;
      }
      expect(pages).toBe(wanted);
    }
    expect(await listAll(storage, 'data')).toEqual(data);
  });

  test('no more than 16 requests wait at once, whatever the reader does', async () => {
    const seen = proxy.requests.length;
    const pages = storage.repository(PREFIX).list('data', NEVER)[Symbol.asyncIterator]();
    await pages.next();
    expect(proxy.requests.length - seen).toBe(1);
    await pages.next();
    expect(proxy.requests.length - seen).toBeLessThanOrEqual(1 + 16);
    await pages.return?.();
  });
});

describe('pages as servers write them', () => {
  const [first, second] = [hashOf(Buffer.from('first')), hashOf(Buffer.from('second'))];
  let proxy: FaultProxy;
  let storage: Storage;

  beforeAll(async () => {
    // Nothing passes.
    proxy = await startFaultProxy('http://127.0.0.1:1');
    const config = { type: 's3', name: 'lab', bucket: 'bucket', region: 'us-east-1', forcePathStyle: true } as const;
    const secret = { accessKeyId: 'key', secretAccessKey: 'secret' };
    storage = createS3Storage({ ...config, endpoint: proxy.endpoint }, secret, LIMITS);
  });

  afterAll(async () => {
    await storage.close();
    await proxy.close();
  });

  /** What a list under the prefix gives when the server answers with these pages. */
  async function listOf(prefix: string, ...pages: readonly string[]): Promise<unknown> {
    proxy.set(
      ...pages.map((inner) => {
        const named = inner.includes('<Prefix') ? inner : `<Prefix>${escapeXml(prefix)}/snapshots/</Prefix>${inner}`;
        const list = `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${named}</ListBucketResult>`;
        const text = `<?xml version="1.0" encoding="UTF-8"?>\n${list}\n`;
        return { times: 1, fault: { kind: 'say', status: 200, text } } as const;
      }),
    );
    const found: unknown[] = [];
    for await (const page of storage.repository(prefix).list('snapshots', NEVER)) found.push(...page);
    return found;
  }

  const escapeXml = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');
  const complete = '<IsTruncated>false</IsTruncated>';
  const entry = (key: string, size: number): string => `<Contents><Key>${key}</Key><Size>${size}</Size></Contents>`;

  test('with all that AWS says, in another order, and over two pages', async () => {
    const pages = [
      `<Name>bucket</Name><Prefix>a/snapshots/</Prefix><KeyCount>1</KeyCount><MaxKeys>1</MaxKeys><IsTruncated>true</IsTruncated>
      <Contents><Key>a/snapshots/${first}</Key><LastModified>2026-11-23T21:43:47.000Z</LastModified><ETag>&quot;3e&quot;</ETag>
      <Size>16777216</Size><Owner><ID>x</ID><DisplayName>y</DisplayName></Owner><StorageClass>STANDARD</StorageClass></Contents>
      <NextContinuationToken>to&amp;ken=</NextContinuationToken>`,
      `<Contents>
        <ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Size>0</Size><Key>a/snapshots/${second}</Key>
      </Contents>${complete}<ContinuationToken>to&amp;ken=</ContinuationToken>`,
    ];
    expect(await listOf('a', ...pages)).toEqual([
      { name: first, size: 16_777_216 },
      { name: second, size: 0 },
    ]);
  });

  test('without any object', async () => {
    expect(await listOf('a', complete)).toEqual([]);
    expect(await listOf('a', `${complete}<NextContinuationToken></NextContinuationToken>`)).toEqual([]);
  });

  test('with one object', async () => {
    expect(await listOf('a', complete + entry(`a/snapshots/${first}`, 7))).toEqual([{ name: first, size: 7 }]);
  });

  test('with what XML escapes', async () => {
    const escaped = `a&amp;&lt;&gt;&quot;&apos;&#x41;&#66;ï/snapshots/${first}`;
    expect(await listOf(`a&<>"'ABï`, complete + entry(escaped, 7))).toEqual([{ name: first, size: 7 }]);
  });

  test('with a key that would be markup', async () => {
    const tricky = '&lt;/Key&gt;&lt;Size&gt;5&lt;/Size&gt;&lt;/Contents&gt;&lt;IsTruncated&gt;true';
    const page = complete + entry(`a/snapshots/${tricky}`, 1) + entry(`a/snapshots/${first}`, 7);
    expect(await listOf('a', page)).toEqual([{ name: first, size: 7 }]);
  });
});

describe('a page that is not the one that was asked for is no list', () => {
  const entry = (key: string): string => `<Contents><Key>${key}</Key><Size>1</Size></Contents>`;
  const list = (inner: string): string =>
    `<ListBucketResult>${inner}<IsTruncated>false</IsTruncated></ListBucketResult>`;
  const name = hashOf(Buffer.from('name'));
  let proxy: FaultProxy;
  let storage: Storage;

  beforeAll(async () => {
    proxy = await startFaultProxy('http://127.0.0.1:1');
    const config = { type: 's3', name: 'lab', bucket: 'bucket', region: 'us-east-1', forcePathStyle: true } as const;
    const secret = { accessKeyId: 'key', secretAccessKey: 'secret' };
    storage = createS3Storage({ ...config, endpoint: proxy.endpoint }, secret, LIMITS);
  });
  afterAll(async () => {
    await storage.close();
    await proxy.close();
  });

  test.each([
    ['of another prefix', list('<Prefix>b/snapshots/</Prefix>')],
    ['that does not say of which prefix', list('')],
    ['of another bucket', list('<Name>other</Name><Prefix>a/snapshots/</Prefix>')],
    ['with a key from elsewhere', list(`<Prefix>a/snapshots/</Prefix>${entry(`b/snapshots/${name}`)}`)],
    ['with fewer objects than it says', list('<Prefix>a/snapshots/</Prefix><KeyCount>1</KeyCount>')],
    ['of buckets', '<ListAllMyBucketsResult><Buckets></Buckets></ListAllMyBucketsResult>'],
    ['in HTML', '<!DOCTYPE html><html><body>Log in to the Wi-Fi</body></html>'],
    ['that is an error after all', '<?xml version="1.0"?><Error><Code>InvalidArgument</Code></Error>'],
    ['that is empty', ''],
  ])('%s', async (_, text) => {
    proxy.set({ fault: { kind: 'say', status: 200, text } });
    expect(await codeOf(listAll(storage, 'snapshots', 'a'))).toBe('store-failed');
  });

  test('a tenant before the name is none of it', async () => {
    const text = list('<Name>tenant:bucket</Name><Prefix>a/snapshots/</Prefix>');
    proxy.set({ fault: { kind: 'say', status: 200, text } });
    expect(await listAll(storage, 'snapshots', 'a')).toEqual([]);
  });
});

describe('a refusal is read', () => {
  test.each([
    ['an error', '<Error><Code>NoSuchBucket</Code><Message>a &amp; b</Message></Error>', 'NoSuchBucket', 'a & b'],
    ['one with attributes', '<?xml?><Error xmlns="x"><Code>SlowDown</Code></Error>', 'SlowDown', ''],
    ['a page of a proxy', '<html><Code>NoSuchKey</Code></html>', '', ''],
    ['nothing', '', '', ''],
  ])('%s', (_, xml, code, message) => {
    expect(parseError(xml)).toEqual({ code, message, region: undefined });
  });
});
