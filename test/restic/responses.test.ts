/** Answers to streams in whatever state a client has left them: none of them throws. */
import type { ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import { GatewayError } from '../../src/core/errors.ts';
import { refuse, serveHttp2, type Http2Events } from '../../src/restic/http2-session.ts';
import { respondEmpty, respondError, respondList, respondObject } from '../../src/restic/responses.ts';
import { collectFrames, END_HEADERS, FRAME, frame, PREFACE, requestHeaders, socketPair } from '../support/raw-http2.ts';
import { until } from '../support/store-calls.ts';

const NO_PACE = { piece: () => Infinity, before: () => undefined };
const RESET = frame(FRAME.reset, 0, 1, Buffer.alloc(4));
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});

/** Has a client upload some of a body, of which a part was read and a part was not. */
async function halfRead() {
  const { client, server } = await socketPair();
  sockets.push(client);
  const frames = collectFrames(client);
  const given: ServerHttp2Stream[] = [];
  const defects: unknown[] = [];
  const events: Http2Events = {
    stream: (stream) => {
      given.push(stream);
      return Promise.resolve();
    },
    ending: () => undefined,
    defect: (error) => defects.push(error),
  };
  const service = serveHttp2(server, events, undefined);
  const upload = requestHeaders('POST', '/x', [['content-length', '100000']]);
  const piece = frame(FRAME.data, 0, 1, Buffer.alloc(1000));
  client.write(Buffer.concat([PREFACE, frame(FRAME.headers, END_HEADERS, 1, upload), piece]));
  await until(() => given.length === 1);
  const stream = given[0] as ServerHttp2Stream;
  await until(() => stream.read() !== null);
  client.write(piece);
  await until(() => stream.readableLength > 0);
  return { client, stream, service, defects, frames };
}

const nothing = {
  [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined } as const) }),
};
const object = { size: 0, first: 0, length: 0, body: nothing };
const answers: Record<string, (stream: ServerHttp2Stream) => unknown> = {
  'with a status': (stream) => {
    respondEmpty(stream, 200);
  },
  'with an error': (stream) => {
    respondError(stream, new GatewayError('store-failed'));
  },
  'with an object': (stream) => respondObject(stream, object, false, NO_PACE, 0).catch(expectGone),
  'with a list': (stream) => respondList(stream, 2, nothing, NO_PACE).catch(expectGone),
  'that it was not begun': refuse,
};

function expectGone(error: unknown): void {
  expect(error).toMatchObject({ code: 'client-gone' });
}

test.each(Object.keys(answers))('an answer %s to a stream that was called off without an error', async (name) => {
  const { client, stream, defects } = await halfRead();
  const states: unknown[] = [];
  let answered: unknown;
  // In this moment it is closed, and not destroyed.
  stream.once('aborted', () => {
    states.push(stream.destroyed, stream.closed);
    answered = answers[name]?.(stream);
  });
  client.write(RESET);
  await until(() => stream.destroyed);
  await answered;
  expect(states).toEqual([false, true]);
  expect(defects).toEqual([]);
});

test.each(Object.keys(answers))('an answer %s to a stream whose session has ended', async (name) => {
  const { stream, service, defects } = await halfRead();
  service.close('gateway-stopped');
  await answers[name]?.(stream);
  expect(defects).toEqual([]);
});

test.each(Object.keys(answers))('an answer %s after another one', async (name) => {
  const { stream, defects, frames } = await halfRead();
  respondEmpty(stream, 200);
  await answers[name]?.(stream);
  await until(() => frames.some(({ type }) => type === FRAME.reset));
  expect(defects).toEqual([]);
});

test('what a client has called off is let go, read or not', async () => {
  const { client, stream } = await halfRead();
  client.write(RESET);
  await until(() => stream.destroyed);
});

test('what is thrown at the arrival of a request ends its session alone', async () => {
  const { client, server } = await socketPair();
  sockets.push(client);
  const defects: unknown[] = [];
  const failure = new TypeError('a defect');
  const events: Http2Events = {
    stream: () => {
      throw failure;
    },
    ending: () => {
      throw failure;
    },
    defect: (error) => defects.push(error),
  };
  const service = serveHttp2(server, events, undefined);
  client.write(Buffer.concat([PREFACE, frame(FRAME.headers, END_HEADERS | 1, 1, requestHeaders('GET', '/x'))]));
  expect(await service.ended).toBe('gateway-failed');
  expect(defects).toEqual([failure, failure]);
});
