/** Much data, with the gateway's memory watched: 5 GiB each way in one session with many key exchanges, and 2 GiB on S3. */
import { rmSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, jest, test } from '@jest/globals';
import { openSite, type Site } from '../support/sites.ts';
import { lab, makeTree, restic, sameTree, tempDir, type Outcome } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';
import { until } from '../support/store-calls.ts';

const GiB = 1024 ** 3;
/** For a slow disk; a test that hangs ends all the same. */
jest.setTimeout(900_000);
/** What the whole daemon may take: Node itself, the windows of one session, and packs on their way. */
const MEMORY = 320 * 1024 ** 2;

/** 5 GiB, made once; the first 2 GiB in a directory of their own. */
let tree: string;
beforeAll(async () => {
  tree = tempDir();
  await makeTree(path.join(tree, 'first'), { files: 16, bytes: 2 * GiB, seed: 'first' });
  await makeTree(path.join(tree, 'second'), { files: 24, bytes: 3 * GiB, seed: 'second' });
});

/** Backs a tree up by a way in and restores it, and watches the daemon meanwhile. */
async function thereAndBack(site: Site, source: string): Promise<void> {
  const target = tempDir();
  expect((await run(site, ['init'])).code).toBe(0);
  const backup = run(site, ['backup', '--compression', 'off', source]);
  expect(await watched(site, backup)).toBeLessThan(MEMORY);
  expect(await watched(site, run(site, ['restore', 'latest', '--target', target]))).toBeLessThan(MEMORY);
  await sameTree(source, path.join(target, source));
  rmSync(target, { recursive: true, force: true, maxRetries: 20 });
}

async function watched(site: Site, work: Promise<Outcome>): Promise<number> {
  let peak = 0;
  const timer = setInterval(() => (peak = Math.max(peak, site.memory())), 200);
  const { code, stderr } = await work;
  clearInterval(timer);
  expect(`${code} ${code === 0 ? '' : stderr}`).toBe('0 ');
  return peak;
}

const run = (site: Site, args: readonly string[]): Promise<Outcome> =>
  restic(
    lab().resticNewest,
    { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') }, timeoutMs: 800_000 },
    [...args, '--no-cache'],
  );

test('2 GiB go into S3 and come out again, and the gateway stays small', async () => {
  const site = await openSite('ssh server', {
    stores: { main: await freshStore('s3') },
    clients: { appsrv: { repository: { store: 'main' } } },
  });
  await thereAndBack(site, path.join(tree, 'first'));
  await site.close();
});

test('5 GiB go into a directory and come out again, each in one session that exchanges keys every 16 MiB', async () => {
  const site = await openSite(
    'ssh server',
    { stores: { main: await freshStore('directory') }, clients: { appsrv: { repository: { store: 'main' } } } },
    ['-o', 'RekeyLimit=16M'],
  );
  await thereAndBack(site, tree);
  const sessions = (direction: 'bytesIn' | 'bytesOut'): unknown[] =>
    site.audit().filter((line) => line['event'] === 'session-end' && Number(line[direction]) > 5 * GiB);
  await until(() => sessions('bytesOut').length > 0);
  expect(sessions('bytesIn')).toHaveLength(1);
  expect(sessions('bytesOut')).toHaveLength(1);
  await site.close();
});
