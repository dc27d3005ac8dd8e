/** What is installed is what was built: the npm package, the Debian package and the single file, each from a clean place to a backup by real restic. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { validate } from 'dockerfile-utils';
import { runtimeTrouble } from '../../src/core/node-releases.ts';
import { freePort, lab, makeTree, restic, run, sameTree, startProcess, tempDir, type Outcome } from '../support/lab.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const VERSION = /^0\.\d+\.\d+ \([0-9a-f]{12}(-dirty)?\)\n$/;

let source: string;
beforeAll(async () => {
  source = path.join(tempDir(), 'source');
  await makeTree(source, { files: 6, bytes: 300_000, seed: 'packages' });
});

async function good(command: string, args: readonly string[], options?: Parameters<typeof run>[2]): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, { timeoutMs: 200_000, ...options });
  expect({ command, args, code, stderr: code === 0 ? '' : stderr }).toEqual({ command, args, code: 0, stderr: '' });
  return stdout;
}

/** Backs up, restores and compares, by what is given to restic as options. */
async function backUp(options: Readonly<Record<string, string>>, client = 'x'): Promise<void> {
  const as = async (...args: string[]): Promise<Outcome> => {
    const done = await restic(lab().resticNewest, { repo: `rclone:${client}`, options, timeoutMs: 100_000 }, [
      ...args,
      '--no-cache',
    ]);
    expect(`${args.join(' ')}: ${done.code} ${done.code === 0 ? '' : done.stderr}`).toBe(`${args.join(' ')}: 0 `);
    return done;
  };
  await as('init');
  await as('backup', source);
  const target = tempDir();
  await as('restore', 'latest', '--target', target);
  await sameTree(source, path.join(target, source));
}

/** A first config by `init`, a client, and a backup through the forced command. */
async function fromInitToBackup(program: string): Promise<void> {
  expect(await good(program, ['--version'])).toMatch(VERSION);
  const place = tempDir();
  const file = path.join(place, 'etc', 'gateway.yaml');
  await good(program, [
    'init',
    '-c',
    file,
    '--dir',
    path.join(place, 'store'),
    '--listen',
    `127.0.0.1:${await freePort()}`,
  ]);
  await good(program, ['client', 'add', 'appsrv', '--generate', '-c', file], { cwd: place });
  await good(program, ['check', '--live', '-c', file]);
  await backUp({ 'rclone.program': program, 'rclone.args': `stdio -c ${file}` }, 'appsrv');
  const serve = await startProcess(program, ['serve', '-c', file]);
  await serve.waitForLine(/listening on .* for 1 client/);
  expect(await serve.stop()).toBe(0);
}

test('the npm package, installed into a clean prefix', async () => {
  const place = tempDir();
  // Built already: a build now would take dist from under the other tests.
  await good('npm', ['pack', '--ignore-scripts', '--pack-destination', place], { cwd: ROOT });
  const [packed = ''] = readdirSync(place);
  expect(packed).toMatch(/^restic-gateway-.*\.tgz$/);
  const prefix = path.join(place, 'prefix');
  await good('npm', [
    'install',
    '--global',
    '--prefix',
    prefix,
    '--prefer-offline',
    '--no-audit',
    path.join(place, packed),
  ]);
  await fromInitToBackup(path.join(prefix, 'bin', 'restic-gateway'));
});

test('the single file, which needs nothing but Node', async () => {
  const program = path.join(tempDir(), 'restic-gateway');
  await good(process.execPath, ['scripts/packaging/single-file.mjs', program], { cwd: ROOT });
  expect(readdirSync(path.dirname(program))).toEqual(['restic-gateway']);
  await fromInitToBackup(program);
});

describe('the Debian package, installed on this very machine', () => {
  const DIRECTORIES = ['/etc/restic-gateway', '/var/lib/restic-gateway', '/var/log/restic-gateway'];
  const USER = 'restic-gateway';
  let installed = false;

  beforeAll(() => {
    const own = [...DIRECTORIES, '/usr/bin/restic-gateway'].filter((each) => existsSync(each));
    if (own.length > 0)
      throw new Error(`this machine has a gateway of its own, which a test must not touch: ${own.join(', ')}`);
  });
  afterAll(async () => {
    if (!installed) return;
    await run('dpkg', ['--purge', 'restic-gateway']);
    for (const directory of DIRECTORIES) rmSync(directory, { recursive: true, force: true });
    await run('userdel', [USER]);
  });

  test('from the package to a backup, by its own user, and what is left when it is removed', async () => {
    const place = tempDir();
    const file = (await good(process.execPath, ['scripts/packaging/deb.mjs', place], { cwd: ROOT })).trim();
    installed = true;
    // Node may be here without being a package.
    await good('dpkg', ['--force-depends', '--install', file]);
    const program = '/usr/bin/restic-gateway';
    expect(await good(program, ['--version'])).toMatch(VERSION);
    expect(await good('dpkg', ['--verify', 'restic-gateway'])).toBe('');

    const port = await freePort();
    const made = await good(program, ['init', '--dir', '/var/lib/restic-gateway', '--listen', `127.0.0.1:${port}`]);
    expect(made).toContain('all of it is for the user restic-gateway to use');
    const block = await good(program, ['client', 'add', 'appsrv', '--generate', '--host', '127.0.0.1'], { cwd: place });
    const serve = await startProcess('setpriv', [
      `--reuid=${USER}`,
      `--regid=${USER}`,
      '--init-groups',
      program,
      'serve',
    ]);
    await serve.waitForLine(/listening on .* for 1 client/);
    const knownHosts = path.join(place, 'known_hosts');
    const [known = ''] = /^\[127\.0\.0\.1\]:\d+ ssh-ed25519 \S+/m.exec(block) ?? [];
    expect(known).not.toBe('');
    await good('tee', [knownHosts], { input: `${known}\n` });
    const key = path.join(place, 'appsrv_ed25519');
    const ssh = `${lab().ssh} -F none -p ${port} -i ${key} -o UserKnownHostsFile=${knownHosts} -o BatchMode=yes backup@127.0.0.1`;
    await backUp({ 'rclone.program': ssh });

    // What root does leaves nothing that the gateway's own user could not use.
    const env = { RESTIC_PASSWORD: 'password', RESTIC_GATEWAY_RESTIC: lab().resticNewest };
    expect(await good(program, ['restic', 'appsrv', '--', 'snapshots', '--no-cache'], { env })).toContain(
      '1 snapshots',
    );
    expect((await run(program, ['status'])).stdout).toContain('appsrv');
    await good(program, ['scrub', 'appsrv']);
    await good(program, ['audit', 'verify']);
    const { uid } = statSync('/var/lib/restic-gateway');
    const owners = await good('find', [...DIRECTORIES.slice(1), '-printf', '%U\n']);
    expect(new Set(owners.trim().split('\n'))).toEqual(new Set([String(uid)]));
    expect(statSync('/etc/restic-gateway/gateway.yaml')).toMatchObject({ uid: 0, mode: 0o100640 });
    expect(await serve.stop()).toBe(0);

    const unit = '/usr/lib/systemd/system/restic-gateway.service';
    expect(await run('systemd-analyze', ['verify', '--man=no', unit])).toMatchObject({ code: 0, stderr: '' });
    for (const [page, words] of [
      ['man1/restic-gateway.1.gz', 'append-only'],
      ['man5/gateway.yaml.5.gz', 'clients.NAME.keys'],
    ] as const)
      expect(await run('man', ['--warnings', '-l', `/usr/share/man/${page}`])).toEqual({
        ...{ code: 0, stderr: '', stdout: expect.stringContaining(words) as unknown },
      });
    expect(await good('bash', ['-n', '/usr/share/bash-completion/completions/restic-gateway'])).toBe('');

    const backups = readdirSync('/var/lib/restic-gateway');
    const audit = readFileSync('/var/log/restic-gateway/audit.jsonl');
    await good('dpkg', ['--remove', 'restic-gateway']);
    expect(existsSync(program)).toBe(false);
    await good('dpkg', ['--purge', 'restic-gateway']);
    expect(existsSync('/etc/logrotate.d/restic-gateway')).toBe(false);
    expect(readdirSync('/var/lib/restic-gateway')).toEqual(backups);
    expect(readFileSync('/var/log/restic-gateway/audit.jsonl')).toEqual(audit);
    expect(existsSync('/etc/restic-gateway/gateway.yaml')).toBe(true);
  });

  test('the unit leaves the gateway few ways to do harm, as systemd itself scores it', async () => {
    const unit = path.join(ROOT, 'scripts/packaging/deb/restic-gateway.service');
    const { stdout } = await run('systemd-analyze', ['security', '--offline=true', '--no-pager', unit]);
    const [, exposure] = /Overall exposure level for restic-gateway.service: ([\d.]+)/.exec(stdout) ?? [];
    expect(Number(exposure)).toBeLessThanOrEqual(2);
  });
});

test('a directory that is not there is made for the user that init names, and nothing is given away by anyone but root', async () => {
  // The tests' own directory is closed to other users.
  const place = mkdtempSync(path.join(tmpdir(), 'restic-gateway-init-'));
  chmodSync(place, 0o755);
  const program = path.join(ROOT, 'bin/restic-gateway');
  const file = path.join(place, 'etc', 'gateway.yaml');
  const unknown = await run(program, [
    'init',
    '-c',
    file,
    '--dir',
    path.join(place, 'store'),
    '--user',
    'no-such-user',
  ]);
  expect(unknown).toMatchObject({ code: 2, stderr: expect.stringContaining('there is no user no-such-user') });
  expect(existsSync(path.dirname(file))).toBe(false);
  await good(program, ['init', '-c', file, '--dir', path.join(place, 'store'), '--user', 'nobody']);
  const { uid } = statSync(path.join(place, 'store'));
  expect(uid).toBe(Number(await good('id', ['-u', 'nobody'])));
  expect(statSync(path.join(place, 'etc', 'ssh_host_ed25519_key'))).toMatchObject({ uid, mode: 0o100600 });
  expect(readFileSync(file, 'utf8')).toMatch(/^user: nobody$/m);

  // A store that this user cannot use is found out before anything is made, though root could use it.
  mkdirSync(path.join(place, 'closed'), { mode: 0o700 });
  const other = path.join(place, 'other', 'gateway.yaml');
  const closed = await run(program, ['init', '-c', other, '--dir', path.join(place, 'closed'), '--user', 'nobody']);
  expect(closed).toMatchObject({ code: 2, stderr: expect.stringContaining('the store does not work for nobody: ') });
  expect(existsSync(path.dirname(other))).toBe(false);
  rmSync(place, { recursive: true, force: true, maxRetries: 20 });
});

test('the Dockerfile has nothing that its linter objects to, ends as no root, and copies only what there is', () => {
  const text = readFileSync(path.join(ROOT, 'scripts/packaging/Dockerfile'), 'utf8');
  expect(validate(text)).toEqual([]);
  expect(/^USER (.*)$/m.exec(text)?.[1]).toBe('1000:1000');
  // Kept at what was looked at, and no Node that is known to be vulnerable.
  const [, version = ''] = /^ARG BASE=\S+\/node:([\d.]+)-trixie-slim@sha256:[0-9a-f]{64}$/m.exec(text) ?? [];
  expect({ version, trouble: runtimeTrouble({ version }, new Date()) }).toEqual({
    version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
    trouble: undefined,
  });
  const kept = readFileSync(path.join(ROOT, 'scripts/packaging/Dockerfile.dockerignore'), 'utf8');
  for (const [, name = ''] of kept.matchAll(/^!(.+)$/gm))
    expect({ name, there: existsSync(path.join(ROOT, name)) }).toEqual({ name, there: true });
});
