/**
 * A client that gets a stream reset while the gateway is still reading what it sent: in Node up to 22 that frees what is read from, so that
 * one client could end the process of all, or worse. Nothing may be reset there, whatever a client sends in one go.
 */
import { duplexPair } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  collectFrames,
  END_HEADERS,
  END_STREAM,
  FRAME,
  frame,
  PREFACE,
  requestHeaders,
  type Frame,
} from '../support/raw-http2.ts';
import { watchReading, watchResets } from '../support/reentry.ts';
import { startStack, type Stack } from '../support/stack.ts';

const MIB = 1024 * 1024;
const WHOLE = END_HEADERS | END_STREAM;
const name = 'a'.repeat(64);
const many = (count: number, make: (index: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => make(index)));
const get = (stream: number, more: readonly (readonly [string, string])[] = []): Buffer =>
  frame(FRAME.headers, WHOLE, stream, requestHeaders('GET', `/data/${name}`, more));
const post = (stream: number, length = MIB): Buffer =>
  frame(
    FRAME.headers,
    END_HEADERS,
    stream,
    requestHeaders('POST', `/data/${name}`, [['content-length', String(length)]]),
  );
const goaway = (code: number): Buffer => frame(FRAME.goaway, 0, 0, Buffer.from([0, 0, 0, 0, 0, 0, 0, code]));
const isReset = (frames: readonly Frame[], id: number): boolean =>
  frames.some(({ type, stream }) => type === FRAME.reset && stream === id);
const isAnswered = (frames: readonly Frame[], id: number): boolean =>
  frames.some(({ type, stream }) => type === FRAME.headers && stream === id);

let stack: Stack;
const resets = watchResets();
beforeAll(async () => {
  const bandwidth = { upload: 64 * 1024, download: 64 * 1024 };
  stack = await startStack({ appsrv: { bandwidth }, neighbour: {} }, undefined, {
    memory: { total: 80 * MIB, perClient: 20 * MIB },
  });
});
afterAll(async () => {
  await stack.close();
});

type Story = [story: string, sent: () => Buffer, until: (frames: readonly Frame[]) => boolean, before?: Buffer];
const STORIES: readonly Story[] = [
  [
    'says goodbye, and goes on asking: it is served',
    () =>
      Buffer.concat([get(1), goaway(0), get(3), get(5), post(7, 1), frame(FRAME.data, END_STREAM, 7, Buffer.of(1))]),
    (frames) => isAnswered(frames, 1) && isAnswered(frames, 5) && isAnswered(frames, 7),
  ],
  [
    'blames the gateway while its uploads are under way',
    () => Buffer.concat([post(1), post(3), get(5), goaway(2), get(7), frame(FRAME.data, 0, 1, Buffer.alloc(100))]),
    () => true,
  ],
  [
    'sends a body in pieces of one byte',
    () => many(600, () => frame(FRAME.data, 0, 1, Buffer.of(1))),
    (frames) => isReset(frames, 1),
    // This is paced, so that nobody reads the rest.
    Buffer.concat([post(1), many(4, () => frame(FRAME.data, 0, 1, Buffer.alloc(12 * 1024)))]),
  ],
  [
    'has more bodies under way than it may',
    () => many(80, (index) => Buffer.concat([post(2 * index + 1), frame(FRAME.data, 0, 2 * index + 1, Buffer.of(1))])),
    (frames) => isReset(frames, 159),
  ],
  [
    'ends bodies that are refused in the moment they are sent',
    () =>
      many(80, (index) =>
        Buffer.concat([post(2 * index + 1, 1), frame(FRAME.data, END_STREAM, 2 * index + 1, Buffer.of(1))]),
      ),
    (frames) => isReset(frames, 159) || isAnswered(frames, 159),
  ],
  [
    'sends more headers than anybody needs, then goes on',
    () =>
      Buffer.concat([
        get(
          1,
          Array.from({ length: 100 }, (_, index) => [`x-${index}`, 'y']),
        ),
        get(3),
      ]),
    (frames) => isReset(frames, 1) && isAnswered(frames, 3),
  ],
  [
    'floods with PING in the midst of requests',
    () => Buffer.concat([post(1), get(3), many(300, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))), get(5)]),
    () => true,
  ],
  [
    'floods with SETTINGS in the midst of requests',
    () => Buffer.concat([post(1), get(3), many(300, () => frame(FRAME.settings, 0, 0)), get(5)]),
    () => true,
  ],
  [
    'breaks the protocol while streams are open',
    () => Buffer.concat([post(1), get(3), frame(FRAME.data, 0, 0, Buffer.of(1)), get(5)]),
    () => true,
  ],
  [
    'resets its streams as it opens them, with every code',
    () =>
      many(60, (index) =>
        Buffer.concat([
          post(2 * index + 1),
          frame(FRAME.data, 0, 2 * index + 1, Buffer.alloc(100)),
          frame(FRAME.reset, 0, 2 * index + 1, Buffer.from([0, 0, 0, index % 14])),
        ]),
      ),
    () => true,
  ],
  [
    'asks for what is no request at all',
    () =>
      many(20, (index) =>
        frame(FRAME.headers, END_HEADERS, 2 * index + 1, requestHeaders('CONNECT', index % 2 === 0 ? '/' : '/config')),
      ),
    () => true,
  ],
];

// One with three values would be given jest's own callback as the fourth.
test.each(STORIES.map(([story, sent, isSeen, before = Buffer.of()]) => [story, sent, isSeen, before] as const))(
  'a client that %s gets nothing reset while it is read',
  async (_story, sent, isSeen, before) => {
    const [client, server] = duplexPair();
    client.on('error', () => undefined);
    const session = await stack.serve('appsrv', watchReading(server));
    const state = { over: false };
    void session.ended.then(() => (state.over = true));
    const frames = collectFrames(client);
    // In one go, so that it is read in one.
    client.write(Buffer.concat([PREFACE, before]));
    while (frames.length === 0) await sleep(10);
    client.write(sent());
    while (!state.over && !(frames.length > 0 && isSeen(frames))) await sleep(10);
    if (!isSeen(frames)) expect(state.over).toBe(true);
    // Whatever is still to be said is said in a turn of its own.
    for (let turn = 0; turn < 5; turn++) await sleep(1);
    server.destroy();
    await session.ended;
    expect(resets.splice(0)).toEqual([]);
    const neighbour = await stack.connect('neighbour');
    expect((await neighbour.request('GET', '/file-1')).status).toBe(404);
    neighbour.close();
  },
);
