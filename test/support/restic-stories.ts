/** What users do, with real restic by a way in on every store. */
import { appendFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { AuditLine } from './stack.ts';
import { freshStore, STORES, type StoreEntry } from './stores.ts';
import { lightenKeys } from './light-key.ts';
import { openSite, type WayIn, type Site } from './sites.ts';
import { lab, makeTree, restic, sameTree, tempDir, type Outcome } from './lab.ts';

const VERSIONS = ['resticDebian', 'resticNewest'] as const;
const PASSWORD = 'correct horse';

/** The stories, by one way in; one test file each, so that they run side by side. */
export function describeRestic(wayIn: WayIn, stores: readonly (typeof STORES)[number][] = STORES): void {
  describe.each(stores)('on the %s store', (storeKind) => {
    let site: Site;
    let store: StoreEntry;
    beforeAll(async () => {
      store = await freshStore(storeKind);
      site = await openSite(wayIn, {
        stores: { main: store },
        clients: {
          appsrv: { repository: { store: 'main', prefix: 'appsrv' }, shared: true },
          owner: { repository: { store: 'main', prefix: 'appsrv' }, shared: true, access: 'full' },
          dbsrv: { repository: { store: 'main', prefix: 'dbsrv' } },
          old: { repository: { store: 'main', prefix: 'old/appsrv' }, shared: true },
          reader: { repository: { store: 'main', prefix: 'old/appsrv' }, shared: true, access: 'read-only' },
        },
      });
    });
    afterAll(async () => {
      await site.close();
    });

    const as = (client: string, binary: string, args: readonly string[], timeoutMs?: number): Promise<Outcome> =>
      restic(
        binary,
        {
          repo: 'rclone:x',
          options: { 'rclone.program': site.program(client) },
          password: PASSWORD,
          ...(timeoutMs === undefined ? {} : { timeoutMs }),
        },
        args,
      );
    const good = async (client: string, binary: string, ...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await as(client, binary, args);
      expect(`${args.join(' ')}: ${code}\n${code === 0 ? '' : stderr}`).toBe(`${args.join(' ')}: 0\n`);
      return stdout;
    };

    test.each(VERSIONS)('a whole life of a repository with %s', async (version) => {
      const binary = lab()[version];
      const client = version === 'resticDebian' ? 'old' : 'appsrv';
      const source = path.join(tempDir(), 'source');
      await makeTree(source, { files: 60, bytes: 12_000_000, seed: '1' });

      await good(client, binary, 'init');
      const again = await as(client, binary, ['init']);
      expect(again.code).not.toBe(0);
      expect(again.stderr).toMatch(/already (exists|initialized)/);
      await lightenKeys(store, client === 'old' ? 'old/appsrv' : client, PASSWORD);

      await good(client, binary, 'backup', source);
      mkdirSync(path.join(source, 'new'));
      writeFileSync(path.join(source, 'new', 'file'), 'first');
      appendFileSync(path.join(source, 'new', 'file'), ' and second');
      await good(client, binary, 'backup', source, '--tag', 'changed');

      const snapshots = JSON.parse(await good(client, binary, 'snapshots', '--json')) as {
        id: string;
        tags?: string[];
      }[];
      expect(snapshots).toHaveLength(2);
      const [first, second] = snapshots.map(({ id }) => id) as [string, string];
      expect(await good(client, binary, 'ls', second)).toContain('/new/file');
      expect(await good(client, binary, 'ls', first)).not.toContain('/new/file');
      expect(await good(client, binary, 'find', 'file')).toContain('/new/file');
      expect(await good(client, binary, 'dump', second, path.join(source, 'new', 'file'))).toBe('first and second');
      expect(await good(client, binary, 'diff', first, second)).toMatch(/\+\s+.*new\/file/);
      const target = tempDir();
      await good(client, binary, 'restore', 'latest', '--target', target);
      await sameTree(source, path.join(target, source));
      await good(client, binary, 'check', '--read-data');
      await good(client, binary, 'stats');
    });

    test('two clients at once on two repositories, and neither sees the other', async () => {
      const binary = lab().resticNewest;
      await good('dbsrv', binary, 'init');
      await lightenKeys(store, 'dbsrv', PASSWORD);
      const [one, two] = [path.join(tempDir(), 'one'), path.join(tempDir(), 'two')];
      await makeTree(one, { files: 20, bytes: 20_000_000, seed: '2' });
      await makeTree(two, { files: 20, bytes: 20_000_000, seed: '3' });
      await Promise.all([good('appsrv', binary, 'backup', one), good('dbsrv', binary, 'backup', two)]);
      const paths = async (client: string): Promise<string[]> =>
        (JSON.parse(await good(client, binary, 'snapshots', '--json')) as { paths: string[] }[]).flatMap(
          (each) => each.paths,
        );
      expect(await paths('dbsrv')).toEqual([two]);
      expect(await paths('appsrv')).not.toContain(two);
    });

    test('what a key may not do is refused in words that a person understands, and nothing is gone', async () => {
      const binary = lab().resticNewest;
      const before = await good('appsrv', binary, 'snapshots', '--json');
      await good('reader', binary, 'restore', 'latest', '--no-lock', '--target', tempDir());
      // restic tries a removal five times before it gives up, and a lock likewise: both wait at the same time, on two repositories.
      const [forgetting, writing] = await Promise.all([
        as('appsrv', binary, ['forget', 'latest'], 120_000),
        as('reader', binary, ['backup', '/etc/hostname'], 120_000),
      ]);
      expect(writing.code).not.toBe(0);
      expect(writing.stderr).toContain('read-only: this key may not write, not even a lock; use restic with --no-lock');
      expect(forgetting.code).not.toBe(0);
      expect(forgetting.stderr).toContain(
        'restic-gateway: append-only: this key may not remove anything; that is for the admin, on the gateway host: restic-gateway restic appsrv -- COMMAND.',
      );
      expect(forgetting.stderr.match(/restic-gateway:/g)).toHaveLength(1);
      expect(await good('appsrv', binary, 'snapshots', '--json')).toBe(before);
      await good('appsrv', binary, 'check');
      const denials = site.audit().filter((line) => line['event'] === 'denied');
      expect(denials.filter((line) => line['client'] === 'appsrv').at(-1)).toMatchObject({
        operation: 'remove',
        reason: 'append-only',
      });
      const unwritten = { client: 'reader', operation: 'save', reason: 'read-only' };
      expect(denials).toContainEqual(expect.objectContaining(unwritten));
    });

    test('a full-access key prunes, and so does the admin on the gateway host', async () => {
      const binary = lab().resticNewest;
      const source = path.join(tempDir(), 'pruned');
      for (const seed of ['10', '11', '12']) {
        rmSync(source, { recursive: true, force: true });
        await makeTree(source, { files: 5, bytes: 3_000_000, seed });
        await good('appsrv', binary, 'backup', source, '--tag', 'pruned');
      }
      await good('owner', binary, 'forget', '--tag', 'pruned', '--keep-last', '2', '--prune');
      const admin = async (...args: string[]): Promise<string> => {
        const { code, stdout, stderr } = await site.admin('appsrv', args, PASSWORD);
        expect(`${args.join(' ')}: ${code}\n${code === 0 ? '' : stderr}`).toBe(`${args.join(' ')}: 0\n`);
        return stdout;
      };
      await admin('forget', '--tag', 'pruned', '--keep-last', '1', '--prune');
      expect(JSON.parse(await admin('snapshots', '--tag', 'pruned', '--json'))).toHaveLength(1);
      await admin('check', '--read-data');
      await admin('unlock');
      await admin('stats');
      await good('appsrv', binary, 'check', '--read-data');
      expect(site.audit().some((line) => line['event'] === 'remove' && line['via'] === 'admin')).toBe(true);
    });

    test('the audit has every session, and no key of one client in the lines of another', async () => {
      const eventsOf = (kind: string): AuditLine[] => site.audit().filter((line) => line['event'] === kind);
      // restic does not wait for the end of its session to be written.
      const unended = (): AuditLine[] => {
        const ended = new Set(eventsOf('session-end').map((line) => line['session']));
        return eventsOf('session-start').filter((line) => !ended.has(line['session']));
      };
      for (let tries = 0; tries < 1800 && unended().length > 0; tries++) await sleep(100);
      expect(unended()).toEqual([]);
      const starts = eventsOf('session-start');
      expect(eventsOf('session-end')).toHaveLength(starts.length);
      const keys = new Map<unknown, Set<unknown>>();
      for (const line of starts)
        if (line['via'] !== 'admin') keys.set(line['client'], (keys.get(line['client']) ?? new Set()).add(line['key']));
      for (const [, fingerprints] of keys) expect(fingerprints.size).toBe(1);
      for (const line of starts.filter((each) => each['via'] !== 'admin'))
        expect(line).toMatchObject({
          from: '127.0.0.1',
          user: 'root',
          command: 'serve restic --stdio --b2-hard-delete x',
        });
      if (storeKind === 'directory') expect(readdirSync(site.directory)).toContain('audit.jsonl');
    });
  });
}
