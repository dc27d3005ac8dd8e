/**
 * A stolen key: the attacker can remove nothing, so they fill the repository with junk until restic fails on it. The admin disables the
 * client, takes the attacker's session back, and everything from before is there.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { openSite, type Site } from '../support/sites.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { lab, makeTree, restic, run, sameTree, tempDir, type Outcome } from '../support/lab.ts';
import { lightenKeys } from '../support/light-key.ts';
import { repositoryFiles, type RepositoryFiles } from '../support/repository-files.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore, STORES } from '../support/stores.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe.each(STORES)('a repository on %s that an attacker filled with junk', (kind) => {
  let site: Site;
  let files: RepositoryFiles;
  let attack: readonly string[];
  const source = path.join(tempDir(), 'source');
  const target = (): Parameters<typeof restic>[1] => ({
    repo: 'rclone:x',
    options: { 'rclone.program': site.program('appsrv') },
    password: 'secret',
  });
  const admin = (...args: readonly string[]): Promise<Outcome> => site.admin('appsrv', args, 'secret');
  const undo = (...args: readonly string[]): Promise<Outcome> =>
    run(process.execPath, [GATEWAY, 'undo', 'appsrv', ...args, '-c', site.configFile], { timeoutMs: 120_000 });
  const objects = async (): Promise<readonly string[]> =>
    (await files.keys()).filter((key) => !/^(?:\.restic-gateway|locks)\//.test(key)).sort();
  const sessions = (): readonly string[] =>
    site
      .audit()
      .filter((line) => line['event'] === 'session-start')
      .map((line) => String(line['session']));
  let before: readonly string[];

  beforeAll(async () => {
    const store = await freshStore(kind);
    files = repositoryFiles(store, 'appsrv');
    site = await openSite('ssh server', {
      stores: { main: store },
      clients: { appsrv: { repository: { store: 'main' }, addKeys: true } },
    });
    await makeTree(source, { files: 10, bytes: 3_000_000, seed: 'undo' });
    expect((await restic(lab().resticNewest, target(), ['init'])).code).toBe(0);
    await lightenKeys(store, 'appsrv', 'secret');
    expect((await restic(lab().resticNewest, target(), ['backup', source])).code).toBe(0);
    before = await objects();
  });
  afterAll(async () => {
    await site.close();
  });

  test('the attacker’s session breaks it', async () => {
    const known = sessions();
    // Forged: a snapshot from the future, which pushes the others out of `forget --keep-last`.
    expect((await restic(lab().resticNewest, target(), ['backup', '--time', '2037-01-01 00:00:00', source])).code).toBe(
      0,
    );
    const client = startStdio(['appsrv', '-c', site.configFile]);
    const key = await files.read((await objects()).find((one) => one.startsWith('keys/')) ?? '');
    const junk: (readonly [string, Uint8Array])[] = [
      // restic tries 20 keys in whatever order and then gives up.
      ...Array.from({ length: 20 }, (): readonly [string, Uint8Array] => ['keys', junkKey(key)]),
      ['index', randomBytes(500)],
      ['snapshots', randomBytes(300)],
      ['data', randomBytes(5000)],
      ['data', randomBytes(5000)],
    ];
    for (const [type, body] of junk)
      expect((await client.request('POST', `/${type}/${sha256(body)}`, { body })).status).toBe(200);
    client.end();
    expect((await client.exited).status).toBe(0);
    attack = sessions().filter((session) => !known.includes(session));
    expect(attack.length).toBeGreaterThan(1);
    expect((await admin('check', '--no-lock')).code).not.toBe(0);
    expect((await restic(lab().resticNewest, target(), ['backup', source])).code).not.toBe(0);
  });

  test('the admin is told to disable the client first, and a look changes nothing', async () => {
    const full = await objects();
    const since = beginOf(attack[0]);
    const hasty = await undo('--since', since, '--yes');
    expect(hasty.code).toBe(2);
    expect(hasty.stderr).toMatch(/disable client appsrv first/);
    const look = await undo('--since', since);
    expect(look.stdout).toMatch(/keys +20 /);
    expect(look.stdout).toMatch(/Nothing was changed/);
    expect(await objects()).toEqual(full);
    const one = await undo('--session', attack[1] ?? '', '--json');
    const { objects: planned } = JSON.parse(one.stdout) as { objects: { key: string; session: string }[] };
    expect(planned.map(({ session }) => session)).toEqual(planned.map(() => attack[1]));
    expect(planned.map(({ key }) => key.replace(/\/.*/, '')).sort()).toEqual([
      'data',
      'data',
      'index',
      ...Array.from({ length: 20 }, () => 'keys'),
      'snapshots',
    ]);
    // What made the repository is not undone.
    const all = await undo('--since', '7d', '--force', '--yes');
    expect(all.code).toBe(2);
    expect(all.stderr).toMatch(/made the repository itself/);
    expect(await objects()).toEqual(full);
  });

  test('undone, it is as before; restored, the junk is back; and undone again', async () => {
    const full = await objects();
    const since = beginOf(attack[0]);
    const yaml = parse(readFileSync(site.configFile, 'utf8')) as { clients: { appsrv: { disabled?: boolean } } };
    yaml.clients.appsrv.disabled = true;
    writeFileSync(site.configFile, stringify(yaml));

    const done = await undo('--since', since, '--yes');
    expect(done.stderr).toBe('');
    expect(done.code).toBe(0);
    expect(await objects()).toEqual(before);
    expect((await admin('check', '--read-data')).code).toBe(0);
    const restored = tempDir();
    expect((await admin('restore', 'latest', '--target', restored)).code).toBe(0);
    expect(await sameTree(source, path.join(restored, source))).toBe(true);

    const id = /--restore (\S+)/.exec(done.stdout)?.[1] ?? '';
    const audited = site.audit().filter((line) => line['session'] === id && line['event'] === 'quarantine');
    expect(audited.map((line) => [line['via'], line['client']])).toEqual(audited.map(() => ['admin', 'appsrv']));
    expect(audited.length).toBeGreaterThanOrEqual(full.length - before.length);
    expect((await undo('--list')).stdout).toMatch(new RegExp(`${id} .* quarantined`));

    const back = await undo('--restore', id);
    expect(back.code).toBe(0);
    expect(await objects()).toEqual(full);

    // Cut off in mid-way, as the manifest tells: the next run completes it.
    expect((await undo('--since', since, '--yes')).code).toBe(0);
    const manifests = (await files.keys()).filter((key) => key.endsWith('/manifest.json'));
    const last = manifests.filter((key) => !key.includes(id))[0] ?? '';
    const manifest = JSON.parse((await files.read(last)).toString()) as { id: string; objects: { key: string }[] };
    await files.write(last, Buffer.from(JSON.stringify({ ...manifest, state: 'moving' })));
    const half = manifest.objects.find(({ key }) => key.startsWith('index/'))?.key ?? '';
    const kept = `.restic-gateway/quarantine/${manifest.id}/objects/${half}`;
    await files.write(half, await files.read(kept));
    await files.remove(kept);
    const completed = await undo('--since', since, '--yes');
    expect(completed.stdout).toMatch(/had been cut off; it is completed first/);
    expect(completed.code).toBe(0);
    expect(await objects()).toEqual(before);
    expect(await files.keys()).toContain(kept);
  });

  test('of many quarantines, each with much in it, one at a time is in memory', async () => {
    const [ofEach, keys] = [20_000, [] as string[]];
    for (const digit of '0123456789') {
      const id = `20200101T00000${digit}Z-0a1b2c`;
      const objects = Array.from({ length: ofEach }, (_, index) => {
        const name = `${digit}${index}`.padStart(64, '0');
        return { key: `data/00/${name}`, size: 1, arrived: '2020-01-01T00:00:00.000Z', session: `s-${index}` };
      });
      const about = { v: 1, id, client: 'appsrv', selection: '--since 2h', made: '2020-01-01T00:00:00Z' };
      keys.push(`.restic-gateway/quarantine/${id}/manifest.json`);
      await files.write(keys.at(-1) ?? '', Buffer.from(JSON.stringify({ ...about, state: 'quarantined', objects })));
    }
    const list = (...more: readonly string[]): Promise<Outcome> =>
      run(
        process.execPath,
        ['--max-old-space-size=60', GATEWAY, 'undo', 'appsrv', '--list', ...more, '-c', site.configFile],
        { timeoutMs: 120_000 },
      );
    const table = await list();
    expect(table.stderr).toBe('');
    expect(table.stdout.match(/ 20000 +quarantined$/gm)).toHaveLength(keys.length);
    const all = (await list('--json')).stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { readonly objects: readonly unknown[] });
    expect(all.filter(({ objects }) => objects.length === ofEach)).toHaveLength(keys.length);
    for (const key of keys) await files.remove(key);
  });

  /** When a session began, ISO 8601. */
  function beginOf(session: string | undefined): string {
    return String(site.audit().find((line) => line['session'] === session)?.['time']);
  }
});

/** A key file that restic can parse and no password opens. */
function junkKey(real: Uint8Array): Buffer {
  const key = JSON.parse(Buffer.from(real).toString()) as Record<string, unknown>;
  return Buffer.from(JSON.stringify({ ...key, salt: randomBytes(64).toString('base64') }));
}
