/** A bandwidth with real restic on both stores, and over the processes of a machine. Only that it is not exceeded is held, never how fast anything is. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { openSite, type Site } from '../support/sites.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { lab, makeTree, restic, sameTree, tempDir } from '../support/lab.ts';
import { until } from '../support/store-calls.ts';
import { freshStore, STORES } from '../support/stores.ts';

const BYTES = 12_000_000;
const RATE = 4 * 1024 * 1024;
/** What may go ahead of the rate: a moment's worth. */
const SLACK_SECONDS = 0.5;

const run = async (program: string, ...args: string[]): Promise<string> => {
  const { code, stderr } = await restic(
    lab().resticNewest,
    { repo: 'rclone:x', options: { 'rclone.program': program }, password: 'secret', timeoutMs: 120_000 },
    args,
  );
  expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
  return stderr;
};

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

async function source(seed: string): Promise<string> {
  const directory = path.join(tempDir(), 'source');
  await makeTree(directory, { files: 20, bytes: BYTES, seed });
  return directory;
}

const openSlowServer = async (kind: (typeof STORES)[number]): Promise<Site> =>
  openSite('ssh server', {
    stores: { main: await freshStore(kind) },
    clients: {
      appsrv: { repository: { store: 'main' }, bandwidth: { upload: '4MiB/s', download: '4MiB/s' } },
    },
  });

test.each(STORES)('backup and restore on the %s store keep to the rate, and are whole', async (kind) => {
  const site = await openSlowServer(kind);
  const program = site.program('appsrv');
  const directory = await source(kind);
  await run(program, 'init');
  const least = BYTES / RATE - SLACK_SECONDS;
  let said = '';
  expect(await seconds(async () => (said = await run(program, 'backup', directory)))).toBeGreaterThan(least);
  expect(said).toContain('restic-gateway: uploads are slowed down to 4MiB/s, the most that client appsrv may.');
  const target = tempDir();
  expect(await seconds(() => run(program, 'restore', 'latest', '--target', target))).toBeGreaterThan(least);
  await sameTree(directory, path.join(target, directory));
  const reported = site.audit().filter((line) => line['event'] === 'throttled');
  expect(reported.map((line) => line['reason'])).toEqual(['upload', 'download']);
  await site.close();
});

test('a session of serve and one of a forced command keep to it together', async () => {
  const site = await openSlowServer('directory');
  // A forced command takes no notice of what the client asks for.
  const forced = path.join(tempDir(), 'forced-command');
  const command = `exec ${process.execPath} ${GATEWAY} stdio appsrv -c ${site.configFile}`;
  writeFileSync(forced, `#!/bin/sh\n${command}\n`, { mode: 0o700 });
  const programs = [site.program('appsrv'), forced];
  await run(programs[0] ?? '', 'init');
  const directories = await Promise.all([source('one'), source('two')]);
  const took = await seconds(() =>
    Promise.all(programs.map((program, index) => run(program, 'backup', directories[index] ?? ''))),
  );
  expect(took).toBeGreaterThan((2 * BYTES) / RATE - SLACK_SECONDS);
  const sites = (): unknown[] =>
    site
      .audit()
      .flatMap((line) => (line['event'] === 'session-end' && Number(line['bytesIn']) > BYTES ? [line['via']] : []));
  // restic does not wait for its forced command's last word.
  await until(() => sites().length === 2);
  expect(sites().sort()).toEqual(['ssh', 'stdio']);
  await site.close();
});
