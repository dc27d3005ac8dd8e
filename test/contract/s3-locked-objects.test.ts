/** Retention and legal hold of objects that are stored already, on a real radosgw with Object Lock. */
import { randomBytes } from 'node:crypto';
import {
  DeleteObjectCommand,
  GetObjectLegalHoldCommand,
  GetObjectRetentionCommand,
  HeadObjectCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { GatewayError } from '../../src/core/errors.ts';
import { objectKey } from '../../src/core/object.ts';
import type { AuditEvent, AuditSink } from '../../src/ports/audit-sink.ts';
import { extend, type ExtendRequest } from '../../src/retention/extend.ts';
import { S3Maintenance } from '../../src/stores/s3-maintenance.ts';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { bucketUnderTest, type BucketUnderTest } from '../support/s3-bucket.ts';
import { NEVER, outcomeOf, PREFIX, refOf } from '../support/store-calls.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const RULE = { mode: 'compliance', days: 1 } as const;

let bucket: BucketUnderTest;
let proxy: FaultProxy;
let direct: S3Maintenance;
let proxied: S3Maintenance;
let lock: NonNullable<S3Maintenance['objectLock']>;

beforeAll(async () => {
  bucket = await bucketUnderTest({ objectLock: true });
  proxy = await startFaultProxy(bucket.config.endpoint ?? '');
  direct = new S3Maintenance({ ...bucket.config, objectLock: RULE }, bucket.secret, PREFIX);
  proxied = new S3Maintenance({ ...bucket.config, endpoint: proxy.endpoint, objectLock: RULE }, bucket.secret, PREFIX);
  lock = lockOf(direct);
});

afterAll(async () => {
  await Promise.all([direct.close(), proxied.close()]);
  await proxy.close();
  bucket.sdk.destroy();
});

function lockOf({ objectLock }: S3Maintenance): NonNullable<S3Maintenance['objectLock']> {
  if (objectLock === undefined) throw new Error('there is no Object Lock');
  return objectLock;
}

const at = (key: string) => ({ Bucket: bucket.config.bucket, Key: `${PREFIX}/${key}` });
/** A time in whole seconds, so many days from now. */
const inDays = (days: number): Date => new Date(Math.ceil((Date.now() + days * DAY_MS) / 1000) * 1000);

/** Stores an object as someone with the credentials does, and gives its key. */
async function put(retained?: { readonly mode: 'COMPLIANCE' | 'GOVERNANCE'; readonly until: Date }): Promise<string> {
  const body = randomBytes(400);
  const key = objectKey(refOf(body));
  const retention = retained && { ObjectLockMode: retained.mode, ObjectLockRetainUntilDate: retained.until };
  await bucket.sdk.send(new PutObjectCommand({ ...at(key), Body: body, ...retention }));
  return key;
}

describe('the retention of an object', () => {
  test('is what the storage says, whether or not a HEAD tells it', async () => {
    const until = inDays(2);
    const key = await put({ mode: 'GOVERNANCE', until });
    expect((await bucket.sdk.send(new HeadObjectCommand(at(key)))).ObjectLockMode).toBe('GOVERNANCE');
    expect(await lock.retention(key, NEVER)).toEqual({ mode: 'governance', until });
    // As with a key that lacks the permission to be told by HEAD.
    const headers = { 'x-amz-object-lock-mode': '', 'x-amz-object-lock-retain-until-date': '' };
    proxy.set({ method: 'HEAD', fault: { kind: 'reword', headers } });
    expect(await lockOf(proxied).retention(key, NEVER)).toEqual({ mode: 'governance', until });
    proxy.heal();
  });

  test('is none where there is none, and nothing is said of what is not there or hidden', async () => {
    const key = await put();
    expect(await lock.retention(key, NEVER)).toBe('none');
    await bucket.sdk.send(new DeleteObjectCommand(at(key)));
    expect(await lock.retention(key, NEVER)).toBeUndefined();
    expect(await lock.retention(objectKey(refOf(randomBytes(9))), NEVER)).toBeUndefined();
  });

  test.each(['GOVERNANCE', 'COMPLIANCE'] as const)('%s: is lengthened, and never shortened', async (mode) => {
    const ours = mode === 'COMPLIANCE' ? 'compliance' : 'governance';
    const key = await put({ mode, until: inDays(1) });
    const until = inDays(3);
    expect(await lock.retain(key, { mode: ours, until }, NEVER)).toBe(true);
    const { Retention } = await bucket.sdk.send(new GetObjectRetentionCommand(at(key)));
    expect(Retention).toEqual({ Mode: mode, RetainUntilDate: until });
    // Someone was quicker and asked for more: what is wanted is there already, and stays.
    expect(await lock.retain(key, { mode: ours, until: inDays(2) }, NEVER)).toBe(true);
    expect(await lock.retention(key, NEVER)).toEqual({ mode: ours, until });
  });

  test('is given to an object without one, and not to one that is gone', async () => {
    const key = await put();
    const until = inDays(1);
    expect(await lock.retain(key, { mode: 'governance', until }, NEVER)).toBe(true);
    expect(await lock.retention(key, NEVER)).toEqual({ mode: 'governance', until });
    await bucket.sdk.send(new DeleteObjectCommand(at(key)));
    expect(await lock.retain(key, { mode: 'governance', until: inDays(2) }, NEVER)).toBe(false);
    expect(await lock.retain(objectKey(refOf(randomBytes(9))), { mode: 'governance', until }, NEVER)).toBe(false);
  });
});

describe('a legal hold', () => {
  test('is put on the current version, is seen, and ends on whatever version it is', async () => {
    const key = await put();
    expect(await lock.legalHold({ key }, NEVER)).toBe(false);
    expect(await lock.setLegalHold({ key }, true, NEVER)).toBe(true);
    expect(await lock.legalHold({ key }, NEVER)).toBe(true);
    await bucket.sdk.send(new DeleteObjectCommand(at(key)));
    expect(await lock.legalHold({ key }, NEVER)).toBeUndefined();
    expect(await lock.setLegalHold({ key }, true, NEVER)).toBe(false);

    const versions = [];
    for await (const page of lock.versions(key, NEVER)) versions.push(...page);
    expect(versions.map((one) => one.key)).toEqual([key]);
    const version = versions[0]?.version ?? '';
    const held = { ...at(key), VersionId: version };
    await expect(bucket.sdk.send(new DeleteObjectCommand(held))).rejects.toMatchObject({ name: 'AccessDenied' });
    expect(await lock.setLegalHold({ key, version }, false, NEVER)).toBe(true);
    expect((await bucket.sdk.send(new GetObjectLegalHoldCommand(held))).LegalHold?.Status).toBe('OFF');
    await bucket.sdk.send(new DeleteObjectCommand(held));
    expect(await lock.legalHold({ key, version }, NEVER)).toBeUndefined();
  });

  test('versions come page after page, and none twice', async () => {
    const key = `index/${'ab'.repeat(32)}`;
    for (let index = 0; index < 7; index += 1)
      await bucket.sdk.send(new PutObjectCommand({ ...at(key), Body: String(index) }));
    const pages: (readonly string[])[] = [];
    for await (const page of lock.versions('index/', NEVER, 3)) pages.push(page.map(({ version }) => version));
    expect(pages.map(({ length }) => length)).toEqual([3, 3, 1]);
    expect(new Set(pages.flat()).size).toBe(7);
  });
});

describe('what the storage does wrong', () => {
  test('a change that is answered as done and is not counts as failed', async () => {
    const key = await put();
    const said = { kind: 'say', status: 200, text: '' } as const;
    proxy.set({ method: 'PUT', fault: said });
    const behind = lockOf(proxied);
    const retained = behind.retain(key, { mode: 'governance', until: inDays(1) }, NEVER);
    expect(await outcomeOf(retained)).toMatchObject({
      code: 'store-failed',
      message: expect.stringContaining('and does not') as unknown,
    });
    expect(await outcomeOf(behind.setLegalHold({ key }, true, NEVER))).toMatchObject({ code: 'store-failed' });
    proxy.set({ method: 'PUT', fault: { ...said, text: '<html>log in</html>' } });
    expect(await outcomeOf(behind.setLegalHold({ key }, true, NEVER))).toMatchObject({ code: 'store-failed' });
    proxy.heal();
    expect(await lock.retention(key, NEVER)).toBe('none');
    expect(await lock.legalHold({ key }, NEVER)).toBe(false);
  });

  test('a permission that is missing is named', async () => {
    const key = await put();
    const behind = lockOf(proxied);
    const until = inDays(1);
    const denied = { kind: 'refuse', status: 403, code: 'AccessDenied' } as const;
    const tried = async (method: string, call: () => Promise<unknown>): Promise<unknown> => {
      proxy.set({ method, path: /data/, fault: denied });
      const outcome = await outcomeOf(call());
      proxy.heal();
      return outcome;
    };
    const named = (permission: string): unknown =>
      expect.objectContaining({ code: 'store-misconfigured', message: expect.stringContaining(permission) as unknown });
    expect(await tried('PUT', () => behind.retain(key, { mode: 'governance', until }, NEVER))).toEqual(
      named('s3:PutObjectRetention'),
    );
    expect(await tried('PUT', () => behind.setLegalHold({ key }, true, NEVER))).toEqual(named('s3:PutObjectLegalHold'));
    expect(await tried('GET', () => behind.retention(key, NEVER))).toEqual(named('s3:GetObjectRetention'));
    expect(await tried('GET', () => behind.legalHold({ key }, NEVER))).toEqual(named('s3:GetObjectLegalHold'));
  });

  test('a failure of the moment is tried again', async () => {
    const key = await put();
    proxy.set({ method: 'PUT', times: 2, fault: { kind: 'refuse', status: 503, code: 'SlowDown' } });
    expect(await lockOf(proxied).retain(key, { mode: 'governance', until: inDays(1) }, NEVER)).toBe(true);
    proxy.heal();
  });

  test('a bucket without Object Lock is told as such, by every call', async () => {
    const plain = await bucketUnderTest();
    const unfit = new S3Maintenance({ ...plain.config, objectLock: RULE }, plain.secret, PREFIX);
    const key = objectKey(refOf(randomBytes(10)));
    await plain.sdk.send(
      new PutObjectCommand({ Bucket: plain.config.bucket, Key: `${PREFIX}/${key}`, Body: 'content' }),
    );
    const none = lockOf(unfit);
    for (const call of [
      () => none.retention(key, NEVER),
      () => none.retain(key, { mode: 'governance', until: inDays(1) }, NEVER),
      () => none.legalHold({ key }, NEVER),
      () => none.setLegalHold({ key }, true, NEVER),
    ])
      expect(await outcomeOf(call())).toMatchObject({
        code: 'store-misconfigured',
        message: expect.stringMatching(/has no Object Lock: make one that has/) as unknown,
      });
    await unfit.close();
    plain.sdk.destroy();
  });
});

describe('a renewal of many', () => {
  const DAYS = { ...RULE, days: 10 };
  let repository: S3Maintenance;
  let keys: readonly string[];
  let events: AuditEvent[];
  beforeAll(async () => {
    repository = new S3Maintenance(
      { ...bucket.config, endpoint: proxy.endpoint, objectLock: DAYS },
      bucket.secret,
      'many',
    );
    keys = Array.from({ length: 5 }, (_, index) => `index/${String(index).repeat(64)}`);
    for (const key of keys)
      await bucket.sdk.send(new PutObjectCommand({ Bucket: bucket.config.bucket, Key: `many/${key}`, Body: 'x' }));
  });
  afterAll(() => repository.close());

  /** @param more - an audit that fails, say */
  function renew(more: Partial<ExtendRequest> = {}): ReturnType<typeof extend> {
    events = [];
    const audit: AuditSink = {
      append: (_, event) => {
        events.push(event);
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
    };
    return extend({
      ...{
        principal: { client: 'many', via: 'admin' },
        repository: { store: 'lab', prefix: 'many' },
        openAudit: () => Promise.resolve(audit),
      },
      ...{ maintenance: repository, lock: lockOf(repository), whenUnder: DAY_MS, dryRun: false },
      ...{ perSecond: undefined, progress: () => undefined, signal: NEVER.signal },
      ...more,
    });
  }
  const retained = async (): Promise<number> => {
    const all = await Promise.all(keys.map((key) => lockOf(repository).retention(key, NEVER)));
    return all.filter((one) => one !== 'none').length;
  };

  test('without an audit nothing is changed', async () => {
    const openAudit = (): Promise<AuditSink> => Promise.reject(new GatewayError('audit-unavailable'));
    expect(await outcomeOf(renew({ openAudit }))).toMatchObject({ code: 'audit-unavailable' });
    expect(await retained()).toBe(0);
  });

  test('a permission that is missing ends it, with one line', async () => {
    proxy.set({ method: 'PUT', fault: { kind: 'refuse', status: 403, code: 'AccessDenied' } });
    expect(await outcomeOf(renew())).toMatchObject({
      code: 'store-misconfigured',
      message: expect.stringContaining('s3:PutObjectRetention') as unknown,
    });
    proxy.heal();
    expect(events).toMatchObject([{ kind: 'extend' }, { kind: 'extended', changed: 0, complete: false }]);
    expect(await retained()).toBe(0);
  });

  test('one that fails is counted and named, and the others are renewed; the same again does the rest', async () => {
    proxy.set({ method: 'PUT', path: /index\/3333/, fault: { kind: 'refuse', status: 500, code: 'InternalError' } });
    const { failures, ...counts } = await renew();
    proxy.heal();
    expect(counts).toMatchObject({ objects: 5, changed: 4, failed: 1, complete: true });
    expect(failures).toEqual([{ key: keys[3], detail: expect.stringContaining('InternalError') as unknown }]);
    expect(events).toMatchObject([{ kind: 'extend' }, { kind: 'extended', changed: 4, failed: 1, complete: true }]);
    expect(await retained()).toBe(4);
    expect(await renew()).toMatchObject({ objects: 5, changed: 1, failed: 0, complete: true });
    expect(await renew()).toMatchObject({ objects: 5, changed: 0, failed: 0 });
    // Nothing was to be changed, so nothing is in the audit.
    expect(events).toEqual([]);
  });
});
