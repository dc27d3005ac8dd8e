/** `status --nagios` as Nagios runs it: one line on stdout, figures behind a bar, and each of the four exit statuses. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { sessionLines } from '../support/audit-history.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { freePort, generateKey, lab, makeTree, restic, run, tempDir } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

let directory: string;
let file: string;
let audit: string;
let config: Readonly<Record<string, unknown>>;

beforeAll(async () => {
  directory = tempDir();
  file = path.join(directory, 'gateway.yaml');
  audit = path.join(directory, 'audit.jsonl');
  config = {
    ...{
      listen: `127.0.0.1:${await freePort()}`,
      hostKeys: [(await generateKey()).privateFile],
      audit: { file: audit },
    },
    stores: { main: await freshStore('directory') },
    clients: { a: { keys: [(await generateKey()).publicLine], repository: { store: 'main' }, expectEvery: '1d' } },
  };
  writeFileSync(file, stringify(config));
});

/** What a plugin may say: https://nagios-plugins.org/doc/guidelines.html */
const LINE = /^RESTIC-GATEWAY (OK|WARNING|CRITICAL|UNKNOWN) - ([^|\n]+?)(?: \| ((?:\w+=\d+;;;0;\d+ ?)+))?\n$/;

async function nagios(...args: string[]): Promise<{ code: number; level?: string; words?: string; figures?: string }> {
  const { code, stdout } = await run(process.execPath, [GATEWAY, 'status', '--nagios', ...args]);
  expect(stdout).toMatch(LINE);
  const [, level, words, figures] = LINE.exec(stdout) ?? [];
  return { code, ...(level && { level }), ...(words && { words }), ...(figures && { figures }) };
}

async function asClient(...args: string[]): Promise<void> {
  const options = { 'rclone.program': `${process.execPath} ${GATEWAY}`, 'rclone.args': `stdio -c ${file}` };
  await restic(lab().resticNewest, { repo: 'rclone:a', options }, args);
}

test('1 as long as a client has never backed up, 0 once it has, 2 after it has tried to remove that', async () => {
  expect(await nagios('-c', file)).toEqual({
    ...{ code: 1, level: 'WARNING', words: expect.stringMatching(/^a never/) as unknown },
    figures: 'attention=0;;;0;1 late=0;;;0;1 never=1;;;0;1 ok=0;;;0;1 disabled=0;;;0;1',
  });
  const source = path.join(directory, 'source');
  await makeTree(source, { files: 2, bytes: 100_000, seed: 'nagios' });
  await asClient('init');
  await asClient('backup', source);
  expect(await nagios('-c', file)).toEqual({
    ...{ code: 0, level: 'OK', words: '1 client' },
    figures: 'attention=0;;;0;1 late=0;;;0;1 never=0;;;0;1 ok=1;;;0;1 disabled=0;;;0;1',
  });
  expect(await nagios('a', '-c', file)).toMatchObject({ code: 0, level: 'OK' });
  await asClient('forget', 'latest');
  expect(await nagios('-c', file)).toMatchObject({
    ...{ code: 2, level: 'CRITICAL', words: expect.stringMatching(/^a attention \(.*remove/) as unknown },
    figures: 'attention=1;;;0;1 late=0;;;0;1 never=0;;;0;1 ok=0;;;0;1 disabled=0;;;0;1',
  });
});

test('2 when a client is late', async () => {
  const late = path.join(directory, 'late.yaml');
  const history = path.join(directory, 'late.jsonl');
  const lines = sessionLines(Date.now() - 3 * 86_400_000, { client: 'a', init: true, packs: 1, snapshots: 1 });
  writeFileSync(history, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  writeFileSync(late, stringify({ ...config, audit: { file: history }, state: path.join(directory, 'late') }));
  expect(await nagios('-c', late)).toMatchObject({
    ...{ code: 2, level: 'CRITICAL', words: expect.stringMatching(/^a late/) as unknown },
    figures: 'attention=0;;;0;1 late=1;;;0;1 never=0;;;0;1 ok=0;;;0;1 disabled=0;;;0;1',
  });
});

test('3, and why, when the status cannot be known: nothing else says UNKNOWN to Nagios', async () => {
  const broken = path.join(directory, 'broken.yaml');
  writeFileSync(broken, 'listn: 1\n');
  for (const args of [
    ['-c', path.join(directory, 'absent.yaml')],
    ['-c', broken],
    ['nobody', '-c', file],
    ['--json', '-c', file],
    ['--quiet', '-c', file],
    ['--no-such-option', '-c', file],
    ['a', 'b', '-c', file],
    ['-c'],
  ])
    expect({ args, ...(await nagios(...args)) }).toMatchObject({ args, code: 3, level: 'UNKNOWN' });
  rmSync(audit);
  mkdirSync(audit);
  expect(await nagios('-c', file)).toMatchObject({
    ...{ code: 3, level: 'UNKNOWN', words: expect.stringContaining(audit) as unknown },
  });
});
