/**
 * One hostile client, who holds a key and as many addresses as it likes, and does at once whatever wears a gateway out. Each action goes on
 * until it is told to stop, and takes every refusal for an invitation to try again; `hostile-program.ts` runs them as a process of their own.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import ssh2, { type Client, type ClientChannel } from 'ssh2';
import { message, overhear, rekey, sendMessage } from './hostile-ssh.ts';
import { END_HEADERS, END_STREAM, FRAME, frame, requestHeaders } from './raw-http2.ts';

/** What is attacked, and with what. */
export interface HostileTarget {
  readonly port: number;
  /** A private key of a client in good standing, in OpenSSH's format. */
  readonly key: string;
  /** That of a client who is disabled. */
  readonly disabledKey: string;
  /** Names of objects in the client's repository that are worth downloading. */
  readonly objects: readonly string[];
}

/** Does one thing again and again until `signal`; calls `count` each time that it was done. */
type Action = (target: HostileTarget, signal: AbortSignal, count: () => void) => Promise<void>;

const KIB = 1024;
const MIB = 1024 * KIB;
/** Numbers: RFC 4254, 9. */
const CHANNEL_OPEN = 90;
const CHANNEL_DATA = 94;
const CHANNEL_REQUEST = 98;
/** How long an action holds what it has taken before it comes again, in ms. */
const HELD_MS = 4000;
/** What nobody waits longer for, in ms. */
const PATIENCE_MS = 10_000;

/** Ends when it is time to, whatever came first. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}

function destroyer(client: Client): () => void {
  return () => {
    client.destroy();
  };
}

/** Whether a connection is still there, whenever one asks. */
function isOpen(client: Client): () => boolean {
  const state = { open: true };
  client.once('close', () => (state.open = false));
  return () => state.open;
}

/** Logs in. @throws whatever the gateway or the network says */
async function login(privateKey: string, port: number, signal: AbortSignal): Promise<Client> {
  const client = new ssh2.Client();
  client.on('error', () => undefined);
  client.setMaxListeners(0);
  signal.addEventListener('abort', destroyer(client), { once: true });
  const ready = once(client, 'ready', { signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]) });
  const closed = once(client, 'close').then(() => {
    throw new Error('the connection was closed');
  });
  client.connect({ host: '127.0.0.1', port, username: 'hostile', privateKey, readyTimeout: PATIENCE_MS });
  try {
    await Promise.race([ready, closed]);
  } catch (error) {
    client.destroy();
    throw error;
  } finally {
    closed.catch(() => undefined);
  }
  return client;
}

/** Asks for a session. @throws when none is given in time */
function sessionOf(client: Client): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(reject, PATIENCE_MS, new Error('no session in time'));
    const end = (): void => {
      reject(new Error('the connection was closed'));
    };
    client.once('close', end);
    client.exec('serve restic --stdio', (error, channel) => {
      clearTimeout(timer);
      client.off('close', end);
      if (error) reject(error);
      else resolve(channel);
    });
  });
}

/** HTTP/2 by hand, that keeps to the windows it is given, as nothing else gets far. */
class Http2 {
  readonly #stream: Duplex;
  readonly #windows = new Map<number, number>();
  #next = 1;
  #initial = 65_535;
  #connection = 65_535;
  #rest: Buffer = Buffer.alloc(0);
  #changed: () => void = () => undefined;
  /** Answers that are whole, or were refused. */
  ended = 0;
  open = true;

  /** @param window - how much of each answer it takes */
  constructor(stream: Duplex, window: number) {
    this.#stream = stream;
    const settings = Buffer.alloc(6);
    settings.writeUInt16BE(4, 0);
    settings.writeUInt32BE(window, 2);
    stream.on('error', () => undefined);
    stream.on('data', (chunk: Buffer) => {
      this.#take(chunk);
    });
    stream.once('close', () => {
      this.open = false;
      this.#changed();
    });
    stream.on('drain', () => {
      this.#changed();
    });
    stream.write(
      Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(FRAME.settings, 0, 0, settings)]),
    );
  }

  /** @returns the number of the stream */
  request(method: string, path: string, { length }: { readonly length?: number } = {}): number {
    const stream = this.#next;
    this.#next += 2;
    const more = length === undefined ? [] : ([['content-length', String(length)]] as const);
    const flags = END_HEADERS | (length === undefined ? END_STREAM : 0);
    this.#windows.set(stream, this.#initial);
    this.#stream.write(frame(FRAME.headers, flags, stream, requestHeaders(method, path, more)));
    return stream;
  }

  /** Sends as much of a body as the windows allow in `ms`, and does not end it unless it is whole. */
  async send(stream: number, body: Uint8Array, whole: boolean, ms: number): Promise<void> {
    const end = performance.now() + ms;
    for (let sent = 0; sent < body.length && this.open && performance.now() < end;) {
      const room = Math.min(this.#windows.get(stream) ?? 0, this.#connection, 16_384, body.length - sent);
      if (room <= 0 || this.#stream.writableNeedDrain) {
        await this.change(end - performance.now());
        continue;
      }
      this.#windows.set(stream, (this.#windows.get(stream) ?? 0) - room);
      this.#connection -= room;
      const last = whole && sent + room === body.length;
      this.#stream.write(frame(FRAME.data, last ? END_STREAM : 0, stream, body.subarray(sent, sent + room)));
      sent += room;
    }
  }

  reset(stream: number, code: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(code);
    this.#stream.write(frame(FRAME.reset, 0, stream, payload));
    this.#windows.delete(stream);
  }

  /** Waits for anything to come, or for so long. */
  async change(ms: number): Promise<void> {
    const timer = new AbortController();
    await Promise.race([
      new Promise<void>((resolve) => (this.#changed = resolve)),
      sleep(Math.max(ms, 0), undefined, { signal: timer.signal }).catch(() => undefined),
    ]);
    timer.abort();
  }

  #take(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= 9 && this.#rest.length >= 9 + this.#rest.readUIntBE(0, 3)) {
      const length = this.#rest.readUIntBE(0, 3);
      const [type, flags] = [this.#rest.readUInt8(3), this.#rest.readUInt8(4)];
      const stream = this.#rest.readUInt32BE(5);
      this.#frame(type, flags, stream, this.#rest.subarray(9, 9 + length));
      this.#rest = this.#rest.subarray(9 + length);
    }
    this.#changed();
  }

  #frame(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type === FRAME.settings && (flags & 1) === 0) {
      for (let at = 0; at + 6 <= payload.length; at += 6)
        if (payload.readUInt16BE(at) === 4) {
          const initial = payload.readUInt32BE(at + 2);
          for (const [one, window] of this.#windows) this.#windows.set(one, window + initial - this.#initial);
          this.#initial = initial;
        }
      this.#stream.write(frame(FRAME.settings, 1, 0));
    } else if (type === FRAME.window) {
      const more = payload.readUInt32BE(0);
      if (stream === 0) this.#connection += more;
      else if (this.#windows.has(stream)) this.#windows.set(stream, (this.#windows.get(stream) ?? 0) + more);
    } else if (type === FRAME.ping && (flags & 1) === 0) this.#stream.write(frame(FRAME.ping, 1, 0, payload));
    else if (type === FRAME.reset || ((type === FRAME.headers || type === FRAME.data) && (flags & END_STREAM) !== 0)) {
      this.ended++;
      this.#windows.delete(stream);
    } else if (type === FRAME.goaway) this.open = false;
  }
}

/** Again and again: a connection, a session on it, something done in it, and away without a word. */
function inSessions(
  window: number,
  act: (http2: Http2, target: HostileTarget, signal: AbortSignal, count: () => void) => Promise<void>,
): Action {
  return async (target, signal, count) => {
    while (!signal.aborted) {
      let client: Client | undefined;
      try {
        client = await login(target.key, target.port, signal);
        const http2 = new Http2(await sessionOf(client), window);
        await act(http2, target, signal, count);
      } catch {
        await pause(100, signal);
      } finally {
        client?.destroy();
      }
    }
  };
}

const hex = (): string => randomBytes(32).toString('hex');

function lock(): { readonly name: string; readonly body: Buffer } {
  const body = randomBytes(200);
  return { name: createHash('sha256').update(body).digest('hex'), body };
}

/** Everything that a hostile client does, by name. */
export const HOSTILE_ACTIONS = {
  /** Sessions beyond what it may have, on connections that stay. */
  'refused sessions': async (target, signal, count) => {
    while (!signal.aborted) {
      let client: Client | undefined;
      try {
        client = await login(target.key, target.port, signal);
        for (const open = isOpen(client); open();) {
          const channel = await sessionOf(client);
          count();
          channel.on('error', () => undefined).resume();
          channel.stderr.resume();
          await Promise.race([once(channel, 'close').catch(() => undefined), pause(50, signal)]);
        }
      } catch {
        await pause(20, signal);
      } finally {
        client?.destroy();
      }
    }
  },

  /** A key that nobody should come with any more, again and again. */
  'disabled key': async (target, signal, count) => {
    while (!signal.aborted) {
      let client: Client | undefined;
      try {
        client = await login(target.disabledKey, target.port, signal);
        const channel = await sessionOf(client);
        channel.on('error', () => undefined).resume();
        channel.stderr.resume();
        await Promise.race([once(channel, 'close'), pause(1000, signal)]);
      } catch {
        await pause(20, signal);
      } finally {
        count();
        client?.destroy();
      }
    }
  },

  /** A hundred lists at once, of which nothing is read. */
  'lists that nobody reads': inSessions(0, async (http2, _target, signal, count) => {
    for (let asked = 0; asked < 100; asked++) {
      http2.request('GET', '/data/');
      count();
    }
    await pause(HELD_MS, signal);
  }),

  /** As many uploads as there may be, each a MiB long so far, and then nothing. */
  'stalled uploads': inSessions(65_535, async (http2, _target, signal, count) => {
    const piece = Buffer.alloc(MIB);
    const streams = Array.from({ length: 64 }, () => http2.request('POST', `/data/${hex()}`, { length: 100 * MIB }));
    await Promise.all(
      streams.map(async (stream) => {
        await http2.send(stream, piece, false, HELD_MS);
        count();
      }),
    );
    await pause(HELD_MS, signal);
  }),

  /** Uploads that are called off with "no error" in the middle of the body, part of which lies unread then, or at once. */
  'resets in mid-body': inSessions(65_535, async (http2, _target, signal, count) => {
    const piece = Buffer.alloc(MIB);
    for (let turn = 0; turn < 20 && http2.open && !signal.aborted; turn++)
      await Promise.all(
        Array.from({ length: 16 }, async (_, index) => {
          const stream = http2.request('POST', `/data/${hex()}`, { length: 100 * MIB });
          await http2.send(stream, index < 8 ? piece : piece.subarray(0, index * 4 * KIB), false, 200);
          if (index % 4 === 3) await pause(index, signal);
          http2.reset(stream, index % 8 === 7 ? 8 : 0);
          count();
        }),
      );
  }),

  /** Uploads at full speed, and the connection cut in the middle of them. */
  'uploads dropped': inSessions(65_535, async (http2, _target, _signal, count) => {
    const piece = Buffer.alloc(4 * MIB);
    await Promise.all(
      Array.from({ length: 32 }, async () => {
        await http2.send(http2.request('POST', `/data/${hex()}`, { length: 16 * MIB }), piece, false, 1000);
        count();
      }),
    );
  }),

  /** Channels whose request was refused, filled to the brim. */
  'refused channels stuffed': async (target, signal, count) => {
    const piece = Buffer.alloc(32 * KIB);
    while (!signal.aborted) {
      let client: Client | undefined;
      try {
        client = await login(target.key, target.port, signal);
        const open = isOpen(client);
        const confirmed: number[] = [];
        overhear(client, 'CHANNEL_OPEN_CONFIRMATION', (info) => {
          confirmed.push((info as { readonly sender: number }).sender);
        });
        for (let id = 100; id < 120; id++)
          sendMessage(client, message(CHANNEL_OPEN, 'session', [id], [2 * MIB], [32 * KIB]));
        await pause(300, signal);
        for (const id of confirmed) {
          if (!open()) break;
          sendMessage(client, message(CHANNEL_REQUEST, [id], 'shell', false));
          for (let sent = 0; sent < 2 * MIB - piece.length && open(); sent += piece.length) {
            sendMessage(client, message(CHANNEL_DATA, [id], piece));
            if (sent % (512 * KIB) === 0) await pause(1, signal);
          }
          count();
        }
        if (open()) await pause(HELD_MS, signal);
      } catch {
        await pause(50, signal);
      } finally {
        client?.destroy();
      }
    }
  },

  /** Without any key: connections from fifty addresses that say nothing, topped up as they are cut. */
  'silent connections': async ({ port }, signal, count) => {
    const open = new Set<Socket>();
    for (let address = 0; !signal.aborted; address = (address + 1) % 50) {
      if (open.size < 1000) {
        const socket = connect({ host: '127.0.0.1', port, localAddress: `127.0.1.${address + 1}` });
        open.add(socket);
        // Who does not read does not see that it is cut.
        socket.on('error', () => undefined).resume();
        socket.once('close', () => open.delete(socket));
        count();
      }
      await pause(5, signal);
    }
    for (const socket of open) socket.destroy();
  },

  /** Without any key: key exchange after key exchange, and never a login. */
  'key exchanges before login': async ({ port }, signal, count) => {
    const one = async (index: number): Promise<void> => {
      while (!signal.aborted) {
        const client = new ssh2.Client();
        client.on('error', () => undefined);
        const stop = destroyer(client);
        signal.addEventListener('abort', stop, { once: true });
        const again = (): void => {
          count();
          rekey(client);
        };
        client.on('handshake', () => setImmediate(again));
        client.connect({
          ...{ host: '127.0.0.1', port, localAddress: `127.0.2.${index + 1}`, username: 'x' },
          ...{ readyTimeout: PATIENCE_MS, authHandler: () => undefined },
        });
        await once(client, 'close').catch(() => undefined);
        signal.removeEventListener('abort', stop);
        await pause(50, signal);
      }
    };
    await Promise.all(Array.from({ length: 4 }, (_, index) => one(index)));
  },

  /** Two hundred HEADs under way at any moment. */
  'flood of HEADs': inSessions(65_535, async (http2, _target, signal, count) => {
    for (let asked = 0; http2.open && !signal.aborted;) {
      while (asked - http2.ended < 200) {
        http2.request('HEAD', `/data/${hex()}`);
        asked++;
        count();
      }
      await http2.change(1000);
    }
  }),

  /** Everything that is denied, and a new session before the denials of this one are counted only. */
  denials: inSessions(65_535, async (http2, _target, signal, count) => {
    for (let asked = 0; asked < 150 && http2.open && !signal.aborted;) {
      while (asked - http2.ended < 50 && asked < 150) {
        http2.request('DELETE', `/${['data', 'snapshots', 'keys', 'index'][asked % 4] ?? ''}/${hex()}`);
        asked++;
        count();
      }
      await http2.change(1000);
    }
    await http2.change(200);
  }),

  /** Two hundred downloads at once, of which one frame each is read. */
  'downloads that nobody reads': inSessions(16_384, async (http2, { objects }, signal, count) => {
    for (let asked = 0; asked < 200; asked++) {
      http2.request('GET', `/data/${objects[asked % objects.length] ?? hex()}`);
      count();
    }
    await pause(HELD_MS, signal);
  }),

  /** Locks made and never removed, as many as can be. */
  locks: inSessions(65_535, async (http2, _target, signal, count) => {
    for (let asked = 0; http2.open && !signal.aborted;) {
      while (asked - http2.ended < 16) {
        const { name, body } = lock();
        asked++;
        count();
        await http2.send(http2.request('POST', `/locks/${name}`, { length: body.length }), body, true, 1000);
      }
      await http2.change(1000);
    }
  }),
} satisfies Readonly<Record<string, Action>>;

/** The name of something that it does. */
export type HostileAction = keyof typeof HOSTILE_ACTIONS;

/** How many of each run side by side, so that none takes all of the client's sessions. */
const AT_ONCE: Partial<Record<HostileAction, number>> = {
  'lists that nobody reads': 2,
  'stalled uploads': 2,
  'resets in mid-body': 2,
  'refused channels stuffed': 2,
};

/** Does all that is named, at once, until `signal`. @returns how often each was done; grows meanwhile */
export function beHostile(
  target: HostileTarget,
  names: readonly HostileAction[],
  signal: AbortSignal,
): { readonly done: Promise<void>; readonly counts: Readonly<Record<string, number>> } {
  const counts: Record<string, number> = Object.fromEntries(names.map((name) => [name, 0]));
  const doing = names.flatMap((name) =>
    Array.from({ length: AT_ONCE[name] ?? 1 }, () =>
      HOSTILE_ACTIONS[name](target, signal, () => {
        counts[name] = (counts[name] ?? 0) + 1;
      }),
    ),
  );
  return { done: Promise.allSettled(doing).then(() => undefined), counts };
}
