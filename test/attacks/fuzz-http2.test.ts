/** Mutated HTTP/2 in sessions of a real gateway: whatever comes, it lives, serves the others, leaks nothing and changes nothing. */
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from '@jest/globals';
import type { Client, ClientChannel } from 'ssh2';
import { fuzz, mutated, type Chance } from '../support/fuzz.ts';
import { startFuzzedGateway } from '../support/fuzzed-gateway.ts';
import { END_HEADERS, END_STREAM, FRAME, frame, headers, PREFACE, requestHeaders } from '../support/raw-http2.ts';
import { sha256 } from '../support/restic-client.ts';

/** Cases of a run in CI, a few seconds of them; each is a session. */
const CASES = 400;
/** After this, a case hangs: no session is idle for more than five seconds. */
const CASE_MS = 60_000;
/** Sessions of one connection, which may ask for some 200 things at once. */
const SESSIONS = 40;

const WHOLE = END_HEADERS | END_STREAM;
const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};

/** A frame as a client would send it, or nearly. */
function someFrame(chance: Chance, stream: number): Buffer {
  const body = chance.bytes(1 + chance.below(3000));
  const name = sha256(body);
  const places = ['/config', '/data/', '/locks/', '/file-1', `/data/${name}`, `/locks/${name}`, '/?create=true'];
  const request = (method: string, more: readonly (readonly [string, string])[] = []): Buffer =>
    requestHeaders(method, chance.of(places), more);
  switch (chance.below(14)) {
    case 0:
      return frame(FRAME.headers, WHOLE, stream, request('GET', [['range', `bytes=${chance.below(9)}-`]]));
    case 1:
      return frame(FRAME.headers, WHOLE, stream, request(chance.of(['HEAD', 'DELETE', 'PUT', 'CONNECT'])));
    case 2:
      return Buffer.concat([
        frame(FRAME.headers, END_HEADERS, stream, request('POST', [['content-length', String(body.length)]])),
        frame(FRAME.data, END_STREAM, stream, body),
      ]);
    case 3:
      return Buffer.concat([
        frame(FRAME.headers, 0, stream, request('GET')),
        frame(FRAME.continuation, END_HEADERS, stream, headers([['accept', 'x']])),
      ]);
    case 4:
      // SETTINGS_INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE and the like, of any size.
      return frame(FRAME.settings, chance.below(2), 0, Buffer.concat([chance.bytes(2), chance.bytes(4)]));
    case 5:
      return frame(FRAME.ping, chance.below(2), 0, chance.bytes(8));
    case 6:
      return frame(FRAME.window, 0, chance.of([0, stream]), uint32(chance.below(2 ** 31)));
    case 7:
      return frame(FRAME.reset, 0, stream, uint32(chance.below(15)));
    case 8:
      return frame(FRAME.priority, 0, stream, chance.bytes(5));
    case 9:
      return frame(FRAME.goaway, 0, 0, Buffer.concat([uint32(stream), uint32(chance.below(15))]));
    case 10:
      return frame(FRAME.data, chance.below(16), stream, chance.bytes(chance.below(200)));
    case 11:
      return frame(FRAME.headers, chance.below(64), stream, chance.bytes(chance.below(60)));
    case 12:
      return frame(
        FRAME.headers,
        WHOLE,
        stream,
        headers([
          [':path', '/x'],
          ['trailer', 'y'],
        ] as const),
      );
    default:
      return frame(chance.below(256), chance.below(256), chance.of([0, 1, 2, stream, 2 ** 31 - 1]), chance.bytes(20));
  }
}

/** What `work` comes to; a case that hangs is told with its seed. */
async function inTime<T>(what: string, work: Promise<T>): Promise<T> {
  const over = new AbortController();
  try {
    return await Promise.race([
      work,
      sleep(CASE_MS, undefined, { signal: over.signal }).then(() => {
        throw new Error(`not in ${CASE_MS} ms: ${what}`);
      }),
    ]);
  } finally {
    over.abort();
  }
}

function someSession(chance: Chance): Buffer[] {
  const frames: Buffer[] = [PREFACE];
  for (let stream = 1, count = 1 + chance.below(12); frames.length <= count; stream += chance.below(3)) {
    const whole = someFrame(chance, stream);
    frames.push(chance.once(2) ? mutated(whole, chance) : whole);
  }
  return chance.once(8) ? frames.map((each) => mutated(each, chance)) : frames;
}

test('sessions of mutated frames', async () => {
  const gateway = await startFuzzedGateway();
  let connection: Promise<Client> | undefined;
  let left = 0;
  const used: Client[] = [];
  /** A channel, on a new connection after some. */
  const channelOf = async (): Promise<ClientChannel> => {
    if (left-- <= 0) {
      left = SESSIONS - 1;
      connection = gateway.connect('hostile').then((client) => {
        client.on('error', () => undefined);
        used.push(client);
        return client;
      });
    }
    const client = await connection;
    return new Promise((resolve, reject) => {
      client?.exec('x', (error, channel) => {
        if (error === undefined) resolve(channel);
        else reject(error);
      });
    });
  };
  await fuzz('http2', { cases: CASES, lanes: 4 }, async (chance) => {
    const channel = await inTime('a session is let in', channelOf());
    channel.on('error', () => undefined);
    channel.stderr.resume();
    channel.resume();
    const closed = new Promise<void>((resolve) => channel.once('close', resolve));
    for (const bytes of someSession(chance)) channel.write(bytes);
    // Some end well, some in the middle, and some leave at once.
    if (chance.once(4)) channel.close();
    else channel.end();
    await inTime('the session is over', closed);
  });
  for (const client of used) client.end();
  // The fuzzer would be of no use if nothing of it were understood, or nothing refused.
  await gateway.conclude(['client-ended', 'protocol-error']);
});
