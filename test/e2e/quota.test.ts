/** A quota with real restic through the SSH server: what its user sees when it is reached, and how the admin makes room. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { openSite } from '../support/sites.ts';
import { generateKey, lab, restic, tempDir, type Outcome } from '../support/lab.ts';
import { sample } from '../support/restic-client.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore, STORES } from '../support/stores.ts';

const LINE = 'restic-gateway: the repository would outgrow its quota; ask the admin of the gateway.';

function fill(bytes: number): string {
  const directory = path.join(tempDir(), 'source');
  mkdirSync(directory);
  writeFileSync(path.join(directory, 'file'), randomBytes(bytes));
  return directory;
}

test('restic fails clearly at the quota, reads on, and goes on once there is room', async () => {
  const site = await openSite('ssh server', {
    stores: { main: await freshStore('s3') },
    clients: { appsrv: { repository: { store: 'main' }, quota: '12 MB' } },
  });
  const as = (...args: string[]): Promise<Outcome> =>
    restic(
      lab().resticNewest,
      {
        repo: 'rclone:x',
        options: { 'rclone.program': site.program('appsrv') },
        password: 'secret',
        timeoutMs: 300_000,
      },
      args,
    );
  const good = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await as(...args);
    expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    return stdout;
  };
  await good('init');
  await good('backup', fill(8_000_000));

  const { code, stderr } = await as('backup', fill(8_000_000));
  expect(code).not.toBe(0);
  expect(stderr).toContain(LINE);
  expect(stderr.split(LINE)).toHaveLength(2);
  expect(site.audit().filter((line) => line['reason'] === 'quota-exceeded')).not.toHaveLength(0);

  expect(JSON.parse(await good('snapshots', '--json'))).toHaveLength(1);
  await good('check', '--read-data');
  expect((await good('list', 'locks')).trim()).toMatch(/^([0-9a-f]{64})?$/);

  const pruned = await site.admin('appsrv', ['forget', '--unsafe-allow-remove-all', '--tag', '', '--prune'], 'secret');
  expect({ code: pruned.code, stderr: pruned.code === 0 ? '' : pruned.stderr }).toEqual({ code: 0, stderr: '' });
  await good('backup', fill(8_000_000));
  await site.close();
});

test.each(STORES)('forced commands on the %s store share a quota over processes and over time', async (kind) => {
  const directory = tempDir();
  const config = path.join(directory, 'gateway.yaml');
  writeFileSync(
    config,
    stringify({
      stores: { main: await freshStore(kind) },
      clients: {
        appsrv: { keys: [(await generateKey()).publicLine], repository: { store: 'main' }, quota: '670 KB' },
      },
      audit: { file: path.join(directory, 'audit.jsonl') },
    }),
  );
  const processes = [1, 2, 3].map(() => startStdio(['appsrv', '-c', config]));
  const save = async (client: (typeof processes)[number], size: number): Promise<number> => {
    const { name, body } = sample(size);
    return (await client.request('POST', `/data/${name}`, { body })).status;
  };
  const statuses = await Promise.all(processes.flatMap((client) => [1, 2, 3, 4, 5].map(() => save(client, 60_000))));
  expect(statuses.filter((status) => status === 200)).toHaveLength(11);
  for (const client of processes) client.end();
  for (const client of processes) expect(await client.exited).toMatchObject({ status: 0 });

  const next = startStdio(['appsrv', '-c', config]);
  expect(await save(next, 10_001)).toBe(507);
  expect(await save(next, 10_000)).toBe(200);
  next.end();
  expect(await next.exited).toEqual({ status: 0, stderr: `${LINE}\n` });
});
