/** Hostile clients inside a session: HTTP/2 that no library would send, and after each attack another session that is served. */
import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:http2';
import type { Socket } from 'node:net';
import { Duplex, duplexPair, PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { hold, serveHttp2, type Http2Events } from '../../src/restic/http2-session.ts';
import { respondObject } from '../../src/restic/responses.ts';
import type { Session } from '../../src/ports/sessions.ts';
import {
  collectFrames,
  END_HEADERS,
  END_STREAM,
  FRAME,
  frame,
  headers,
  PREFACE,
  requestHeaders,
  socketPair,
  type Frame,
} from '../support/raw-http2.ts';
import { sample } from '../support/restic-client.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';

const MIB = 1024 * 1024;
const NO_PACE = { piece: () => Infinity, before: () => undefined };
const WHOLE = END_HEADERS | END_STREAM;

let stack: Stack;
let neighbour: StackClient;
let before: number;
const sockets: Socket[] = [];
beforeEach(async () => {
  stack = await startStack({ appsrv: {}, neighbour: {} });
  neighbour = await stack.connect('neighbour');
  before = process.memoryUsage.rss();
});
afterEach(async () => {
  // Whatever happened: the one next door is served, and nothing was gathered.
  expect((await neighbour.request('GET', '/file-1')).status).toBe(404);
  expect(process.memoryUsage.rss() - before).toBeLessThan(128 * MIB);
  for (const socket of sockets.splice(0)) socket.destroy();
  await stack.close();
});

interface Attacker {
  readonly socket: Socket;
  readonly session: Session;
  readonly frames: readonly Frame[];
}

/** A session of `appsrv` whose HTTP/2 is in the attacker's hands; without the preface when it is empty. */
async function attacker(preface: Uint8Array = PREFACE): Promise<Attacker> {
  const { client, server } = await socketPair();
  const session = await stack.serve('appsrv', server);
  sockets.push(client);
  const frames = collectFrames(client);
  client.write(preface);
  return { socket: client, session, frames };
}

/** Waits until something is so. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(10);
}

const request = (stream: number, method: string, path: string, more: readonly (readonly [string, string])[] = []) =>
  frame(FRAME.headers, WHOLE, stream, requestHeaders(method, path, more));

describe('floods that end the session', () => {
  const many = (count: number, make: (index: number) => Buffer): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, index) => make(index)));
  const body = requestHeaders('GET', '/config');

  test.each([
    [
      'CONTINUATION without end (CVE-2024-27316)',
      () =>
        Buffer.concat([
          frame(FRAME.headers, 0, 1, body),
          many(2000, (i) => frame(FRAME.continuation, 0, 1, headers([[`x-${i}`, 'y'.repeat(100)]]))),
        ]),
    ],
    ['PING (CVE-2019-9512)', () => many(3000, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8)))],
    ['SETTINGS (CVE-2019-9515)', () => many(3000, () => frame(FRAME.settings, 0, 0))],
    [
      'empty DATA (CVE-2019-9518)',
      () =>
        Buffer.concat([
          frame(
            FRAME.headers,
            END_HEADERS,
            1,
            requestHeaders('POST', `/data/${'a'.repeat(64)}`, [['content-length', '5']]),
          ),
          many(3000, () => frame(FRAME.data, 0, 1)),
        ]),
    ],
    ['HEADERS on stream 0', () => frame(FRAME.headers, WHOLE, 0, body)],
    ['HEADERS on a stream of the server', () => frame(FRAME.headers, WHOLE, 2, body)],
    ['PUSH_PROMISE', () => frame(FRAME.push, END_HEADERS, 1, Buffer.concat([Buffer.alloc(4), body]))],
    ['a window that overflows', () => frame(FRAME.window, 0, 0, Buffer.from([0x7f, 0xff, 0xff, 0xff]))],
  ])('%s', async (_what, attack) => {
    const { socket, session, frames } = await attacker();
    socket.write(attack());
    expect((await neighbour.request('GET', '/file-1')).status).toBe(404);
    // Node 20 says goodbye and waits for the client to go; others end the session at once.
    await until(() => socket.destroyed || frames.some(({ type }) => type === FRAME.goaway));
    socket.destroy();
    await session.ended;
  });

  test.each([
    ['PING', FRAME.ping, Buffer.alloc(8)],
    ['SETTINGS', FRAME.settings, Buffer.alloc(0)],
  ])('%s by the fifty, from a client that reads each answer before it goes on', async (_what, kind, payload) => {
    const { socket, session, frames } = await attacker();
    const isOver = (): boolean => socket.destroyed || frames.some(({ type }) => type === FRAME.goaway);
    const answers = (): number => frames.filter(({ type, flags }) => type === kind && (flags & 1) === 1).length;
    for (let round = 0; round < 40 && !isOver(); round++) {
      const before = answers();
      socket.write(many(50, () => frame(kind, 0, 0, payload)));
      await until(() => isOver() || answers() >= before + 50);
    }
    expect(isOver()).toBe(true);
    socket.destroy();
    await session.ended;
  });

  test.each([
    [
      'rapid reset (CVE-2023-44487)',
      many(6000, (i) =>
        Buffer.concat([
          frame(FRAME.headers, WHOLE, 2 * i + 1, body),
          frame(FRAME.reset, 0, 2 * i + 1, Buffer.of(0, 0, 0, constants.NGHTTP2_CANCEL)),
        ]),
      ),
    ],
    ['HEADERS on stream 0', frame(FRAME.headers, WHOLE, 0, body)],
    ['PUSH_PROMISE', frame(FRAME.push, END_HEADERS, 1, Buffer.concat([Buffer.alloc(4), body]))],
    ['a window that overflows', frame(FRAME.window, 0, 0, Buffer.from([0x7f, 0xff, 0xff, 0xff]))],
    ['an index that HPACK does not have', frame(FRAME.headers, WHOLE, 1, Buffer.of(0xff, 0xff, 0x7f))],
  ])('%s, from a client that then keeps the connection open', async (_what, attack) => {
    // A stream as the front ends hand over, not a socket, whose writes Node would do by itself.
    const [client, server] = duplexPair();
    client.on('error', () => undefined);
    client.resume();
    const session = await stack.serve('appsrv', server);
    client.write(Buffer.concat([PREFACE, attack]));
    await session.ended;
    expect(server.destroyed).toBe(true);
    expect(stack.audit().findLast((line) => line['event'] === 'session-end')).toMatchObject({
      reason: 'protocol-error',
    });
  });

  // nghttp2 then reads no more, not even the end of the input: the session stayed for as long as its connection.
  test.each([
    ['and nothing else', Buffer.of(), []],
    ['after a request, which is answered', frame(FRAME.headers, WHOLE, 1, body), [1]],
  ])('a goodbye %s, from a client that then keeps the connection open', async (_what, before, answered) => {
    const [client, server] = duplexPair();
    client.on('error', () => undefined);
    const frames = collectFrames(client);
    const session = await stack.serve('appsrv', server);
    client.write(PREFACE);
    await until(() => frames.length > 0);
    client.write(Buffer.concat([before, frame(FRAME.goaway, 0, 0, Buffer.alloc(8))]));
    await session.ended;
    expect(frames.filter(({ type }) => type === FRAME.headers).map(({ stream }) => stream)).toEqual(answered);
    expect(stack.audit().findLast((line) => line['event'] === 'session-end')).toMatchObject({ reason: 'client-ended' });
  });

  test('a goodbye right after a request for much, over a line that is slow to take it: all of it arrives', async () => {
    const content = randomBytes(300_000);
    const name = createHash('sha256').update(content).digest('hex');
    expect((await neighbour.request('POST', `/data/${name}`, { body: content })).status).toBe(200);
    const far = new PassThrough();
    const frames = collectFrames(far);
    const line = new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, done) => {
        setTimeout(() => {
          if (!line.destroyed) far.write(chunk);
          done();
        });
      },
    });
    const session = await stack.serve('neighbour', line);
    line.push(
      Buffer.concat([
        PREFACE,
        frame(FRAME.window, 0, 0, Buffer.from([0, 0x10, 0, 0])),
        frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0x10, 0, 0])),
        request(1, 'GET', `/data/${name}`),
        request(3, 'GET', '/file-1'),
        frame(FRAME.goaway, 0, 0, Buffer.alloc(8)),
      ]),
    );
    await session.ended;
    // What the line still had under way.
    await until(() => frames.filter(({ stream, flags }) => stream > 0 && (flags & END_STREAM) !== 0).length === 2);
    const received = frames.filter(({ type }) => type === FRAME.data).map(({ payload }) => payload);
    expect(Buffer.concat(received).equals(content)).toBe(true);
    const ends = frames.filter(({ stream, flags }) => stream > 0 && (flags & END_STREAM) !== 0);
    expect(ends.map(({ stream }) => stream)).toEqual([3, 1]);
  });

  test.each([
    ['HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['garbage', Buffer.alloc(64, 0xff)],
  ])('a preface that is %s', async (_what, bytes) => {
    const { socket, session, frames } = await attacker(bytes);
    await until(() => socket.destroyed || frames.some(({ type }) => type === FRAME.goaway));
    socket.destroy();
    await session.ended;
  });
});

describe('what is refused, and the session goes on', () => {
  test('unknown frames and priorities are passed over', async () => {
    const { socket, frames } = await attacker();
    for (let i = 0; i < 100; i++) socket.write(frame(0xfa, 0xff, i, Buffer.alloc(50)));
    socket.write(request(1, 'GET', '/file-1'));
    await until(() => frames.some(({ stream, type }) => stream === 1 && type === FRAME.headers));
  });

  test('a hundred uploads that never end: 64 are taken, the others are to be sent again', async () => {
    const { socket, frames } = await attacker();
    for (let i = 0; i < 100; i++)
      socket.write(
        frame(
          FRAME.headers,
          END_HEADERS,
          2 * i + 1,
          requestHeaders('POST', `/data/${sample().name}`, [['content-length', '1000000']]),
        ),
      );
    await until(() => frames.filter(({ type }) => type === FRAME.reset).length >= 36);
    const resets = frames.filter(({ type }) => type === FRAME.reset);
    expect(resets.map(({ payload }) => payload.readUInt32BE())).toEqual(
      Array<number>(36).fill(constants.NGHTTP2_REFUSED_STREAM),
    );
    expect((await neighbour.request('GET', '/file-1')).status).toBe(404);
    socket.destroy();
  });

  test.each([
    ['shorter', 10, 5],
    ['longer', 10, 15],
  ])('a body %s than its Content-Length stores nothing', async (_what, declared, sent) => {
    const { socket, frames } = await attacker();
    const { name, body } = sample(sent);
    socket.write(
      frame(
        FRAME.headers,
        END_HEADERS,
        1,
        requestHeaders('POST', `/data/${name}`, [['content-length', String(declared)]]),
      ),
    );
    socket.write(frame(FRAME.data, END_STREAM, 1, body));
    await until(() => frames.some(({ type }) => type === FRAME.reset));
    expect(stack.audit().some((line) => line['event'] === 'create')).toBe(false);
  });
});

test('a thousand denials: a hundred lines or so, a summary, and the whole number at the end', async () => {
  const client = await stack.connect('appsrv');
  const name = 'a'.repeat(64);
  for (let i = 0; i < 10; i++)
    await Promise.all(Array.from({ length: 100 }, () => client.request('DELETE', `/data/${name}`)));
  client.close();
  await client.served.ended;
  const lines = stack.audit();
  const written = lines.filter((line) => line['event'] === 'denied').length;
  expect(written).toBeLessThan(200);
  const counted = lines.filter((line) => line['event'] === 'more-denied').map((line) => Number(line['count']));
  expect(written + counted.reduce((sum, each) => sum + each, 0)).toBe(1000);
  expect(lines.at(-1)).toMatchObject({ event: 'session-end', denied: 1000 });
});

describe('streams on which nothing moves', () => {
  const events = (stream: Http2Events['stream']): Http2Events => ({
    stream,
    ending: () => undefined,
    defect: (error) => {
      throw error;
    },
  });

  test('a reader that never opens its window is sent nothing more than waits in one buffer, and is cut', async () => {
    const { client, server } = await socketPair();
    const frames = collectFrames(client);
    let made = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        await sleep(0);
        made += 64 * 1024;
        yield Buffer.alloc(64 * 1024);
      }
    }
    const served = serveHttp2(
      server,
      events((stream) => {
        const object = { size: 1024 * MIB, first: 0, length: 1024 * MIB, body: endless() };
        return respondObject(stream, object, false, NO_PACE, 0).catch(() => undefined);
      }),
      undefined,
      300,
    );
    // SETTINGS_INITIAL_WINDOW_SIZE (4) of 0.
    client.write(
      Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0])), request(1, 'GET', '/x')]),
    );
    await until(() => frames.some(({ type }) => type === FRAME.reset));
    expect(made).toBeLessThan(MIB);
    served.close('gateway-stopped');
  });

  test('one that we make wait is not taken for stalled, and nothing is read for it meanwhile', async () => {
    const { client, server } = await socketPair();
    const frames = collectFrames(client);
    const body = Buffer.alloc(64 * 1024);
    let read = 0;
    let go: () => void = () => undefined;
    const wait = new Promise<void>((resolve) => (go = resolve));
    async function* chunks(): AsyncGenerator<Uint8Array> {
      for (; read < 2; read++) {
        await sleep(0);
        yield body;
      }
    }
    const served = serveHttp2(
      server,
      events((stream, { ':path': path }) => {
        if (path !== '/paced') return Promise.resolve();
        const object = { size: 2 * body.length, first: 0, length: 2 * body.length, body: chunks() };
        const pace = { piece: () => 16 * 1024, before: () => hold(stream, wait) };
        return respondObject(stream, object, false, pace, 0).catch(() => undefined);
      }),
      undefined,
      100,
    );
    client.write(Buffer.concat([PREFACE, request(1, 'GET', '/paced')]));
    // Others that nobody answers are reset, one after the other, each after the limit.
    for (let stream = 3; stream < 11; stream += 2) {
      client.write(request(stream, 'GET', '/x'));
      await until(() => frames.some((each) => each.type === FRAME.reset && each.stream === stream));
    }
    expect(frames.filter((each) => each.stream === 1 && each.type === FRAME.reset)).toEqual([]);
    expect(read).toBe(0);
    go();
    await until(() => frames.some((each) => each.stream === 1 && each.type === FRAME.data));
    served.close('gateway-stopped');
  });

  test('a body that stops coming is given up', async () => {
    const { client, server } = await socketPair();
    const frames = collectFrames(client);
    const served = serveHttp2(
      server,
      events((stream) => {
        stream.resume();
        return Promise.resolve();
      }),
      undefined,
      300,
    );
    client.write(
      Buffer.concat([
        PREFACE,
        frame(FRAME.headers, END_HEADERS, 1, requestHeaders('POST', '/x', [['content-length', '100']])),
        frame(FRAME.data, 0, 1, Buffer.alloc(10)),
      ]),
    );
    await until(() => frames.some(({ type }) => type === FRAME.reset));
    served.close('gateway-stopped');
  });
});
