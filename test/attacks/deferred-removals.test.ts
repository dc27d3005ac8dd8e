/**
 * A client may thin out its own backups (`removals: deferred`), and then someone else has its key and password, and removes what they can, by
 * restic and by hand: what is protected stays, the rest comes back, and so it does when the admin is the one who is careless.
 */
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { GATEWAY } from '../support/gateway-process.ts';
import { lab, makeTree, restic, run, sameTree, tempDir } from '../support/lab.ts';
import { lightenKeys } from '../support/light-key.ts';
import { repositoryFiles, type RepositoryFiles } from '../support/repository-files.ts';
import { resticClient } from '../support/restic-client.ts';
import { restoreAll } from '../support/restored.ts';
import { openSite, type Site, type WayIn } from '../support/sites.ts';
import { freshStore, type STORES } from '../support/stores.ts';

const PASSWORD = 'secret';
const DAY_MS = 24 * 60 * 60 * 1000;

describe.each<[string, WayIn, (typeof STORES)[number], string, string]>([
  // Of what came to a directory, one can say that it came long ago; in S3 nobody can, so that nothing is protected there, and all of it goes.
  ['some protected, restic 0.18', 'sshd, authorized_keys', 'directory', lab().resticTrixie, '1d'],
  ['none protected, restic 0.19', 'ssh server', 's3', lab().resticNewest, 'none'],
])('%s, %s, %s', (_what, kind, store, binary, protect) => {
  let site: Site;
  let files: RepositoryFiles;
  let home: string;
  const source = path.join(tempDir(), 'source');
  /** What each snapshot was made of, by its id. */
  const trees = new Map<string, string>();

  const client = async (...args: readonly string[]): ReturnType<typeof restic> =>
    restic(
      binary,
      {
        repo: 'rclone:x',
        options: { 'rclone.program': site.program('appsrv') },
        password: PASSWORD,
        timeoutMs: 300_000,
      },
      args,
    );
  const good = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await client(...args);
    expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    return stdout;
  };
  const snapshots = async (): Promise<string[]> =>
    (await files.keys())
      .flatMap((key) => (key.startsWith('snapshots/') ? [key.slice('snapshots/'.length)] : []))
      .sort();
  const backUp = async (seed: string, ...more: readonly string[]): Promise<string> => {
    const before = await snapshots();
    rmSync(source, { recursive: true, force: true });
    await makeTree(source, { files: 3, bytes: 300_000, seed });
    await good('backup', source, ...more);
    return (await snapshots()).find((id) => !before.includes(id)) ?? '';
  };
  const everythingRestores = async (): Promise<void> => {
    expect(await snapshots()).toEqual(expect.arrayContaining([...trees.keys()]));
    expect((await site.admin('appsrv', ['check'], PASSWORD)).code).toBe(0);
    const restored = await restoreAll(binary, { program: site.program('appsrv'), password: PASSWORD });
    for (const [id, tree] of trees) expect(await sameTree(tree, path.join(restored.get(id) ?? '', source))).toBe(true);
  };
  const restoreSince = async (since: string): Promise<void> => {
    const line = [GATEWAY, 'trash', 'restore', 'appsrv', '--since', since, '-c', site.configFile];
    const { code, stderr } = await run(process.execPath, line);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  };
  /** In the directory it came so long ago, by the store's own record. */
  const age = (id: string, ms: number): void => {
    const file = path.join(home, 'snapshots', id);
    const time = new Date(Date.now() - ms);
    utimesSync(file, time, time);
    const side = path.join(home, '.restic-gateway/origin/snapshots', `${id}.json`);
    const modifiedNs = String(statSync(file, { bigint: true }).mtimeNs);
    const record = JSON.parse(readFileSync(side, 'utf8')) as Record<string, unknown>;
    writeFileSync(side, JSON.stringify({ ...record, modifiedNs, time: time.toISOString(), boot: 'another' }));
  };

  beforeAll(async () => {
    const entry = await freshStore(store);
    site = await openSite(kind, {
      stores: { main: entry },
      clients: { appsrv: { repository: { store: 'main' }, removals: 'deferred', protect } },
    });
    files = repositoryFiles(entry, 'appsrv');
    home = path.join(entry['path'] ?? '', 'appsrv');
    await good('init');
    await lightenKeys(entry, 'appsrv', PASSWORD);
    for (const seed of ['one', 'two', 'three', 'four', 'five']) {
      const id = await backUp(seed);
      const kept = path.join(tempDir(), 'tree');
      expect((await run('cp', ['-a', source, kept])).code).toBe(0);
      trees.set(id, kept);
    }
    // One that is young, and of the others three are the newest.
    if (store === 'directory')
      for (const [place, id] of [...trees.keys()].slice(0, -1).entries()) age(id, (100 - place) * DAY_MS);
  });
  afterAll(() => site.close());

  test('an honest client thins out its own backups, and everything that it removes is in the trash', async () => {
    const [oldest = ''] = trees.keys();
    const since = new Date().toISOString();
    await good('forget', oldest);
    await good('prune');
    await good('check', '--read-data');
    expect(await snapshots()).toEqual([...trees.keys()].filter((id) => id !== oldest).sort());
    await restoreSince(since);
    expect(await snapshots()).toEqual([...trees.keys()].sort());
  });

  test('an intruder forges backups, forgets everything and prunes, by restic itself: it all comes back', async () => {
    const since = new Date().toISOString();
    const forged: string[] = [];
    for (const year of ['2020', '2040'])
      forged.push(await backUp(`ruined ${year}`, '--time', `${year}-01-01 00:00:00`));
    const before = await snapshots();
    const [newest = ''] = [...trees.keys()].slice(-1);
    const all = ['--unsafe-allow-remove-all', '--host', (await run('hostname', [])).stdout.trim()];
    const forgetting = await client('forget', ...all, '--prune');
    if (protect === 'none') expect(forgetting.code).toBe(0);
    else {
      expect(forgetting.stderr).toMatch(/protected: snapshot [0-9a-f]{8} (?:arrived recently|is one of the newest 3)/);
      // restic 0.18 takes for removed what it could not remove, and would prune it; the gateway lets it remove nothing more.
      expect(forgetting.stderr).toMatch(/removes nothing more; run prune again on its own/);
      expect(await snapshots()).toEqual(expect.arrayContaining([newest, ...forged]));
      await good('prune');
      await good('check', '--read-data');
    }
    expect((await snapshots()).length).toBeLessThan(before.length);
    await restoreSince(since);
    await everythingRestores();
  });

  test('an intruder removes everything by hand: no key, no config and nothing protected goes, and the rest comes back', async () => {
    const since = new Date().toISOString();
    const before = (await files.keys()).filter((key) => /^(?:data|index|snapshots|keys|config)\b/.test(key));
    const child = spawn('sh', ['-c', `exec ${site.program('appsrv')} serve`], { stdio: 'pipe' });
    child.stdin.on('error', () => undefined);
    const raw = resticClient(Duplex.from({ readable: child.stdout, writable: child.stdin }));
    const statuses = new Map<string, number>();
    // Snapshots last: after one that stays, no data goes.
    for (const type of ['data', 'index', 'keys', 'config', 'snapshots'])
      for (const key of before.filter((each) => each.split('/')[0] === type)) {
        const [, ...rest] = key.split('/');
        const at = type === 'config' ? '/config' : `/${type}/${rest.at(-1) ?? ''}`;
        statuses.set(key, (await raw.request('DELETE', at)).status);
      }
    raw.close();
    child.kill();
    const answers = (type: string): ReadonlySet<number> =>
      new Set([...statuses].flatMap(([key, status]) => (key.split('/')[0] === type ? [status] : [])));
    expect(['data', 'index', 'keys', 'config'].map((type) => [...answers(type)])).toEqual([[200], [200], [403], [403]]);
    expect(answers('snapshots')).toEqual(new Set(protect === 'none' ? [200] : [200, 403]));
    for (const [key, status] of statuses)
      expect({ key, there: (await files.keys()).includes(key) }).toEqual({ key, there: status === 403 });
    await restoreSince(since);
    await everythingRestores();
    const removed = site
      .audit()
      .filter((line) => line['event'] === 'remove' && String(line['object']).startsWith('data/'));
    expect(removed.filter(({ size }) => typeof size === 'number').length).toBe(
      removed.filter(({ via }) => via !== 'admin').length,
    );
  });

  test("the admin's restic is refused too, in one line, and by a flag that stands in the audit it is not", async () => {
    if (protect === 'none') return;
    const [newest = ''] = [...trees.keys()].slice(-1);
    const refused = await site.admin('appsrv', ['forget', newest], PASSWORD);
    const line =
      /restic-gateway: protected: snapshot [0-9a-f]{8} arrived recently, and cannot be removed before \S+ \S+ UTC; --override-protect removes it anyway\./g;
    expect(refused.stderr.match(line)).toHaveLength(1);
    expect(await snapshots()).toContain(newest);
    const since = new Date().toISOString();
    expect((await site.admin('appsrv', ['forget', newest, '--prune'], PASSWORD, ['--override-protect'])).code).toBe(0);
    expect(await snapshots()).not.toContain(newest);
    const flagged = site.audit().filter((each) => each['overrideProtect'] === true);
    expect(flagged).toEqual([expect.objectContaining({ event: 'session-start', via: 'admin', client: 'appsrv' })]);
    await restoreSince(since);
    expect(await snapshots()).toContain(newest);
    // Nobody asks for it but from the gateway host.
    const pretended = await run(process.execPath, [
      GATEWAY,
      'stdio',
      'appsrv',
      '--override-protect',
      '--admin',
      home,
      '-c',
      site.configFile,
    ]);
    expect(pretended.code).not.toBe(0);
    expect(pretended.stderr).toMatch(/full access is for the admin on the gateway host/);
    expect(readdirSync(path.join(home, 'snapshots'))).toContain(newest);
  });

  test('a patient intruder has the newest three, waits until protect is over, and forgets the rest: it is told, and not purged', async () => {
    const gateway = (...args: readonly string[]): ReturnType<typeof run> =>
      run(process.execPath, [GATEWAY, ...args, '-c', site.configFile]);
    expect((await gateway('status', 'appsrv', '--acknowledge')).code).toBe(0);
    const before = [...trees.keys()];
    for (const seed of ['1', '2', '3']) await backUp(`ruined ${seed}`);
    if (store === 'directory') for (const [place, id] of before.entries()) age(id, (100 - place) * DAY_MS);
    const since = new Date().toISOString();
    // Nothing is protected but the intruder's own.
    expect((await client('forget', ...before, '--prune')).code).toBe(0);
    expect((await snapshots()).filter((id) => before.includes(id))).toEqual([]);
    const status = JSON.parse((await gateway('status', 'appsrv', '--json')).stdout) as {
      readonly purgeHeld: boolean;
      readonly anomalies: readonly { readonly rule: string }[];
    };
    expect(status.anomalies.map(({ rule }) => rule)).toContain('mass-removal');
    expect(status.purgeHeld).toBe(true);
    const purge = await gateway('trash', 'purge', 'appsrv', '--json');
    expect(JSON.parse(purge.stdout)).toMatchObject({ objects: 0 });
    await restoreSince(since);
    await everythingRestores();
  });
});
