/**
 * File descriptors are few where an admin's limit is low: a hostile client takes all that it can, by connections, uploads and lists, and
 * whoever is in loses nothing. What there is no descriptor for is refused in one plain line.
 */
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { generateKey, run, tempDir, type KeyFiles } from '../support/lab.ts';
import { sample, type ResticClient } from '../support/restic-client.ts';
import { startSshSession, type SshSession } from '../support/ssh-session.ts';
import { startStdio } from '../support/stdio-client.ts';
import { until } from '../support/store-calls.ts';
import { freshStore, STORES } from '../support/stores.ts';

const MOST = 60;
const MIB = 1024 * 1024;
const within = (most: number): readonly string[] => ['prlimit', `--nofile=${most}`];
const SHORT = 'the gateway is short of file descriptors; tell its admin to raise the limit of open files (LimitNOFILE)';

describe.each(STORES)('a gateway with 60 descriptors and a store of type %s', (kind) => {
  let keys: Readonly<Record<string, KeyFiles>>;
  let gateway: RunningGateway;
  let honest: SshSession;
  const stored: string[] = [];
  const clients = ['honest', 'thief'];
  const connect = (client: string): SshSession => {
    const key = keys[client];
    if (key === undefined) throw new Error(`no client ${client}`);
    return startSshSession({ port: gateway.port, key, knownHosts: gateway.knownHosts });
  };
  /** What became of a session: the status of its first answer, or what its user was told. */
  const outcomeOf = (session: SshSession): Promise<number | string> =>
    Promise.race([
      session.request('GET', '/file-1').then(
        ({ status }) => status,
        async () => (await session.ended).stderr,
      ),
      session.ended.then(({ stderr }) => stderr),
    ]);

  beforeAll(async () => {
    keys = Object.fromEntries(await Promise.all(clients.map(async (name) => [name, await generateKey()] as const)));
    const config = (name: string) => ({
      keys: [keys[name]?.publicLine],
      maxSessions: 100,
      repository: { store: 'main' },
    });
    gateway = await startGateway(
      tempDir(),
      {
        stores: { main: await freshStore(kind) },
        clients: Object.fromEntries(clients.map((name) => [name, config(name)])),
      },
      {},
      within(MOST),
    );
    honest = connect('honest');
    expect(await outcomeOf(honest)).toBe(404);
  });
  afterAll(async () => {
    honest.close();
    await gateway.stop();
  });

  test('it says at its start that they are too few for its sessions', () => {
    expect(gateway.process.lines.join('\n')).toMatch(
      /60 files may be open, enough for \d+ sessions .* maxSessions is 1000/,
    );
  });

  test('a thief’s sessions, uploads, downloads and lists take none of those that others need', async () => {
    const inside: SshSession[] = [];
    let told: number | string;
    for (;;) {
      const session = connect('thief');
      told = await outcomeOf(session);
      if (told !== 404) break;
      inside.push(session);
    }
    expect(told).toContain(`restic-gateway: ${SHORT}`);
    expect(inside.length).toBeGreaterThan(0);
    const unread = sample(MIB);
    expect((await inside[0]?.request('POST', `/data/${unread.name}`, { body: unread.body }))?.status).toBe(200);
    for (const { session } of inside) {
      for (let upload = 0; upload < 40; upload++) {
        const body = session.request({ ':method': 'POST', ':path': `/data/${sample().name}`, 'content-length': MIB });
        body.on('error', () => undefined);
        // So that there is something to write.
        body.write(Buffer.alloc(1000));
        session.request({ ':path': `/data/${unread.name}` }).on('error', () => undefined);
      }
      for (const path of ['/data/', '/index/', '/keys/'])
        session.request({ ':method': 'GET', ':path': path }).on('error', () => undefined);
    }
    await works(honest);
    const more = connect('honest');
    expect(await outcomeOf(more)).toBe(404);
    await works(more);

    // All at once: whatever becomes of them, the others do not notice.
    const rush = Array.from({ length: 40 }, () => connect('thief'));
    const outcomes = await Promise.all(rush.map(outcomeOf));
    expect(outcomes).not.toContain(404);
    expect(
      outcomes.filter((one) => /short of file descriptors|too many connections are waiting/.test(String(one))),
    ).not.toEqual([]);
    await works(honest);
    await works(more);
    more.close();
    for (const session of inside) session.close();
    await Promise.all([more, ...inside].map(({ ended }) => ended));

    await until(() => readdirSync(`/proc/${gateway.process.pid}/fd`).length < MOST * 0.6);
    const next = connect('thief');
    expect(await outcomeOf(next)).toBe(404);
    next.close();
    await next.ended;
    const refused = readFileSync(gateway.auditFile, 'utf8')
      .split('\n')
      .filter((line) => line.includes('"no-descriptors"'));
    expect(refused.length).toBeGreaterThan(0);
    expect(gateway.process.lines.filter((line) => /EMFILE|too many open files|defect/.test(line))).toEqual([]);
    expect(gateway.process.lines.filter((line) => line.includes('no file descriptor is left')).length).toBeLessThan(5);
  });

  test('strangers who say nothing take none of them either', async () => {
    const strangers = Array.from({ length: 100 }, () => connectTcp({ host: '127.0.0.1', port: gateway.port }));
    await Promise.all(
      strangers.map((socket) => {
        socket.on('error', () => undefined);
        return Promise.race([once(socket, 'connect'), once(socket, 'close')]);
      }),
    );
    for (let times = 0; times < 5; times++) await works(honest);
    const more = connect('honest');
    expect(await outcomeOf(more)).toBe(404);
    for (const socket of strangers) socket.destroy();
    more.close();
    await more.ended;
  });

  test('at the forced command, more downloads and uploads at once than descriptors wait for each other', async () => {
    const client = startStdio(['honest', '-c', gateway.configFile], {}, within(MOST));
    await works(client);
    const samples = Array.from({ length: 30 }, () => sample());
    const loads = Array.from({ length: 40 }, () => client.request('GET', `/data/${stored[0]}`));
    const saves = samples.map(({ name, body }) => client.request('POST', `/data/${name}`, { body }));
    const answers = await Promise.all([...loads, ...saves]);
    expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
    stored.push(...samples.map(({ name }) => name));
    await works(client);
    client.end();
    expect((await client.exited).status).toBe(0);
  });

  test('with even fewer, the forced command refuses its session in one line', async () => {
    const client = startStdio(['honest', '-c', gateway.configFile], {}, within(50));
    const { status, stderr } = await client.exited;
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining(`restic-gateway: ${SHORT}`) });
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  test('check warns of it, and serve does not start where no session has room', async () => {
    const command = (name: string): string[] => [process.execPath, GATEWAY, name, '-c', gateway.configFile];
    const check = await run('prlimit', [...within(MOST).slice(1), ...command('check')]);
    expect(check.code).toBe(0);
    expect(check.stdout).toMatch(/warning: for serve, started like this: 60 files may be open/);
    const serve = await run('prlimit', [...within(50).slice(1), ...command('serve')]);
    expect(serve.code).toBe(2);
    // Where not even the program's own files can be read, that says so.
    expect(serve.stderr).toMatch(
      /only 50 files may be open, and no session has room below 56; raise|too many files are open; raise the limit/,
    );
  });

  /** Stores, finds and lists what the honest client has. */
  async function works(client: ResticClient): Promise<void> {
    const { name, body } = sample();
    expect((await client.request('POST', `/data/${name}`, { body })).status).toBe(200);
    stored.push(name);
    const got = await client.request('GET', `/data/${name}`);
    expect([got.status, got.body.equals(body)]).toEqual([200, true]);
    const headers = { accept: 'application/vnd.x.restic.rest.v2' };
    const list = await client.request('GET', '/data/', { headers });
    const names = (JSON.parse(list.body.toString()) as readonly { readonly name: string }[]).map((one) => one.name);
    expect(names.sort()).toEqual([...stored].sort());
  }
});

describe.each([1, 2])('with %i processes that serve, and no descriptor left in any', (workers) => {
  test('sessions go on, it is said once, and whoever comes after that gets in', async () => {
    const key = await generateKey();
    const gateway = await startGateway(tempDir(), {
      stores: { main: await freshStore('directory') },
      clients: { honest: { keys: [key.publicLine], maxSessions: 100, repository: { store: 'main' } } },
      workers,
    });
    const { pid } = gateway.process;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
    const serving = workers === 1 ? [pid] : children;
    expect(serving).toHaveLength(workers);
    const connect = (): SshSession => startSshSession({ port: gateway.port, key, knownHosts: gateway.knownHosts });
    const isServed = async (session: SshSession): Promise<boolean> =>
      (await session.request('GET', '/file-1').catch(() => undefined))?.status === 404;
    const inside = Array.from({ length: 2 * workers }, connect);
    for (const session of inside) expect(await isServed(session)).toBe(true);

    // Each may have those that it has, and not one more.
    for (const one of serving) {
      const open = new Set(readdirSync(`/proc/${one}/fd`));
      let free = 0;
      while (open.has(String(free))) free++;
      await run('prlimit', [`--pid=${one}`, `--nofile=${free}:`]);
    }
    const strangers = Array.from({ length: 4 * workers }, connect);
    await gateway.process.waitForLine(/no file descriptor is left for one more connection/);
    for (const session of inside) expect(await isServed(session)).toBe(true);

    for (const one of serving) await run('prlimit', [`--pid=${one}`, '--nofile=1024:']);
    // They were told that there is no room, or have waited and get in; none waits for ever.
    await Promise.all(strangers.map(isServed));
    const more = Array.from({ length: 2 * workers }, connect);
    for (const session of more) expect(await isServed(session)).toBe(true);
    expect(gateway.process.lines.filter((line) => /no file descriptor/.test(line)).length).toBeLessThanOrEqual(
      2 * workers,
    );
    for (const session of [...inside, ...more, ...strangers]) session.close();
    await gateway.stop();
  });
});
