/** Requests that restic does not make, in frames by hand: odd methods, paths, lengths, ranges and headers, and nothing is read or written by them. */
import { readdirSync } from 'node:fs';
import type { Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { NAMED_TYPES, SIZE_LIMITS } from '../../src/core/object.ts';
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
import { sample, sha256 } from '../support/restic-client.ts';
import { startStack, type Stack } from '../support/stack.ts';

const MIB = 1024 * 1024;
const WHOLE = END_HEADERS | END_STREAM;
type Field = readonly [name: string, value: string];

let stack: Stack;
/** What is in the repository, and must be there unchanged after everything. */
let kept: ReturnType<typeof sample>;
let before: string[];
let memory: number;
let socket: Socket;
let frames: readonly Frame[];
let stream = -1;

beforeEach(async () => {
  stack = await startStack({ appsrv: { access: 'full', addKeys: true } });
  kept = sample(1000);
  const client = await stack.connect('appsrv');
  expect((await client.request('POST', `/data/${kept.name}`, { body: kept.body })).status).toBe(200);
  before = filesOf();
  memory = process.memoryUsage.rss();
  stream = -1;
  await attack();
});
afterEach(async () => {
  const client = await stack.connect('appsrv');
  expect(sha256((await client.request('GET', `/data/${kept.name}`)).body)).toBe(kept.name);
  expect(process.memoryUsage.rss() - memory).toBeLessThan(128 * MIB);
  socket.destroy();
  await stack.close();
});

/** Every file below the store's directory. */
function filesOf(): string[] {
  return readdirSync(path.join(stack.directory, 'store'), { recursive: true, encoding: 'utf8' }).sort();
}

/** A session of full access, which may do more than any client of ours, in the attacker's hands. */
async function attack(): Promise<void> {
  const pair = await socketPair();
  socket = pair.client;
  frames = collectFrames(socket);
  await stack.serve('appsrv', pair.server);
  // SETTINGS_HEADER_TABLE_SIZE (1) of 0: answers come without a memory of earlier ones, so that they are easy to read.
  socket.write(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0, Buffer.from([0, 1, 0, 0, 0, 0]))]));
}

/** An answer, or that there was none: the stream or the whole session was ended. */
type Outcome = { readonly status: number; readonly body: Buffer } | 'reset' | 'ended';

/** Sends the frames of one request and waits for what comes of it. */
async function outcomeOf(make: (stream: number) => readonly Buffer[]): Promise<Outcome> {
  stream += 2;
  const own = stream;
  socket.write(Buffer.concat(make(own)));
  const mine = (type: number): Frame[] => frames.filter((each) => each.type === type && each.stream === own);
  for (;;) {
    const answer = mine(FRAME.headers)[0];
    const data = mine(FRAME.data);
    if (answer !== undefined && [answer, ...data].some(({ flags }) => (flags & END_STREAM) !== 0))
      return { status: statusIn(answer.payload), body: Buffer.concat(data.map(({ payload }) => payload)) };
    if (answer === undefined && mine(FRAME.reset).length > 0) return 'reset';
    if (socket.destroyed || frames.some(({ type }) => type === FRAME.goaway)) return 'ended';
    await sleep(2);
  }
}

/** The status that a block of headers begins with (RFC 7541, 6 and A): in the static table, or as a literal. */
function statusIn(block: Buffer): number {
  const indexed: Readonly<Record<number, number>> = { 8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500 };
  let at = 0;
  while (at < block.length && (block.readUInt8(at) & 0xe0) === 0x20) at++;
  const first = block.readUInt8(at);
  return (first & 0x80) !== 0 ? (indexed[first & 0x7f] ?? 0) : Number(text(block, at + 1));
}

/** A string of digits in HPACK: plain, or in Huffman's code, where digits have 5 or 6 bits (RFC 7541, B). */
function text(block: Buffer, at: number): string {
  const length = block.readUInt8(at) & 0x7f;
  const bytes = block.subarray(at + 1, at + 1 + length);
  if ((block.readUInt8(at) & 0x80) === 0) return bytes.toString('latin1');
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  let digits = '';
  for (let i = 0; i + 5 <= bits.length && digits.length < 3;) {
    const five = Number.parseInt(bits.slice(i, i + 5), 2);
    if (five < 3) {
      digits += String(five);
      i += 5;
    } else {
      digits += String(Number.parseInt(bits.slice(i, i + 6), 2) - 0x19 + 3);
      i += 6;
    }
  }
  return digits;
}

const ask = (method: string, where: string, more: readonly Field[] = []) =>
  outcomeOf((id) => [frame(FRAME.headers, WHOLE, id, requestHeaders(method, where, more))]);
const statusOf = (outcome: Outcome): number | string => (typeof outcome === 'string' ? outcome : outcome.status);

/** Uploads frame by frame. @param declared - its Content-Length, each value a header of its own */
const upload = (where: string, declared: readonly string[], ...parts: readonly Uint8Array[]) =>
  outcomeOf((id) => [
    frame(
      FRAME.headers,
      END_HEADERS,
      id,
      requestHeaders(
        'POST',
        where,
        declared.map((value) => ['content-length', value]),
      ),
    ),
    ...parts.map((part, index) => frame(FRAME.data, index === parts.length - 1 ? END_STREAM : 0, id, part)),
  ]);

describe('methods', () => {
  test.each(['CONNECT', 'PUT', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND', 'get', 'PRI', 'X'.repeat(4000)])(
    '%s does nothing anywhere',
    async (method) => {
      const client = await stack.connect('appsrv');
      const places = ['/', '/config', '/data/', '/file-1', `/data/${kept.name}`];
      const allowed = ['POST', 'DELETE, GET, HEAD, POST', 'GET', 'GET, HEAD', 'DELETE, GET, HEAD, POST'];
      for (const [index, place] of places.entries()) {
        const outcome = await ask(method, place);
        // A CONNECT with a path, or a method that is no token, breaks HTTP/2 itself.
        expect([405, 'reset', 'ended']).toContain(statusOf(outcome));
        if (!/^[A-Z]{3,8}$/.test(method) || method === 'CONNECT' || method === 'PRI') continue;
        const { status, headers: answered } = await client.request(method, place);
        expect([status, answered['allow']]).toEqual([405, allowed[index]]);
      }
      expect(filesOf()).toEqual(before);
    },
  );

  test('CONNECT as HTTP/2 has it opens no tunnel, nor does it as RFC 8441 has it', async () => {
    const plain = await outcomeOf((id) => [
      frame(
        FRAME.headers,
        END_HEADERS,
        id,
        headers([
          [':method', 'CONNECT'],
          [':authority', '127.0.0.1:22'],
        ]),
      ),
    ]);
    expect([400, 405, 'reset']).toContain(statusOf(plain));
    const extended = await outcomeOf((id) => [
      frame(
        FRAME.headers,
        END_HEADERS,
        id,
        headers([
          [':method', 'CONNECT'],
          [':protocol', 'websocket'],
          [':scheme', 'http'],
          [':path', '/data/'],
          [':authority', 'x'],
        ]),
      ),
    ]);
    expect(['reset', 'ended', 400, 405]).toContain(statusOf(extended));
  });
});

describe('paths', () => {
  const hex = 'a'.repeat(64);
  test.each<[string, string]>([
    ['encoded letters', '/%64%61%74%61/'],
    ['an encoded slash', `/data%2f${hex}`],
    ['encoded twice', '/%252e%252e/config'],
    ['dots', '/data/../config'],
    ['encoded dots', '/data/%2e%2e/%2e%2e/%2e%2e/etc/passwd'],
    ['overlong UTF-8 for a slash', '/data\xc0\xafconfig'],
    ['a backslash', '/data\\config'],
    ['a NUL at the end', '/config\0'],
    ['a NUL in a name', `/data/${'a'.repeat(32)}\0${'a'.repeat(31)}`],
    ['two slashes', '//config'],
    ['absolute form', 'http://127.0.0.1/config'],
    ['asterisk form', '*'],
    ['nothing', ''],
    ['a fragment', '/config#x'],
    ['a line break and a header', '/config\r\nx: y'],
    ['upper case', `/data/${'A'.repeat(64)}`],
    ['63 digits', `/data/${'a'.repeat(63)}`],
    ['65 digits', `/data/${'a'.repeat(65)}`],
    ['full-width digits', `/data/${Buffer.from('０'.repeat(64)).toString('latin1')}`],
    ['Arabic digits', `/data/${Buffer.from('٣'.repeat(64)).toString('latin1')}`],
    ['a letter that only looks right', `/data/${'a'.repeat(63)}${Buffer.from('а').toString('latin1')}`],
    ['one of 12,000 letters', `/data/${'a'.repeat(12_000)}`],
  ])('%s: refused by every method, and nothing is read or written', async (_what, where) => {
    for (const method of ['GET', 'HEAD', 'DELETE']) {
      const outcome = await ask(method, where);
      // A plain name that nothing has is not there for whoever reads; nothing was looked up.
      expect([method === 'DELETE' ? 400 : 404, 400, 'reset', 'ended']).toContain(statusOf(outcome));
      if (outcome === 'ended') {
        stream = -1;
        await attack();
      }
    }
    expect([400, 'reset', 'ended']).toContain(statusOf(await upload(where, ['1'], Buffer.from('x'))));
    expect(filesOf()).toEqual(before);
  });
});

describe('lengths', () => {
  const { name, body } = sample(5);

  test.each<[string, readonly string[]]>([
    ['none at all', []],
    ['two that differ', ['5', '6']],
    ['a negative one', ['-5']],
    ['one with a sign', ['+5']],
    ['one in hex', ['0x5']],
    ['one with a comma', ['5, 5']],
    ['one beyond 64 bits', ['99999999999999999999']],
    ['one shorter than the body', ['4']],
    ['none to speak of', ['0']],
    ['one longer than the body', ['6']],
    ['one longer than the body by a GiB, that the type may not have', [String(1024 * MIB)]],
  ])('%s: nothing is stored', async (_what, declared) => {
    const outcome = await upload(`/data/${name}`, declared, body);
    expect([400, 411, 413, 'reset', 'ended']).toContain(statusOf(outcome));
    expect(filesOf()).toEqual(before);
  });

  test.each([...NAMED_TYPES, 'config'] as const)(
    '%s: a byte more than it may have is refused before any of it is read; the most it may have is not',
    async (type) => {
      const limit = SIZE_LIMITS[type];
      const place = type === 'config' ? '/config' : `/${type}/${name}`;
      for (const size of [limit + 1, 2 ** 40, 999_999_999_999_999])
        expect([size, statusOf(await upload(place, [String(size)]))]).toEqual([size, 413]);
      expect(filesOf()).toEqual(before);
      if (limit > MIB) return;
      const most = sample(limit);
      const client = await stack.connect('appsrv');
      const where = type === 'config' ? '/config' : `/${type}/${most.name}`;
      expect((await client.request('POST', where, { body: most.body })).status).toBe(200);
    },
  );

  test('trailers after a body change nothing', async () => {
    const outcome = await outcomeOf((id) => [
      frame(FRAME.headers, END_HEADERS, id, requestHeaders('POST', `/data/${name}`, [['content-length', '5']])),
      frame(FRAME.data, 0, id, body),
      frame(
        FRAME.headers,
        WHOLE,
        id,
        headers([
          ['range', 'bytes=0-1'],
          ['content-encoding', 'gzip'],
        ] as const),
      ),
    ]);
    expect(statusOf(outcome)).toBe(200);
    const client = await stack.connect('appsrv');
    expect((await client.request('GET', `/data/${name}`)).body).toEqual(body);
  });

  test.each<[string, readonly Field[]]>([
    ['a path', [[':path', `/data/${'b'.repeat(64)}`]]],
    ['a method', [[':method', 'DELETE']]],
    ['another length', [['content-length', '4']]],
  ])('trailers with %s store nothing', async (_what, fields) => {
    const outcome = await outcomeOf((id) => [
      frame(FRAME.headers, END_HEADERS, id, requestHeaders('POST', `/data/${name}`, [['content-length', '5']])),
      frame(FRAME.data, 0, id, body.subarray(0, 4)),
      frame(FRAME.headers, WHOLE, id, headers(fields)),
    ]);
    expect(['reset', 'ended', 400]).toContain(statusOf(outcome));
    expect(filesOf()).toEqual(before);
  });
});

describe('headers', () => {
  test.each<[string, readonly Field[]]>([
    ['Transfer-Encoding, by which other servers were smuggled past', [['transfer-encoding', 'chunked']]],
    ['Connection', [['connection', 'keep-alive']]],
    ['Upgrade', [['upgrade', 'h2c']]],
    ['upper case', [['Content-Length', '5']]],
    ['a second path', [[':path', '/config']]],
    ['an unknown pseudo-header', [[':admin', 'true']]],
  ])('%s: the stream is ended', async (_what, more) => {
    const { name, body } = sample(5);
    const outcome = await outcomeOf((id) => [
      frame(
        FRAME.headers,
        END_HEADERS,
        id,
        requestHeaders('POST', `/data/${name}`, [['content-length', '5'], ...more]),
      ),
      frame(FRAME.data, END_STREAM, id, body),
    ]);
    expect(['reset', 'ended']).toContain(statusOf(outcome));
    expect(filesOf()).toEqual(before);
  });

  test.each<[string, readonly Field[]]>([
    ['a name with a line break', [['x\r\ncontent-length', '9']]],
    ['a value with a NUL', [['x', 'y\0z']]],
  ])('%s: passed over', async (_what, more) => {
    const { name, body } = sample(5);
    const outcome = await outcomeOf((id) => [
      frame(
        FRAME.headers,
        END_HEADERS,
        id,
        requestHeaders('POST', `/data/${name}`, [...more, ['content-length', '5']]),
      ),
      frame(FRAME.data, END_STREAM, id, body),
    ]);
    expect(statusOf(outcome)).toBe(200);
    expect(sha256((await (await stack.connect('appsrv')).request('GET', `/data/${name}`)).body)).toBe(name);
  });

  test('a bomb: one long header, which HPACK repeats in a byte each, is not unpacked', async () => {
    // Into the dynamic table by literal with indexing (RFC 7541, 6.2.1), then named by its index.
    const value = Buffer.alloc(3900, 'b');
    const length = Buffer.of(0x7f, ((3900 - 127) & 0x7f) | 0x80, (3900 - 127) >> 7);
    const bomb = Buffer.concat([
      requestHeaders('GET', '/data/'),
      Buffer.of(0x40, 1, 0x78),
      length,
      value,
      Buffer.alloc(15_000, 0xbe),
    ]);
    const outcome = await outcomeOf((id) => [frame(FRAME.headers, WHOLE, id, bomb)]);
    // 58 MB of headers; 431 would be an answer too.
    expect(['reset', 'ended', 431]).toContain(statusOf(outcome));
  });

  test('a hundred headers are refused', async () => {
    const many = Array.from({ length: 100 }, (_, index): Field => [`x-${index}`, 'y']);
    expect(['reset', 'ended', 431]).toContain(statusOf(await ask('GET', '/data/', many)));
  });
});

describe('ranges', () => {
  test.each<[string, readonly string[]]>([
    ['several', ['bytes=0-1,2-3']],
    ['overlapping ones', ['bytes=0-,0-,0-']],
    [
      'a thousand overlapping ones (CVE-2011-3192)',
      [`bytes=${Array.from({ length: 1000 }, (_, i) => `${i}-`).join(',')}`],
    ],
    ['a reversed one', ['bytes=5-4']],
    ['a suffix', ['bytes=-5']],
    ['one past the end', ['bytes=1000-']],
    ['one far past the end', ['bytes=999999999999999-']],
    ['one beyond 64 bits', ['bytes=0-99999999999999999999']],
    ['a negative one', ['bytes=-1-5']],
    ['another unit', ['lines=0-1']],
  ])('%s: 416, and not a byte', async (_what, ranges) => {
    const outcome = await ask(
      'GET',
      `/data/${kept.name}`,
      ranges.map((value) => ['range', value]),
    );
    if (typeof outcome === 'string') throw new Error(outcome);
    expect([outcome.status, outcome.body.length]).toEqual([416, 0]);
  });

  test('of two headers the first counts, and the second does not', async () => {
    const outcome = await ask('GET', `/data/${kept.name}`, [
      ['range', 'bytes=0-1'],
      ['range', 'bytes=2-900'],
    ]);
    if (typeof outcome === 'string') throw new Error(outcome);
    expect([outcome.status, outcome.body]).toEqual([206, kept.body.subarray(0, 2)]);
  });

  test('one of a petabyte is what there is', async () => {
    const outcome = await ask('GET', `/data/${kept.name}`, [['range', 'bytes=990-999999999999999']]);
    if (typeof outcome === 'string') throw new Error(outcome);
    expect([outcome.status, outcome.body]).toEqual([206, kept.body.subarray(990)]);
  });
});
