/** `scrub` on real repositories: it finds what was planted, and nothing else. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openSite, type Site } from '../support/sites.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { makeTree, run, startProcess, tempDir, type Outcome } from '../support/lab.ts';
import { lightenKeys } from '../support/light-key.ts';
import { repositoryFiles, type RepositoryFiles } from '../support/repository-files.ts';
import { freshStore, STORES } from '../support/stores.ts';

describe.each(STORES)('scrub of a repository on %s', (kind) => {
  let site: Site;
  let files: RepositoryFiles;
  let others: RepositoryFiles;
  const scrub = (...args: readonly string[]): Promise<Outcome> =>
    run(process.execPath, [GATEWAY, 'scrub', ...args, '-c', site.configFile], { timeoutMs: 120_000 });
  const findings = (outcome: Outcome): unknown =>
    (JSON.parse(outcome.stdout) as { found: { key: string; problem: string }[] }).found
      .map(({ key, problem }) => `${problem} ${key}`)
      .sort();

  beforeAll(async () => {
    const store = await freshStore(kind);
    files = repositoryFiles(store, 'appsrv');
    others = repositoryFiles(store, 'empty');
    site = await openSite('ssh server', {
      stores: { main: store },
      clients: { appsrv: { repository: { store: 'main' } }, empty: { repository: { store: 'main' } } },
    });
    const source = path.join(tempDir(), 'source');
    await makeTree(source, { files: 20, bytes: 12_000_000, seed: 'scrub' });
    expect((await site.admin('appsrv', ['init'], 'secret')).code).toBe(0);
    await lightenKeys(store, 'appsrv', 'secret');
    expect((await site.admin('appsrv', ['backup', source], 'secret')).code).toBe(0);
  });
  afterAll(async () => {
    await site.close();
  });

  test('a good one is good, by contents and at a glance, and the result is kept', async () => {
    const whole = await scrub('appsrv');
    expect(whole.stdout).toMatch(/^appsrv: \d+ objects, .* read in .*: all good\n$/);
    expect(whole.code).toBe(0);
    const quick = await scrub('--all', '--quick');
    expect(quick.stdout).toMatch(/appsrv: \d+ objects, .* looked at, contents not read.*all good\n/);
    expect(quick.stdout).toMatch(/empty: 0 objects/);
    expect(quick.code).toBe(0);
    const directory = path.join(site.directory, 'state', 'scrub');
    const kept = readdirSync(directory).map((name) => readFileSync(path.join(directory, name), 'utf8'));
    expect(kept.map((text) => (JSON.parse(text) as { prefix: string }).prefix).sort()).toEqual(['appsrv', 'empty']);
  });

  test('a bit flipped in each type, a pack cut short and an empty one are found', async () => {
    const keys = (await files.keys()).filter((key) => !key.startsWith('.restic-gateway/'));
    const planted: string[] = [];
    const undo: (() => Promise<void>)[] = [];
    const plant = async (key: string, problem: string, change: (bytes: Buffer) => Buffer): Promise<void> => {
      const before = await files.read(key);
      await files.write(key, change(Buffer.from(before)));
      planted.push(`${problem} ${key}`);
      undo.push(() => files.write(key, before));
    };
    const flip = (bytes: Buffer): Buffer => {
      const at = bytes.length >> 1;
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
      return bytes;
    };
    for (const type of ['index', 'keys', 'snapshots', 'data'])
      await plant(keys.find((key) => key.startsWith(`${type}/`)) ?? '', 'damaged', flip);
    const packs = keys.filter((key) => key.startsWith('data/'));
    await plant(packs[1] ?? '', 'damaged', (bytes) => bytes.subarray(0, bytes.length - 1));
    await plant('config', 'empty', () => Buffer.alloc(0));
    const found = await scrub('appsrv', '--json');
    expect(found.code).toBe(1);
    expect(findings(found)).toEqual(planted.sort());
    expect((await scrub('appsrv')).stdout).toMatch(/: 6 problems\n/);
    for (const back of undo) await back();
    expect((await scrub('appsrv')).code).toBe(0);
  });

  test('what is not restic’s is named once and is no problem, and marks of folders are nothing', async () => {
    const foreign = ['readme.txt', 'data/ff/readme', `data/00/${'f'.repeat(64)}`, 'photos/2026/a.jpg', 'photos/b.jpg'];
    const marks = kind === 's3' ? ['', 'data/', 'data/00/', 'locks/'] : [];
    for (const key of [...foreign, ...marks]) await files.write(key, Buffer.from(key.endsWith('g') ? 'x' : ''));
    const json = await scrub('appsrv', '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({ good: true, findings: 0, foreign: 4 });
    const { foreignKeys } = JSON.parse(json.stdout) as { foreignKeys: string[] };
    expect(foreignKeys.sort()).toEqual([...foreign.slice(0, 3), 'photos/'].sort());
    const { code, stdout } = await scrub('appsrv', '--quick');
    expect({ code, stdout: stdout.replaceAll(/\s+/g, ' ') }).toEqual({
      code: 0,
      stdout: expect.stringMatching(/all good Not part of the repository, and not read: .*photos\//) as unknown,
    });
    for (const args of [
      ['undo', 'appsrv', '--since', '1h'],
      ['trash', 'list', 'appsrv'],
    ]) {
      const outcome = await run(process.execPath, [GATEWAY, ...args, '-c', site.configFile]);
      expect({ args, code: outcome.code, stderr: outcome.stderr }).toEqual({ args, code: 0, stderr: '' });
    }
    const status = await run(process.execPath, [GATEWAY, 'status', 'appsrv', '--json', '-c', site.configFile]);
    expect((JSON.parse(status.stdout) as { reasons: string[] }).reasons.join()).not.toMatch(/scrub/);
    expect((await site.admin('appsrv', ['check'], 'secret')).code).toBe(0);
    for (const key of [...foreign, ...marks]) await files.remove(key);
  });

  test('a bit flipped in the config is found too, whose name says nothing of it', async () => {
    // Made through a gateway, and not written over since.
    expect((await site.admin('empty', ['init'], 'secret')).code).toBe(0);
    const config = await others.read('config');
    const flipped = Buffer.from(config);
    flipped.writeUInt8(flipped.readUInt8(20) ^ 1, 20);
    await others.rot('config', flipped);
    expect(findings(await scrub('empty', '--json'))).toEqual(['damaged config']);
    await others.rot('config', config);
    expect((await scrub('empty')).code).toBe(0);
  });

  test('stopped in mid-way it goes on from there, unless told to restart', async () => {
    // 12 MB at this rate last far longer than it takes to stop it.
    const slow = await startProcess(process.execPath, [
      ...[GATEWAY, 'scrub', 'appsrv', '--bandwidth', '300KiB/s', '-c', site.configFile],
    ]);
    const directory = path.join(site.directory, 'state', 'scrub');
    const progress = (): string[] => readdirSync(directory).filter((name) => name.endsWith('.progress.json'));
    while (progress().length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await slow.stop()).toBe(1);
    const [name = ''] = progress();
    const done = JSON.parse(readFileSync(path.join(directory, name), 'utf8')) as { parts: Record<string, unknown> };
    expect(Object.keys(done.parts).length).toBeGreaterThan(0);
    // What is done is not read again: what happens to it now is for the next scrub to find.
    const key = (await files.keys()).find((one) => Object.keys(done.parts).some((part) => one.startsWith(part))) ?? '';
    const before = await files.read(key);
    await files.write(key, Buffer.alloc(0));
    const rest = await scrub('appsrv', '--json');
    expect(rest.stderr).toMatch(/goes on with the scrub that began at/);
    expect(rest.code).toBe(0);
    expect(findings(await scrub('appsrv', '--json'))).toEqual([`empty ${key}`]);
    await files.write(key, before);
    const total = (await files.keys()).filter((key) => !key.startsWith('.restic-gateway/')).length;
    expect((JSON.parse(rest.stdout) as { objects: number }).objects).toBe(total);
    expect(progress()).toEqual([]);
    expect((await scrub('appsrv')).stderr).not.toMatch(/goes on/);
  });

  test('wrong use is told, and a forced command gets nothing', async () => {
    for (const args of [[], ['appsrv', '--all'], ['nobody'], ['appsrv', '--bandwidth', 'fast']])
      expect((await scrub(...args)).code).toBe(2);
    expect((await scrub('appsrv', '--bandwidth', 'fast')).stderr).toContain(
      '--bandwidth fast: must be a size a second',
    );
    // As the YAML writes it.
    expect((await scrub('appsrv', '--bandwidth', '2.5MB/s')).code).not.toBe(2);
    const forced = await run(process.execPath, [GATEWAY, 'scrub', 'appsrv', '-c', site.configFile], {
      env: { SSH_ORIGINAL_COMMAND: 'x' },
    });
    expect(forced.code).toBe(2);
    expect(forced.stderr).toMatch(/for the admin on the gateway host/);
  });
});
