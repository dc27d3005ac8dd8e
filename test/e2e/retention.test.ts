/** Retention as the docs have it: what is shipped, and what the command does beside the story in test/attacks/retention.test.ts. */
import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { setArrival } from '../support/arrivals.ts';
import { openSite, type Site } from '../support/sites.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, lab, restic, run, tempDir, type Outcome } from '../support/lab.ts';
import { lightenKeys, lightenLocalKeys } from '../support/light-key.ts';
import { freshStore, secretFile, type StoreEntry } from '../support/stores.ts';
import { writeSnapshots } from '../support/written-snapshots.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
const EXAMPLES = 'scripts/packaging/examples/restic-gateway-retention@';
const DAY = 24 * 60 * 60 * 1000;

test('nothing that is shipped runs a rule by the time that snapshots claim', () => {
  const texts = ['README.md', 'scripts/quickstart', 'docs', 'scripts/packaging'].flatMap((place) =>
    statSync(path.join(ROOT, place)).isFile()
      ? [place]
      : readdirSync(path.join(ROOT, place), { recursive: true, withFileTypes: true })
          .filter((file) => file.isFile() && /\.(?:md|service|timer|ts|mjs|sh)$|^[a-z-]+$/.test(file.name))
          .map((file) => path.relative(ROOT, path.join(file.parentPath, file.name))),
  );
  const found = texts.flatMap((file) =>
    [...read(file).matchAll(/^.*forget .*--keep-.*$/gm)].map(([line]) => `${file}: ${line.trim()}`),
  );
  // Where it is said what is wrong with them.
  expect(found.filter((line) => !line.includes('prints a warning') && !line.includes('forget --keep-…'))).toEqual([]);
  expect(read(`${EXAMPLES}.service`)).toMatch(/^ExecStart=\/usr\/bin\/restic-gateway forget %i$/m);
  expect(/^17 3 .*$/m.exec(read('docs/retention.md'))?.[0]).toBe('17 3 * * 0 root restic-gateway forget --all --quiet');
});

describe('a repository that two clients have, each by another name of its store', () => {
  const config = path.join(tempDir(), 'gateway.yaml');
  const directory = tempDir();
  const place = path.join(directory, 'fleet');
  beforeAll(async () => {
    expect((await restic(lab().resticNewest, { repo: place }, ['init'])).code).toBe(0);
    await lightenLocalKeys(place);
    const hour = (hours: number): string => new Date(Date.now() - hours * 3_600_000).toISOString();
    const snapshots = [1, 2, 3, 4, 5, 6].map((at) => ({ time: hour(at), hostname: 'appsrv', paths: ['/srv'] }));
    writeSnapshots(place, 'password', snapshots);
    const link = path.join(tempDir(), 'link');
    symlinkSync(directory, link);
    const client = async (store: string, given: object): Promise<object> => ({
      ...{ keys: [(await generateKey()).publicLine], repository: { store, prefix: 'fleet' }, shared: true },
      ...{ retention: { 'keep-last': 1 }, passwordFile: secretFile('password'), ...given },
    });
    const stores = { main: { type: 'directory', path: directory }, alias: { type: 'directory', path: link } };
    const clients = {
      lenient: await client('main', { protect: 'none', trash: 'none' }),
      strict: await client('alias', { protect: '30d' }),
    };
    const audit = { file: path.join(directory, 'audit.jsonl') };
    writeFileSync(config, stringify({ stores, clients, audit }));
  });
  const left = (): number => readdirSync(path.join(place, 'snapshots')).length;
  const forget = (...args: string[]): Promise<Outcome> =>
    run(process.execPath, [GATEWAY, 'forget', 'lenient', '-c', config, '--no-prune', ...args], {
      env: { RESTIC_CACHE_DIR: tempDir(), RESTIC_GATEWAY_RESTIC: lab().resticNewest },
    });

  test.each<[string, string[]]>([
    ['by snapshots', []],
    ['by days', ['--without-password']],
  ])('%s: what the stricter of them protects stays, and is not asked to go', async (_name, args) => {
    const { code, stdout, stderr } = await forget(...args);
    expect({ code, stderr, left: left() }).toEqual({ code: 0, stderr: '', left: 6 });
    expect(stdout).toContain('protected');
    expect(stdout).toContain('lenient: 0 snapshots removed');
  });
});

describe('forget', () => {
  let site: Site;
  let store: StoreEntry;
  let client: (...args: string[]) => Promise<string>;
  const gateway = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
    run(process.execPath, [GATEWAY, ...args], {
      env: { RESTIC_CACHE_DIR: tempDir(), RESTIC_GATEWAY_RESTIC: lab().resticNewest, ...env },
    });
  const forget = (...args: string[]): Promise<Outcome> => gateway(['forget', '-c', site.configFile, ...args]);
  const ids = async (): Promise<string[]> =>
    (JSON.parse(await client('snapshots', '--json')) as { readonly id: string }[]).map(({ id }) => id);

  beforeAll(async () => {
    store = await freshStore('directory');
    const rules = { retention: { 'keep-daily': 3, 'group-by': '' }, protect: 'none' };
    site = await openSite('ssh server', {
      stores: { main: store },
      clients: {
        appsrv: { repository: { store: 'main' }, ...rules, passwordFile: secretFile('password') },
        sealed: { repository: { store: 'main' }, ...rules },
        broken: { repository: { store: 'main' }, ...rules, passwordFile: path.join(tempDir(), 'missing') },
        plain: { repository: { store: 'main' } },
      },
    });
    client = async (...args) => {
      const options = { 'rclone.program': site.program('appsrv') };
      const { code, stdout, stderr } = await restic(lab().resticNewest, { repo: 'rclone:x', options }, args);
      expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
      return stdout;
    };
    await client('init');
    await lightenKeys(store, 'appsrv');
    const source = tempDir();
    for (let day = 8; day > 0; day--) {
      writeFileSync(path.join(source, 'day'), String(day));
      // An hour less, so that the one of yesterday claims no more than a day, however long it takes.
      const time = new Date(Date.now() - day * DAY + DAY / 24).toISOString().slice(0, 19).replace('T', ' ');
      await client('backup', source, '--time', time);
    }
  });
  afterAll(async () => {
    await site.close();
  });

  test('an import is set apart until it is accepted, and then goes by what it claims', async () => {
    const dry = await forget('appsrv', '--dry-run');
    expect([dry.code, dry.stderr]).toEqual([0, '']);
    expect(dry.stdout).toMatch(/7 snapshots set apart, .*more than a day/);
    expect(dry.stdout).toContain('Nothing was changed: this is a dry run.');
    expect(site.audit().filter(({ event }) => event === 'forged-time')).toEqual([]);

    const wrong = await forget('appsrv', '--accept-time', 'ffffffff');
    expect([wrong.code, wrong.stderr.split('\n')[0]]).toEqual([
      2,
      'restic-gateway: --accept-time ffffffff: no snapshot that is set apart begins so',
    ]);
    const accepted = await forget('appsrv', '--accept-time', 'all', '--json');
    expect(accepted.code).toBe(0);
    const answer = JSON.parse(accepted.stdout) as { apart: unknown[]; removed: number; pruned: boolean };
    expect(answer).toMatchObject({ apart: [], pruned: true });
    expect(await ids()).toHaveLength(8 - answer.removed);
    expect(answer.removed).toBeGreaterThan(0);
    expect(site.audit().filter(({ event }) => event === 'time-accepted')).toHaveLength(7);
    await client('check');
  });

  test('without the password, whole days go to the trash', async () => {
    const before = await ids();
    for (const [index, id] of before.entries())
      await setArrival(store, 'appsrv', `snapshots/${id}`, new Date(Date.now() - (before.length - index) * DAY));
    const source = tempDir();
    for (const name of ['a', 'b']) {
      writeFileSync(path.join(source, name), name);
      await client('backup', source);
    }
    const { code, stdout, stderr } = await forget('appsrv', '--without-password');
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/removed, to the trash\. .* restic-gateway restic appsrv -- prune/);
    const after = await ids();
    expect(after).toHaveLength(2 + 2);
    const trash = path.join(store['path'] ?? '', 'appsrv/.restic-gateway/trash');
    const removed = readdirSync(trash, { recursive: true, encoding: 'utf8' }).map((file) => path.basename(file));
    for (const id of before) expect(after.includes(id) || removed.includes(id)).toBe(true);
    await client('check');
  });

  test('all: goes on with the others when one fails', async () => {
    const { code, stdout, stderr } = await forget('--all', '--quiet');
    expect([code, stdout.includes('broken')]).toEqual([1, false]);
    expect(stderr).toMatch(/^restic-gateway: broken: .*missing/m);
  });

  test.each<[string, string[], RegExp]>([
    ['nobody', [], /name a client, or say --all/],
    ['a client and all', ['appsrv', '--all'], /name a client, or say --all/],
    ['no such client', ['apsrv'], /there is no client apsrv in /],
    ['no retention', ['plain'], /plain has no retention in .*; write one, such as retention:/],
    ['a group of nothing', ['appsrv', '--group-by', 'size'], /--group-by size: must be host, paths, tags/],
    ['times of all', ['--all', '--accept-time', 'all'], /for --accept-time, name the client/],
    ['times without the password', ['sealed', '--accept-time', 'all'], /can be read with the password only/],
  ])('used wrongly: %s', async (_name, args, line) => {
    const { code, stderr } = await forget(...args);
    const told = stderr
      .trim()
      .split('\n')
      .filter((one) => !one.startsWith('usage: '));
    expect([code, told.length]).toEqual([2, 1]);
    expect(stderr).toMatch(line);
  });

  test('restic’s own rules work, with a warning that names the better command', async () => {
    const own = ['restic', 'appsrv', '-c', site.configFile, '--', 'forget', '--dry-run'];
    const env = { RESTIC_PASSWORD: 'password' };
    const { code, stderr } = await gateway([...own, '--keep-daily', '3'], env);
    expect([code, stderr]).toEqual([
      0,
      'restic-gateway: rules by the time that snapshots claim can be steered by a client; better: restic-gateway forget appsrv, which goes by when they arrived\n',
    ]);
    expect((await gateway([...own, 'latest'], env)).stderr).not.toContain('steered');
  });
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
