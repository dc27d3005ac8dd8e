/**
 * The admin removes everything, or someone who has the admin's shell does: what was removed is in the trash, and comes back whole to any
 * moment since; and whatever is killed in the middle of it, nothing is lost.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, lab, makeTree, run, sameTree, tempDir, type Outcome } from '../support/lab.ts';
import { lightenKeys } from '../support/light-key.ts';
import { repositoryFiles, type RepositoryFiles } from '../support/repository-files.ts';
import { freshStore, type StoreEntry } from '../support/stores.ts';

const TRASH = '.restic-gateway/trash/';

interface Snapshot {
  readonly id: string;
  readonly original?: string;
}

describe.each([
  ['directory', lab().resticDebian],
  ['s3', lab().resticNewest],
] as const)('a trash on %s, with %s', (kind, resticBinary) => {
  const directory = tempDir();
  const configFile = path.join(directory, 'gateway.yaml');
  const source = path.join(directory, 'source');
  const env = {
    RESTIC_PASSWORD: 'password',
    RESTIC_CACHE_DIR: path.join(directory, 'cache'),
    RESTIC_GATEWAY_RESTIC: resticBinary,
  };
  let store: StoreEntry;
  let files: RepositoryFiles;
  /** What each snapshot was made of, by its id. */
  const trees = new Map<string, string>();

  const gateway = (...args: readonly string[]): Promise<Outcome> =>
    run(process.execPath, [GATEWAY, ...args, '-c', configFile], { env, timeoutMs: 120_000 });
  const admin = async (...args: readonly string[]): Promise<string> => {
    const line = [GATEWAY, 'restic', 'appsrv', '-c', configFile, '--', ...args];
    const { code, stdout, stderr } = await run(process.execPath, line, { env, timeoutMs: 120_000 });
    expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    return stdout;
  };
  const snapshots = async (): Promise<readonly string[]> =>
    (JSON.parse(await admin('snapshots', '--json')) as readonly Snapshot[] | null)?.map(({ id }) => id).sort() ?? [];
  const inTrash = async (): Promise<readonly string[]> =>
    (await files.keys()).filter((key) => key.startsWith(TRASH) && !key.endsWith('.origin.json'));
  const inRepository = async (): Promise<readonly string[]> =>
    (await files.keys()).filter((key) => /^(?:data|index|snapshots|keys)\//.test(key)).sort();

  /** Backs up something new, and remembers what. */
  const backUp = async (seed: string): Promise<void> => {
    const before = await snapshots();
    rmSync(source, { recursive: true, force: true });
    await makeTree(source, { files: 4, bytes: 400_000, seed });
    await admin('backup', source);
    const [id = ''] = (await snapshots()).filter((one) => !before.includes(one));
    const kept = path.join(directory, `tree-${seed}`);
    expect((await run('cp', ['-a', source, kept])).code).toBe(0);
    trees.set(id, kept);
  };
  const everythingRestores = async (): Promise<void> => {
    expect(await snapshots()).toEqual([...trees.keys()].sort());
    await admin('check', '--read-data');
    for (const [id, tree] of trees) {
      const target = tempDir();
      await admin('restore', id, '--target', target);
      expect(await sameTree(tree, path.join(target, source))).toBe(true);
    }
  };

  beforeAll(async () => {
    store = await freshStore(kind);
    files = repositoryFiles(store, 'appsrv');
    const key = await generateKey();
    writeFileSync(
      configFile,
      stringify({
        stores: { main: store },
        clients: { appsrv: { keys: [key.publicLine], repository: { store: 'main' } } },
        audit: { file: path.join(directory, 'audit.jsonl') },
      }),
    );
    await admin('init');
    await lightenKeys(store, 'appsrv');
    for (const seed of ['one', 'two', 'three']) await backUp(seed);
  });

  test('forgotten and pruned to the last byte, everything is in the trash, and comes back byte for byte', async () => {
    const before = await inRepository();
    const since = new Date().toISOString();
    await admin('forget', ...trees.keys());
    await admin('prune');
    expect(await snapshots()).toEqual([]);
    expect((await inRepository()).filter((key) => key.startsWith('data/'))).toEqual([]);
    const kept = (await inTrash()).map((key) => key.split('/').slice(3).join('/'));
    expect(kept).toEqual(expect.arrayContaining(before.filter((key) => !key.startsWith('keys/'))));
    // Locks come and go with each run.
    expect(kept.filter((key) => key.startsWith('locks/'))).toEqual([]);

    // A client goes on meanwhile.
    await backUp('four');
    const listed = await gateway('trash', 'list', 'appsrv', '--json');
    const { sessions, objects } = JSON.parse(listed.stdout) as {
      sessions: { by: string; snapshots: number }[];
      objects: number;
    };
    expect(objects).toBe(kept.length);
    expect(sessions.map(({ by }) => by)).toEqual(sessions.map(() => 'admin'));
    expect(sessions.reduce((sum, one) => sum + one.snapshots, 0)).toBe(3);
    expect((await gateway('trash', 'list', 'appsrv')).stdout).toMatch(/in the trash, each for 14 d/);

    const back = await gateway('trash', 'restore', 'appsrv', '--since', since);
    expect({ code: back.code, stderr: back.stderr }).toEqual({ code: 0, stderr: '' });
    expect(back.stdout).toMatch(/objects are back in the repository/);
    expect(await inRepository()).toEqual(expect.arrayContaining([...before]));
    await everythingRestores();
    expect(await inTrash()).toEqual([]);
    const again = await gateway('trash', 'restore', 'appsrv', '--all');
    expect(again.stdout).toMatch(/0 objects are back/);
    expect((await gateway('scrub', 'appsrv')).code).toBe(0);
  });

  test('a prune that rewrites packs can be taken back, and what it wrote anew stays beside', async () => {
    const [first = ''] = trees.keys();
    const since = new Date().toISOString();
    await admin('forget', first);
    await admin('prune', '--max-unused', '0');
    expect((await snapshots()).length).toBe(trees.size - 1);
    expect((await gateway('trash', 'restore', 'appsrv', '--since', since)).code).toBe(0);
    await everythingRestores();
  });

  test('killed again and again while it removes and while it brings back, nothing is lost', async () => {
    const killed = async (args: readonly string[], afterMs: number): Promise<boolean> => {
      const child = spawn(process.execPath, [GATEWAY, ...args], {
        env: { ...process.env, ...env },
        detached: true,
        stdio: 'ignore',
      });
      const exited = once(child, 'exit');
      const timer = sleep(afterMs, 'late');
      if ((await Promise.race([exited, timer])) !== 'late') return false;
      process.kill(-(child.pid ?? 0), 'SIGKILL');
      await exited;
      return true;
    };
    const before = await inRepository();
    const forget = ['restic', 'appsrv', '-c', configFile, '--', 'forget', ...trees.keys(), '--prune'];
    for (const afterMs of [1200, 1700, 2200, 2700]) if (!(await killed(forget, afterMs))) break;
    const everywhere = async (): Promise<ReadonlySet<string>> =>
      new Set([...(await inRepository()), ...(await inTrash()).map((key) => key.split('/').slice(3).join('/'))]);
    expect([...(await everywhere())]).toEqual(expect.arrayContaining([...before]));
    const restore = ['trash', 'restore', 'appsrv', '--all', '-c', configFile];
    for (const afterMs of [600, 900]) if (!(await killed(restore, afterMs))) break;
    expect([...(await everywhere())]).toEqual(expect.arrayContaining([...before]));
    expect((await gateway('trash', 'restore', 'appsrv', '--all')).code).toBe(0);
    expect(await inRepository()).toEqual(expect.arrayContaining([...before]));
    await admin('unlock', '--remove-all');
    await everythingRestores();
  });

  test('what someone with the storage’s credentials puts there is told, and left alone', async () => {
    const name = 'ab'.repeat(32);
    const good = `${TRASH}20260101T0000Z_20260101T000000Z-0123456789_admin/`;
    const hostile = [
      `${TRASH}20260101T0000Z_../snapshots/${name}`.replace('../', '..%2f'),
      `${TRASH}20260231T0000Z_20260101T000000Z-0123456789_admin/snapshots/${name}`,
      `${TRASH}20260101T0000Z_20260101T000000Z-0123456789_root/snapshots/${name}`,
      `${TRASH}\u001b[31mred/snapshots/${name}`,
      `${good}locks/${name}`,
      `${good}snapshots/${name}x`,
      `${good}data/ff/${name}`,
      `${good}elsewhere/deep/down/${name}`,
    ];
    for (const key of hostile) await files.write(key, Buffer.from('hostile'));
    const before = await inRepository();
    const listed = await gateway('trash', 'list', 'appsrv');
    expect(listed.stdout).toMatch(new RegExp(`^${hostile.length} files there were put by no gateway`, 'm'));
    expect(listed.stdout).not.toContain('\u001b');
    expect((await gateway('trash', 'restore', 'appsrv', '--all')).code).toBe(0);
    expect((await gateway('trash', 'purge', 'appsrv')).code).toBe(0);
    expect(await inRepository()).toEqual(before);
    expect(await files.keys()).toEqual(expect.arrayContaining(hostile));
    for (const key of hostile) await files.remove(key);
  });

  test('what is old enough is purged, and nothing younger', async () => {
    await admin('forget', ...trees.keys());
    const kept = await inTrash();
    expect(kept.filter((key) => key.includes('/snapshots/')).length).toBe(trees.size);
    const fresh = await gateway('trash', 'purge', '--all', '--json');
    expect(JSON.parse(fresh.stdout)).toMatchObject({ client: 'appsrv', objects: 0, left: { objects: kept.length } });
    expect(await inTrash()).toEqual(kept);
    if (kind === 'directory') {
      const [batch = ''] = new Set(kept.map((key) => key.split('/')[2] ?? ''));
      const home = path.join(store['path'] ?? '', 'appsrv', TRASH);
      const old = batch.replace(/^\d{8}T\d{4}Z/, '20260101T0000Z');
      renameSync(path.join(home, batch), path.join(home, old));
      const moved = (await inTrash()).filter((key) => key.startsWith(TRASH + old));
      // A name alone makes nothing old.
      await gateway('trash', 'purge', 'appsrv');
      expect(await inTrash()).toEqual(expect.arrayContaining(moved));
      for (const key of moved) utimesSync(path.join(store['path'] ?? '', 'appsrv', key), 1_700_000_000, 1_700_000_000);
      const purged = await gateway('trash', 'purge', '--all');
      expect(purged.stdout).toMatch(new RegExp(`^appsrv: ${moved.length} objects, .* purged`));
      expect((await files.keys()).filter((key) => key.startsWith(TRASH + old))).toEqual([]);
    }
  });

  test('wrong use is told in one line', async () => {
    if (kind !== 'directory') return;
    for (const [args, words] of [
      [['restore', 'appsrv'], 'say one of --since TIME, --session ID and --all'],
      [['restore', 'appsrv', '--all', '--session', 'x'], 'say one of --since TIME, --session ID and --all'],
      [['purge'], 'name a client, or say --all'],
      [['purge', 'appsrv', '--older-than', 'soon'], '--older-than must be a duration'],
      [['list', 'nobody'], 'there is no client nobody'],
      [[], 'COMMAND is missing: say list, restore or purge'],
    ] as const) {
      const { code, stderr } = await gateway('trash', ...args);
      expect({ args, code }).toEqual({ args, code: 2 });
      expect(stderr).toContain(words);
    }
  });
});
