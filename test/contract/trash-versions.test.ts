/**
 * The trash of a bucket that keeps versions by itself, on a real radosgw, with versioning alone and with Object Lock: what sessions remove
 * stays there as older versions, is listed by session, comes back, and is purged as far as the storage lets it, in an order that keeps
 * whatever remains restorable.
 */
import {
  DeleteObjectCommand,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectLegalHoldCommand,
} from '@aws-sdk/client-s3';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { onTrash, openClientMaintenance, type OpenedMaintenance } from '../../src/client-maintenance.ts';
import type { RemovedBy } from '../../src/core/trash.ts';
import { finishTakingOut, takeOut } from '../../src/maintenance/quarantine.ts';
import { planUndo } from '../../src/maintenance/undo-plan.ts';
import type { PurgeCounts, TrashSelection } from '../../src/maintenance/trash-work.ts';
import { purgeTrash, readTrash, restoreTrash, type TrashContents } from '../../src/maintenance/trash.ts';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { sample, sha256 } from '../support/restic-client.ts';
import { bucketUnderTest, storeOn, type BucketUnderTest } from '../support/s3-bucket.ts';
import { startStack, type Stack } from '../support/stack.ts';

const DAY_MS = 86_400_000;
const SIGNAL = new AbortController().signal;
/** Later than anything here, however the batch's minute was rounded. */
const SOON = (): Date => new Date(Date.now() + 10 * 60_000);

interface Stored {
  readonly key: string;
  readonly body: Buffer;
}
const some = (type: string, size = 300): Stored => {
  const { name, body } = sample(size);
  return { key: `${type}/${name}`, body };
};

describe.each([
  ['versioning', { versioning: true }, undefined],
  ['Object Lock', { objectLock: true }, { mode: 'governance', days: 1 }],
] as const)('a bucket with %s', (_what, options, objectLock) => {
  let bucket: BucketUnderTest;
  let proxy: FaultProxy;
  let stack: Stack;
  /** Each story has a repository of its own. */
  let client = '';
  let opened: OpenedMaintenance;

  beforeAll(async () => {
    bucket = await bucketUnderTest(options);
    proxy = await startFaultProxy(bucket.config.endpoint ?? '');
    const full = { access: 'full', trashMs: 14 * DAY_MS, maxSessions: 100 } as const;
    const names = ['whole', 'mixed', 'undone', 'ordered', 'stranger', 'denied', 'held', 'mended', 'retained'];
    stack = await startStack(
      {
        ...Object.fromEntries(names.map((name) => [name, full])),
        thrifty: { removals: 'deferred', trashMs: 14 * DAY_MS, quota: 20_000, maxSessions: 100 },
      },
      // The retention of what is stored would let none of these be purged today; the story `retained` sets its own.
      () => storeOn(bucket, proxy.endpoint),
    );
  });
  afterAll(async () => {
    await stack.close();
    await proxy.close();
    bucket.sdk.destroy();
  });

  const begin = async (name: string): Promise<void> => {
    client = name;
    opened = await openClientMaintenance(stack.config, name);
  };
  /** One session. @returns its id, and the statuses */
  const session = async (
    method: 'POST' | 'DELETE',
    objects: readonly Stored[],
    via: 'ssh' | 'admin' = 'admin',
  ): Promise<{ readonly id: string; readonly statuses: readonly number[] }> => {
    const connected = await stack.connect(client, { via });
    const statuses: number[] = [];
    for (const { key, body } of objects)
      statuses.push((await connected.request(method, `/${key}`, method === 'POST' ? { body } : {})).status);
    connected.close();
    await connected.served.ended;
    return { id: connected.served.id, statuses };
  };
  const put = (objects: readonly Stored[]) => session('POST', objects);
  const remove = async (objects: readonly Stored[], via: 'ssh' | 'admin' = 'admin'): Promise<string> => {
    const { id, statuses } = await session('DELETE', objects, via);
    expect(statuses).toEqual(objects.map(() => 200));
    return id;
  };
  const place = ({ key }: Stored): string => `${client}/${key.replace(/^data\/(..)/, 'data/$1/$1')}`;
  const versions = async (prefix: string) => {
    const { Versions = [], DeleteMarkers = [] } = await bucket.sdk.send(
      new ListObjectVersionsCommand({ Bucket: bucket.config.bucket, Prefix: prefix }),
    );
    return { Versions, DeleteMarkers };
  };
  const there = async (objects: readonly Stored[]): Promise<readonly boolean[]> => {
    const connected = await stack.connect(client, { via: 'admin' });
    const found: boolean[] = [];
    for (const { key, body } of objects) {
      const answer = await connected.request('GET', `/${key}`);
      found.push(answer.status === 200 && sha256(answer.body) === sha256(body));
    }
    connected.close();
    return found;
  };
  const list = (): Promise<TrashContents> => readTrash(opened.maintenance, SIGNAL);
  const restore = (selection: TrashSelection) => onTrash(opened, SIGNAL, (work) => restoreTrash(work, selection));
  const purge = (may: (by: RemovedBy) => boolean = () => true, before = SOON()): Promise<PurgeCounts> =>
    onTrash(opened, SIGNAL, (work) => purgeTrash(work, { before, may, gently: false }));

  test('what a session removes is listed under it, comes back as it was, and what it leaves is purged', async () => {
    await begin('whole');
    const objects = [some('data', 5000), some('data'), some('index'), some('snapshots'), some('keys')];
    const kept = some('data');
    await put([...objects, kept]);
    const facts = await opened.maintenance.facts(place(objects[0] ?? kept).slice('whole/'.length), { signal: SIGNAL });
    expect(await list()).toMatchObject({ sessions: [], objects: 0, versions: { objects: 0 }, noted: false });
    const id = await remove(objects);
    expect(await there([...objects, kept])).toEqual([...objects.map(() => false), true]);
    const bytes = objects.reduce((sum, { body }) => sum + body.length, 0);
    expect(await list()).toMatchObject({
      sessions: [{ session: id, by: 'admin', snapshots: 1, objects: 5, bytes }],
      ...{ objects: 5, bytes, strangers: 0, noted: true },
      versions: { objects: 5, bytes, olderObjects: 0 },
    });
    // Nothing was copied: the storage's own version is what is kept.
    expect((await versions('whole/.restic-gateway/')).Versions).toHaveLength(1);

    expect(await restore({ session: 'another' })).toMatchObject({ moved: 0 });
    expect(await restore({ session: id })).toMatchObject({ moved: 5, taken: 0, denied: false });
    expect(await there([...objects, kept])).toEqual([...objects, kept].map(() => true));
    const again = await opened.maintenance.facts(place(objects[0] ?? kept).slice('whole/'.length), { signal: SIGNAL });
    expect({ arrived: again?.arrived, uploader: again?.uploader }).toEqual({
      ...{ arrived: facts?.arrived, uploader: facts?.uploader },
    });
    expect(await restore('all')).toMatchObject({ moved: 0, taken: 0 });
    const told = stack.audit().filter(({ event, client: whose }) => event === 'restore' && whose === client);
    expect(told).toHaveLength(5);

    expect(await list()).toMatchObject({ sessions: [], objects: 0, versions: { objects: 0, olderObjects: 5 } });
    const fresh = await purge(undefined, new Date(Date.now() - DAY_MS));
    expect(fresh).toMatchObject({ objects: 0, retained: 0, denied: false, waiting: 0 });
    expect(await purge()).toMatchObject({ objects: 5, bytes, retained: 0, denied: false });
    expect(await there([...objects, kept])).toEqual([...objects, kept].map(() => true));
    for (const object of objects) expect((await versions(place(object))).Versions).toHaveLength(1);
    expect((await versions('whole/.restic-gateway/trash/')).Versions).toEqual([]);
    expect(await list()).toMatchObject({ versions: { olderObjects: 0 }, noted: false });
  });

  test('purged, it is gone to the last marker, and the audit has it before', async () => {
    await begin('mixed');
    const objects = [some('data'), some('index'), some('snapshots')];
    await put(objects);
    await remove(objects);
    expect(await purge()).toMatchObject({ objects: 3, retained: 0, waiting: 0 });
    for (const object of objects) expect(await versions(place(object))).toEqual({ Versions: [], DeleteMarkers: [] });
    const told = stack.audit().filter(({ event, client: whose }) => event === 'purge' && whose === client);
    expect(told.map(({ batch, objects: count }) => [batch, count])).toEqual([
      ['versions/snapshots', 1],
      ['versions/index', 1],
      ['versions/data', 1],
    ]);
    expect(await restore('all')).toMatchObject({ moved: 0 });
  });

  test('what an undo has taken out does not come back with what was removed', async () => {
    await begin('undone');
    const [good, junk] = [some('snapshots'), some('snapshots')];
    await put([good]);
    const connected = await stack.connect(client);
    expect((await connected.request('POST', `/${junk.key}`, { body: junk.body })).status).toBe(200);
    const bad = connected.served.id;
    connected.close();
    const plan = await planUndo(opened.maintenance, client, { session: bad }, SIGNAL);
    const audit = await opened.openAudit();
    const { principal, maintenance, repository } = opened;
    const undo = { principal, maintenance, audit, repository, signal: SIGNAL };
    const { quarantine } = await takeOut(undo, { client, selection: `--session ${bad}`, objects: plan.objects });
    await finishTakingOut(undo, quarantine);
    await audit.close();
    await remove([good]);
    expect(await list()).toMatchObject({ objects: 1 });
    expect(await restore('all')).toMatchObject({ moved: 1 });
    expect(await there([good, junk])).toEqual([true, false]);
  });

  test('what stays, held or removed by no gateway, keeps what was removed after it', async () => {
    await begin('ordered');
    const [snapshot, pack, other] = [some('snapshots'), some('data'), some('data')];
    await put([snapshot, pack, other]);
    // Where the storage tells times in whole seconds, or the two are of the same minute, it counts as the client's, which is held.
    await remove([snapshot], 'ssh');
    await remove([pack, other]);
    const { objects, waiting } = await purge((by) => by === 'admin');
    expect({ objects, waits: waiting > 0 }).toEqual({ objects: 0, waits: true });
    expect(await restore('all')).toMatchObject({ moved: 3 });
    expect(await there([snapshot, pack])).toEqual([true, true]);

    await begin('stranger');
    const [lost, needed] = [some('snapshots'), some('data')];
    await put([lost, needed]);
    // Someone has the storage's credentials.
    await bucket.sdk.send(new DeleteObjectCommand({ Bucket: bucket.config.bucket, Key: place(lost) }));
    // S3 says times in whole seconds: what comes next is later.
    await sleep(1100);
    await remove([needed]);
    const known = (await list()).sessions;
    expect(known.reduce((sum, { objects }) => sum + objects, 0)).toBe(2);
    // Long before any note.
    expect(known[0]).toMatchObject({ snapshots: 1 });
    await purge();
    expect(await restore('all')).toMatchObject({ denied: false });
  });

  test('a version that was only written over is never taken away for it', async () => {
    await begin('mended');
    const [object, removed] = [some('data'), some('data')];
    await put([object, removed]);
    const Key = place(object);
    await bucket.sdk.send(new PutObjectCommand({ Bucket: bucket.config.bucket, Key, Body: Buffer.from('ruined') }));
    await remove([removed]);
    expect(await purge()).toMatchObject({ objects: 1 });
    expect((await versions(Key)).Versions).toHaveLength(2);
  });

  test('a key that may not list or remove versions: it is said, and nothing is taken for done', async () => {
    await begin('denied');
    const objects = [some('data'), some('snapshots')];
    await put(objects);
    await remove(objects);
    const refuse = { kind: 'refuse', status: 403, code: 'AccessDenied' } as const;
    proxy.set({ method: 'GET', path: /[?&]versions=/, fault: refuse });
    expect(await list()).toMatchObject({ versions: 'denied', noted: true, objects: 0 });
    expect(await restore('all')).toMatchObject({ moved: 0, denied: true });
    expect(await purge()).toMatchObject({ objects: 0 });
    proxy.set({ method: 'DELETE', path: /[?&]versionId/, fault: refuse });
    expect(await purge()).toMatchObject({ objects: 0, retained: 0, denied: true });
    proxy.heal();
    expect(await restore('all')).toMatchObject({ moved: 2 });
    expect(await there(objects)).toEqual([true, true]);
  });

  test('a client whose removals are deferred fills its quota, and no more than that, by removing and uploading', async () => {
    await begin('thrifty');
    const statuses: number[] = [];
    for (let round = 0; round < 4; round += 1) {
      const pack = some('data', 8000);
      statuses.push((await session('POST', [pack], 'ssh')).statuses[0] ?? 0);
      if (statuses.at(-1) === 200) await remove([pack], 'ssh');
    }
    expect(statuses).toEqual([200, 200, 507, 507]);
    const { removedByClients } = await removedBytes();
    expect(removedByClients).toBe(16_000);
  });

  const removedBytes = async (): Promise<{ readonly removedByClients: number }> => {
    const { createS3Storage } = await import('../../src/stores/s3-store.ts');
    const storage = createS3Storage(bucket.config, bucket.secret);
    const removedByClients = await storage.repository('thrifty').removedByClients({ signal: SIGNAL });
    await storage.close();
    return { removedByClients };
  };

  test('what is retained or held is not purged, nor is what was removed after it; then it is', async () => {
    if (objectLock === undefined) return;
    await begin('retained');
    const [snapshot, pack, older] = [some('snapshots'), some('data'), some('index')];
    await put([snapshot, pack, older]);
    const Bucket = bucket.config.bucket;
    const hold = (Status: 'ON' | 'OFF') =>
      bucket.sdk.send(
        new PutObjectLegalHoldCommand({ Bucket, Key: place(snapshot), VersionId: held, LegalHold: { Status } }),
      );
    const held = (await versions(place(snapshot))).Versions[0]?.VersionId ?? '';
    await hold('ON');
    await remove([snapshot]);
    await remove([pack, older]);
    expect(await purge()).toMatchObject({ objects: 0, retained: 1, denied: false });
    expect(await restore('all')).toMatchObject({ moved: 3 });
    expect(await there([snapshot, pack, older])).toEqual([true, true, true]);
    await remove([snapshot, pack, older]);
    await hold('OFF');
    // Both versions of each.
    expect(await purge()).toMatchObject({ objects: 6, retained: 0 });
  });

  test('a bucket whose versioning was suspended since still has what it kept', async () => {
    if (objectLock !== undefined) return;
    await begin('held');
    const object = some('snapshots');
    await put([object]);
    await remove([object]);
    const Bucket = bucket.config.bucket;
    const set = (Status: 'Enabled' | 'Suspended') =>
      bucket.sdk.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status } }));
    await set('Suspended');
    expect(await list()).toMatchObject({ objects: 1, versions: { objects: 1 } });
    expect(await restore('all')).toMatchObject({ moved: 1 });
    expect(await there([object])).toEqual([true]);
    await set('Enabled');
  });
});
