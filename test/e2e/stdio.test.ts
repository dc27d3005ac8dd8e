/** The forced command by itself: what it says, how it ends, whom it refuses. */
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import { freePort, generateKey, run, tempDir } from '../support/lab.ts';
import { sample } from '../support/restic-client.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore, secretFile } from '../support/stores.ts';

let directory: string;
let config: string;
const appsrvKey = generateKey();

async function writeConfig(changes: Readonly<Record<string, unknown>> = {}): Promise<string> {
  const file = path.join(tempDir(), 'gateway.yaml');
  const key = async (): Promise<string[]> => [(await generateKey()).publicLine];
  const yaml = {
    stores: {
      local: await freshStore('directory'),
      cloud: await freshStore('s3'),
      gone: {
        type: 's3',
        bucket: 'bucket',
        endpoint: `http://127.0.0.1:${await freePort()}`,
        accessKeyId: 'id',
        secretAccessKeyFile: secretFile('secret'),
      },
    },
    clients: {
      appsrv: { keys: [(await appsrvKey).publicLine], repository: { store: 'local' } },
      cloud: { keys: await key(), repository: { store: 'cloud' } },
      disabled: { keys: await key(), repository: { store: 'local' }, disabled: true },
      expired: { keys: await key(), repository: { store: 'local' }, expires: '2020-12-31' },
      elsewhere: { keys: await key(), repository: { store: 'local' }, from: ['192.0.2.0/24'] },
      stranded: { keys: await key(), repository: { store: 'gone' } },
    },
    audit: { file: path.join(directory, 'audit.jsonl') },
    ...changes,
  };
  writeFileSync(file, stringify(yaml));
  return file;
}

beforeAll(async () => {
  directory = tempDir();
  config = await writeConfig();
});

const audit = (): Record<string, unknown>[] =>
  readFileSync(path.join(directory, 'audit.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test.each(['appsrv', 'cloud'])(
  'serves, says nothing, and ends with 0 at once when its input ends: %s',
  async (name) => {
    const client = startStdio([name, '-c', config]);
    const pack = sample(300_000);
    expect((await client.request('GET', '/file-1')).status).toBe(404);
    expect((await client.request('HEAD', '/config')).status).toBe(404);
    expect((await client.request('POST', `/data/${pack.name}`, { body: pack.body })).status).toBe(200);
    expect((await client.request('GET', `/data/${pack.name}`)).body.equals(pack.body)).toBe(true);
    expect((await client.request('GET', '/data/')).body.toString()).toBe(`["${pack.name}"]`);
    client.end();
    expect(await client.exited).toEqual({ status: 0, stderr: '' });
  },
);

test('ends with 0 when its input ends before anything was asked', async () => {
  const { code, stderr } = await run(process.execPath, [GATEWAY, 'stdio', 'appsrv', '-c', config], { input: '' });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
});

test('writes nothing but HTTP/2 to stdout', async () => {
  // The client's preface and empty SETTINGS (RFC 9113, 3.4), then the end.
  const preface = Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    Buffer.from('000000040000000000', 'hex'),
  ]);
  const { code, stdout } = await run(process.execPath, [GATEWAY, 'stdio', 'appsrv', '-c', config], { input: preface });
  expect(code).toBe(0);
  // Its first frame is SETTINGS: a length of three bytes, then type 4.
  expect(Buffer.from(stdout, 'latin1')[3] ?? 4).toBe(4);
  expect(stdout).not.toMatch(/[a-z]{4}/i);
});

test('the audit knows what sshd tells: address, user, the command asked for, and the key', async () => {
  const key = await appsrvKey;
  const authInfo = path.join(directory, 'auth-info');
  writeFileSync(authInfo, `publickey ${key.publicLine}\n`);
  const client = startStdio(['appsrv', '-c', config], {
    SSH_CONNECTION: '127.0.0.1 50022 127.0.0.1 22',
    SSH_ORIGINAL_COMMAND: 'serve restic --stdio; rm -rf / "$(reboot)"',
    SSH_USER_AUTH: authInfo,
    LOGNAME: 'backup',
  });
  expect((await client.request('GET', '/file-1')).status).toBe(404);
  client.end();
  expect(await client.exited).toEqual({ status: 0, stderr: '' });
  const peer = { via: 'stdio', from: '127.0.0.1', fromPort: 50022, key: key.fingerprint };
  const command = 'serve restic --stdio; rm -rf / "$(reboot)"';
  expect(audit().slice(-2)).toEqual([
    expect.objectContaining({ event: 'session-start', ...peer, user: 'backup', command }),
    expect.objectContaining({ event: 'session-end', ...peer, reason: 'client-ended' }),
  ]);
});

describe('who is refused hears one plain line', () => {
  test.each([
    ['nobody', {}, 'client nobody is not known here.'],
    ['disabled', {}, "client disabled is disabled; ask the gateway's admin."],
    ['expired', {}, "the key of client expired expired on 2020-12-31; ask the gateway's admin."],
    [
      'elsewhere',
      { SSH_CONNECTION: '198.51.100.1 1 127.0.0.1 22' },
      "client elsewhere may not connect from this address; ask the gateway's admin.",
    ],
  ])('%s', async (client, env, line) => {
    const { status, stderr } = await startStdio([client, '-c', config], env).exited;
    expect({ status, stderr }).toEqual({ status: 1, stderr: `restic-gateway: ${line}\n` });
  });

  test('a terminal', async () => {
    const command = `'${process.execPath}' '${GATEWAY}' stdio appsrv -c '${config}'`;
    const { stdout } = await run('script', ['-qec', command, '/dev/null'], { timeoutMs: 180_000 });
    expect(stdout.trim()).toBe(
      'restic-gateway: stdio speaks HTTP/2 to restic, not to a terminal; it is meant for command="…" in authorized_keys',
    );
  });

  test('a login user who cannot read the config', async () => {
    const unreadable = await writeConfig();
    chmodSync(unreadable, 0o600);
    const asNobody = ['-u', 'nobody', '--', process.execPath, GATEWAY, 'stdio', 'appsrv', '-c', unreadable];
    const { code, stderr } = await run('runuser', asNobody, { input: '' });
    expect(code).toBe(2);
    expect(stderr).toBe(
      "restic-gateway: the gateway's configuration cannot be used; its admin sees why with: restic-gateway check\n",
    );
  });

  test('a client whose config is broken', async () => {
    const broken = path.join(directory, 'broken.yaml');
    writeFileSync(broken, 'clients: {{');
    expect(await startStdio(['appsrv', '-c', broken]).exited).toEqual({
      status: 2,
      stderr:
        "restic-gateway: the gateway's configuration cannot be used; its admin sees why with: restic-gateway check\n",
    });
  });

  test('a client whose storage is down: each request is a 5xx, said once', async () => {
    const client = startStdio(['stranded', '-c', config]);
    for (const [method, target] of [
      ['HEAD', '/config'],
      ['GET', '/snapshots/'],
      ['GET', `/data/${sample().name}`],
    ] as const)
      expect((await client.request(method, target)).status).toBe(503);
    client.end();
    const { status, stderr } = await client.exited;
    expect(status).toBe(0);
    expect(stderr).toBe('restic-gateway: the storage behind the gateway cannot be reached.\n');
  });

  test('an audit that cannot be written: nothing is served', async () => {
    const noAudit = await writeConfig({ audit: { file: '/proc/nowhere/audit.jsonl' } });
    const { status, stderr } = await startStdio(['appsrv', '-c', noAudit]).exited;
    expect(status).toBe(1);
    expect(stderr).toMatch(/^restic-gateway: the audit log cannot be written, so nothing is changed\.\n$/);
  });
});

describe('a session under way ends within moments when its grant goes away', () => {
  test.each<[string, Record<string, unknown> | undefined, string]>([
    ['removed', undefined, "client appsrv was removed; ask the gateway's admin."],
    ['disabled', { disabled: true }, "client appsrv is disabled; ask the gateway's admin."],
    ['expired', { expires: '2020-12-31' }, "the key of client appsrv expired on 2020-12-31; ask the gateway's admin."],
    ['other access', { access: 'read-only' }, 'what client appsrv may do was changed; connect again.'],
  ])('%s', async (_what, change, line) => {
    const file = await writeConfig();
    const good = readFileSync(file, 'utf8');
    const client = startStdio(['appsrv', '-c', file]);
    expect((await client.request('GET', '/locks/')).status).toBe(200);

    // A config that is wrong revokes nothing. It stays for longer than a change takes to be noticed.
    writeFileSync(file, 'clients: {{');
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect((await client.request('GET', '/locks/')).status).toBe(200);

    const yaml = parse(good) as { clients: Record<string, Record<string, unknown>> };
    const { appsrv, ...others } = yaml.clients;
    writeFileSync(
      file,
      stringify({ ...yaml, clients: change === undefined ? others : { ...others, appsrv: { ...appsrv, ...change } } }),
    );
    expect(await client.exited).toEqual({ status: 1, stderr: `restic-gateway: ${line}\n` });
    expect(audit().at(-1)).toMatchObject({ event: 'session-end', client: 'appsrv', reason: 'revoked' });
  });
});

test.each([
  [['stdio'], /usage: restic-gateway stdio CLIENT/],
  [['stdio', 'a', 'b'], /usage: restic-gateway stdio CLIENT/],
  [['stdio', 'a', '--frob'], /Unknown option '--frob'; usage:/],
  [['stdio', 'a', '-c'], /argument missing; usage:/],
])('wrong use is told: %j', async (args, line) => {
  const { code, stdout, stderr } = await run(process.execPath, [GATEWAY, ...args], { input: '' });
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(line);
  expect(stderr.trim().split('\n')).toHaveLength(1);
});

test('full access is not to be had by what is not `restic-gateway restic`', async () => {
  const { status, stderr } = await startStdio(['--admin', 'appsrv', '-c', config]).exited;
  expect(status).toBe(2);
  expect(stderr).toMatch(/usage: restic-gateway stdio CLIENT/);
  rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
});
