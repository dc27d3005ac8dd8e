/** docs/audit-reference.md says of every field of every line when it is there, and of no other: held to the code, and to what is written. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createCopying } from '../../src/audit/copying.ts';
import { COMMON_FIELDS, EVENT_FIELDS, EVENT_KINDS } from '../../src/audit/fields.ts';
import { watchForLoss } from '../../src/audit/loss.ts';
import { appendToAudit } from '../../src/audit/open-audit.ts';
import { ERROR_TABLE } from '../../src/core/errors.ts';
import { parseObjectKey, type ObjectRef } from '../../src/core/object.ts';
import { onTrash, openClientMaintenance } from '../../src/client-maintenance.ts';
import { openMonitor } from '../../src/monitor/monitor.ts';
import { restore, takeOut } from '../../src/maintenance/quarantine.ts';
import { purgeTrash } from '../../src/maintenance/trash.ts';
import type { AuditSink } from '../../src/ports/audit-sink.ts';
import { extend } from '../../src/retention/extend.ts';
import { hold, release } from '../../src/retention/legal-hold.ts';
import { S3Maintenance } from '../../src/stores/s3-maintenance.ts';
import { freePort } from '../support/lab.ts';
import { bucketUnderTest } from '../support/s3-bucket.ts';
import { sample } from '../support/restic-client.ts';
import { startStack, type AuditLine, type Stack, type StackClient } from '../support/stack.ts';

const TEXT = readFileSync(path.resolve(import.meta.dirname, '../../docs/audit-reference.md'), 'utf8');

/** The cells of the first table below a heading; none where the next heading comes first. */
function tableBelow(heading: string): string[][] {
  const lines = TEXT.split('\n');
  const from = lines.indexOf(heading);
  if (from < 0) throw new Error(`there is no heading ${heading}`);
  const below = lines.slice(from + 1);
  const end = below.findIndex((line) => line.startsWith('#'));
  const rows = below.slice(0, end < 0 ? undefined : end).filter((line) => line.startsWith('|'));
  return rows.slice(2).map((row) => row.split('|').map((cell) => cell.trim().replaceAll('`', '')));
}

/** Field by field, when it is there. */
function fieldsBelow(heading: string): Record<string, string> {
  return Object.fromEntries(
    tableBelow(heading).map(([, field = '', type = '', when = '', meaning = '']) => {
      if (type === '' || meaning === '') throw new Error(`${heading}: ${field} lacks its type or its meaning`);
      return [field, when];
    }),
  );
}

describe('the reference and the code', () => {
  test('have the same kinds of events', () => {
    const kinds = [...TEXT.matchAll(/^### `([a-z-]+)`$/gm)].map(([, kind]) => kind);
    expect([...kinds].sort()).toEqual([...EVENT_KINDS].sort());
  });

  test('have the same common fields', () => {
    expect(fieldsBelow('## Fields of every event')).toEqual(COMMON_FIELDS);
  });

  test.each(EVENT_KINDS)('have the same fields of %s', (kind) => {
    expect(fieldsBelow(`### \`${kind}\``)).toEqual(EVENT_FIELDS[kind]);
  });

  test('have the same errors', () => {
    const errors = Object.entries(ERROR_TABLE).map(([code, { clientMessage: notify }]) => [code, notify]);
    expect(tableBelow('## Reasons that are errors').map(([, code, notify]) => [code, notify])).toEqual(errors);
  });
});

describe('the reference and what a gateway has written', () => {
  let stack: Stack;
  let lines: AuditLine[];

  beforeAll(async () => {
    stack = await startStack({
      appsrv: { bandwidth: { upload: 1024 * 1024 } },
      dbsrv: { id: 'dbsrv-1', addKeys: true, access: 'full', trashMs: 14 * 24 * 60 * 60 * 1000 },
      gone: { disabled: true },
      broken: {},
    });
    lines = await everyKindOfEvent(stack);
  });
  afterAll(async () => {
    await stack.close();
  });

  test('every kind occurs', () => {
    expect([...new Set(lines.map((line) => String(line['event'])))].sort()).toEqual([...EVENT_KINDS].sort());
  });

  test('no line has a field that is not in it, nor lacks one that it says is always there', () => {
    for (const line of lines) {
      const kind = line['event'] as keyof typeof EVENT_FIELDS;
      const known: Readonly<Record<string, string>> = { ...COMMON_FIELDS, ...EVENT_FIELDS[kind] };
      const always = Object.keys(known).filter((field) => known[field] === 'always');
      expect({ kind, unknown: Object.keys(line).filter((field) => known[field] === undefined) }).toEqual({
        ...{ kind, unknown: [] },
      });
      expect({ kind, missing: always.filter((field) => line[field] === undefined) }).toEqual({ kind, missing: [] });
    }
  });

  test('every field occurs in its kind, and those that are there sometimes only sometimes', () => {
    const check = (of: readonly AuditLine[], fields: Readonly<Record<string, string>>) => {
      for (const [field, when] of Object.entries(fields)) {
        const count = of.filter((line) => line[field] !== undefined).length;
        expect({ field, occurs: count > 0 }).toEqual({ field, occurs: true });
        if (when === 'sometimes') expect({ field, missing: count < of.length }).toEqual({ field, missing: true });
      }
    };
    check(lines, COMMON_FIELDS);
    for (const kind of EVENT_KINDS)
      check(
        lines.filter((line) => line['event'] === kind),
        EVENT_FIELDS[kind],
      );
  });
});

/** Makes a gateway do whatever it notes. @returns all lines of its audit, over a rotation */
async function everyKindOfEvent(stack: Stack): Promise<AuditLine[]> {
  const { config } = stack;
  const audit = (): AuditLine[] => stack.audit();
  const connect: Stack['connect'] = (...args) => stack.connect(...args);
  const post = async (client: StackClient, at: string, body: Uint8Array) =>
    (await client.request('POST', at, { body })).status;
  const peer = {
    ...{ key: 'SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU', from: '192.0.2.1', fromPort: 50022 },
    ...{ user: 'backup', command: 'serve restic --stdio --b2-hard-delete x' },
  };

  // session-start, create and its failure, throttled, remove and its failure, denied
  const certificate = { ca: peer.key, keyId: 'appsrv', serial: '7', principals: ['appsrv'], validBefore: '0' };
  const appsrv = await connect('appsrv', { ...peer, certificate, via: 'stdio' });
  (await connect('appsrv', { via: 'admin' }, { overrideProtect: true })).close();
  const [first, large] = [sample(), sample(4 * 1024 * 1024)];
  expect(await post(appsrv, '/config', Buffer.from('config'))).toBe(200);
  expect(await post(appsrv, `/data/${first.name}`, first.body)).toBe(200);
  // Of several at once, one is first, and the others find out when they are about to.
  const wrote = (kind: string): boolean => audit().some((line) => line['event'] === kind);
  while (!wrote('create-failed') || !wrote('remove-failed')) {
    const lock = sample();
    await Promise.all(Array.from({ length: 8 }, () => post(appsrv, `/locks/${lock.name}`, lock.body)));
    await Promise.all(Array.from({ length: 8 }, () => appsrv.request('DELETE', `/locks/${lock.name}`)));
  }
  expect(await post(appsrv, `/data/${large.name}`, large.body)).toBe(200);
  expect((await appsrv.request('GET', '/nothing/')).status).toBe(400);
  // Many at once, so that some lines go out in one write; of so many the last ones are only counted.
  await Promise.all(Array.from({ length: 120 }, () => appsrv.request('DELETE', `/data/${first.name}`)));
  appsrv.close();
  await appsrv.served.ended;

  // session-refused, and what is only counted
  for (let times = 0; times < 25; times++) await expect(connect('gone', peer)).rejects.toThrow('client gone');
  while (!wrote('more-refused')) await new Promise((resolve) => setTimeout(resolve, 20));

  // failed, once about an object
  writeFileSync(path.dirname(stack.file('broken', 'config')), 'no directory');
  const broken = await connect('broken');
  expect((await broken.request('GET', '/data/')).status).toBeGreaterThanOrEqual(500);
  expect((await broken.request('GET', `/data/${first.name}`)).status).toBeGreaterThanOrEqual(500);
  broken.close();
  await broken.served.ended;

  // Rotation, and what the audit itself shows: a key that came after the repository was made
  const before = audit();
  renameSync(config.audit.file, `${config.audit.file}.1`);
  const dbsrv = await connect('dbsrv');
  expect(await post(dbsrv, '/config', Buffer.from('another config'))).toBe(200);
  const key = sample();
  expect(await post(dbsrv, `/keys/${key.name}`, key.body)).toBe(200);
  // What others than the admin remove is looked up first, but for locks
  const pack = sample();
  expect(await post(dbsrv, `/data/${pack.name}`, pack.body)).toBe(200);
  expect((await dbsrv.request('DELETE', `/data/${pack.name}`)).status).toBe(200);
  dbsrv.close();
  await dbsrv.served.ended;
  const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const monitor = openMonitor({ config, log: silent, watch: false });
  expect(await monitor.report()).toBeGreaterThan(0);
  expect(await monitor.acknowledge(undefined)).toBeGreaterThan(0);
  await monitor.close();

  // A copy that is late at once, and then complete
  const { config: bucket, secret, sdk } = await bucketUnderTest();
  const copying = async (endpoint: string): Promise<unknown> => {
    const store = new S3Maintenance({ ...bucket, endpoint }, secret, 'audit');
    const options = { config, store, name: 'lab:audit', log: silent, lateMs: 0 };
    return createCopying(options)
      .run(new AbortController().signal)
      .catch((error: unknown) => error)
      .finally(() => store.close());
  };
  expect(await copying(`http://127.0.0.1:${await freePort()}`)).toMatchObject({ code: 'store-unavailable' });
  expect(await copying(bucket.endpoint ?? '')).toBeGreaterThan(0);
  sdk.destroy();

  // quarantine and restore; what was not there cannot be moved
  const { principal, maintenance, repository, openAudit } = await openClientMaintenance(config, 'dbsrv');
  const sink = await openAudit();
  const work = { principal, maintenance, audit: sink, repository, signal: new AbortController().signal };
  const arrived = { size: 100, arrived: new Date().toISOString(), session: 's' };
  const objects = [key, sample()].map(({ name }) => ({ key: `keys/${name}`, ...arrived }));
  const { quarantine, counts } = await takeOut(work, { client: 'dbsrv', selection: '--session s', objects });
  expect(counts.moved).toBe(1);
  expect((await restore(work, quarantine.id)).moved).toBe(1);
  // What forget finds in the snapshots
  const ref = parseObjectKey(`snapshots/${sample().name}`) as ObjectRef;
  const identity = { session: 's', principal: { client: 'dbsrv', via: 'admin' }, access: 'full', repository } as const;
  const [claimed, came] = [new Date(0), new Date()].map((time) => time.toISOString()) as [string, string];
  await sink.append(identity, { kind: 'forged-time', ref, claimed, arrived: came });
  await sink.append(identity, { kind: 'time-accepted', ref });
  await sink.close();

  // purge, of what the admin and a client have removed
  const admin = await connect('dbsrv', { via: 'admin' });
  expect((await admin.request('DELETE', `/keys/${key.name}`)).status).toBe(200);
  admin.close();
  await admin.served.ended;
  const opened = await openClientMaintenance(config, 'dbsrv');
  const all = { before: new Date(Date.now() + 120_000), may: () => true, gently: false };
  const purged = await onTrash(opened, work.signal, (trash) => purgeTrash(trash, all));
  expect(purged.objects).toBeGreaterThan(0);
  expect(purged).toMatchObject({ retained: 0, waiting: 0 });
  await opened.maintenance.close();
  await maintenance.close();
  await everyKindOfObjectLock(openAudit);

  // The file is removed while somebody looks after it
  const watched = watchForLoss(config.audit.file, undefined);
  expect(await watched.look()).toBeUndefined();
  const rest = audit();
  rmSync(config.audit.file);
  const detail = (await watched.look()) ?? '';
  await watched.close();
  await appendToAudit(config, { kind: 'audit-lost', detail });
  return [...before, ...rest, ...audit()];
}

/** extend, hold and release with what came of them, in a bucket with Object Lock. */
async function everyKindOfObjectLock(openAudit: () => Promise<AuditSink>): Promise<void> {
  const { config: locked, secret, sdk } = await bucketUnderTest({ objectLock: true });
  const maintenance = new S3Maintenance({ ...locked, objectLock: { mode: 'governance', days: 1 } }, secret, 'dbsrv');
  const { objectLock: lock } = maintenance;
  if (lock === undefined) throw new Error('there is no Object Lock');
  await maintenance.write('config', Buffer.from('config'), { signal: new AbortController().signal });
  const work = {
    ...{
      maintenance,
      lock,
      openAudit,
      principal: { client: 'dbsrv', via: 'admin' as const },
      repository: { store: 'locked', prefix: 'dbsrv' },
    },
    ...{ perSecond: undefined, progress: () => undefined, signal: new AbortController().signal },
  };
  expect(await extend({ ...work, whenUnder: 1000, dryRun: false })).toMatchObject({ changed: 1, complete: true });
  expect(await hold(work)).toMatchObject({ changed: 1, complete: true });
  expect(await release(work)).toMatchObject({ changed: 1, complete: true });
  await maintenance.close();
  sdk.destroy();
}
