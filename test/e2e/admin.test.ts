/** The admin on the gateway host and a client at work at the same time; and sshd asking the gateway for odd keys. */
import { chmodSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { openSite, type Site } from '../support/sites.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import {
  generateKey,
  lab,
  makeTree,
  restic,
  run,
  sshClientArgs,
  startProcess,
  startSshd,
  tempDir,
  type LabProcess,
  type Outcome,
} from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

/** A backup that lasts, and holds its lock, until its writer is stopped: it reads from a pipe that stays open. */
async function lastingBackup(
  program: string,
  args: readonly string[],
): Promise<{ backup: LabProcess; writer: LabProcess }> {
  const fifo = path.join(tempDir(), 'fifo');
  await run('mkfifo', [fifo]);
  const backup = await startProcess(
    'sh',
    ['-c', `exec "$0" "$@" < '${fifo}'`, program, ...args, 'backup', '--stdin', '--no-cache'],
    { env: { RESTIC_PASSWORD: 'secret', RESTIC_GATEWAY_RESTIC: lab().resticNewest } },
  );
  const writer = await startProcess('sh', ['-c', `exec 3>'${fifo}'; echo begun >&3; exec sleep 600`]);
  return { backup, writer };
}

test.each(["an admin's", 'a, b', '"quoted"', `all: ' " , \\ $HOME`])(
  'a config in a directory called %s',
  async (name) => {
    const directory = path.join(tempDir(), name);
    mkdirSync(directory);
    const file = path.join(directory, 'gateway.yaml');
    const store = await freshStore('directory');
    writeFileSync(
      file,
      stringify({
        stores: { main: store },
        clients: { appsrv: { keys: [(await generateKey()).publicLine], repository: { store: 'main' } } },
        audit: { file: 'audit.jsonl' },
      }),
    );
    const env = { RESTIC_PASSWORD: 'secret', RESTIC_GATEWAY_RESTIC: lab().resticNewest };
    expect(await run(process.execPath, [GATEWAY, 'restic', 'appsrv', '-c', file, '--', 'init', '-q'], { env })).toEqual(
      {
        code: 0,
        stdout: '',
        stderr: '',
      },
    );
  },
);

test('restic gets the password of passwordFile, unless the admin says otherwise or others could read it', async () => {
  const directory = tempDir();
  const file = path.join(directory, 'gateway.yaml');
  const passwordFile = path.join(directory, 'password');
  const keys = [(await generateKey()).publicLine];
  writeFileSync(
    file,
    stringify({
      stores: { main: await freshStore('directory') },
      clients: { appsrv: { keys, repository: { store: 'main' }, passwordFile } },
      audit: { file: 'audit.jsonl' },
    }),
  );
  const admin = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
    run(process.execPath, [GATEWAY, 'restic', 'appsrv', '-c', file, '--', ...args], {
      env: { RESTIC_GATEWAY_RESTIC: lab().resticNewest, ...env },
    });
  const NO_FILE = `restic-gateway: ${passwordFile} cannot be read (ENOENT), so restic looks for a password itself\n`;
  const without = await admin(['init', '-q']);
  expect(without.code).not.toBe(0);
  expect(without.stderr).toContain(NO_FILE);
  expect((await admin(['init', '-q'], { RESTIC_PASSWORD: 'secret' })).code).toBe(0);

  writeFileSync(passwordFile, 'secret\n', { mode: 0o600 });
  expect(await admin(['snapshots', '--json'])).toEqual({ code: 0, stdout: '[]\n', stderr: '' });
  const another = path.join(directory, 'another');
  writeFileSync(another, 'wrong\n', { mode: 0o600 });
  for (const [args, env] of [
    [[], { RESTIC_PASSWORD: 'wrong' }],
    [[], { RESTIC_PASSWORD_FILE: another }],
    [[], { RESTIC_PASSWORD_COMMAND: 'echo wrong' }],
    [['-p', another], {}],
    [[`--password-file=${another}`], {}],
    [['--password-command', 'echo wrong'], {}],
    [['--insecure-no-password'], {}],
  ] as const)
    expect(await admin(['snapshots', ...args], env)).toMatchObject({
      code: 12,
      stderr: expect.stringContaining('wrong password or no key found'),
    });

  chmodSync(passwordFile, 0o644);
  expect(await admin(['snapshots'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining(`chmod 600 ${passwordFile}`),
  });
});

describe('restic locks hold between the admin and a client', () => {
  let site: Site;
  const source = path.join(tempDir(), 'source');
  const target = (): Parameters<typeof restic>[1] => ({
    repo: 'rclone:x',
    options: { 'rclone.program': site.program('appsrv') },
    password: 'secret',
  });
  beforeAll(async () => {
    site = await openSite('ssh server', {
      stores: { main: await freshStore('s3') },
      clients: { appsrv: { repository: { store: 'main' } } },
    });
    await makeTree(source, { files: 10, bytes: 5_000_000, seed: 'admin' });
    expect((await restic(lab().resticNewest, target(), ['init'])).code).toBe(0);
    expect((await restic(lab().resticNewest, target(), ['backup', source])).code).toBe(0);
  });
  afterAll(async () => {
    await site.close();
  });

  test('while a client backs up, the admin’s prune waits its turn and removes nothing', async () => {
    const { backup, writer } = await lastingBackup(lab().resticNewest, [
      ...['-r', 'rclone:x', '-o', `rclone.program=${site.program('appsrv')}`],
    ]);
    const locked = async (): Promise<boolean> =>
      (await site.admin('appsrv', ['list', 'locks', '--no-lock'], 'secret')).stdout.trim() !== '';
    while (!(await locked())) await new Promise((resolve) => setTimeout(resolve, 200));
    const prune = await site.admin('appsrv', ['forget', '--keep-last', '1', '--prune'], 'secret', [
      ...['--hold-client', '1s'],
    ]);
    expect(prune.stderr).toMatch(/session \S+ of appsrv still has a lock; wait longer with --hold-client DURATION/);
    expect(prune.code).not.toBe(0);
    expect(prune.stderr).toMatch(/already locked/);
    await writer.stop();
    expect(await backup.exited).toBe(0);
    expect(
      (await site.admin('appsrv', ['forget', '--keep-last', '1', '--group-by', '', '--prune'], 'secret')).code,
    ).toBe(0);
    expect((await site.admin('appsrv', ['check', '--read-data'], 'secret')).code).toBe(0);
  });

  test('the client cannot remove the admin’s lock, not even by force', async () => {
    const before = site.audit().length;
    const { backup, writer } = await lastingBackup(process.execPath, [
      ...[GATEWAY, 'restic', 'appsrv', '-c', site.configFile, '--'],
    ]);
    const locked = (): boolean =>
      site
        .audit()
        .slice(before)
        .some((line) => line['event'] === 'create' && String(line['object']).startsWith('locks/'));
    while (!locked()) await new Promise((resolve) => setTimeout(resolve, 100));
    const unlock = await restic(lab().resticNewest, target(), ['unlock', '--remove-all']);
    expect(unlock.stderr).toContain('append-only: this lock belongs to someone else and is under 30 minutes old');
    expect((await site.admin('appsrv', ['list', 'locks', '--no-lock'], 'secret')).stdout.trim()).not.toBe('');
    await writer.stop();
    expect(await backup.exited).toBe(0);
    // Its own restic takes it away in the end.
    expect((await site.admin('appsrv', ['list', 'locks', '--no-lock'], 'secret')).stdout.trim()).toBe('');
  });

  test('an unknown client and a missing restic are told', async () => {
    const nobody = await site.admin('nobody', ['snapshots'], 'secret');
    expect(nobody.code).toBe(2);
    expect(nobody.stderr).toMatch(/there is no client nobody in .*; it has: appsrv/);
    const missing = await run(
      process.execPath,
      [GATEWAY, 'restic', 'appsrv', '-c', site.configFile, '--', 'snapshots'],
      {
        env: { RESTIC_GATEWAY_RESTIC: '/nowhere/restic' },
      },
    );
    expect(missing.code).toBe(2);
    expect(missing.stderr).toMatch(/restic is not installed on this machine/);
  });
});

test('sshd asks for a key, and a config in an odd place answers for a client that is added later', async () => {
  const odd = path.join(tempDir(), `it's a "config" $(place)`);
  mkdirSync(odd);
  chmodSync(odd, 0o755);
  const config = path.join(odd, 'gate way.yaml');
  const [first, second, stranger] = await Promise.all([generateKey(), generateKey(), generateKey()]);
  const write = (clients: Record<string, unknown>): void => {
    const yaml = {
      stores: { main: { type: 'directory', path: odd } },
      clients,
      audit: { file: path.join(odd, 'a.jsonl') },
    };
    writeFileSync(`${config}.new`, JSON.stringify(yaml));
    renameSync(`${config}.new`, config);
  };
  write({ 'app.srv-1_x': { keys: [first.publicLine], repository: { store: 'main' } } });
  // sshd splits the command by its own rules; a wrapper spares it the odd path.
  const wrapper = path.join(tempDir(), 'authorized-keys');
  writeFileSync(
    wrapper,
    `#!/bin/sh\nexec '${process.execPath}' '${GATEWAY}' authorized-keys -c "$(cat '${wrapper}.path')" --type "$1" --key "$2"\n`,
  );
  writeFileSync(`${wrapper}.path`, config);
  chmodSync(wrapper, 0o755);
  const sshd = await startSshd({ authorizedKeysCommand: `${wrapper} %t %k` });
  const init = (key: Awaited<ReturnType<typeof generateKey>>) =>
    restic(
      lab().resticNewest,
      {
        repo: 'rclone:x',
        options: { 'rclone.program': [lab().ssh, ...sshClientArgs({ ...sshd, key })].join(' ') },
        timeoutMs: 180_000,
      },
      ['init'],
    );
  expect((await init(first)).code).toBe(0);
  expect((await init(second)).stderr).toMatch(/Permission denied/);
  write({
    'app.srv-1_x': { keys: [first.publicLine], repository: { store: 'main' } },
    later: { keys: [second.publicLine], repository: { store: 'main' } },
  });
  expect((await init(second)).code).toBe(0);
  expect((await init(stranger)).stderr).toMatch(/Permission denied/);
  await sshd.stop();
});

test('authorized-keys prints a line for every key, and only the one that is asked for', async () => {
  const directory = tempDir();
  const config = path.join(directory, 'gateway.yaml');
  const [one, two] = await Promise.all([generateKey('one'), generateKey('two')]);
  writeFileSync(
    config,
    JSON.stringify({
      stores: { main: { type: 'directory', path: directory } },
      clients: {
        a: { keys: [one.publicLine], repository: { store: 'main' }, from: ['10.0.0.0/8'], expires: '2099-01-01' },
        b: { keys: [two.publicLine], repository: { store: 'main' } },
      },
    }),
  );
  const ask = (...args: string[]) => run(process.execPath, [GATEWAY, 'authorized-keys', '-c', config, ...args]);
  expect((await ask()).stdout.trim().split('\n')).toHaveLength(2);
  const [type = '', blob = ''] = two.publicLine.split(' ');
  const { stdout } = await ask('--type', type, '--key', blob);
  expect(stdout).toMatch(/^command="\/usr\/bin\/env -i PATH=\S+ SSH_CONNECTION=/);
  expect(stdout).toContain(` ${process.execPath} ${GATEWAY} stdio b -c ${config}",restrict ssh-ed25519 ${blob} b\n`);
  expect((await ask('--type', 'ssh-rsa', '--key', blob)).stdout).toBe('');
  // ssh-keygen reads authorized_keys as sshd does.
  const file = path.join(directory, 'authorized_keys');
  writeFileSync(file, (await ask()).stdout);
  const read = await run('ssh-keygen', ['-l', '-f', file]);
  expect(read.stdout).toContain(one.fingerprint);
  expect(read.stdout).toContain(two.fingerprint);
});
