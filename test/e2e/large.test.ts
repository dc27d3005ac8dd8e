/** Much data, with the gateway's memory watched: 5 GiB each way, and one session over many key exchanges. */
import { rmSync } from 'node:fs';
import path from 'node:path';
import { expect, jest, test } from '@jest/globals';
import { openSite, type Site } from '../support/sites.ts';
import { lab, makeTree, restic, sameTree, tempDir, type Outcome } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';
import { until } from '../support/store-calls.ts';

const GiB = 1024 ** 3;
/** For a slow disk; a test that hangs ends all the same. */
jest.setTimeout(900_000);
/** What the whole daemon may take: Node itself, the windows of one session, and packs on their way. */
const MEMORY = 320 * 1024 ** 2;

/** Backs a new tree up by a way in and restores it, and watches the daemon meanwhile. */
async function thereAndBack(site: Site, tree: Parameters<typeof makeTree>[1]): Promise<void> {
  const source = path.join(tempDir(), 'source');
  const target = tempDir();
  await makeTree(source, tree);
  expect((await run(site, ['init'])).code).toBe(0);
  const backup = run(site, ['backup', '--compression', 'off', source]);
  expect(await watched(site, backup)).toBeLessThan(MEMORY);
  expect(await watched(site, run(site, ['restore', 'latest', '--target', target]))).toBeLessThan(MEMORY);
  await sameTree(source, path.join(target, source));
  rmSync(source, { recursive: true });
  rmSync(target, { recursive: true });
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

test('5 GiB go into S3 and come out again, and the gateway stays small', async () => {
  const site = await openSite('ssh server', {
    stores: { main: await freshStore('s3') },
    clients: { appsrv: { repository: { store: 'main' } } },
  });
  await thereAndBack(site, { files: 40, bytes: 5 * GiB, seed: 'large' });
  await site.close();
});

test('5 GiB go into a directory and come out again, each in one session that exchanges keys every 16 MiB', async () => {
  const site = await openSite(
    'ssh server',
    { stores: { main: await freshStore('directory') }, clients: { appsrv: { repository: { store: 'main' } } } },
    ['-o', 'RekeyLimit=16M'],
  );
  await thereAndBack(site, { files: 40, bytes: 5 * GiB, seed: 'rekey' });
  const sessions = (direction: 'bytesIn' | 'bytesOut'): unknown[] =>
    site.audit().filter((line) => line['event'] === 'session-end' && Number(line[direction]) > 5 * GiB);
  await until(() => sessions('bytesOut').length > 0);
  expect(sessions('bytesIn')).toHaveLength(1);
  expect(sessions('bytesOut')).toHaveLength(1);
  await site.close();
});
