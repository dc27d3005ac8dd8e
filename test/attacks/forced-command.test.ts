/** Hostile clients at a real sshd that is set up carelessly: what they send becomes neither code nor full access, and a key that was taken away stays out. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import {
  generateKey,
  lab,
  restic,
  run,
  sshClientArgs,
  startProcess,
  startSshd,
  tempDir,
  type KeyFiles,
} from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

let directory: string;
let config: string;
let key: KeyFiles;
let other: KeyFiles;
let store: unknown;
const audit = (): Record<string, unknown>[] =>
  readFileSync(path.join(directory, 'audit.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

function writeConfig(keys: readonly KeyFiles[]): void {
  const clients = { appsrv: { keys: keys.map(({ publicLine }) => publicLine), repository: { store: 'main' } } };
  writeFileSync(
    config,
    stringify({ stores: { main: store }, clients, audit: { file: path.join(directory, 'audit.jsonl') } }),
  );
}

beforeAll(async () => {
  directory = tempDir();
  config = path.join(directory, 'gateway.yaml');
  [key, other, store] = await Promise.all([generateKey(), generateKey(), freshStore('directory')]);
  writeConfig([key]);
});

const printed = async (): Promise<string> =>
  (await run(process.execPath, [GATEWAY, 'authorized-keys', '-c', config])).stdout.trim();
const bare = (): string =>
  `command="${process.execPath} ${GATEWAY} stdio appsrv -c ${config}",restrict ${key.publicLine}`;

describe('an sshd that takes any variable of the client', () => {
  /** Has Node run a line of the client's before any of ours. */
  async function attack(line: string): Promise<boolean> {
    const mark = path.join(tempDir(), 'ran');
    const sshd = await startSshd({ authorizedKeysLines: [line], settings: ['AcceptEnv *'] });
    const code = `import{writeFileSync}from"node:fs";writeFileSync("${mark}","")`;
    const options = `NODE_OPTIONS=--import=data:text/javascript,${encodeURIComponent(code)}`;
    await run(lab().ssh, ['-o', `SetEnv=${options}`, ...sshClientArgs({ ...sshd, key })], {
      input: '',
      timeoutMs: 180_000,
    });
    await sshd.stop();
    return existsSync(mark);
  }

  test('NODE_OPTIONS is code of theirs in a plain line, and nothing in the one that the gateway prints', async () => {
    expect({ bare: await attack(bare()), printed: await attack(await printed()) }).toEqual({
      bare: true,
      printed: false,
    });
  });
});

describe('full access by a forced command that was set up wrong', () => {
  const admin = (file: string): string =>
    `command="${process.execPath} ${GATEWAY} stdio --admin ${file} appsrv -c ${config}",restrict ${key.publicLine}`;
  const refused = {
    code: 2,
    stdout: '',
    stderr: expect.stringMatching(/full access is for the admin on the gateway host/),
  };

  test('ssh -T without a command gets none, though a run of the admin is under way', async () => {
    const place = mkdtempSync(path.join(tmpdir(), 'run-'));
    const file = path.join(place, 'run');
    writeFileSync(file, `${process.pid} 0\n`);
    const sshd = await startSshd({ authorizedKeysLines: [admin(file)] });
    expect(
      await run(lab().ssh, ['-T', ...sshClientArgs({ ...sshd, key })], { input: '', timeoutMs: 180_000 }),
    ).toMatchObject(refused);
    await sshd.stop();
    // With nothing of sshd's about it, the file is what is left; and it is as good as who wrote it, and as long as that runs.
    const words = [process.execPath, GATEWAY, 'stdio', '--admin', file, 'appsrv', '-c', config];
    const alone = () => run('sh', ['-c', ': | "$0" "$@"', ...words]);
    expect(await alone()).not.toMatchObject(refused);
    const { process: gone } = await startGone();
    writeFileSync(file, `${gone} 0\n`);
    expect(await alone()).toMatchObject(refused);
    writeFileSync(file, `${process.pid} 0\n`, { mode: 0o600 });
    await run('chmod', ['666', file]);
    expect(await alone()).toMatchObject(refused);
    rmSync(place, { recursive: true });
    expect(await alone()).toMatchObject(refused);
  });

  test('the admin, logged in over ssh, has it by restic-gateway restic, which leaves nothing behind', async () => {
    const env = {
      ...{ RESTIC_PASSWORD: 'secret', RESTIC_GATEWAY_RESTIC: lab().resticNewest },
      ...{ SSH_CONNECTION: '192.0.2.1 1 192.0.2.2 22', SSH_CLIENT: '192.0.2.1 1 22', SSH_TTY: '/dev/pts/0' },
    };
    const args = [GATEWAY, 'restic', 'appsrv', '-c', config, '--', 'init', '--no-cache'];
    expect(await run(process.execPath, args, { env, timeoutMs: 180_000 })).toMatchObject({ code: 0 });
    const { code, stderr } = await run(process.execPath, args, { env: { ...env, SSH_ORIGINAL_COMMAND: 'x' } });
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('not for a forced command') });
  });
});

async function startGone(): Promise<{ readonly process: number }> {
  const child = spawn('true');
  await new Promise((resolve) => child.once('close', resolve));
  return { process: child.pid ?? 0 };
}

describe('a key that was taken out of the config', () => {
  const target = (sshd: { readonly port: number; readonly knownHosts: string }, which: KeyFiles) =>
    ({
      repo: 'rclone:x',
      options: { 'rclone.program': [lab().ssh, ...sshClientArgs({ ...sshd, key: which })].join(' ') },
      password: 'secret',
      timeoutMs: 180_000,
    }) as const;

  test('has no session begun, though authorized_keys still has it, and loses the one that it has', async () => {
    writeConfig([key, other]);
    const lines = (await printed()).split('\n');
    const sshd = await startSshd({ authorizedKeysLines: lines });
    // Its input stays open.
    const hold = 'exec "$0" "$@" < <(exec sleep 300)';
    const held = await startProcess('bash', ['-c', hold, lab().ssh, ...sshClientArgs({ ...sshd, key: other })]);
    await started(other);
    writeConfig([key]);
    await held.exited;
    expect(held.lines.join('\n')).toContain('this key is not, or no longer, one of client appsrv.');
    const again = await restic(lab().resticNewest, target(sshd, other), ['snapshots', '--no-cache']);
    expect(again.stderr).toContain('this key is not, or no longer, one of client appsrv.');
    expect(audit().at(-1)).toMatchObject({ event: 'session-refused', reason: 'key-removed', key: other.fingerprint });
    expect((await restic(lab().resticNewest, target(sshd, key), ['snapshots', '--no-cache'])).code).toBe(0);
    await sshd.stop();
  });

  async function started(which: KeyFiles): Promise<void> {
    for (;;) {
      if (audit().some((line) => line['event'] === 'session-start' && line['key'] === which.fingerprint)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  test('a client whose keys are in authorized_keys alone, and a certificate, come in as ever', async () => {
    writeConfig([]);
    const ca = await generateKey();
    const sign = ['-q', '-s', ca.privateFile, '-I', 'appsrv', '-n', 'root', other.publicFile];
    expect((await run(lab().sshKeygen, sign)).code).toBe(0);
    const command = bare().replace(key.publicLine, '').trim();
    const lines = [`${command} ${key.publicLine}`, `cert-authority,${command} ${ca.publicLine}`];
    const sshd = await startSshd({ authorizedKeysLines: lines });
    expect((await restic(lab().resticNewest, target(sshd, key), ['snapshots', '--no-cache'])).code).toBe(0);
    writeConfig([key]);
    expect((await restic(lab().resticNewest, target(sshd, other), ['snapshots', '--no-cache'])).code).toBe(0);
    // Named as ssh-keygen -l names it.
    expect(audit().at(-1)).toMatchObject({ event: 'session-end', key: other.fingerprint });
    await sshd.stop();
  });
});

describe('a forced command that was meant for the admin', () => {
  const gateway = (words: string): string => `${process.execPath} ${GATEWAY} ${words} -c ${config}`;
  async function login(line: string, args: readonly string[], options: { readonly tty?: boolean } = {}) {
    const sshd = await startSshd({ authorizedKeysLines: [line] });
    const result = await run(lab().ssh, [
      options.tty === true ? '-tt' : '-T',
      ...sshClientArgs({ ...sshd, key }),
      ...args,
    ]);
    await sshd.stop();
    return result;
  }
  const REFUSED = {
    code: 2,
    stderr: expect.stringContaining('for the admin on the gateway host, not for a forced command'),
  };

  test.each([
    'status',
    'undo appsrv --list',
    'scrub appsrv',
    'client disable appsrv',
    'audit copy',
    'audit show',
    'audit verify',
    'sessions',
  ])('%s: a client that asks for a command gets nothing of it', async (words) => {
    expect(await login(`command="${gateway(words)}",restrict ${key.publicLine}`, ['rclone serve'])).toMatchObject(
      REFUSED,
    );
  });

  test.each([[[]], [['rclone serve']]])(
    'restic takes nothing from a client, whatever it asks for: %p',
    async (asked) => {
      const line = `command="${gateway('restic appsrv')}",restrict ${key.publicLine}`;
      expect(await login(line, asked)).toMatchObject(REFUSED);
    },
  );

  test('the admin who logs in by ssh works, with a terminal and without', async () => {
    for (const tty of [false, true]) {
      const { stdout, stderr } = await login(key.publicLine, [gateway('status')], { tty });
      expect(stdout + stderr).toContain('appsrv');
      expect(stdout + stderr).not.toContain('forced command');
    }
    for (const [tty, end] of [
      [true, ''],
      [false, ' </dev/null'],
    ] as const) {
      const { stdout, stderr } = await login(key.publicLine, [`${gateway('restic appsrv')}${end}`], { tty });
      expect(stdout + stderr).not.toContain('forced command');
    }
  });
});
