/** A captive portal comes between gateway and storage during a real backup: restic does not end well while it is there, and does after it. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { openSite, type WayIn } from '../support/sites.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { lab, makeTree, restic, run, s3, tempDir, type Outcome } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

const PAGE = '<!DOCTYPE html><html><body>Please log in to the Wi-Fi</body></html>';

test.each<WayIn>(['ssh server', 'sshd, authorized_keys'])('%s', async (kind) => {
  const proxy = await startFaultProxy(s3().endpoint);
  const site = await openSite(kind, {
    stores: { main: { ...(await freshStore('s3')), endpoint: proxy.endpoint } },
    clients: { appsrv: { repository: { store: 'main' } } },
  });
  const client = (...args: string[]): Promise<Outcome> =>
    restic(lab().resticNewest, { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') } }, args);
  const good = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await client(...args, '--no-cache');
    expect(`${args.join(' ')}: ${code} ${code === 0 ? '' : stderr}`).toBe(`${args.join(' ')}: 0 `);
    return stdout;
  };
  const status = async (): Promise<string> => {
    const { stdout } = await run(process.execPath, [GATEWAY, 'status', '--json', '-c', site.configFile]);
    expect(stdout).toMatch(/"appsrv"/);
    return stdout.replace(/\s+/g, '');
  };
  await good('init');
  const source = path.join(tempDir(), 'source');
  await makeTree(source, { files: 5, bytes: 3_000_000, seed: 'portal' });

  const headers = { 'content-type': 'text/html' };
  proxy.set({ method: 'PUT', fault: { kind: 'say', status: 200, text: PAGE, headers } });
  const state = { over: false };
  const backup = client('backup', source, '--no-cache').finally(() => (state.over = true));
  const failed = (): number =>
    site.audit().filter(({ event, reason }) => event === 'failed' && reason === 'store-failed').length;
  while (!state.over && failed() === 0) await sleep(20);
  expect(state.over).toBe(false);
  expect(site.audit().find(({ event }) => event === 'failed')).toMatchObject({
    detail: expect.stringMatching(/captive portal/) as unknown,
  });
  expect(await status()).not.toMatch(/"lastSnapshot":[{"]/);

  proxy.set();
  const { code, stderr } = await backup;
  expect(`${code} ${code === 0 ? '' : stderr}`).toBe('0 ');
  expect(stderr.match(/restic-gateway: the storage behind the gateway failed\./g)).toHaveLength(1);
  await good('check', '--read-data');
  expect(JSON.parse(await good('snapshots', '--json'))).toHaveLength(1);
  expect(await status()).toMatch(/"lastSnapshot":[{"]/);
  await site.close();
  await proxy.close();
});
