/** S3 goes away in the middle of a real backup and comes back: the backup waits, and ends well. OUTAGE_SECONDS says for how long. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { openSite } from '../support/sites.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { lab, makeTree, restic, s3, sameTree, tempDir, type Outcome } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

const SECONDS = Number(process.env['OUTAGE_SECONDS'] ?? 15);

test('a backup outlives an outage of its storage', async () => {
  const proxy = await startFaultProxy(s3().endpoint);
  const site = await openSite('ssh server', {
    stores: { main: { ...(await freshStore('s3')), endpoint: proxy.endpoint } },
    clients: { appsrv: { repository: { store: 'main' } } },
  });
  const run = (...args: string[]): Promise<Outcome> =>
    restic(
      lab().resticNewest,
      { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') }, timeoutMs: 300_000 },
      [...args, '--no-cache'],
    );
  const good = async (...args: string[]): Promise<void> => {
    const { code, stderr } = await run(...args);
    expect(`${args.join(' ')}: ${code} ${code === 0 ? '' : stderr}`).toBe(`${args.join(' ')}: 0 `);
  };
  await good('init');
  const source = path.join(tempDir(), 'source');
  await makeTree(source, { files: 20, bytes: 120_000_000, seed: 'outage' });

  const state = { over: false };
  const packs = (): number => proxy.requests.filter((line) => /^PUT .*\/data\//.test(line)).length;
  const backup = run('backup', source, '--pack-size', '4').finally(() => (state.over = true));
  while (!state.over && packs() < 5) await sleep(5);
  // Connections are cut, and each new one is reset.
  proxy.heal();
  proxy.set({ fault: { kind: 'reset' } });
  const before = proxy.requests.length;
  // How long the storage is away, not a wait for anything.
  await sleep(SECONDS * 1000);
  expect(state.over).toBe(false);
  expect(proxy.requests.length).toBeGreaterThan(before);
  proxy.heal();
  const { code, stderr } = await backup;
  expect(`${code} ${code === 0 ? '' : stderr}`).toBe('0 ');

  await good('check', '--read-data');
  const target = tempDir();
  await good('restore', 'latest', '--target', target);
  await sameTree(source, path.join(target, source));
  expect(site.audit().filter((line) => line['event'] === 'failed').length).toBeGreaterThan(0);
  await site.close();
  await proxy.close();
});
