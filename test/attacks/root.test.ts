/**
 * Whoever has the gateway's user, or a directory that root works in, and waits for root's next command: nothing of root's is written, read
 * or obeyed through it.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, run } from '../support/lab.ts';

/** A user that each Debian has, and that no test runs as: the gateway's, whom the attacker has. */
const USER = 'games';
const ACCOUNT = /^games:[^:]*:(\d+):(\d+):/m.exec(readFileSync('/etc/passwd', 'utf8'));
const [uid, gid] = [Number(ACCOUNT?.[1]), Number(ACCOUNT?.[2])];

let place: string;
let config: string;
const at = (name: string): string => path.join(place, name);
const asRoot = process.geteuid?.() === 0 ? describe : describe.skip;

beforeEach(() => {
  // Not below the tests' own directory, which is closed to other users.
  place = mkdtempSync(path.join(tmpdir(), 'restic-gateway-root-'));
  chmodSync(place, 0o755);
  config = at('gateway.yaml');
  for (const name of ['state', 'audit', 'store']) {
    mkdirSync(at(name), { mode: 0o750 });
    chownSync(at(name), uid, gid);
  }
});
afterEach(() => {
  rmSync(place, { recursive: true, force: true, maxRetries: 20 });
});

const key = generateKey();
async function writeConfig(file: string, changes: object = {}): Promise<void> {
  const main = { type: 'directory', path: at('store') };
  const clients = { appsrv: { keys: [(await key).publicLine], repository: { store: 'main' } } };
  const audit = { file: at('audit/audit.jsonl') };
  writeFileSync(file, stringify({ user: USER, stores: { main }, clients, audit, state: at('state'), ...changes }));
}

const gateway = (args: readonly string[], options: Parameters<typeof run>[2] = {}) =>
  run(process.execPath, [GATEWAY, ...args], options);

const COMMANDS = [
  ['status'],
  ['status', '--report'],
  ['sessions'],
  ['audit', 'show'],
  ['audit', 'verify'],
  ['scrub', 'appsrv'],
  ['undo', 'appsrv', '--list'],
  ['check', '--live'],
];

asRoot('root works in what the user of the gateway owns', () => {
  test.each<[string, string[]]>(COMMANDS.map((command) => [command.join(' '), command]))(
    '%s: a link in place of state, audit or lock leads it nowhere that this user could not write itself',
    async (_name, command) => {
      await writeConfig(config);
      const secret = at('root-only');
      mkdirSync(secret, { mode: 0o700 });
      rmSync(at('state'), { recursive: true });
      symlinkSync(secret, at('state'));
      lchownSync(at('state'), uid, gid);
      writeFileSync(at('shadow'), 'root:secret', { mode: 0o600 });
      symlinkSync(at('shadow'), at('audit/audit.jsonl'));
      const { stdout, stderr } = await gateway([...command, '-c', config]);
      expect(readFileSync(at('shadow'), 'utf8')).toBe('root:secret');
      expect(stdout + stderr).not.toContain('root:secret');
      expect(existsSync(path.join(secret, 'scrub'))).toBe(false);
      expect((await run('ls', ['-A', secret])).stdout).toBe('');
    },
  );

  test('what it leaves there belongs to this user, whoever owns the directories', async () => {
    await writeConfig(config);
    expect(await gateway(['check', '--live', '-c', config])).toMatchObject({ code: 0 });
    expect(await gateway(['status', '-c', config])).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('appsrv'),
    });
    const { stdout } = await run('find', [at('state'), at('audit'), at('store'), '-printf', '%U\n']);
    expect(new Set(stdout.trim().split('\n'))).toEqual(new Set([String(uid)]));
  });

  test('a config that names no user is not made to work by who owns state: the line to add is told', async () => {
    await writeConfig(config, { user: undefined });
    for (const command of [['serve'], ['status'], ['scrub', 'appsrv'], ['check']]) {
      const { code, stderr } = await gateway([...command, '-c', config]);
      expect({ code, stderr }).toEqual({
        code: 2,
        stderr: `restic-gateway: ${at('state')}: belongs to ${USER} (uid ${uid}), where root does not work; if that is the gateway's user, add this line to ${config}: user: ${USER}\n`,
      });
    }
  });

  test('state of a user whom nobody knows', async () => {
    chownSync(at('state'), 61_007, 61_007);
    await writeConfig(config, { user: undefined });
    expect(await gateway(['status', '-c', config])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/state: belongs to the unknown uid 61007; give it to the gateway's user \(chown\)/),
    });
    await writeConfig(config);
    expect(await gateway(['status', '-c', config])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /state: belongs to the unknown uid 61007, but user: in \S+ says games; run: chown -R games /,
      ),
    });
  });

  test('a user that there is not', async () => {
    await writeConfig(config, { user: 'no-such-user' });
    expect(await gateway(['status', '-c', config])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('user: there is no user no-such-user on this machine'),
    });
  });

  test('how it ends is told as ever', async () => {
    await writeConfig(config);
    expect((await gateway(['undo', 'nobody', '--list', '-c', config])).code).toBe(2);
    expect((await gateway(['check', '--quiet', '-c', config])).code).toBe(0);
  });
});

asRoot('root is led to a config of somebody else', () => {
  test.each([
    [['restic', 'appsrv', '--', 'snapshots']],
    [['client', 'list']],
    [['serve']],
    ...COMMANDS.map((one) => [one]),
  ])('that lies in the directory where %s is called', async (command) => {
    mkdirSync(at('home'));
    const written = at('cron.d');
    await writeConfig(at('home/gateway.yaml'), { user: undefined, audit: { file: written } });
    chownSync(at('home'), uid, gid);
    chownSync(at('home/gateway.yaml'), uid, gid);
    const { code, stderr } = await gateway(command, { cwd: at('home') });
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringContaining(
        `root does not use ${at('home/gateway.yaml')} unasked; if it is the one, name it: -c`,
      ),
    });
    expect(existsSync(written)).toBe(false);
  });

  test.each([
    [
      'it belongs to another',
      () => {
        chownSync(config, uid, gid);
      },
      /gateway.yaml: belongs to the user with uid \d+, whom root must not obey; run: chown -h root /,
    ],
    [
      'others can write to it',
      () => {
        chmodSync(config, 0o666);
      },
      /gateway.yaml: others than its owner can change it \(mode 0666\); run: chmod go-w /,
    ],
    [
      'others can write to its directory',
      () => {
        chmodSync(place, 0o777);
      },
      /others than its owner can change it \(mode 0777\) \(on the way to .*run: chmod go-w /,
    ],
  ])('by its name, though %s', async (_why, plant, reported) => {
    await writeConfig(config);
    plant();
    for (const command of [
      ['check'],
      ['status'],
      ['serve'],
      ['client', 'disable', 'appsrv'],
      ['authorized-keys'],
      ['restic', 'appsrv'],
    ])
      expect(await gateway([...command, '-c', config])).toMatchObject({
        code: 2,
        stdout: '',
        stderr: expect.stringMatching(reported),
      });
    const { code, stderr } = await gateway(['stdio', 'appsrv', '-c', config], { input: '' });
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringContaining('its admin sees why with: restic-gateway check'),
    });
  });

  test('the changes that root makes leave the config with root', async () => {
    await writeConfig(config);
    chmodSync(config, 0o644);
    const before = statSync(config).ino;
    expect(await gateway(['client', 'disable', 'appsrv', '-c', config])).toMatchObject({ code: 0 });
    expect(statSync(config)).toMatchObject({ uid: 0, gid: 0 });
    expect(statSync(config).ino).not.toBe(before);
  });
});
