/** `extend`, `client hold` and `client release` on a real radosgw with Object Lock, around real backups. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import {
  DeleteObjectCommand,
  GetObjectLegalHoldCommand,
  GetObjectRetentionCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import { extendDaily } from '../../src/daemon/extend-daily.ts';
import { extendedState } from '../../src/retention/extended-state.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { makeTree, newBucket, run, s3, startProcess, tempDir, type Outcome } from '../support/lab.ts';
import { openSite, type Site } from '../support/sites.ts';
import { freshStore, secretFile } from '../support/stores.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const { endpoint, region, accessKeyId, secretAccessKey } = s3();

let site: Site;
let sdk: S3Client;
let Bucket: string;
/** The site's config, with a retention of ten days instead of one: what is stored by then falls under the half of that. */
let tenDays: string;

beforeAll(async () => {
  Bucket = await newBucket({ objectLock: true });
  sdk = new S3Client({ endpoint, region, credentials: { accessKeyId, secretAccessKey }, forcePathStyle: true });
  const s3Store = {
    ...{ type: 's3', bucket: Bucket, endpoint, region, accessKeyId },
    secretAccessKeyFile: secretFile(secretAccessKey),
  };
  site = await openSite('ssh server', {
    stores: {
      locked: { ...s3Store, objectLock: { mode: 'governance', days: 1 } },
      plain: s3Store,
      directory: await freshStore('directory'),
    },
    clients: {
      appsrv: { repository: { store: 'locked' } },
      other: { repository: { store: 'locked' } },
      unlocked: { repository: { store: 'plain' } },
      local: { repository: { store: 'directory' } },
    },
  });
  const config = parse(readFileSync(site.configFile, 'utf8')) as { stores: { locked: { objectLock: object } } };
  config.stores.locked.objectLock = { mode: 'governance', days: 10 };
  tenDays = path.join(site.directory, 'ten-days.yaml');
  writeFileSync(tenDays, stringify(config));

  const source = path.join(tempDir(), 'source');
  await makeTree(source, { files: 4, bytes: 600_000, seed: 'extend' });
  for (const args of [
    ['init'],
    ['backup', source, '--tag', 'first'],
    ['backup', import.meta.filename, '--tag', 'second'],
  ])
    expect(await site.admin('appsrv', args, 'secret')).toMatchObject({ code: 0, stderr: '' });
});

afterAll(async () => {
  sdk.destroy();
  await site.close();
});

const gateway = (args: readonly string[], config = tenDays): Promise<Outcome> =>
  run(process.execPath, [GATEWAY, ...args, '-c', config], { timeoutMs: 120_000 });
const json = (outcome: Outcome): Record<string, unknown> => JSON.parse(outcome.stdout) as Record<string, unknown>;

interface Version {
  readonly key: string;
  readonly VersionId: string;
  readonly isLatest: boolean;
}

/** Every version in the repository, as its owner sees them. */
async function versions(): Promise<Version[]> {
  const { Versions = [] } = await sdk.send(new ListObjectVersionsCommand({ Bucket, Prefix: 'appsrv/' }));
  return Versions.map(({ Key = '', VersionId = '', IsLatest = false }) => ({
    ...{ key: Key.slice('appsrv/'.length), VersionId, isLatest: IsLatest },
  }));
}

const at = ({ key, VersionId }: Version) => ({ Bucket, Key: `appsrv/${key}`, VersionId });

/** In how many days the retention of a version ends; undefined without one. */
async function daysOf(version: Version): Promise<number | undefined> {
  try {
    const { Retention } = await sdk.send(new GetObjectRetentionCommand(at(version)));
    return ((Retention?.RetainUntilDate?.getTime() ?? 0) - Date.now()) / DAY_MS;
  } catch {
    return undefined;
  }
}

async function isHeld(version: Version): Promise<boolean> {
  try {
    return (await sdk.send(new GetObjectLegalHoldCommand(at(version)))).LegalHold?.Status === 'ON';
  } catch {
    return false;
  }
}

const LOCK = `locks/${'1'.repeat(64)}`;

/** Puts something where restic's locks and the gateway's own files are. */
async function putOthers(): Promise<void> {
  for (const key of [LOCK, `.restic-gateway/quarantine/x/objects/data/22/${'2'.repeat(64)}`, 'notes'])
    await sdk.send(new PutObjectCommand({ Bucket, Key: `appsrv/${key}`, Body: 'content' }));
}

const isRestics = ({ key }: Version): boolean => /^(?:config$|(?:data|index|keys|snapshots)\/)/.test(key);

describe('extend', () => {
  test('renews what is in use and soon to be free, and nothing else; the next time there is nothing to do', async () => {
    // The first snapshot goes, and what only it needs: hidden, and no longer in use.
    const all = ['forget', '--unsafe-allow-remove-all', '--tag', 'first', '--prune'];
    const forgotten = await site.admin('appsrv', all, 'secret');
    expect(forgotten.code).toBe(0);
    await putOthers();
    const before = (await versions()).filter(isRestics);
    const inUse = before.filter(({ isLatest }) => isLatest);
    expect(before.length).toBeGreaterThan(inUse.length);

    const dry = json(await gateway(['extend', 'appsrv', '--dry-run', '--json']));
    expect(dry).toMatchObject({ client: 'appsrv', dryRun: true, objects: inUse.length, renewed: inUse.length });
    for (const version of before) expect(await daysOf(version)).toBeLessThan(1.01);
    expect(site.audit().some(({ event }) => event === 'extend')).toBe(false);

    const { code, stdout, stderr } = await gateway(['extend', 'appsrv']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(
      new RegExp(
        `^appsrv: ${inUse.length} objects: ${inUse.length} renewed until 20\\S+Z, 0 retained for 5 d 0 h or longer\n$`,
      ),
    );
    for (const version of await versions()) {
      const days = (await daysOf(version)) ?? 0;
      if (!isRestics(version)) expect([version.key, days]).toEqual([version.key, 0]);
      else if (version.isLatest) expect([version.key, days > 9.9]).toEqual([version.key, true]);
      else expect([version.key, days < 1.01]).toEqual([version.key, true]);
    }
    const [begun, ended] = site.audit().filter(({ event }) => event === 'extend' || event === 'extended');
    expect(begun).toMatchObject({ event: 'extend', client: 'appsrv', via: 'admin', store: 'locked', prefix: 'appsrv' });
    expect(ended).toMatchObject({
      event: 'extended',
      session: begun?.['session'],
      changed: inUse.length,
      complete: true,
    });

    const again = await gateway(['extend', '--all', '--json']);
    expect(again.code).toBe(0);
    const lines = again.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    // Nothing of a store without objectLock, and nothing more in the audit.
    expect(lines.map(({ client, objects, renewed }) => ({ client, objects, renewed }))).toEqual([
      { client: 'appsrv', objects: inUse.length, renewed: 0 },
      { client: 'other', objects: 0, renewed: 0 },
    ]);
    expect(site.audit().filter(({ event }) => event === 'extend')).toHaveLength(1);
    // As the unit does.
    expect(await gateway(['extend', '--all', '--quiet'])).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test('killed in mid-way, the same again does the rest', async () => {
    const inUse = (await versions()).filter((version) => version.isLatest && isRestics(version));
    const all = ['extend', 'appsrv', '--when-under', '10d'];
    const begun = (): number => site.audit().filter(({ event }) => event === 'extend').length;
    const untilBegun = async (before: number): Promise<void> => {
      while (begun() === before) await new Promise((resolve) => setTimeout(resolve, 50));
    };
    const earlier = begun();
    const slow = await startProcess(process.execPath, [GATEWAY, ...all, '--rate', '2/s', '-c', tenDays]);
    await untilBegun(earlier);
    slow.signal('SIGKILL');
    await slow.exited;
    const rest = json(await gateway([...all, '--json']));
    expect(rest).toMatchObject({ objects: inUse.length, failed: 0, complete: true });
    const until = Date.parse(String(rest['until']));
    const ends = await Promise.all(inUse.map(daysOf));
    for (const days of ends) expect(Math.abs((days ?? 0) - (until - Date.now()) / DAY_MS)).toBeLessThan(0.1);
    // What ends in whole seconds may still have its ten days.
    while (Date.now() + 10 * DAY_MS <= until) await new Promise((resolve) => setTimeout(resolve, 20));
    const before = begun();
    // Stopped in good order, it says so, and what it has done by then.
    const stopped = await startProcess(process.execPath, [GATEWAY, ...all, '--rate', '1/s', '-c', tenDays]);
    await untilBegun(before);
    expect(await stopped.stop()).toBe(1);
    expect(
      site
        .audit()
        .filter(({ event }) => event === 'extended')
        .at(-1),
    ).toMatchObject({ complete: false });
  });

  test('what cannot be is told with what to do', async () => {
    expect(await gateway(['extend', 'local'])).toEqual({
      ...{ code: 2, stdout: '' },
      stderr:
        'restic-gateway: store directory is a directory, which has no Object Lock; this needs a bucket with Object Lock, and objectLock in its store: docs/s3.md#object-lock\n',
    });
    expect((await gateway(['extend', 'unlocked'])).stderr).toMatch(
      /store plain has no objectLock; this needs a bucket/,
    );
    expect((await gateway(['extend'])).stderr).toMatch(/name a client, or say --all/);
    expect((await gateway(['extend', 'appsrv', '--when-under', '11d'])).stderr).toMatch(
      /--when-under is longer than the 10 days of objectLock/,
    );
    expect((await gateway(['extend', 'appsrv', '--rate', '5'])).stderr).toMatch(/--rate 5: must be a rate from 1\/s/);
    expect((await gateway(['client', 'hold', 'local'])).stderr).toMatch(/is a directory, which has no Object Lock/);
  });
});

describe('serve', () => {
  test('renews once a day what the config says, whoever else looks, and the status tells of it', async () => {
    const config = parse(readFileSync(tenDays, 'utf8')) as { stores: { locked: { objectLock: object } } };
    // Everything is retained for less than twenty days by now.
    config.stores.locked.objectLock = { mode: 'governance', days: 30, extend: '20d' };
    const file = path.join(site.directory, 'daily.yaml');
    writeFileSync(file, stringify(config));
    const begun = (): number => site.audit().filter(({ event }) => event === 'extend').length;
    const inUse = (await versions()).filter((version) => version.isLatest && isRestics(version));
    const before = begun();
    const said: string[] = [];
    const say = (_fields: unknown, line: string): void => {
      said.push(line);
    };
    const log = { info: say, warn: say, error: say };
    const renewal = `renewed the retention of ${inUse.length} objects of appsrv`;
    const parts = [extendDaily(loadConfig(file), log, 10)];
    try {
      while (!said.includes(renewal)) await new Promise((resolve) => setTimeout(resolve, 50));
      for (const version of inUse) expect((await daysOf(version)) ?? 0).toBeGreaterThan(29.9);
      const status = json(await gateway(['status', 'appsrv', '--json'], file));
      expect(status).toMatchObject({
        extended: { objects: inUse.length, renewed: inUse.length, failed: 0, complete: true },
      });
      const { at } = status['extended'] as { readonly at: string };
      // Others of this machine see that it was done today, and so does this one, however often it looks.
      parts.push(extendDaily(loadConfig(file), log, 10), extendDaily(loadConfig(file), log, 10));
      const looks = extendedState(loadConfig(file).state, { store: 'locked', prefix: 'other' });
      while ((await looks.read()) === undefined) await new Promise((resolve) => setTimeout(resolve, 50));
      expect(said).toEqual([renewal]);
      expect(json(await gateway(['status', 'appsrv', '--json'], file))['extended']).toMatchObject({ at });
      expect(begun()).toBe(before + 1);
    } finally {
      for (const part of parts) await part.close();
    }
    // The command goes by the same time, and is told of at once.
    expect((await gateway(['extend', 'appsrv'], file)).stdout).toMatch(
      /0 renewed until .* retained for 20 d 0 h or longer/,
    );
    expect((await gateway(['status', 'appsrv'], file)).stdout).toMatch(
      /^Object Lock +\d+ objects looked at, 0 renewed, .* ago$/m,
    );
  });

  test('what it cannot renew needs attention', async () => {
    const config = parse(readFileSync(tenDays, 'utf8')) as { stores: Record<string, Record<string, unknown>> };
    const state = path.join(site.directory, 'troubled');
    const locked = { ...config.stores['locked'], bucket: await newBucket() };
    config.stores['locked'] = { ...locked, objectLock: { mode: 'governance', days: 30, extend: '20d' } };
    const file = path.join(site.directory, 'troubled.yaml');
    writeFileSync(file, stringify({ ...config, state, stores: config.stores }));
    await sdk.send(
      new PutObjectCommand({ Bucket: locked.bucket, Key: `appsrv/snapshots/${'3'.repeat(64)}`, Body: 'content' }),
    );
    const said: string[] = [];
    const say = (_fields: unknown, line: string): void => {
      said.push(line);
    };
    const part = extendDaily(loadConfig(file), { info: say, warn: say, error: say }, 10);
    while (said.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    await part.close();
    expect(said[0]).toMatch(/of what appsrv has was not renewed: .*no Object Lock/);
    const { code, stdout } = await gateway(['status', 'appsrv', '--json'], file);
    expect([code, json({ code, stdout, stderr: '' })['state']]).toEqual([1, 'attention']);
    expect(stdout).toMatch(/The retention of what is in use was not renewed on \d{4}-\d\d-\d\d: .*no Object Lock/);
  });
});

describe('a legal hold', () => {
  test('keeps all that is there now, whatever is done, until it is released', async () => {
    const inUse = (await versions()).filter((version) => version.isLatest && isRestics(version));
    const held = await gateway(['client', 'hold', 'appsrv']);
    expect(held).toEqual({
      ...{ code: 0, stderr: '' },
      stdout: `appsrv: ${inUse.length} objects are under legal hold, 0 of them since before\n`,
    });
    for (const version of await versions())
      expect([version.key, await isHeld(version)]).toEqual([version.key, version.isLatest && isRestics(version)]);
    expect(json(await gateway(['client', 'hold', 'appsrv', '--json']))).toMatchObject({ changed: 0, failed: 0 });

    // restic cannot read this lock.
    await sdk.send(new DeleteObjectCommand({ Bucket, Key: `appsrv/${LOCK}` }));
    // The admin's restic hides it; not even who may go round a retention in governance mode can remove it.
    const all = ['forget', '--unsafe-allow-remove-all', '--tag', 'second', '--prune'];
    expect((await site.admin('appsrv', all, 'secret')).code).toBe(0);
    const hidden = (await versions()).filter(
      ({ isLatest, VersionId }) => !isLatest && inUse.some((one) => one.VersionId === VersionId),
    );
    expect(hidden.map(({ key }) => key.split('/')[0])).toEqual(expect.arrayContaining(['data', 'snapshots']));
    for (const version of hidden)
      await expect(
        sdk.send(new DeleteObjectCommand({ ...at(version), BypassGovernanceRetention: true })),
      ).rejects.toMatchObject({ name: 'AccessDenied' });

    const released = await gateway(['client', 'release', 'appsrv']);
    expect(released).toEqual({
      ...{ code: 0, stderr: '' },
      stdout: `appsrv: the legal hold of ${inUse.length} objects has ended, removed ones included\n`,
    });
    for (const version of await versions()) expect([version.key, await isHeld(version)]).toEqual([version.key, false]);
    const [gone] = hidden;
    if (gone === undefined) throw new Error('nothing was hidden');
    await sdk.send(new DeleteObjectCommand({ ...at(gone), BypassGovernanceRetention: true }));
    expect(
      site
        .audit()
        .filter(({ event }) => ['hold', 'held', 'release', 'released'].includes(String(event)))
        .map(({ event, client, changed }) => [event, client, changed]),
    ).toEqual([
      ['hold', 'appsrv', undefined],
      ['held', 'appsrv', inUse.length],
      ['release', 'appsrv', undefined],
      ['released', 'appsrv', inUse.length],
    ]);
  });
});

test('systemd takes the unit and the timer', async () => {
  const examples = path.resolve(import.meta.dirname, '../../scripts/packaging/examples');
  const place = tempDir();
  const files = ['service', 'timer'].map((kind) => `restic-gateway-extend.${kind}`);
  for (const file of files) {
    const text = readFileSync(path.join(examples, file), 'utf8');
    writeFileSync(path.join(place, file), text.replaceAll('/usr/bin/restic-gateway', process.execPath));
  }
  const { code, stderr } = await run('systemd-analyze', [
    ...['verify', '--man=no'],
    ...files.map((file) => path.join(place, file)),
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
});
