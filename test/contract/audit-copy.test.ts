/** The audit's copy on a real S3 server: complete and nothing twice whatever happens, and proof against who rewrites the audit here. */
import { createHash } from 'node:crypto';
import { appendFileSync, readFileSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { DeleteObjectCommand, HeadObjectCommand, ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { compareCopy } from '../../src/audit/compare-copy.ts';
import { createCopier } from '../../src/audit/copier.ts';
import { readCopyState } from '../../src/audit/copy-state.ts';
import { createCopying } from '../../src/audit/copying.ts';
import { openAudit } from '../../src/audit/open-audit.ts';
import { auditFiles } from '../../src/audit/read.ts';
import { verifyAudit } from '../../src/audit/verify.ts';
import { S3Maintenance } from '../../src/stores/s3-maintenance.ts';
import type { SessionIdentity } from '../../src/ports/audit-sink.ts';
import { freePort, tempDir } from '../support/lab.ts';
import { bucketUnderTest, type BucketUnderTest } from '../support/s3-bucket.ts';

const SIGNAL = new AbortController().signal;
const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };

let bucket: BucketUnderTest;
let store: S3Maintenance;
let config: Parameters<typeof openAudit>[0];
let file: string;

beforeEach(async () => {
  bucket = await bucketUnderTest({ objectLock: true });
  const objectLock = { mode: 'compliance', days: 1 } as const;
  store = new S3Maintenance({ ...bucket.config, objectLock }, bucket.secret, 'audit/gw1');
  file = path.join(tempDir(), 'audit.jsonl');
  const copy = { store: 'lab', prefix: 'audit/gw1', every: 60_000 };
  config = { audit: { file, maxSize: 20_000, copy }, state: path.join(path.dirname(file), 'state') };
});
afterEach(async () => {
  await store.close();
  bucket.sdk.destroy();
});

const identity = (session: string): SessionIdentity => ({
  ...{ session, principal: { client: 'appsrv', via: 'ssh' }, access: 'append-only' },
  repository: { store: 'archive', prefix: 'p' },
});

async function write(count: number, name: string): Promise<void> {
  const audit = await openAudit(config);
  for (let i = 0; i < count; i++) await audit.append(identity(`${name}-${i}`), { kind: 'session-start' });
  await audit.close();
}

/** What the copy holds: each segment's chunks joined, by its first line. Throws when they do not lie end to end. */
async function copied(): Promise<Map<string, string>> {
  const keys: string[] = [];
  for await (const page of store.files('', { signal: SIGNAL })) keys.push(...page.map(({ key }) => key));
  const segments = new Map<string, string>();
  for (const key of keys.sort()) {
    const [segment = '', name = ''] = key.split('/');
    const before = segments.get(segment) ?? '';
    const offset = Number.parseInt(name, 10);
    // With versioning on, two copiers at once may both have been let make one, and one may lie within another; never is there a hole.
    if (offset > before.length) throw new Error(`${key} does not begin at ${before.length}`);
    let text = before.slice(0, offset);
    for await (const chunk of store.read(key, { signal: SIGNAL })) text += Buffer.from(chunk).toString('latin1');
    segments.set(segment, text + before.slice(text.length));
  }
  return segments;
}

const local = async (): Promise<string[]> => (await auditFiles(file)).map((one) => readFileSync(one, 'latin1'));
const compare = async (keep?: number) => compareCopy(await auditFiles(file), store, { keep, signal: SIGNAL });

describe('a copy', () => {
  test('has every byte once, over rotations, restarts and two copiers at once', async () => {
    const state = { writing: true };
    const copiers = [0, 1].map(async () => {
      let copier = createCopier({ file, store });
      for (let turn = 0; state.writing; turn++) {
        await copier.run(SIGNAL);
        if (turn % 3 === 2) copier = createCopier({ file, store });
      }
    });
    for (let part = 0; part < 5; part++) await write(80, `s${part}`);
    state.writing = false;
    await Promise.all(copiers);
    const last = createCopier({ file, store });
    await last.run(SIGNAL);
    expect(await last.run(SIGNAL)).toBe(0);
    const files = await local();
    expect(files.length).toBeGreaterThan(3);
    expect([...(await copied()).values()].sort()).toEqual(files.sort());
    expect(await compare()).toMatchObject({ problems: [], notes: [], bytes: files.join('').length });
  });

  test('waits for the end of a line that is being written; what a crash left in a file that was rotated is copied', async () => {
    await write(3, 's');
    const whole = readFileSync(file, 'latin1');
    appendFileSync(file, '{"time":"torn');
    await createCopier({ file, store }).run(SIGNAL);
    expect([...(await copied()).values()]).toEqual([whole]);
    expect((await compare()).notes).toEqual([`${file}:4: 13 bytes from here on are not copied yet`]);
    const tiny = { ...config, audit: { ...config.audit, maxSize: 10 } };
    const audit = await openAudit(tiny);
    await audit.append(identity('after'), { kind: 'session-start' });
    await audit.close();
    await createCopier({ file, store }).run(SIGNAL);
    expect([...(await copied()).values()].sort()).toEqual((await local()).sort());
    expect(await compare()).toMatchObject({ problems: [], notes: [] });
  });

  test('is the same when a file is packed afterwards', async () => {
    await write(150, 's');
    await createCopier({ file, store }).run(SIGNAL);
    await write(10, 'more');
    const [first = ''] = await auditFiles(file);
    writeFileSync(`${first}.gz`, gzipSync(readFileSync(first)));
    rmSync(first);
    await createCopier({ file, store }).run(SIGNAL);
    const texts = await Promise.all((await auditFiles(file)).map((one) => readFile(one)));
    const wanted = texts.map((bytes, index) => (index === 0 ? gunzipSync(bytes) : bytes).toString('latin1'));
    expect([...(await copied()).values()].sort()).toEqual(wanted.sort());
    expect(await compare()).toMatchObject({ problems: [], notes: [] });
  });

  test('does not unpack again what it has to its end, until the file is another one', async () => {
    await write(150, 's');
    const [first = ''] = await auditFiles(file);
    const packed = `${first}.gz`;
    writeFileSync(packed, gzipSync(readFileSync(first)));
    rmSync(first);
    const time = new Date('2026-01-01T00:00:00Z');
    utimesSync(packed, time, time);
    const copier = createCopier({ file, store });
    await copier.run(SIGNAL);
    // It cannot be unpacked to its end any more, but has the same size and time.
    const { size } = statSync(packed);
    writeFileSync(packed, Buffer.concat([readFileSync(packed).subarray(0, size - 8), Buffer.alloc(8, 7)]));
    utimesSync(packed, time, time);
    await write(3, 'more');
    expect(await copier.run(SIGNAL)).toBeGreaterThan(0);
    utimesSync(packed, new Date(), new Date());
    await expect(copier.run(SIGNAL)).rejects.toMatchObject({ code: 'audit-unavailable' });
    // It is looked at each time for as long as it is so.
    await expect(copier.run(SIGNAL)).rejects.toMatchObject({ code: 'audit-unavailable' });
  });

  test('cannot be removed by the gateway’s own key before its time', async () => {
    await write(3, 's');
    await createCopier({ file, store }).run(SIGNAL);
    const Bucket = bucket.config.bucket;
    const { Versions = [] } = await bucket.sdk.send(new ListObjectVersionsCommand({ Bucket }));
    expect(Versions).toHaveLength(1);
    const [{ Key, VersionId } = {}] = Versions;
    const head = await bucket.sdk.send(new HeadObjectCommand({ Bucket, Key }));
    expect(head.ObjectLockMode).toBe('COMPLIANCE');
    await expect(bucket.sdk.send(new DeleteObjectCommand({ Bucket, Key, VersionId }))).rejects.toThrow();
  });
});

describe('someone with root on the gateway host', () => {
  beforeEach(async () => {
    await write(200, 's');
    await createCopier({ file, store }).run(SIGNAL);
    expect((await auditFiles(file)).length).toBeGreaterThan(2);
  });

  test('who writes a file anew with links that hold is found out', async () => {
    const [first = ''] = await auditFiles(file);
    const lines = readFileSync(first, 'utf8').trimEnd().split('\n');
    // One word is changed, and every link after it made anew.
    const hashes = new Map<string, string>();
    const hash = (line: string): string => createHash('sha256').update(line).digest('base64url').slice(0, 22);
    const forge = (line: string): string => {
      let forged = line.replace('"session":"s-9"', '"session":"x-9"');
      for (const [from, to] of hashes) forged = forged.replaceAll(from, to);
      if (forged !== line) hashes.set(hash(line), hash(forged));
      return forged;
    };
    writeFileSync(
      first,
      lines
        .map(forge)
        .map((line) => `${line}\n`)
        .join(''),
    );
    for (const other of (await auditFiles(file)).slice(1)) {
      const text = readFileSync(other, 'utf8').trimEnd().split('\n');
      writeFileSync(
        other,
        text
          .map(forge)
          .map((line) => `${line}\n`)
          .join(''),
      );
    }
    const files = await auditFiles(file);
    expect((await verifyAudit(files)).problems).toEqual([]);
    const { problems } = await compare();
    expect(problems[0]).toBe(
      `${first}:10: it is not what was copied: it or a line before it was changed, removed or inserted`,
    );
    // The files after it begin otherwise now.
    expect(problems.filter((one) => one.includes('no file here begins as it does'))).toHaveLength(files.length - 1);
  });

  test('who cuts off the end is found out, and the copier says so too', async () => {
    const [first = ''] = await auditFiles(file);
    const text = readFileSync(first, 'utf8').trimEnd().split('\n');
    truncateSync(
      first,
      text
        .slice(0, -1)
        .map((line) => `${line}\n`)
        .join('').length,
    );
    expect((await compare()).problems).toEqual([`${first}:${text.length}: the end was cut off: the copy goes on`]);
    await expect(createCopier({ file, store }).run(SIGNAL)).rejects.toThrow('is shorter than its copy');
  });

  test.each([undefined, 1])('who removes a file in the middle is found out (keep: %s)', async (keep) => {
    const [, second = ''] = await auditFiles(file);
    rmSync(second);
    expect((await compare(keep)).problems).toEqual([expect.stringContaining('no file here begins as it does')]);
  });

  test('who removes the oldest file is found out, but where rotation does that', async () => {
    const [oldest = ''] = await auditFiles(file);
    rmSync(oldest);
    expect((await compare()).problems).toHaveLength(1);
    expect(await compare(1)).toMatchObject({ problems: [], notes: [expect.stringContaining('as keep removes')] });
  });

  test('who makes up another beginning is found out even then', async () => {
    for (const one of await auditFiles(file)) rmSync(one);
    await write(50, 'made-up');
    expect((await compare(1)).problems.length).toBeGreaterThan(2);
  });
});

test('what is gone from the copy is named, and copied again by the next copier', async () => {
  await store.close();
  store = new S3Maintenance(bucket.config, bucket.secret, 'audit/gw1');
  const copier = createCopier({ file, store });
  const sizes: number[] = [];
  for (let part = 0; part < 3; part++) {
    await write(5, `s${part}`);
    sizes.push(await copier.run(SIGNAL));
  }
  const keys: string[] = [];
  for await (const page of store.files('', { signal: SIGNAL })) keys.push(...page.map(({ key }) => key));
  const Key = `audit/gw1/${keys.sort()[1] ?? ''}`;
  await bucket.sdk.send(new DeleteObjectCommand({ Bucket: bucket.config.bucket, Key }));
  expect((await compare()).problems).toEqual([`${file}:6: the copy lacks the ${sizes[1] ?? 0} bytes that follow`]);
  expect(await createCopier({ file, store }).run(SIGNAL)).toBe(sizes[1]);
  expect(await compare()).toMatchObject({ problems: [], notes: [] });
});

test('a copy that fails is told in the log, the state and the audit, keeps nobody waiting, and so is its end', async () => {
  await write(3, 's');
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  const broken = new S3Maintenance({ ...bucket.config, endpoint }, bucket.secret, 'audit/gw1');
  const reported: string[] = [];
  const say = (_fields: unknown, message: string): void => void reported.push(message);
  const log = { info: say, warn: say, error: say };
  const copying = (to: S3Maintenance) => createCopying({ config, store: to, name: 'lab:audit/gw1', log, lateMs: 0 });
  const failing = copying(broken);
  await expect(failing.run(SIGNAL)).rejects.toMatchObject({ code: 'store-unavailable' });
  await expect(failing.run(SIGNAL)).rejects.toMatchObject({ code: 'store-unavailable' });
  await broken.close();
  expect(await readCopyState(config.state)).toMatchObject({
    failing: { late: true, why: expect.stringContaining('ECONNREFUSED') as unknown },
  });
  // Each is told once.
  expect(reported).toEqual([
    expect.stringContaining('the audit cannot be copied to lab:audit/gw1: '),
    expect.stringContaining('the audit has not been copied to lab:audit/gw1 since'),
  ]);
  await copying(store).run(SIGNAL);
  await copying(store).run(SIGNAL);
  expect(await readCopyState(config.state)).toEqual({
    ...{ copy: 'lab:audit/gw1', complete: expect.any(String) as unknown },
  });
  const events = (await local())
    .join('')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string });
  expect(events.map(({ event }) => event).slice(3)).toEqual(['copy-late', 'copy-caught-up']);
  expect(await compare()).toMatchObject({ problems: [], notes: [] });
});

test('what is to be removed is removed once it is in the copy, and not before', async () => {
  config = { ...config, audit: { ...config.audit, keep: 1 } };
  await write(300, 's');
  const before = await auditFiles(file);
  expect(before.length).toBeGreaterThan(3);
  const all = (await local()).sort();
  await createCopying({ config, store, name: 'lab:audit/gw1', log: silent }).run(SIGNAL);
  expect(await auditFiles(file)).toEqual(before.slice(-2));
  expect([...(await copied()).values()].sort()).toEqual(all);
  expect((await compare(1)).problems).toEqual([]);
});
