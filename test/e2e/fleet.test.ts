/** Several gateways and the database that they share: what holds on one holds on all, and what holds when the database is gone. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import {
  generateKey,
  lab,
  makeTree,
  restic,
  run,
  sshClientArgs,
  tempDir,
  type KeyFiles,
  type Outcome,
} from '../support/lab.ts';
import { startPostgres, type Postgres } from '../support/postgres.ts';
import { startSshSession } from '../support/ssh-session.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore } from '../support/stores.ts';

let postgres: Postgres;
let keys: Record<'laptop' | 'server', KeyFiles>;
let store: Awaited<ReturnType<typeof freshStore>>;
const gateways: Record<string, RunningGateway> = {};

async function start(name: string): Promise<RunningGateway> {
  gateways[name] = await startGateway(tempDir(), {
    stores: { main: store },
    clients: {
      laptop: { keys: [keys.laptop.publicLine], repository: { store: 'main' } },
      server: { keys: [keys.server.publicLine], repository: { store: 'main' } },
    },
    database: { ...postgres.config, gateway: name },
  });
  return gateways[name];
}

beforeAll(async () => {
  postgres = await startPostgres();
  keys = { laptop: await generateKey(), server: await generateKey() };
  store = await freshStore('directory');
  await start('one');
  await start('two');
});
afterAll(async () => {
  await Promise.all(Object.values(gateways).map((gateway) => gateway.stop()));
});

const the = (name: string): RunningGateway => {
  const found = gateways[name];
  if (found === undefined) throw new Error(`there is no gateway ${name}`);
  return found;
};
const command = (name: string, ...args: readonly string[]): Promise<Outcome> =>
  run(process.execPath, [GATEWAY, ...args, '-c', the(name).configFile], { timeoutMs: 60_000 });
const sessionOn = (name: string, client: keyof typeof keys) => startSshSession({ ...the(name), key: keys[client] });

/** What is written into the audit of a gateway. */
function events(name: string, kind: string): readonly Record<string, unknown>[] {
  const { auditFile } = the(name);
  return (existsSync(auditFile) ? readFileSync(auditFile, 'utf8').split('\n') : [])
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((event) => event['event'] === kind);
}

async function eventually<T>(look: () => T | undefined | Promise<T | undefined>, what: string): Promise<T> {
  for (const end = Date.now() + 60_000; Date.now() < end;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await sleep(50);
  }
  throw new Error(`it did not come: ${what}`);
}

test('client disable on one ends its sessions on the other and lets it in nowhere, the forced command included', async () => {
  const [victim, other] = [sessionOn('two', 'laptop'), sessionOn('two', 'server')];
  const forced = startStdio(['laptop', '-c', the('two').configFile], { SSH_CONNECTION: '127.0.0.1 1 127.0.0.1 2' });
  for (const session of [victim, other, forced]) expect((await session.request('GET', '/locks/')).status).toBe(200);
  const disabled = await command('one', 'client', 'disable', 'laptop');
  expect(disabled.code).toBe(0);
  const { stderr } = await victim.ended;
  expect(stderr).toContain('client laptop is disabled by gateway one');
  const { stderr: told } = await forced.exited;
  expect(told).toContain('client laptop is disabled by gateway one');
  expect((await sessionOn('two', 'laptop').ended).stderr).toContain('disabled by gateway one');
  const late = startStdio(['laptop', '-c', the('two').configFile], { SSH_CONNECTION: '127.0.0.1 1 127.0.0.1 2' });
  expect((await late.exited).stderr).toContain('disabled by gateway one');
  expect((await other.request('GET', '/locks/')).status).toBe(200);
  other.close();
  await other.ended;
  expect(events('two', 'session-end').map(({ reason }) => reason)).toEqual(
    expect.arrayContaining(['revoked', 'revoked']),
  );

  const listed = await command('two', 'gateways');
  expect(listed.stdout).toMatch(/one +up .*same|one +up .*another/);
  expect(listed.stdout).toMatch(/client\/laptop: disabled on one since /);
});

test('enabling it elsewhere says who still refuses it, and --lift takes that back', async () => {
  const enabled = await command('two', 'client', 'enable', 'laptop');
  expect(enabled).toMatchObject({ code: 0, stderr: expect.stringMatching(/one still refuses laptop.*--lift laptop/) });
  const lifted = await command('two', 'gateways', '--lift', 'laptop');
  expect(lifted).toMatchObject({ code: 0, stdout: expect.stringContaining('client/laptop by one') });
  await eventually(async () => {
    const session = sessionOn('two', 'laptop');
    const status = await session.request('GET', '/locks/').then(
      (answer) => answer.status,
      () => undefined,
    );
    session.close();
    await session.ended;
    return status;
  }, 'laptop is let in');
  // Where its own config refuses it, it stays out.
  expect((await sessionOn('one', 'laptop').ended).stderr).toContain('client laptop is disabled;');
  expect((await command('one', 'client', 'enable', 'laptop')).code).toBe(0);
  const again = await eventually(async () => {
    const all = await command('one', 'gateways');
    return all.stdout.includes('another') ? undefined : all;
  }, 'both have the same config');
  expect(again).toMatchObject({ code: 0, stdout: expect.not.stringContaining('Refused') });
});

test('a gateway that is gone is seen, and is forgotten when it is told', async () => {
  await start('three');
  expect(await command('three', 'gateways', '--forget', 'three')).toMatchObject({ code: 2 });
  the('three').process.signal('SIGKILL');
  await the('three').process.exited;
  await eventually(async () => (await command('one', 'gateways')).stdout.includes('away'), 'three is away');
  const json = await command('one', 'gateways', '--json');
  const lines = json.stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines.map(({ gateway, state, sameConfig }) => ({ gateway, state, sameConfig }))).toEqual([
    { gateway: 'one', state: 'up', sameConfig: true },
    { gateway: 'three', state: 'away', sameConfig: true },
    { gateway: 'two', state: 'up', sameConfig: true },
  ]);
  // As docs/json.md has them.
  const fields = [
    'v',
    'kind',
    'gateway',
    'good',
    'state',
    'version',
    'config',
    'sameConfig',
    'clockMs',
    'started',
    'seen',
  ];
  for (const line of lines) expect(Object.keys(line)).toEqual(fields);
  expect(json.code).toBe(1);
  expect((await command('one', 'gateways', '--forget', 'three')).code).toBe(0);
  expect(await command('one', 'gateways', '--quiet')).toMatchObject({ code: 0, stdout: '' });
});

test('a quota holds over both gateways to the byte, and status knows it on both', async () => {
  for (const name of ['one', 'two'])
    expect(await command(name, 'client', 'set', 'server', 'quota=1MiB')).toMatchObject({
      code: 0,
    });
  await eventually(async () => (await command('one', 'gateways', '--quiet')).stdout === '', 'both have the quota');
  const sessions = await Promise.all(
    ['one', 'two'].map(async (name) => {
      const session = sessionOn(name, 'server');
      expect((await session.request('GET', '/locks/')).status).toBe(200);
      return session;
    }),
  );
  const answers = await Promise.all(
    sessions.flatMap((session) =>
      Array.from({ length: 24 }, () => {
        const body = randomBytes(32 * 1024);
        return session.request('POST', `/data/${createHash('sha256').update(body).digest('hex')}`, { body });
      }),
    ),
  );
  const count = (status: number): number => answers.filter((answer) => answer.status === status).length;
  expect({ stored: count(200), refused: count(507) }).toEqual({ stored: 32, refused: 16 });
  for (const session of sessions) {
    session.close();
    await session.ended;
  }
  for (const name of ['one', 'two']) {
    const status = await command(name, 'status', 'server', '--json');
    expect(JSON.parse(status.stdout)).toMatchObject({ quota: { limit: 2 ** 20, used: expect.any(Number) } });
  }
});

test('maxSessions holds over both gateways, and a gateway that is killed gives its places back', async () => {
  for (const name of ['one', 'two'])
    expect(await command(name, 'client', 'set', 'laptop', 'maxSessions=2')).toMatchObject({ code: 0 });
  await eventually(async () => (await command('one', 'gateways', '--quiet')).stdout === '', 'both have the limit');
  const held = [sessionOn('one', 'laptop'), sessionOn('two', 'laptop')];
  for (const session of held) expect((await session.request('GET', '/locks/')).status).toBe(200);
  for (const name of ['one', 'two'])
    expect((await sessionOn(name, 'laptop').ended).stderr).toContain('client laptop has 2 sessions open already');
  // The forced command is counted with them.
  const forced = startStdio(['laptop', '-c', the('two').configFile], { SSH_CONNECTION: '127.0.0.1 1 127.0.0.1 2' });
  expect((await forced.exited).stderr).toContain('client laptop has 2 sessions open already');
  the('two').process.signal('SIGKILL');
  await the('two').process.exited;
  const late = await eventually(async () => {
    const session = sessionOn('one', 'laptop');
    const status = await session.request('GET', '/locks/').then(
      (answer) => answer.status,
      () => undefined,
    );
    return status === undefined ? undefined : session;
  }, 'the place is free');
  for (const session of [...held, late]) {
    session.close();
    await session.ended;
  }
  await start('two');
  expect(await command('one', 'client', 'set', 'laptop', 'maxSessions=')).toMatchObject({ code: 0 });
});

test('PostgreSQL is stopped and hangs in the middle of a backup: restic notices nothing, and all of it is counted in', async () => {
  for (const name of ['one', 'two'])
    expect(await command(name, 'client', 'set', 'server', 'quota=10GiB')).toMatchObject({ code: 0 });
  await eventually(async () => (await command('one', 'gateways', '--quiet')).stdout === '', 'both have the quota');
  const directory = tempDir();
  const tree = path.join(directory, 'tree');
  await makeTree(tree, { files: 40, bytes: 60_000_000, seed: 'fleet' });
  const program = [lab().ssh, ...sshClientArgs({ ...the('one'), key: keys.server })].join(' ');
  const target = { repo: 'rclone:x', options: { 'rclone.program': program }, password: 'secret' };
  expect(await restic(lab().resticNewest, target, ['init'])).toMatchObject({ code: 0 });
  const counted = async (): Promise<number> =>
    Number(await postgres.sql('select coalesce(max(used), 0) from restic_gateway.ledgers l'));
  const before = await counted();
  const backup = restic(lab().resticNewest, target, ['backup', tree, '--limit-upload', '6000']);
  await eventually(async () => (await counted()) > before + 2_000_000, 'the backup is under way');
  await postgres.freeze();
  await the('one').process.waitForLine(/the database is away/);
  await postgres.thaw();
  await postgres.kill();
  const { code, stderr } = await backup;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  await postgres.start();
  // Locks count for nothing, nor do the gateway's own files.
  const files = ['-type', 'f', '-not', '-path', '*/locks/*', '-not', '-path', '*/.restic-gateway/*'];
  const sizes = await run('find', [path.join(store['path'] ?? '', 'server'), ...files, '-printf', '%s\\n']);
  const stored = sizes.stdout.split('\n').reduce((sum, size) => sum + Number(size), 0);
  await eventually(async () => (await counted()) === stored, `${stored} bytes are counted`);
}, 300_000);

test('without the database clients are served, status and check say that it is away, and the last revocation holds', async () => {
  await command('one', 'client', 'disable', 'server');
  await eventually(
    async () =>
      ((await command('two', 'client', 'show', 'server')).code === 0 &&
        (await sessionOn('two', 'server').ended).stderr.includes('disabled by')) ||
      undefined,
    'server is out',
  );
  await postgres.kill();
  await the('two').process.waitForLine(/the database is away/);
  const session = sessionOn('two', 'laptop');
  expect((await session.request('GET', '/locks/')).status).toBe(200);
  expect((await sessionOn('two', 'server').ended).stderr).toContain('disabled by gateway one');
  const status = await eventually(async () => {
    const said = await command('two', 'status');
    return said.stderr.includes('the database is away since') ? said : undefined;
  }, 'status says that it is away');
  expect(status.code).toBe(1);
  expect(await command('two', 'check', '--live')).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/the database is away/),
  });
  expect(await command('two', 'gateways')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/the database is away/),
  });
  expect(await command('two', 'client', 'disable', 'laptop')).toMatchObject({ code: 0 });
  await session.ended;
  await postgres.start();
  await the('two').process.waitForLine(/the database answers again/);
  expect((await sessionOn('one', 'laptop').ended).stderr).toMatch(/client laptop is disabled by gateway two/);
});
