/** Retention as the docs have it: the very commands of the unit, the timer and the crontab, run on a repository that a client filled. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { openSite } from '../support/sites.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { lab, makeTree, restic, run, tempDir } from '../support/lab.ts';
import { freshStore, secretFile } from '../support/stores.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
const EXAMPLES = 'scripts/packaging/examples/restic-gateway-retention@';

/** The gateway's arguments in every command line of a text that has its place in front. */
function commandsIn(text: string): string[][] {
  return [...text.matchAll(/^.*?restic-gateway (restic .*)$/gm)].map(([, words = '']) =>
    words.trim().replaceAll('%i', 'appsrv').split(/\s+/),
  );
}

test('the unit and the crontab keep what they should, remove the rest, and prune', async () => {
  const unit = commandsIn(read(`${EXAMPLES}.service`).replace(/^#.*$/gm, ''));
  const cron = commandsIn(/^17 3 .*$/m.exec(read('docs/retention.md'))?.[0] ?? '');
  expect([unit.map(([, , , what]) => what), cron.map(([, , , what]) => what)]).toEqual([
    ['forget', 'check'],
    ['forget'],
  ]);

  const site = await openSite('ssh server', {
    stores: { main: await freshStore('s3') },
    clients: { appsrv: { repository: { store: 'main' } } },
  });
  const source = path.join(tempDir(), 'source');
  await makeTree(source, { files: 4, bytes: 500_000, seed: 'retention' });
  const client = async (...args: string[]): Promise<string> => {
    const options = { 'rclone.program': site.program('appsrv') };
    const { code, stdout, stderr } = await restic(lab().resticNewest, { repo: 'rclone:x', options }, args);
    expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    return stdout;
  };
  await client('init');
  const day = 24 * 60 * 60 * 1000;
  for (const days of [800, 500, 3, 1, 0]) {
    writeFileSync(path.join(source, 'day'), `${days} ${'x'.repeat(days)}`);
    const time = new Date(Date.now() - days * day).toISOString().slice(0, 19).replace('T', ' ');
    await client('backup', source, '--time', time);
  }
  const env = {
    RESTIC_PASSWORD_FILE: secretFile('password'),
    RESTIC_CACHE_DIR: tempDir(),
    RESTIC_GATEWAY_RESTIC: lab().resticNewest,
  };
  for (const [command, client, ...args] of [...unit, ...cron]) {
    const { code, stderr } = await run(
      process.execPath,
      [GATEWAY, command ?? '', client ?? '', '-c', site.configFile, ...args],
      { env },
    );
    expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: '' });
  }
  expect(JSON.parse(await client('snapshots', '--json'))).toHaveLength(3);
  await client('check', '--read-data');
  const removed = site.audit().filter(({ event, via: by }) => event === 'remove' && by === 'admin');
  expect(removed.filter(({ object }) => String(object).startsWith('snapshots/'))).toHaveLength(2);
  await site.close();
});

test('systemd takes the unit and the timer', async () => {
  const place = tempDir();
  for (const kind of ['service', 'timer']) {
    const text = read(`${EXAMPLES}.${kind}`).replaceAll('/usr/bin/restic-gateway', process.execPath);
    writeFileSync(path.join(place, `restic-gateway-retention@.${kind}`), text);
  }
  for (const kind of ['service', 'timer']) {
    const { code, stderr } = await run('systemd-analyze', [
      'verify',
      '--man=no',
      path.join(place, `restic-gateway-retention@appsrv.${kind}`),
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  }
});
