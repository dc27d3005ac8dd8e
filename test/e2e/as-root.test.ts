/**
 * The admin's commands on retention, trash and Object Lock, called by root where the gateway has a user of its own: root alone reads the
 * password, and what touches storage, audit log and `state` is this user's, who gets to see no password.
 */
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { setArrival } from '../support/arrivals.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, lab, makeTree, newBucket, restic, run, s3, tempDir, type Outcome } from '../support/lab.ts';
import { lightenLocalKeys } from '../support/light-key.ts';
import { repositoryFiles } from '../support/repository-files.ts';
import type { StoreEntry } from '../support/stores.ts';
import { onTerminal } from '../support/terminal.ts';

/** A user that each Debian has: the gateway's. */
const ACCOUNT = /^games:[^:]*:(\d+):(\d+):/m.exec(readFileSync('/etc/passwd', 'utf8'));
const [uid, gid] = [Number(ACCOUNT?.[1]), Number(ACCOUNT?.[2])];
const PASSWORD = 'known to root alone';
const DAY_MS = 24 * 60 * 60 * 1000;

let place: string;
const at = (name: string): string => path.join(place, name);
const asRoot = process.geteuid?.() === 0 ? describe : describe.skip;

/** What the gateway's user owns. */
function own(file: string, content?: string): string {
  if (content === undefined) mkdirSync(file, { mode: 0o750 });
  else writeFileSync(file, content, { mode: 0o600 });
  chownSync(file, uid, gid);
  return file;
}

/** Each process of Node that a command starts writes down who it is and what its environment holds. */
const SPY = `
  import { readFileSync, writeFileSync } from 'node:fs';
  const line = { argv: process.argv.slice(2), uid: process.getuid(), environment: readFileSync('/proc/self/environ', 'utf8') };
  writeFileSync(new URL('seen/' + process.pid + '-' + performance.timeOrigin, import.meta.url), JSON.stringify(line));
`;
interface Seen {
  readonly argv: readonly string[];
  readonly uid: number;
  readonly environment: string;
}
function seen(): Seen[] {
  return readdirSync(at('seen')).map((file) => JSON.parse(readFileSync(at(`seen/${file}`), 'utf8')) as Seen);
}

asRoot('root, where the gateway has a user of its own', () => {
  let config: string;
  let plain: StoreEntry;
  const env = (given: Readonly<Record<string, string>> = {}): Record<string, string> => ({
    ...{ RESTIC_CACHE_DIR: at('cache'), RESTIC_GATEWAY_RESTIC: lab().resticNewest },
    ...{ NODE_OPTIONS: `--import=${pathToFileURL(at('spy.mjs')).href}`, ...given },
  });
  const gateway = (args: readonly string[], given: Readonly<Record<string, string>> = {}): Promise<Outcome> => {
    const [before, after] = args.includes('--')
      ? [args.slice(0, args.indexOf('--')), args.slice(args.indexOf('--'))]
      : [args, []];
    return run(process.execPath, [GATEWAY, ...before, '-c', config, ...after], { env: env(given), timeoutMs: 120_000 });
  };
  const snapshots = (client: string): string[] => readdirSync(at(`store/${client}/snapshots`)).sort();

  beforeAll(async () => {
    // Not below the tests' own directory, which is closed to other users.
    place = mkdtempSync(path.join(tmpdir(), 'restic-gateway-as-root-'));
    chmodSync(place, 0o755);
    for (const name of ['state', 'audit', 'store', 'seen']) own(at(name));
    writeFileSync(at('spy.mjs'), SPY);
    writeFileSync(at('password'), `${PASSWORD}\n`, { mode: 0o600 });
    config = at('gateway.yaml');

    const source = path.join(tempDir(), 'source');
    await makeTree(source, { files: 2, bytes: 10_000, seed: 'root' });
    const { endpoint, region, accessKeyId, secretAccessKey } = s3();
    const [bucket, lockedBucket] = [await newBucket(), await newBucket({ objectLock: true })];
    const secretAccessKeyFile = own(at('secret'), secretAccessKey);
    plain = { type: 's3', bucket, endpoint, region, accessKeyId, secretAccessKeyFile };
    for (const args of [['init'], ...Array.from({ length: 5 }, () => ['backup', source])]) {
      const made = await restic(lab().resticNewest, { repo: at('store/filed'), password: PASSWORD }, args);
      expect({ args, code: made.code, stderr: made.stderr }).toEqual({ args, code: 0, stderr: '' });
      if (args[0] === 'init') await lightenLocalKeys(at('store/filed'), PASSWORD);
    }
    const [from, to] = ['filed', 'days'].map((name) =>
      repositoryFiles(name === 'days' ? plain : { type: 'directory', path: at('store') }, name),
    );
    for (const key of (await from?.keys()) ?? []) await to?.write(key, (await from?.read(key)) ?? Buffer.alloc(0));
    for (const client of ['typed', 'given']) await run('cp', ['-a', at('store/filed'), at(`store/${client}`)]);
    await run('chown', ['-R', `${uid}:${gid}`, at('store')]);

    const rules = { retention: { 'keep-last': 1, 'group-by': 'host' }, protect: 'none' };
    const client = async (store: string, given: object): Promise<object> => ({
      ...{ keys: [(await generateKey()).publicLine], repository: { store }, ...given },
    });
    writeFileSync(
      config,
      stringify({
        user: 'games',
        stores: {
          main: { type: 'directory', path: at('store') },
          plain,
          locked: { ...plain, bucket: lockedBucket, objectLock: { mode: 'governance', days: 1 } },
        },
        clients: {
          filed: await client('main', { ...rules, passwordFile: at('password') }),
          typed: await client('main', rules),
          given: await client('main', rules),
          days: await client('plain', rules),
          locked: await client('locked', {}),
        },
        audit: { file: at('audit/audit.jsonl') },
        state: at('state'),
      }),
    );
  });
  afterAll(() => {
    rmSync(place, { recursive: true, force: true, maxRetries: 20 });
  });

  test('forget, with a password file that root alone can read; what went comes back, and all of it is the user’s', async () => {
    const before = snapshots('filed');
    const { code, stdout, stderr } = await gateway(['forget', 'filed']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('filed: 2 snapshots removed, and what nothing uses any more');
    expect(snapshots('filed')).toHaveLength(3);
    const since = await gateway(['trash', 'restore', 'filed', '--since', '1h']);
    expect({ code: since.code, stderr: since.stderr }).toEqual({ code: 0, stderr: '' });
    expect(snapshots('filed')).toEqual(before);
    expect((await gateway(['restic', 'filed', '--', 'check'])).code).toBe(0);
    expect((await gateway(['trash', 'purge', '--all', '--older-than', '0s'])).code).toBe(0);
    const { stdout: owners } = await run('find', [at('store'), at('audit'), at('state'), '-printf', '%U\n']);
    expect(new Set(owners.trim().split('\n'))).toEqual(new Set([String(uid)]));
  });

  test('forget, with a password that is typed', async () => {
    const variables = Object.entries(env()).map(([name, value]) => `${name}=${value}`);
    const { code, shown } = await onTerminal(
      ['env', ...variables, process.execPath, GATEWAY, 'forget', 'typed', '--no-prune', '-c', config],
      [[/password of the repository of typed \(without one: --without-password\): $/, `${PASSWORD}\r`]],
    );
    expect({ code, shown: code === 0 ? '' : shown }).toEqual({ code: 0, shown: '' });
    expect(shown).toContain('typed: 2 snapshots removed');
    expect(shown).not.toContain(PASSWORD);
    expect(snapshots('typed')).toHaveLength(3);
  });

  test.each([
    ['RESTIC_PASSWORD', PASSWORD],
    ['RESTIC_PASSWORD_COMMAND', `echo ${PASSWORD}`],
  ])('forget, with %s', async (name, value) => {
    const { code, stderr } = await gateway(['forget', 'given', '--dry-run'], { [name]: value });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  test('forget without a password, on S3: whole days go to the trash, and come back', async () => {
    const files = repositoryFiles(plain, 'days');
    const there = async (): Promise<string[]> =>
      (await files.keys()).filter((key) => key.startsWith('snapshots/')).sort();
    const all = await there();
    for (const [index, key] of all.entries())
      await setArrival(plain, 'days', key, new Date(Date.now() - (index + 1) * DAY_MS));
    const { code, stdout, stderr } = await gateway(['forget', 'days', '--without-password']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('days: 2 snapshots removed, to the trash');
    expect(await there()).toEqual(all.slice(0, 3).sort());
    expect((await gateway(['trash', 'restore', 'days', '--all'])).code).toBe(0);
    expect(await there()).toEqual(all);
  });

  test('extend, and hold', async () => {
    const run = async (...args: string[]): Promise<Outcome> => {
      const outcome = await gateway(args, { RESTIC_PASSWORD: PASSWORD });
      expect({ args, code: outcome.code, stderr: outcome.stderr }).toEqual({ args, code: 0, stderr: '' });
      return outcome;
    };
    await run('restic', 'locked', '--', 'init');
    expect((await run('extend', 'locked', '--when-under', '1d')).stdout).toMatch(/^locked: 2 objects: 2 renewed until/);
    await run('client', 'hold', 'locked');
    await run('client', 'release', 'locked');
  });

  test('what a disk or an appliance keeps in a repository’s directory is named once, never read, and no reason for attention', async () => {
    const home = at('store/given');
    for (const foreign of ['lost+found', 'data/@eaDir', `data/${readdirSync(`${home}/data`)[0] ?? ''}/@eaDir`])
      mkdirSync(path.join(home, foreign), { mode: 0o700 });
    // As a file server shows its snapshots: the whole once more, and here without end.
    mkdirSync(path.join(home, '.snapshot'));
    symlinkSync('..', path.join(home, '.snapshot/hourly'));
    mkdirSync(path.join(home, '.restic-gateway/trash'), { recursive: true });
    for (const own of ['.restic-gateway', '.restic-gateway/trash']) chownSync(path.join(home, own), uid, gid);
    mkdirSync(path.join(home, '.restic-gateway/trash/@eaDir'), { mode: 0o700 });
    // An admin's way to have packs on another disk's directory.
    renameSync(path.join(home, 'data'), at('packs'));
    symlinkSync(at('packs'), path.join(home, 'data'));

    const scrubbed = await gateway(['scrub', 'given']);
    expect({ code: scrubbed.code, stderr: scrubbed.stderr }).toEqual({ code: 0, stderr: '' });
    const flat = scrubbed.stdout.replaceAll(/\s+/g, ' ');
    expect(flat).toMatch(/^given: \d+ objects, .*: all good Not part of the repository, and not read: /);
    for (const foreign of ['lost+found/', '.snapshot/', 'data/@eaDir/']) expect(flat.split(foreign)).toHaveLength(2);
    const { stdout: packs } = await run('find', [at('packs'), '-type', 'f']);
    const [, objects] = /^given: (\d+) objects/.exec(flat) ?? [];
    expect(Number(objects)).toBeGreaterThan(packs.trim().split('\n').length);
    for (const args of [
      ['scrub', 'given', '--quick'],
      ['undo', 'given', '--since', '1h'],
      ['undo', 'given', '--list'],
      ['trash', 'list', 'given'],
      ['trash', 'purge', 'given', '--older-than', '0s'],
      ['forget', 'given', '--dry-run'],
      ['restic', 'given', '--', 'check'],
      ['check', '--live'],
    ]) {
      const { code, stderr } = await gateway(args, { RESTIC_PASSWORD: PASSWORD });
      expect({ args, code, stderr: args[0] === 'check' ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    }
    const status = JSON.parse((await gateway(['status', 'given', '--json'])).stdout) as {
      scrub: object;
      reasons: string[];
    };
    expect(status.scrub).toMatchObject({ findings: 0 });
    expect(status.reasons.join()).not.toMatch(/scrub/i);
  });

  test('no process of the gateway’s own had a password', () => {
    const all = seen();
    const of = (word: string): Seen[] => all.filter(({ argv }) => argv.includes(word));
    for (const word of ['stdio', 'snapshot-records', 'trash', 'extend', 'hold'])
      expect([word, of(word).some((one) => one.uid === uid)]).toEqual([word, true]);
    const told = all.filter(
      ({ argv, uid: who, environment }) =>
        (who === uid || argv.includes('stdio') || argv.includes('snapshot-records')) &&
        (environment.includes(PASSWORD) || /(?:^|\0)RESTIC_(?!GATEWAY_)\w*PASSWORD/.test(environment)),
    );
    expect(told).toEqual([]);
  });
});
