/** A storage that fails under a real restic: what passes is not noticed, what stays is told, and no fault is ever taken for missing data. */
import { statfsSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openSite, type Site } from '../support/sites.ts';
import { startFaultProxy, type Fault, type FaultProxy, type Rule } from '../support/fault-proxy.ts';
import { lab, makeTree, restic, run, s3, sameTree, tempDir, type Outcome } from '../support/lab.ts';
import { withTmpfs } from '../support/mounts.ts';
import { startStdio } from '../support/stdio-client.ts';
import { lightenKeys } from '../support/light-key.ts';
import { freshStore } from '../support/stores.ts';

const MIB = 1024 * 1024;

let proxy: FaultProxy;
let site: Site;
let source: string;
beforeAll(async () => {
  proxy = await startFaultProxy(s3().endpoint);
  const store = await freshStore('s3');
  site = await openSite('ssh server', {
    stores: { main: { ...store, endpoint: proxy.endpoint } },
    clients: { appsrv: { repository: { store: 'main' } } },
  });
  source = path.join(tempDir(), 'source');
  await good('init');
  await lightenKeys(store, 'appsrv');
});
afterAll(async () => {
  await site.close();
  await proxy.close();
});

const as = (...args: string[]): Promise<Outcome> =>
  restic(
    lab().resticNewest,
    { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') }, timeoutMs: 300_000 },
    [...args, '--no-cache'],
  );
async function good(...args: string[]): Promise<void> {
  const { code, stderr } = await as(...args);
  expect(`${args.join(' ')}: ${code} ${code === 0 ? '' : stderr}`).toBe(`${args.join(' ')}: 0 `);
}
const refuse = (status: number, code: string): Fault => ({ kind: 'refuse', status, code });

describe('what is wrong for a while: the backup ends well, and all of it is there', () => {
  test.each<[string, Rule]>([
    ['500', { times: 12, fault: refuse(500, 'InternalError') }],
    ['503 SlowDown', { times: 12, fault: refuse(503, 'SlowDown') }],
    ['409 of a conflict', { method: 'PUT', times: 6, fault: refuse(409, 'ConditionalRequestConflict') }],
    ['connections that are reset', { times: 12, fault: { kind: 'reset' } }],
    ['uploads that are reset in mid-body', { method: 'PUT', times: 4, fault: { kind: 'reset-upload', after: MIB } }],
    ['uploads whose answer is lost', { method: 'PUT', times: 4, fault: { kind: 'lose-answer' } }],
  ])('%s', async (what, rule) => {
    await makeTree(path.join(source, what), { files: 6, bytes: 10_000_000, seed: what });
    const packs = (): number => proxy.requests.filter((line) => /^PUT .*\/data\//.test(line)).length;
    const [from, state] = [packs(), { over: false }];
    const backup = as('backup', source, '--pack-size', '4').finally(() => (state.over = true));
    while (!state.over && packs() === from) await sleep(2);
    proxy.set(rule);
    const { code, stderr } = await backup;
    proxy.heal();
    expect(`${code} ${code === 0 ? '' : stderr}`).toBe('0 ');
    await good('check', '--read-data');
  });

  test.each<[string, Fault, number]>([
    ['downloads that are cut off', { kind: 'cut-download', after: 100 }, 4],
    ['downloads that are reset', { kind: 'reset-download', after: 100 }, 4],
    ['a download that stalls for longer than 30 s', { kind: 'stall-download', after: 100 }, 1],
  ])('%s: the restore ends well', async (_what, fault, times) => {
    const target = tempDir();
    const seen = proxy.requests.length;
    const restore = as('restore', 'latest', '--target', target);
    while (!proxy.requests.slice(seen).some((line) => /^GET .*\/data\//.test(line))) await sleep(2);
    proxy.set({ method: 'GET', times, fault });
    const { code, stderr } = await restore;
    proxy.heal();
    expect(`${code} ${code === 0 ? '' : stderr}`).toBe('0 ');
    await sameTree(source, path.join(target, source));
  });
});

describe('what stays wrong: an error for everything, in words, and never a 404 or an empty list', () => {
  test.each<[string, Fault]>([
    ['wrong credentials', refuse(403, 'SignatureDoesNotMatch')],
    ['expired credentials', refuse(400, 'ExpiredToken')],
    ['a vanished bucket', refuse(404, 'NoSuchBucket')],
    ['500 for ever', refuse(500, 'InternalError')],
    ['503 for ever', refuse(503, 'SlowDown')],
  ])('%s', async (_what, fault) => {
    proxy.set({ fault });
    const client = startStdio(['appsrv', '-c', site.configFile]);
    const paths = ['/config', '/data/', '/keys/', '/locks/', '/snapshots/', '/index/', `/data/${'a'.repeat(64)}`];
    for (const method of ['GET', 'HEAD'])
      for (const where of paths.filter((each) => method === 'GET' || !each.endsWith('/'))) {
        const { status } = await client.request(method, where);
        expect([method, where, status >= 500]).toEqual([method, where, true]);
      }
    client.end();
    expect((await client.exited).stderr).toMatch(/^restic-gateway: .*storage/);
    // restic itself would try again for a quarter of an hour.
    const { code, stderr } = await run(
      '/usr/bin/timeout',
      [
        '-s',
        'INT',
        '6',
        lab().resticNewest,
        '-r',
        'rclone:x',
        '-o',
        `rclone.program=${site.program('appsrv')}`,
        'snapshots',
        '--no-cache',
      ],
      { env: { RESTIC_PASSWORD: 'password' } },
    );
    proxy.heal();
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/restic-gateway: /);
    expect(stderr).not.toMatch(/does not exist|no such|Is there a repository/i);
    await good('snapshots');
  });
});

test('a disk that is full in mid-upload: restic says so, what is there is whole, and it goes on once there is room', () =>
  withTmpfs('size=24m', async (place) => {
    const full = await openSite('ssh server', {
      stores: { main: { type: 'directory', path: place } },
      clients: { appsrv: { repository: { store: 'main' } } },
    });
    const on = (...args: string[]): Promise<Outcome> =>
      restic(
        lab().resticNewest,
        { repo: 'rclone:x', options: { 'rclone.program': full.program('appsrv') }, timeoutMs: 300_000 },
        [...args, '--no-cache'],
      );
    const fine = async (...args: string[]): Promise<void> => {
      const { code, stderr } = await on(...args);
      expect(`${args.join(' ')}: ${code} ${code === 0 ? '' : stderr}`).toBe(`${args.join(' ')}: 0 `);
    };
    await fine('init');
    const first = path.join(tempDir(), 'first');
    await makeTree(first, { files: 3, bytes: 4_000_000, seed: 'first' });
    await fine('backup', first);
    const large = path.join(tempDir(), 'large');
    await makeTree(large, { files: 6, bytes: 40_000_000, seed: 'large' });
    const { code, stderr } = await on('backup', large, '--pack-size', '4');
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/restic-gateway: .*(full|space)/);
    await fine('check', '--read-data', '--no-lock');
    expect(full.audit().some((line) => line['reason'] === 'store-full')).toBe(true);
    // The admin makes room.
    await run('mount', ['-o', 'remount,size=128m', place]);
    expect(statfsSync(place).bavail * statfsSync(place).bsize).toBeGreaterThan(60_000_000);
    await fine('backup', large);
    await fine('check', '--read-data');
    await full.close();
  }));
