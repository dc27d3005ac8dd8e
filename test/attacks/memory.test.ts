/**
 * Clients that want the gateway to hold bytes for them: bodies that stall, pieces of one byte, downloads that nobody reads, channels that
 * nobody serves. What they can have it hold is their share, and their neighbour goes on.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Client } from 'ssh2';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { message, overhear, sendMessage, tcpOf } from '../support/hostile-ssh.ts';
import { startProcess } from '../support/lab.ts';
import { collectFrames, END_HEADERS, FRAME, frame, PREFACE, requestHeaders, socketPair } from '../support/raw-http2.ts';
import { resticClient, sample } from '../support/restic-client.ts';
import { bucketUnderTest, storeOn } from '../support/s3-bucket.ts';
import { channelOf, sshConnect, startSshStack, type SshStack } from '../support/ssh-stack.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const MEMORY = { total: 80 * MIB, perClient: 20 * MIB };
/** What moves so slowly that it stands still. */
const STALLED = { bandwidth: { upload: 64 * KIB, download: 64 * KIB } };

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(10);
}

/** Bytes of buffers in this process, garbage not counted. */
function buffered(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().arrayBuffers;
}

const post = (stream: number, length: number): Buffer =>
  frame(
    FRAME.headers,
    END_HEADERS,
    stream,
    requestHeaders('POST', `/data/${sample(8).name}`, [['content-length', String(length)]]),
  );

describe('inside of sessions', () => {
  let stack: Stack;
  const sockets: Socket[] = [];

  async function open(attacker: Parameters<typeof startStack>[0][string]): Promise<void> {
    stack = await startStack({ attacker, neighbour: {} }, undefined, { memory: MEMORY });
  }
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    const { memory } = stack.gateway;
    await stack.close();
    // Whatever happened: nothing is held for those who are gone.
    await until(() => memory.used === 0);
  });

  /** A session whose HTTP/2 is in the attacker's hands. */
  async function attacker(): Promise<{ readonly socket: Socket; readonly frames: ReturnType<typeof collectFrames> }> {
    const { client, server } = await socketPair();
    await stack.serve('attacker', server);
    sockets.push(client);
    const frames = collectFrames(client);
    client.write(PREFACE);
    return { socket: client, frames };
  }

  /** What somebody else stores and reads meanwhile. */
  async function neighbourWorks(): Promise<void> {
    const neighbour = await stack.connect('neighbour');
    const { name, body } = sample(4 * MIB);
    expect((await neighbour.request('POST', `/data/${name}`, { body })).status).toBe(200);
    expect((await neighbour.request('GET', `/data/${name}`)).body.equals(body)).toBe(true);
    neighbour.close();
  }

  test('ten sessions, each with as many stalled bodies as it may have, hold the share of one client', async () => {
    await open({ maxSessions: 10, ...STALLED });
    const before = buffered();
    const bodies: ClientHttp2Stream[] = [];
    const body = Buffer.alloc(MIB);
    let refused = 0;
    const sessions: ClientHttp2Session[] = [];
    for (let count = 0; count < 10; count++) sessions.push((await stack.connect('attacker')).session);
    for (const session of sessions) {
      for (let index = 0; index < 64; index++) {
        const stream = session.request({
          ':method': 'POST',
          ':path': `/data/${sample(8).name}`,
          'content-length': 64 * MIB,
        });
        stream.on('error', () => undefined);
        stream.on('close', () => {
          if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM) refused++;
        });
        stream.write(body);
        bodies.push(stream);
      }
    }
    // The rest of what they would send, no window lets come.
    await until(() => refused > 400);
    await neighbourWorks();
    expect(stack.gateway.memory.used).toBeLessThanOrEqual(MEMORY.perClient);
    expect(buffered() - before).toBeLessThan(2 * MEMORY.perClient + body.length);
    for (const stream of bodies) stream.destroy();
  });

  test('a window is filled with pieces of one byte, each in a large packet of its own, and the stream is ended', async () => {
    await open(STALLED);
    const before = buffered();
    const { socket, frames } = await attacker();
    // What has come is paced: from here on, nothing is read.
    socket.write(
      Buffer.concat([
        post(1, 16 * MIB),
        ...Array.from({ length: 3 }, () => frame(FRAME.data, 0, 1, Buffer.alloc(16 * KIB))),
      ]),
    );
    // Frames of a type that nobody knows are to be ignored (RFC 9113, 5.5), and fill the rest of the packet.
    const piece = Buffer.concat([frame(FRAME.data, 0, 1, Buffer.of(1)), frame(0xee, 0, 0, Buffer.alloc(15 * KIB))]);
    let most = 0;
    for (let sent = 0; sent < 4000 && !frames.some(({ type }) => type === FRAME.reset); sent++) {
      if (!socket.write(piece)) await once(socket, 'drain');
      most = Math.max(most, sent % 100 === 0 ? buffered() - before : 0);
    }
    await until(() => frames.some(({ type, stream }) => type === FRAME.reset && stream === 1));
    expect(most).toBeLessThan(16 * MIB);
    await neighbourWorks();
  });

  test('sixty streams are sent pieces of one byte by turns, fewer on each than would end it', async () => {
    await open(STALLED);
    const before = buffered();
    const { socket, frames } = await attacker();
    // What has come is paced: from here on, nothing is read.
    const streams = Array.from({ length: 60 }, (_, index) => 2 * index + 1);
    socket.write(
      Buffer.concat([
        ...streams.map((stream) => post(stream, 16 * MIB)),
        ...Array.from({ length: 3 }, () => frame(FRAME.data, 0, 1, Buffer.alloc(15 * KIB))),
      ]),
    );
    const rest = frame(0xee, 0, 0, Buffer.alloc(15 * KIB));
    for (let round = 0; round < 100; round++)
      for (const stream of streams)
        if (!socket.write(Buffer.concat([frame(FRAME.data, 0, stream, Buffer.of(1)), rest])))
          await once(socket, 'drain');
    // Its answer says that all of it has been looked at.
    socket.write(frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
    await until(() => frames.some(({ type, flags }) => type === FRAME.ping && flags === 1));
    expect(frames.filter(({ type }) => type === FRAME.reset)).toEqual([]);
    // 90 MiB came.
    expect(buffered() - before).toBeLessThan(2 * MEMORY.perClient);
    await neighbourWorks();
  });

  test('a body is never longer than it was declared, so that a small one takes little', async () => {
    await open(STALLED);
    const { socket, frames } = await attacker();
    socket.write(Buffer.concat([post(1, 100), frame(FRAME.data, 0, 1, Buffer.alloc(200))]));
    await until(() => frames.some(({ type, stream }) => type === FRAME.reset && stream === 1));
  });

  test('hundreds of downloads that nobody reads hold the share of one client, and wait for each other', async () => {
    await open({ maxSessions: 10 });
    const { name, body } = sample(2 * MIB);
    const writer = await stack.connect('attacker');
    expect((await writer.request('POST', `/data/${name}`, { body })).status).toBe(200);
    const before = buffered();
    for (let count = 0; count < 4; count++) {
      const { socket, frames } = await attacker();
      // SETTINGS_INITIAL_WINDOW_SIZE (4) of 0: nothing can be sent.
      socket.write(frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0])));
      for (let index = 0; index < 100; index++)
        socket.write(frame(FRAME.headers, 5, 2 * index + 1, requestHeaders('GET', `/data/${name}`)));
      // Each of the first has its head, and no more.
      await until(() => frames.some(({ type }) => type === FRAME.headers) || count > 0);
    }
    await neighbourWorks();
    expect(stack.gateway.memory.used).toBeLessThanOrEqual(MEMORY.perClient);
    expect(buffered() - before).toBeLessThan(2 * MEMORY.perClient);
  });

  test('while bodies wait, their session still answers, and takes a small object', async () => {
    await open({ maxSessions: 1, ...STALLED });
    const client = await stack.connect('attacker');
    const streams = Array.from({ length: 64 }, () => {
      const stream = client.session.request({
        ':method': 'POST',
        ':path': `/data/${sample(8).name}`,
        'content-length': 64 * MIB,
      });
      stream.on('error', () => undefined);
      stream.write(Buffer.alloc(64 * KIB));
      return stream;
    });
    expect((await client.request('GET', '/file-1')).status).toBe(404);
    await new Promise((resolve) =>
      client.session.ping(() => {
        resolve(undefined);
      }),
    );
    streams[0]?.close(constants.NGHTTP2_CANCEL);
    expect((await client.request('HEAD', '/config')).status).toBe(404);
    for (const stream of streams) stream.destroy();
  });
});

describe('while the storage takes nothing', () => {
  const CLIENTS = 30;
  const TOTAL = 128 * MIB;
  const BODY = 192 * KIB;
  const rest = randomBytes(BODY - 16);
  const hashed = createHash('sha256').update(rest);
  let proxy: FaultProxy;
  let stack: Stack;
  beforeEach(async () => {
    const bucket = await bucketUnderTest();
    bucket.sdk.destroy();
    proxy = await startFaultProxy(bucket.config.endpoint ?? '');
    const clients = Object.fromEntries(Array.from({ length: CLIENTS }, (_, index) => [`client-${index}`, {}]));
    stack = await startStack({ ...clients, newcomer: {} }, () => storeOn(bucket, proxy.endpoint), {
      memory: { total: TOTAL, perClient: 20 * MIB },
    });
  });
  afterEach(async () => {
    const { memory } = stack.gateway;
    await stack.close();
    await proxy.close();
    await until(() => memory.used === 0);
  });

  /** Saves one object as restic does, which tries again what was refused as not begun, or failed. @param refused - told of each that was */
  async function save({ session }: StackClient, refused: () => void): Promise<void> {
    const head = randomBytes(16);
    const name = hashed.copy().update(head).digest('hex');
    for (let pause = 1000; ; pause = Math.min(2 * pause, 3000)) {
      const stream = session.request({ ':method': 'POST', ':path': `/data/${name}`, 'content-length': BODY });
      stream.on('error', () => undefined);
      let status = 0;
      stream.on('response', (headers) => (status = Number(headers[':status'])));
      stream.resume();
      stream.write(rest);
      stream.end(head);
      if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
      if (status === 200) return;
      if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM) refused();
      await sleep(pause);
    }
  }

  test('three hundred honest sessions with five uploads each hold no more than the budget, locks are taken, and all end well', async () => {
    const newcomer = await stack.connect('newcomer');
    const lock = async (client: StackClient): Promise<number> => {
      const { name, body } = sample(100);
      return (await client.request('POST', `/locks/${name}`, { body })).status;
    };
    expect(await lock(newcomer)).toBe(200);
    const sessions: StackClient[] = [];
    for (let index = 0; index < 10 * CLIENTS; index++) sessions.push(await stack.connect(`client-${index % CLIENTS}`));
    const before = buffered();
    let refused = 0;
    proxy.set({ method: 'PUT', path: /\/data\//, fault: { kind: 'hold' } });
    const saves = sessions.flatMap((client) => Array.from({ length: 5 }, () => save(client, () => refused++)));
    // As much is under way as there is memory for, and the rest was told to come again.
    await until(() => refused > 500);
    expect(stack.gateway.memory.used).toBeLessThanOrEqual(TOTAL);
    expect(buffered() - before).toBeLessThan(TOTAL);
    // Whoever refreshes a lock, and whoever comes now, has what that needs.
    for (const client of [sessions[0] as StackClient, newcomer, await stack.connect('newcomer')])
      expect(await lock(client)).toBe(200);
    proxy.release();
    await Promise.all(saves);
  });
});

describe('on channels that nobody serves', () => {
  /** RFC 4254, 9. */
  const [CHANNEL_OPEN, CHANNEL_DATA, CHANNEL_EXTENDED_DATA, CHANNEL_REQUEST] = [90, 94, 95, 98];
  let stack: SshStack;
  const clients: Client[] = [];
  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy();
    await stack.close();
  });

  async function connected(): Promise<Client> {
    const client = await sshConnect(stack);
    clients.push(client);
    return client;
  }
  async function closedOf(client: Client): Promise<void> {
    const socket = tcpOf(client);
    if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
  }
  /** Opens a session channel by hand. @returns its number at the server */
  async function channel(client: Client, own: number): Promise<number> {
    const confirmed = new Promise<number>((resolve) => {
      overhear(client, 'CHANNEL_OPEN_CONFIRMATION', (info) => {
        const { recipient, sender } = info as { readonly recipient: number; readonly sender: number };
        if (recipient === own) resolve(sender);
      });
    });
    sendMessage(client, message(CHANNEL_OPEN, 'session', [own], [2 * MIB], [32 * KIB]));
    return confirmed;
  }
  const data = (id: number): Buffer => message(CHANNEL_DATA, [id], Buffer.alloc(32 * KIB));

  test('refused ones are closed, and who sends beyond their window is cut off', async () => {
    stack = await startSshStack({ maxSessions: 1 }, { memory: MEMORY });
    const honest = await connected();
    const restic = resticClient(await channelOf((done) => honest.exec('x', done)));
    expect((await restic.request('GET', '/file-1')).status).toBe(404);
    const client = await connected();
    const closed = new Set<unknown>();
    overhear(client, 'CHANNEL_CLOSE', (id) => closed.add(id));
    for (let own = 100; own < 120; own++) {
      const id = await channel(client, own);
      sendMessage(client, message(CHANNEL_REQUEST, [id], 'exec', false, 'x'));
      await until(() => closed.has(own));
      // Not closed by the peer, as it would have to be.
      for (let sent = 0; sent < 2; sent++) sendMessage(client, data(id));
    }
    expect((await restic.request('GET', '/file-1')).status).toBe(404);
    expect(tcpOf(client).destroyed).toBe(false);
    // The windows of all are used up by now.
    sendMessage(client, data(0));
    await closedOf(client);
    expect((await restic.request('GET', '/file-1')).status).toBe(404);
  });

  test('two hundred of them, stuffed as far as their windows go, leave nothing in the server', async () => {
    stack = await startSshStack({}, { memory: MEMORY });
    const honest = await connected();
    const restic = resticClient(await channelOf((done) => honest.exec('x', done)));
    expect((await restic.request('GET', '/file-1')).status).toBe(404);
    const keyFile = path.join(stack.directory, 'client_key');
    writeFileSync(keyFile, stack.key.private, { mode: 0o600 });
    const before = buffered();
    // In a process of its own, so that this one holds what the server holds.
    const hostile = await startProcess(process.execPath, [
      ...['--import', './scripts/bench/typescript.mjs', 'test/support/stuff-channels.ts'],
      ...[String(stack.server.address.port), keyFile, '10'],
    ]);
    const bytes = Number((await hostile.waitForLine(/^stuffed /)).slice('stuffed '.length));
    // Windows of 2 MiB, as ssh2 has them, would come to 400 MiB; 64 KiB of each that are kept, to 12.
    expect(bytes).toBeGreaterThan(10 * MIB);
    // What is garbage goes by and by; what is kept never does.
    for (let tries = 0; buffered() - before > 6 * MIB && tries < 7200; tries++) await sleep(25);
    expect(buffered() - before).toBeLessThan(6 * MIB);
    expect((await restic.request('GET', '/file-1')).status).toBe(404);
    hostile.signal('SIGKILL');
    await hostile.exited;
  });

  test.each([
    ['data to a channel that never asks for a command', (id: number) => data(id)],
    [
      'stderr, which only servers send',
      (id: number) => message(CHANNEL_EXTENDED_DATA, [id], [1], Buffer.alloc(32 * KIB)),
    ],
    ['data to a channel of no one', () => data(77)],
  ])('%s: the connection ends', async (_what, make) => {
    // Not for want of a session, which ends it too.
    stack = await startSshStack({}, { memory: MEMORY, ssh: { extraCiphers: [], limits: { idleSeconds: 86_400 } } });
    const client = await connected();
    const id = await channel(client, 100);
    for (let sent = 0; sent < 3; sent++) sendMessage(client, make(id));
    await closedOf(client);
  });
});
