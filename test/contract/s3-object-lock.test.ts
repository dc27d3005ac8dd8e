/** Object Lock on a real radosgw: what came in cannot be removed before its time, not even with the gateway's own credentials. */
import { randomBytes } from 'node:crypto';
import {
  DeleteObjectCommand,
  GetObjectRetentionCommand,
  ListObjectVersionsCommand,
  PutObjectRetentionCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { CONFIG_REF, NAMED_TYPES, objectKey, type ObjectRef } from '../../src/core/object.ts';
import type { RepositoryStore, Storage } from '../../src/ports/repository-store.ts';
import { createS3Storage } from '../../src/stores/s3-store.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { bucketUnderTest, type BucketUnderTest } from '../support/s3-bucket.ts';
import { contentOf, NEVER, UPLOADER, outcomeOf, PREFIX, readAll, refOf } from '../support/store-calls.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const LOCK = { mode: 'compliance', days: 3 } as const;

let bucket: BucketUnderTest;
let storage: Storage;
let repository: RepositoryStore;

beforeAll(async () => {
  bucket = await bucketUnderTest({ objectLock: true });
  storage = createS3Storage({ ...bucket.config, objectLock: LOCK }, bucket.secret);
  repository = storage.repository(PREFIX);
});

afterAll(async () => {
  await storage.close();
  bucket.sdk.destroy();
});

const placeOf = (ref: ObjectRef) => ({ Bucket: bucket.config.bucket, Key: `${PREFIX}/${objectKey(ref)}` });

async function versionOf(ref: ObjectRef): Promise<string> {
  const { Bucket, Key } = placeOf(ref);
  const { Versions = [] } = await bucket.sdk.send(new ListObjectVersionsCommand({ Bucket, Prefix: Key }));
  expect(Versions).toHaveLength(1);
  return Versions[0]?.VersionId ?? '';
}

async function store(ref: ObjectRef, bytes: Uint8Array): Promise<void> {
  expect(await repository.create(ref, contentOf(bytes), UPLOADER, NEVER)).toBe('created');
}

describe('a store with objectLock', () => {
  test.each(['config', 'data', 'index', 'keys', 'snapshots'] as const)(
    '%s: removed, it is hidden; its version cannot be removed nor its time shortened; the marker away, it is back',
    async (type) => {
      const bytes = randomBytes(2_000_000);
      const ref = type === 'config' ? CONFIG_REF : refOf(bytes, type);
      const before = Date.now();
      await store(ref, bytes);
      const place = placeOf(ref);
      const VersionId = await versionOf(ref);
      const { Retention } = await bucket.sdk.send(new GetObjectRetentionCommand({ ...place, VersionId }));
      expect(Retention?.Mode).toBe('COMPLIANCE');
      const kept = (Retention?.RetainUntilDate?.getTime() ?? 0) - before;
      expect(kept).toBeGreaterThan(LOCK.days * DAY_MS - 2000);
      expect(kept).toBeLessThan(LOCK.days * DAY_MS + 600_000);

      expect(await repository.remove(ref, NEVER)).toBe('hidden');
      expect(await repository.remove(ref, NEVER)).toBe('absent');
      expect(await repository.stat(ref, NEVER)).toBeUndefined();
      expect(await outcomeOf(repository.load(ref, undefined, NEVER))).toMatchObject({ code: 'not-found' });
      if (ref.type !== 'config') {
        const listed = [];
        for await (const page of repository.list(ref.type, NEVER)) listed.push(...page.map(({ name }) => name));
        expect(listed).toEqual([]);
      }

      await expect(bucket.sdk.send(new DeleteObjectCommand({ ...place, VersionId }))).rejects.toMatchObject({
        name: 'AccessDenied',
      });
      const sooner = { Mode: 'COMPLIANCE', RetainUntilDate: new Date(Date.now() + 60_000) } as const;
      await expect(
        bucket.sdk.send(new PutObjectRetentionCommand({ ...place, VersionId, Retention: sooner })),
      ).rejects.toMatchObject({ name: 'AccessDenied' });

      const { DeleteMarkers = [] } = await bucket.sdk.send(
        new ListObjectVersionsCommand({ Bucket: place.Bucket, Prefix: place.Key }),
      );
      expect(DeleteMarkers).toHaveLength(1);
      for (const marker of DeleteMarkers)
        await bucket.sdk.send(new DeleteObjectCommand({ ...place, VersionId: marker.VersionId }));
      expect((await readAll(await repository.load(ref, undefined, NEVER))).equals(bytes)).toBe(true);
    },
  );

  test('locks have no retention, and no other type lacks one', async () => {
    const kinds = [...NAMED_TYPES].filter((type) => type !== 'locks');
    expect(kinds).toEqual(['data', 'index', 'keys', 'snapshots']);
    const bytes = randomBytes(300);
    const ref = refOf(bytes, 'locks');
    await store(ref, bytes);
    const place = placeOf(ref);
    const VersionId = await versionOf(ref);
    await expect(bucket.sdk.send(new GetObjectRetentionCommand({ ...place, VersionId }))).rejects.toMatchObject({
      name: expect.stringMatching(/NoSuchObjectLockConfiguration|ObjectLockConfigurationNotFound/) as unknown,
    });
    await bucket.sdk.send(new DeleteObjectCommand({ ...place, VersionId }));
  });

  test('the name is taken by what is there, and free again under a delete marker', async () => {
    const bytes = randomBytes(500);
    const ref = refOf(bytes);
    await store(ref, bytes);
    expect(await repository.create(ref, contentOf(bytes), UPLOADER, NEVER)).toBe('exists');
    expect(await repository.remove(ref, NEVER)).toBe('hidden');
    await store(ref, bytes);
  });

  test('a bucket without Object Lock: nothing is stored, and the admin hears why', async () => {
    const plain = await bucketUnderTest();
    const unfit = createS3Storage({ ...plain.config, objectLock: LOCK }, plain.secret);
    const bytes = randomBytes(500);
    expect(
      await outcomeOf(unfit.repository(PREFIX).create(refOf(bytes), contentOf(bytes), UPLOADER, NEVER)),
    ).toMatchObject({
      code: 'store-misconfigured',
      message: expect.stringMatching(/takes nothing with a retention: give it Object Lock/) as unknown,
    });
    expect(await unfit.repository(PREFIX).stat(refOf(bytes), NEVER)).toBeUndefined();
    await unfit.close();
    plain.sdk.destroy();
  });

  test('a storage that refuses to remove what it retains: nothing is removed, and that is told as such', async () => {
    const proxy = await startFaultProxy(bucket.config.endpoint ?? '');
    const behind = createS3Storage({ ...bucket.config, endpoint: proxy.endpoint, objectLock: LOCK }, bucket.secret);
    const bytes = randomBytes(500);
    const ref = refOf(bytes);
    await store(ref, bytes);
    proxy.set({ method: 'DELETE', fault: { kind: 'refuse', status: 403, code: 'AccessDenied' } });
    expect(await outcomeOf(behind.repository(PREFIX).remove(ref, NEVER))).toMatchObject({ code: 'retained' });
    expect((await repository.stat(ref, NEVER))?.size).toBe(500);
    await behind.close();
    await proxy.close();
  });
});
