/** Failures in the wrong moment: each costs one session at most, while the one next door is served by the same process. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { freePort, generateKey, run, tempDir, type KeyFiles } from '../support/lab.ts';
import { parseMetrics } from '../support/metrics.ts';
import { must, withTmpfs } from '../support/mounts.ts';
import { collectFrames, END_HEADERS, END_STREAM, FRAME, frame, PREFACE, requestHeaders } from '../support/raw-http2.ts';
import { sample, sha256 } from '../support/restic-client.ts';
import { startSshSession, startSshSocket, type SshSession } from '../support/ssh-session.ts';
import { until } from '../support/store-calls.ts';
import { freshStore } from '../support/stores.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** What every peer may send in one frame. */
const PIECE = Buffer.alloc(16 * KIB);
const DEFECTS = path.resolve(import.meta.dirname, '../support/defects.mjs');

/** How fast clients may upload. */
const SLOW: Readonly<Record<string, string>> = { disk: '2MiB/s', bucket: '64KiB/s' };

let keys: Readonly<Record<string, KeyFiles>>;
let gateway: RunningGateway;
let proxy: FaultProxy;
let neighbour: SshSession;
let disk: string;
let metrics: string;

const targetOf = (client: string) => {
  const key = keys[client];
  if (key === undefined) throw new Error(`no client ${client}`);
  return { port: gateway.port, key, knownHosts: gateway.knownHosts };
};
/** Uploads of a client that are over, however they ended. */
const savesOf = async (client: string): Promise<number> =>
  parseMetrics(await (await fetch(`http://${metrics}/metrics`)).text())
    .filter(
      ({ name, labels }) =>
        name === 'restic_gateway_operations_total' && labels['operation'] === 'save' && labels['client'] === client,
    )
    .reduce((sum, { value }) => sum + value, 0);
const audit = () =>
  readFileSync(gateway.auditFile, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);

beforeAll(async () => {
  const clients = ['honest', 'disk', 'bucket', 'defects'];
  keys = Object.fromEntries(await Promise.all(clients.map(async (name) => [name, await generateKey()] as const)));
  disk = tempDir();
  metrics = `127.0.0.1:${await freePort()}`;
  const bucket = await freshStore('s3');
  proxy = await startFaultProxy(bucket['endpoint'] ?? '');
  const stores = {
    main: await freshStore('directory'),
    disk: { type: 'directory', path: disk },
    bucket: { ...bucket, endpoint: proxy.endpoint },
  };
  const storeOf = (name: string): string => (name in stores ? name : 'main');
  gateway = await startGateway(
    tempDir(),
    {
      stores,
      metrics: { listen: metrics },
      clients: Object.fromEntries(
        clients.map((name) => [
          name,
          {
            keys: [keys[name]?.publicLine],
            repository: { store: storeOf(name) },
            // So slow that a part of each body lies unread.
            ...(name in SLOW ? { bandwidth: { upload: SLOW[name] } } : {}),
          },
        ]),
      ),
    },
    { NODE_OPTIONS: `--import=${DEFECTS}` },
  );
  neighbour = startSshSession(targetOf('honest'));
  expect((await neighbour.request('GET', '/file-1')).status).toBe(404);
});
afterEach(async () => {
  // Whatever happened: the one next door is served, in the very session that it had.
  expect((await neighbour.request('GET', '/file-1')).status).toBe(404);
});
afterAll(async () => {
  neighbour.close();
  await gateway.stop();
  await proxy.close();
});

/**
 * Begins uploads, sends as much of each as the gateway takes, up to `bytes`, and calls them off as if nothing were wrong, so that a part of
 * them lies unread. Then what they are for fails.
 */
async function uploadsCalledOff(
  client: string,
  { bodies, bytes }: { readonly bodies: number; readonly bytes: number },
  fail: () => Promise<void>,
): Promise<void> {
  const before = await savesOf(client);
  const { socket, ended } = startSshSocket(targetOf(client));
  const frames = collectFrames(socket);
  socket.write(PREFACE);
  await until(() => frames.some(({ type }) => type === FRAME.settings));
  let acknowledged = 0;
  /** What its SETTINGS say that a stream begins with, acknowledged: they grow as it has room (RFC 9113, 6.9.2). */
  const initialWindow = (): number => {
    const settings = frames.filter(({ type, flags }) => type === FRAME.settings && (flags & 1) === 0);
    for (; acknowledged < settings.length; acknowledged++) socket.write(frame(FRAME.settings, 1, 0));
    let window = 65_535;
    for (const { payload } of settings)
      for (let at = 0; at < payload.length; at += 6)
        if (payload.readUInt16BE(at) === 4) window = payload.readUInt32BE(at + 2);
    return window;
  };
  initialWindow();
  const length: readonly [string, string] = ['content-length', String(64 * MIB)];
  const streams = Array.from({ length: bodies }, (_, index) => 2 * index + 1);
  for (const stream of streams)
    socket.write(frame(FRAME.headers, END_HEADERS, stream, requestHeaders('POST', `/data/${sample().name}`, [length])));
  const sent = new Map(streams.map((stream) => [stream, 0]));
  const windowOf = (stream: number): number =>
    frames
      .filter((each) => each.type === FRAME.window && each.stream === stream)
      .reduce((sum, { payload }) => sum + payload.readUInt32BE(), initialWindow());
  const send = (): boolean => {
    let any = false;
    for (const [stream, before] of sent) {
      const till = Math.min(bytes, windowOf(stream));
      let at = before;
      for (; at + PIECE.length <= till; at += PIECE.length) socket.write(frame(FRAME.data, 0, stream, PIECE));
      sent.set(stream, at);
      any ||= at > before;
    }
    return any;
  };
  const all = (): boolean => [...sent.values()].every((each) => each >= bytes);
  // Nobody says that no more will be taken.
  for (let idle = 0; idle < 40 && !all(); idle++) {
    if (send()) idle = 0;
    await sleep(10);
  }
  for (const stream of streams) socket.write(frame(FRAME.reset, 0, stream, Buffer.alloc(4)));
  await fail();
  while ((await savesOf(client)) < before + bodies) await sleep(20);
  // The session goes on.
  const next = 2 * bodies + 1;
  socket.write(frame(FRAME.headers, END_HEADERS | END_STREAM, next, requestHeaders('GET', '/file-1')));
  await until(() => frames.some((each) => each.type === FRAME.headers && each.stream === next));
  expect(gateway.process.lines.filter((line) => line.includes('defect'))).toEqual([]);
  socket.destroy();
  await ended;
}

test('uploads that are called off without an error while the disk fills up, and one that it has no room for', async () => {
  await withTmpfs(
    'size=8m',
    async () => {
      const filler = path.join(disk, 'filler');
      const temporary = path.join(disk, 'disk/.restic-gateway/tmp');
      for (let times = 0; times < 2; times++) {
        await uploadsCalledOff('disk', { bodies: 8, bytes: MIB }, () => {
          expect(() => {
            writeFileSync(filler, Buffer.alloc(9 * MIB));
          }).toThrow('ENOSPC');
          return Promise.resolve();
        });
        await until(() => readdirSync(temporary).length === 0);
        rmSync(filler);
      }
      writeFileSync(filler, Buffer.alloc(7 * MIB));
      // The store's own failure is answered as ever.
      const session = startSshSession(targetOf('disk'));
      const body = Buffer.alloc(2 * MIB, 1);
      expect((await session.request('POST', `/data/${sha256(body)}`, { body })).status).toBe(507);
      session.close();
      await session.ended;
    },
    disk,
  );
});

test('uploads that are called off without an error while the storage goes away', async () => {
  proxy.set({ method: 'PUT', fault: { kind: 'stall-upload', after: 1 } });
  await uploadsCalledOff('bucket', { bodies: 32, bytes: MIB }, async () => {
    proxy.heal();
    await until(() => proxy.open === 0);
  });
});

test("connections that take the last file descriptors end nobody's session, and newcomers get in afterwards", async () => {
  const limit = async (most: number): Promise<void> => {
    await must('prlimit', ['--pid', String(gateway.process.pid), `--nofile=${most}:`]);
  };
  const open = (): number => readdirSync(`/proc/${gateway.process.pid}/fd`).length;
  const enough = Number(
    /(\d+)$/.exec((await run('prlimit', ['--noheadings', '-o', 'SOFT', '--nofile'])).stdout.trim())?.[1],
  );
  const most = open() + 20;
  await limit(most);
  const ports = [gateway.port, Number(metrics.split(':')[1])];
  const guests = Array.from({ length: 60 }, (_, index) => {
    const guest = connect(ports[index % 2] ?? 0, '127.0.0.1');
    guest.on('error', () => undefined).resume();
    return guest;
  });
  await until(() => open() >= most - 2);
  const late = startSshSession(targetOf('honest'));
  late.request('GET', '/file-1').catch(() => undefined);
  // Whoever is in is answered, be it with an error of the storage.
  expect((await neighbour.request('GET', '/file-1')).status).toBeGreaterThanOrEqual(200);
  for (const guest of guests) guest.destroy();
  late.close();
  await late.ended;
  await until(() => open() < most - 10);
  const next = startSshSession(targetOf('honest'));
  expect((await next.request('GET', '/file-1')).status).toBe(404);
  next.close();
  await next.ended;
  await limit(enough);
  expect(gateway.process.lines.filter((line) => line.includes('defect'))).toEqual([]);
  // However many come, they do not fill the log.
  expect(gateway.process.lines.filter((line) => /EMFILE/.test(line)).length).toBeLessThan(20);
});

test('a defect in an event of a session ends that session, and the audit says so', async () => {
  const session = startSshSession(targetOf('defects'));
  await expect(session.request('GET', '/file-1001')).rejects.toThrow();
  const { status, stderr } = await session.ended;
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: expect.stringContaining('restic-gateway: the gateway has failed, and this session ends; try again.\n'),
  });
  expect(stderr).not.toMatch(/TypeError|at .*:\d+/);
  await until(() => audit().some((line) => line['client'] === 'defects' && line['reason'] === 'gateway-failed'));
  await gateway.process.waitForLine(/a defect ended this session/);
});

test.each(['/file-1002', '/file-1003'])('a defect where nobody catches (%s) is logged, and all go on', async (file) => {
  const session = startSshSession(targetOf('defects'));
  for (let times = 0; times < 50; times++) expect((await session.request('GET', file)).status).toBe(404);
  await gateway.process.waitForLine(/a defect outside of any session/);
  // However often it is met, it does not fill the log.
  expect(gateway.process.lines.filter((line) => /defect/.test(line)).length).toBeLessThan(50);
  session.close();
  expect((await session.ended).status).toBe(0);
});

test.each(['/file-1001', '/file-1002', '/file-1003'])(
  'at the forced command, a defect (%s) ends its one session in a plain line',
  async (file) => {
    const child = spawn(process.execPath, [GATEWAY, 'stdio', 'defects', '-c', gateway.configFile], {
      env: { ...process.env, NODE_OPTIONS: `--import=${DEFECTS}` },
      stdio: 'pipe',
    });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.on('error', () => undefined);
    child.stdout.resume();
    child.stdin.write(
      Buffer.concat([PREFACE, frame(FRAME.headers, END_HEADERS | END_STREAM, 1, requestHeaders('GET', file))]),
    );
    const [status] = (await once(child, 'close')) as [number];
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: 'restic-gateway: the gateway has failed, and this session ends; try again.\n',
    });
    expect(audit().findLast((line) => line['event'] === 'session-end')).toMatchObject({
      via: 'stdio',
      reason: 'gateway-failed',
    });
  },
);
