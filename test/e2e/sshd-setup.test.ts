/** `sshd-setup`, run by root with a real sshd and a user of its own: all of it is done and clients come in by both ways, or nothing is. */
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import {
  freePort,
  generateKey,
  lab,
  makeTree,
  restic,
  run,
  sshClientArgs,
  startProcess,
  tempDir,
  type KeyFiles,
  type Outcome,
} from '../support/lab.ts';

const asRoot = process.geteuid?.() === 0 ? describe : describe.skip;
/** Of no machine that these tests may run on. */
const USER = 'rg-sshd-setup';

let place: string;
let key: KeyFiles;
let sshHostKey: KeyFiles;
let program: string;
let port: number;
let sshPort: number;
const at = (...names: string[]): string => path.join(place, ...names);
const config = (): string => at('etc/gateway.yaml');
const sshdConfig = (): string => at('ssh/sshd_config');

function setUp(...args: string[]): Promise<Outcome> {
  const words = ['sshd-setup', '-c', config(), '--sshd-config', sshdConfig(), ...args];
  return run(process.execPath, [program, ...words], { timeoutMs: 120_000 });
}

/** Owners, modes and names of all that the gateway may touch, and the config. */
async function everything(): Promise<string> {
  const { stdout } = await run('find', [at('etc'), at('var'), at('store'), '-printf', '%u:%g %m %p\n']);
  const user = await run('getent', ['passwd', USER]);
  return [stdout.split('\n').sort().join('\n'), readFileSync(config(), 'utf8'), user.stdout].join('\n');
}

function change(changed: Readonly<Record<string, unknown>>): void {
  const now = parse(readFileSync(config(), 'utf8')) as Readonly<Record<string, unknown>>;
  writeFileSync(config(), stringify({ ...now, ...changed }));
}

asRoot('sshd-setup', () => {
  beforeEach(async () => {
    // Not below the tests' own directory, which is closed to other users.
    place = mkdtempSync(path.join(tmpdir(), 'restic-gateway-sshd-setup-'));
    chmodSync(place, 0o755);
    for (const name of ['etc', 'var', 'store', 'ssh', 'ssh/sshd_config.d']) mkdirSync(at(name));
    // The checkout may be somebody's; what decides on logins must be root's.
    const root = path.resolve(GATEWAY, '../..');
    mkdirSync(at('program'));
    await run('cp', ['-r', '--no-preserve=all', path.join(root, 'dist'), path.join(root, 'bin'), at('program')]);
    await run('ln', ['-s', path.join(root, 'node_modules'), at('program/node_modules')]);
    program = at('program/bin/restic-gateway');
    [port, sshPort] = [await freePort(), await freePort()];
    [key, sshHostKey] = [await generateKey(), await generateKey()];
    const hostKey = readFileSync((await generateKey()).privateFile);
    writeFileSync(at('etc/host_key'), hostKey, { mode: 0o600 });
    writeFileSync(
      config(),
      stringify({
        listen: `127.0.0.1:${port}`,
        hostKeys: [at('etc/host_key')],
        stores: { main: { type: 'directory', path: at('store') } },
        clients: { appsrv: { keys: [key.publicLine], repository: { store: 'main' } } },
        audit: { file: at('var/audit/audit.jsonl') },
        drainSeconds: 1,
      }),
      { mode: 0o600 },
    );
    mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
    writeFileSync(
      sshdConfig(),
      [
        `Include ${at('ssh/sshd_config.d')}/*.conf`,
        `ListenAddress 127.0.0.1:${sshPort}`,
        ...[`HostKey ${sshHostKey.privateFile}`, 'PidFile none', 'UsePAM no', 'AcceptEnv LANG LC_* BASH_ENV'],
      ].join('\n'),
    );
  });
  afterEach(async () => {
    await run('userdel', ['-f', USER]);
    rmSync(place, { recursive: true, force: true, maxRetries: 20 });
  });

  test('after it, one client comes in through sshd and through serve, to one repository, and its second run has nothing to do', async () => {
    const before = await everything();
    const dry = await setUp('--user', USER, '--dry-run');
    expect({ code: dry.code, stderr: dry.stderr }).toEqual({ code: 0, stderr: '' });
    expect(dry.stdout).toContain(`would make the user ${USER}`);
    expect(await everything()).toBe(before);

    const { code, stdout, stderr } = await setUp('--user', USER);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [, snippet = '', block = ''] = /Put this into (\S+), then run: .*\n\n([^]*)$/.exec(stdout) ?? [];
    expect(snippet).toBe(at('ssh/sshd_config.d/restic-gateway.conf'));
    expect(block).toMatch(/^ {4}ClientAliveInterval 15\n {4}ClientAliveCountMax 40$/m);
    writeFileSync(snippet, block);

    const known = at('ssh/known_hosts');
    const hostLine = readFileSync(sshHostKey.publicFile, 'utf8');
    const gatewayKey = await run(lab().sshKeygen, ['-y', '-f', at('etc/host_key')]);
    writeFileSync(known, `[127.0.0.1]:${sshPort} ${hostLine}[127.0.0.1]:${port} ${gatewayKey.stdout}`);
    const sshd = await startProcess(lab().sshd, ['-D', '-e', '-f', sshdConfig()]);
    await sshd.waitForLine(/^Server listening on /);
    // Root starts it, as a unit may: it goes on as the user, who reads the host key.
    const serve = await startProcess(process.execPath, [program, 'serve', '-c', config()]);
    await serve.waitForLine(/listening on/);
    const through = (one: number, args: readonly string[]): Promise<Outcome> => {
      const words = ['ssh', ...sshClientArgs({ port: one, key, knownHosts: known, user: USER })];
      return restic(
        lab().resticNewest,
        { repo: 'rclone:x', password: 'secret', options: { 'rclone.program': words.join(' ') } },
        args,
      );
    };
    const source = path.join(tempDir(), 'source');
    await makeTree(source, { files: 3, bytes: 10_000, seed: 'setup' });
    for (const [one, args] of [
      [sshPort, ['init']],
      [sshPort, ['backup', source]],
      [port, ['backup', source]],
    ] as const)
      expect(await through(one, args)).toMatchObject({ code: 0 });
    const listed = await through(sshPort, ['snapshots', '--json']);
    expect(JSON.parse(listed.stdout)).toHaveLength(2);
    const { stdout: owners } = await run('find', [at('store'), at('var/audit'), '-printf', '%u\n']);
    expect(new Set(owners.trim().split('\n'))).toEqual(new Set([USER]));
    // Its key opens the gateway, and no shell.
    const shell = await run(lab().ssh, [...sshClientArgs({ port: sshPort, key, knownHosts: known, user: USER }), 'id']);
    expect(shell.stdout).not.toContain('uid=');

    const check = (...args: string[]): Promise<Outcome> => {
      const words = ['check', '--live', '--user', USER, '-c', config(), '--sshd-config', sshdConfig(), ...args];
      return run(process.execPath, [program, ...words]);
    };
    const good = await check();
    expect({ code: good.code, said: good.stdout.replaceAll(/\s+/g, ' ') }).toEqual({
      code: 0,
      said: expect.stringContaining(`sshd: holds: a login as ${USER} starts the forced command`),
    });

    const again = await setUp();
    expect({ code: again.code, stderr: again.stderr }).toEqual({ code: 0, stderr: '' });
    expect(again.stdout).not.toContain('done:');
    expect(again.stdout).toContain('has the settings already');

    // What breaks one way in or the other later is seen, each as the user who runs.
    await run('usermod', ['--shell', '/usr/sbin/nologin', USER]);
    const noShell = await check('--json');
    expect(noShell.code).toBe(1);
    expect(JSON.parse(noShell.stdout)).toMatchObject({ good: false, user: USER, sshd: { outcome: 'fails' } });
    await run('usermod', ['--shell', '/bin/sh', USER]);
    chmodSync(at('program/bin'), 0o777);
    expect((await check('--json')).stdout).toContain('others than its owner can change it');
    chmodSync(at('program/bin'), 0o755);
    chownSync(at('etc/host_key'), 5, 5);
    const noHostKey = await check();
    expect({ code: noHostKey.code, good: noHostKey.stdout.includes('good') }).toEqual({ code: 2, good: false });
    expect(noHostKey.stderr).toMatch(/hostKeys: \S+host_key: cannot be read \(EACCES\)/);
    await serve.stop();
    await sshd.stop();
  });

  test('a user with nologin gets a shell, and keeps it only if all the rest holds', async () => {
    await run('useradd', ['--system', '--no-create-home', '--shell', '/usr/sbin/nologin', USER]);
    const before = await everything();
    writeFileSync(at('ssh/sshd_config.d/others.conf'), `DenyUsers ${USER}\n`);
    const refused = await setUp('--user', USER);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/sshd .*not allowed because listed in DenyUsers; nothing was changed/);
    expect(await everything()).toBe(before);

    rmSync(at('ssh/sshd_config.d/others.conf'));
    // Without PAM, sshd takes the account that useradd has locked for one that must not log in.
    expect(await setUp('--user', USER)).toMatchObject({ code: 0, stderr: '' });
    expect((await run('getent', ['passwd', USER])).stdout).toMatch(/:\/bin\/sh$/m);
  });

  test('stopped in the middle, it takes all back', async () => {
    const before = await everything();
    const words = ['sshd-setup', '-c', config(), '--sshd-config', sshdConfig(), '--user', USER];
    const running = await startProcess(process.execPath, [program, ...words]);
    while ((await run('getent', ['passwd', USER])).code !== 0) await sleep(10);
    running.signal('SIGTERM');
    expect(await running.exited).toBe(128 + 15);
    expect(running.lines.join('\n')).toContain('stopped; nothing was changed');
    expect(await everything()).toBe(before);
  });

  test.each<[string, RegExp, () => void]>([
    [
      'settings for the user that come first',
      /another Match block for rg-sshd-setup comes first, so that this would not hold: AuthorizedKeysFile none/,
      () => {
        writeFileSync(at('ssh/sshd_config.d/first.conf'), `Match User ${USER}\n    AuthorizedKeysFile /etc/ssh/keys\n`);
      },
    ],
    [
      'a store that the user cannot reach',
      /check --live fails as rg-sshd-setup: .*; nothing was changed/,
      () => {
        mkdirSync(at('closed/store'), { recursive: true });
        chmodSync(at('closed'), 0o700);
        change({ stores: { main: { type: 'directory', path: at('closed/store') } } });
      },
    ],
    [
      'an audit among what is others’',
      /var: holds other things too \(syslog\), so that it is not given to rg-sshd-setup/,
      () => {
        writeFileSync(at('var/syslog'), '');
        change({ audit: { file: at('var/audit.jsonl') }, state: at('var/state') });
      },
    ],
    [
      'a store of somebody else',
      /store\/theirs: belongs to uid \d+, and only root's files are handed over/,
      () => {
        writeFileSync(at('store/theirs'), '');
        chownSync(at('store/theirs'), 5, 5);
      },
    ],
    [
      'a file of a store that has another name elsewhere',
      /store\/linked: has another name too/,
      () => {
        writeFileSync(at('secret'), '');
        linkSync(at('secret'), at('store/linked'));
      },
    ],
    [
      'a program that others can change',
      /program.*: others than its owner can change it/,
      () => {
        chmodSync(at('program/bin'), 0o777);
      },
    ],
    [
      'a config of another user',
      /says user: games, and --user says rg-sshd-setup; let both ways in be one user's/,
      () => {
        change({ user: 'games' });
      },
    ],
  ])('%s: is told, and nothing has changed', async (_what, words, prepare) => {
    prepare();
    const before = await everything();
    const { code, stdout, stderr } = await setUp('--user', USER);
    expect({ stdout, stderr }).toEqual({ stdout: '', stderr: expect.stringMatching(words) });
    expect(code).not.toBe(0);
    expect(await everything()).toBe(before);
  });

  test('root is no user for clients, and some user must be named', async () => {
    expect((await run(process.execPath, [program, 'check', '--user', 'games', '-c', config()])).stderr).toContain(
      '--user is for check --live',
    );
    expect((await setUp('--user', 'root')).stderr).toContain('clients must not log in as root');
    expect((await setUp()).stderr).toContain('--user NAME');
    expect(existsSync(at('var/audit'))).toBe(false);
  });
});
