/** Hostile clients at the SSH server: each attack is told as a story, and after it the server serves a client that keeps to the rules. */
import { once } from 'node:events';
import { mkdirSync, ftruncateSync, openSync, closeSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from '@jest/globals';
import ssh2, { type Client, type ClientChannel, type ConnectConfig } from 'ssh2';
import type { GatewayConfig } from '../../src/config/types.ts';
import { startEchoServer } from '../support/echo-server.ts';
import { awaitKeyAnswers, deafen, message, overhear, sendMessage, tcpOf } from '../support/hostile-ssh.ts';
import { kexinit, MESSAGE, parseKexinit, rawClient } from '../support/raw-ssh.ts';
import { resticClient } from '../support/restic-client.ts';
import { channelOf, keyPair, outcomeOf, sshConnect, startSshStack, type SshStack } from '../support/ssh-stack.ts';

const MIB = 1024 * 1024;

let stack: SshStack;
const clients: Client[] = [];
const sockets: Socket[] = [];

async function open(limits: NonNullable<GatewayConfig['ssh']['limits']> = {}): Promise<void> {
  stack = await startSshStack({ maxSessions: 30 }, { ssh: { extraCiphers: [], limits } });
}

async function connected(options: ConnectConfig = {}): Promise<Client> {
  const client = await sshConnect(stack, options);
  clients.push(client);
  return client;
}

/** A bare TCP connection. */
async function tcp(): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port: stack.server.address.port });
  sockets.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Resolves when the server has closed the connection, gently or not. */
async function closedOf(client: Client): Promise<void> {
  const socket = tcpOf(client);
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
}

afterEach(async () => {
  // Whatever happened: one that keeps to the rules is served.
  const client = await connected();
  const restic = resticClient(await channelOf((done) => client.exec('x', done)));
  expect((await restic.request('GET', '/file-1')).status).toBe(404);
  for (const each of clients.splice(0)) each.destroy();
  for (const each of sockets.splice(0)) each.destroy();
  await stack.close();
});

/** Numbers: RFC 4252, 6; RFC 4254, 9. */
const AUTH_REQUEST = 50;
const GLOBAL_REQUEST = 80;
const CHANNEL_OPEN = 90;
const CHANNEL_WINDOW_ADJUST = 93;
const CHANNEL_DATA = 94;
const CHANNEL_EOF = 96;
const CHANNEL_REQUEST = 98;

/** Opens a session channel with a window and a packet size of the attacker's choice, and runs a command in it. */
async function channelWith(client: Client, window: number, packetSize: number): Promise<void> {
  const confirmed = new Promise<void>((resolve) => {
    overhear(client, 'CHANNEL_OPEN_CONFIRMATION', () => {
      resolve();
    });
  });
  sendMessage(client, message(CHANNEL_OPEN, 'session', [7], [window], [packetSize]));
  await Promise.race([confirmed, closedOf(client)]);
  sendMessage(client, message(CHANNEL_REQUEST, [0], 'exec', false, 'x'));
}

/** A GET in HTTP/2 by hand, whose reader opens every window as wide as it goes. */
function greedyGet(name: string): Buffer {
  const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  const literal = (key: string, value: string): Buffer =>
    Buffer.concat([Buffer.of(0, key.length), Buffer.from(key), Buffer.of(value.length), Buffer.from(value)]);
  const settings = Buffer.alloc(6);
  settings.writeUInt16BE(4, 0);
  settings.writeUInt32BE(0x7fffffff, 2);
  const wide = Buffer.alloc(4);
  wide.writeUInt32BE(0x7fff0000);
  return Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    frame(4, 0, 0, settings),
    frame(8, 0, 0, wide),
    frame(
      1,
      5,
      1,
      Buffer.concat([
        literal(':method', 'GET'),
        literal(':scheme', 'http'),
        literal(':authority', 'x'),
        literal(':path', `/data/${name}`),
      ]),
    ),
  ]);
}

/** Puts an object of a GiB, which takes no room, into the repository. */
function hugeObject(): string {
  const name = 'ab'.repeat(32);
  const directory = path.join(stack.directory, 'store', 'appsrv', 'data', 'ab');
  mkdirSync(directory, { recursive: true });
  const file = openSync(path.join(directory, name), 'w');
  ftruncateSync(file, 1024 * MIB);
  closeSync(file);
  return name;
}

describe('before a key is proved', () => {
  test('one offers a good key, signs with another and opens a channel all the same: nothing opens', async () => {
    await open();
    const good = ssh2.utils.parseKey(stack.key.public) as ssh2.ParsedKey;
    const own = ssh2.utils.parseKey(keyPair().private) as ssh2.ParsedKey;
    class Swapper extends ssh2.BaseAgent {
      override getIdentities(done: (error: undefined, keys: ssh2.ParsedKey[]) => void): void {
        done(undefined, [good, own]);
      }
      override sign(_key: unknown, data: Buffer, _options: unknown, done?: unknown): void {
        (done as (error: undefined, signature: Buffer) => void)(undefined, own.sign(data));
      }
    }
    const client = new ssh2.Client();
    clients.push(client);
    const refusals: unknown[] = [];
    client.on('error', () => undefined);
    const closed = new Promise<void>((resolve) => client.once('close', resolve));
    client.on('handshake', () => {
      overhear(client, 'CHANNEL_OPEN_FAILURE', (...what) => refusals.push(what));
      overhear(client, 'USERAUTH_FAILURE', () => {
        sendMessage(client, message(CHANNEL_OPEN, 'session', [0], [65536], [32768]));
      });
    });
    client.connect({ host: '127.0.0.1', port: stack.server.address.port, username: 'x', agent: new Swapper() });
    await closed;
    expect(refusals.length).toBeGreaterThan(0);
    expect(stack.audit()).toEqual([]);
  });

  test('the seventh wrong key is not looked at', async () => {
    await open();
    const keys = Array.from({ length: 10 }, () => ssh2.utils.parseKey(keyPair().private) as ssh2.ParsedKey);
    let offered = 0;
    const client = new ssh2.Client();
    clients.push(client);
    client.on('error', () => undefined);
    const closed = new Promise<void>((resolve) => client.once('close', resolve));
    client.connect({
      host: '127.0.0.1',
      port: stack.server.address.port,
      username: 'x',
      authHandler: (_left, _partial, next) => {
        const key = keys[offered++];
        if (key === undefined) next(false as never);
        else next({ type: 'publickey', username: 'x', key: key as unknown as string });
      },
    });
    await closed;
    expect(offered).toBe(6);
  });

  test('one offers a good key for ever and never signs: cut after twenty', async () => {
    await open();
    const good = ssh2.utils.parseKey(stack.key.public) as ssh2.ParsedKey;
    let answers = 0;
    const client = new ssh2.Client();
    clients.push(client);
    client.on('error', () => undefined);
    const closed = new Promise<void>((resolve) => client.once('close', resolve));
    client.on('handshake', () => {
      overhear(client, 'USERAUTH_PK_OK', () => answers++);
      overhear(client, 'SERVICE_ACCEPT', () => {
        awaitKeyAnswers(client, 50);
        for (let i = 0; i < 50; i++)
          sendMessage(
            client,
            message(AUTH_REQUEST, 'x', 'ssh-connection', 'publickey', false, 'ssh-ed25519', good.getPublicSSH()),
          );
      });
    });
    client.connect({
      host: '127.0.0.1',
      port: stack.server.address.port,
      username: 'x',
      authHandler: () => undefined,
    });
    await closed;
    expect(answers).toBe(20);
  });

  test('one connects and says nothing: cut after the grace time', async () => {
    await open({ loginSeconds: 1 });
    const socket = await tcp();
    socket.resume();
    await once(socket, 'close');
  });

  test.each([
    ['no identification but a long line', Buffer.alloc(64 * 1024, 0x41)],
    ['many lines before the identification', Buffer.from('x\r\n'.repeat(5000))],
    ['garbage after the identification', Buffer.concat([Buffer.from('SSH-2.0-x\r\n'), Buffer.alloc(4096, 0xff)])],
    ['a packet that claims 4 GiB', Buffer.from('SSH-2.0-x\r\n\xff\xff\xff\xff\x04', 'latin1')],
    ['a packet of length 0', Buffer.concat([Buffer.from('SSH-2.0-x\r\n'), Buffer.alloc(64)])],
    ['padding longer than the packet', Buffer.from('SSH-2.0-x\r\n\0\0\0\x0c\xff0123456789a', 'latin1')],
    ['another protocol', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['SSH 1', Buffer.from('SSH-1.5-x\r\n')],
  ])('%s: hung up on', async (_what, bytes) => {
    await open({ loginSeconds: 5 });
    const socket = await tcp();
    socket.resume();
    socket.write(bytes);
    await once(socket, 'close');
  });

  test('one resets its connection right after its first bytes, a hundred times', async () => {
    await open({ maxDelaySeconds: 0 });
    for (let i = 0; i < 100; i++) {
      const socket = await tcp();
      socket.write(`SSH-2.0-x\r\n${'\xff'.repeat(i)}`);
      socket.resetAndDestroy();
    }
  });

  test('Terrapin: a message slipped in before NEWKEYS ends the connection', async () => {
    await open();
    const client = await rawClient(stack.server.address);
    const theirs = parseKexinit((await client.next()) ?? Buffer.alloc(0));
    expect(theirs.kex).toContain('kex-strict-s-v00@openssh.com');
    client.send(
      kexinit({ ...theirs, kex: ['curve25519-sha256', 'kex-strict-c-v00@openssh.com'] }),
      Buffer.of(MESSAGE.ignore, 0, 0, 0, 0),
    );
    let last: Buffer | undefined;
    for (let next = await client.next(); next !== undefined; next = await client.next()) last = next;
    expect(last?.[0]).toBe(MESSAGE.disconnect);
    client.close();
  });
});

describe('with a key', () => {
  test('a peer that is gone without a word is noticed, and the audit says so', async () => {
    await open({ keepaliveSeconds: 1, lostSeconds: 2 });
    const client = await connected();
    const channel = await channelOf((done) => client.exec('x', done));
    expect((await resticClient(channel).request('GET', '/file-1')).status).toBe(404);
    tcpOf(client).pause();
    while (!stack.audit().some((line) => line['event'] === 'session-end')) await sleep(20);
    expect(stack.audit().at(-1)).toMatchObject({ event: 'session-end', reason: 'connection-lost' });
  });

  test('one asks for sessions and hangs up while they are being opened: each of them ends, and leaves its place', async () => {
    await open();
    for (let round = 0; round < 10; round++) {
      const client = await connected();
      for (let id = 0; id < 5; id++) {
        sendMessage(client, message(CHANNEL_OPEN, 'session', [id], [65536], [32768]));
        sendMessage(client, message(CHANNEL_REQUEST, [id], 'exec', false, 'x'));
      }
      tcpOf(client).end();
      await closedOf(client);
    }
    const count = (event: string): number => stack.audit().filter((line) => line['event'] === event).length;
    while (count('session-start') === 0 || count('session-end') < count('session-start')) await sleep(20);
  });

  test('hundreds of channels on one connection: twenty open, the others are refused', async () => {
    await open();
    const client = await connected();
    let refused = 0;
    let accepted = 0;
    overhear(client, 'CHANNEL_OPEN_FAILURE', () => refused++);
    overhear(client, 'CHANNEL_OPEN_CONFIRMATION', () => accepted++);
    for (let i = 0; i < 150; i++) sendMessage(client, message(CHANNEL_OPEN, 'session', [i], [65536], [32768]));
    while (refused + accepted < 150) await sleep(10);
    expect(accepted).toBe(20);
    // No session was begun in any: the connection is not kept for ever.
  });

  test('a connection without a session is not kept', async () => {
    await open({ idleSeconds: 1 });
    const client = await connected();
    sendMessage(client, message(CHANNEL_OPEN, 'session', [0], [65536], [32768]));
    await closedOf(client);
  });

  test('no more connections than a client can have use for', async () => {
    await open();
    stack = await stack.close().then(() => startSshStack({ maxSessions: 1 }));
    const first = await Promise.all(Array.from({ length: 11 }, () => connected()));
    const one = await connected();
    await closedOf(one);
    first[0]?.end();
    if (first[0] !== undefined) await closedOf(first[0]);
  });

  test.each([
    ['env', message(CHANNEL_REQUEST, [0], 'env', true, 'A', 'B')],
    ['window-change', message(CHANNEL_REQUEST, [0], 'window-change', false, [1], [1], [1], [1])],
    ['signal', message(CHANNEL_REQUEST, [0], 'signal', false, 'KILL')],
    ['a global request', message(GLOBAL_REQUEST, 'tcpip-forward', true, '0.0.0.0', [80])],
    ['an agent', message(CHANNEL_REQUEST, [0], 'auth-agent-req@openssh.com', true)],
    ['direct-tcpip', message(CHANNEL_OPEN, 'direct-tcpip', [9], [65536], [32768], '127.0.0.1', [22], '127.0.0.1', [1])],
    [
      'direct-streamlocal',
      message(CHANNEL_OPEN, 'direct-streamlocal@openssh.com', [9], [65536], [32768], '/run/x', '', [0]),
    ],
  ])('a flood of %s requests: cut', async (_what, request) => {
    await open();
    const client = await connected();
    await channelWith(client, 65536, 32768);
    for (let i = 0; i < 1000; i++) sendMessage(client, request);
    await closedOf(client);
  });

  test.each([0, 1, 100])('one wants packets of %d bytes, for which an answer takes for ever: cut', async (size) => {
    await open();
    const client = await connected();
    await channelWith(client, 65536, size);
    await closedOf(client);
  });

  test.each([
    ['a channel that does not exist', message(CHANNEL_DATA, [0xffffffff], 'x')],
    ['a truncated message', Buffer.of(CHANNEL_DATA, 0, 0)],
    ['a string that claims 4 GiB', message(CHANNEL_REQUEST, [0], [0xffffffff])],
    ['a window adjusted by nothing', Buffer.of(CHANNEL_WINDOW_ADJUST)],
    ['authentication once more', message(AUTH_REQUEST, 'x', 'ssh-connection', 'none')],
  ])('%s: the connection ends', async (_what, bytes) => {
    await open();
    const client = await connected();
    await channelWith(client, 65536, 32768);
    sendMessage(client, bytes);
    await closedOf(client);
  });

  test('a flipped bit in the cipher stream ends the connection', async () => {
    await open();
    const client = await connected();
    tcpOf(client).write(Buffer.alloc(4096, 0x55));
    await closedOf(client);
  });

  test('one sends more than the window that it was given, to a reader that waits: cut', async () => {
    await open();
    const echo = await startEchoServer();
    const client = await connected({ port: echo.server.address.port, privateKey: echo.key.private });
    // With no window for what comes back, the echo stops reading.
    await channelWith(client, 0, 32768);
    for (let i = 0; i < 300; i++) sendMessage(client, message(CHANNEL_DATA, [0], Buffer.alloc(31 * 1024)));
    await closedOf(client);
    expect(echo.logged.join()).toContain('more than its window');
    await echo.close();
  });

  test('one sends data after its end of data: cut', async () => {
    await open();
    const client = await connected();
    await channelWith(client, 65536, 32768);
    sendMessage(client, message(CHANNEL_EOF, [0]));
    sendMessage(client, message(CHANNEL_DATA, [0], 'x'));
    await closedOf(client);
  });

  test.each([
    ['stops reading its socket', (client: Client) => tcpOf(client).pause()],
    [
      'starts a key exchange and never ends it',
      (client: Client) => {
        // Its own half of the exchange, without the rest.
        sendMessage(client, kexinit(PROPOSAL), true);
        deafen(client);
      },
    ],
    [
      'stops reading, and closes its half',
      (client: Client) => {
        tcpOf(client).pause();
        tcpOf(client).end();
      },
    ],
  ])('one asks for a GiB with every window open and %s: it is not gathered in memory', async (_what, stop) => {
    await open();
    const name = hugeObject();
    const client = await connected();
    await channelWith(client, 0xffffffff, 32768);
    const before = process.memoryUsage.rss();
    sendMessage(client, message(CHANNEL_DATA, [0], greedyGet(name)));
    stop(client);
    let most = 0;
    // That memory does not grow needs a bound: two seconds gathered hundreds of MiB without the defence.
    for (let i = 0; i < 20; i++) {
      await sleep(100);
      most = Math.max(most, process.memoryUsage.rss() - before);
    }
    expect(most).toBeLessThan(128 * MIB);
  });

  test('a shell and a subsystem get one line', async () => {
    await open();
    const client = await connected();
    const shell = await channelOf((done) => client.shell(false, done));
    expect((await outcomeOf(shell)).stderr).toMatch(/no shell/);
    const sftp: ClientChannel = await channelOf((done) => client.subsys('sftp', done));
    expect((await outcomeOf(sftp)).stderr).toMatch(/no sftp/);
  });

  test.each([
    ['command', message('exec', true, 'y')],
    ['shell', message('shell', true)],
    ['subsystem', message('subsystem', true, 'sftp')],
  ])(
    'a second %s in a channel that has its command: the session and all others go on as if it had not been asked for',
    async (_what, request) => {
      await open();
      const bystander = await connected();
      const other = resticClient(await channelOf((done) => bystander.exec('x', done)));
      const client = await connected();
      const channel = await channelOf((done) => client.exec('x', done));
      const restic = resticClient(channel);
      const { outgoing } = channel as unknown as { readonly outgoing: { readonly id: number } };
      for (let times = 0; times < 3; times += 1)
        sendMessage(client, Buffer.concat([message(CHANNEL_REQUEST, [outgoing.id]), request]));
      for (const each of [restic, other]) expect((await each.request('GET', '/locks/')).status).toBe(200);
      expect(stack.audit().filter(({ event }) => event === 'session-start')).toHaveLength(2);
    },
  );
});

/** What a client of ssh2 proposes, as far as the server cares. */
const PROPOSAL = {
  kex: ['curve25519-sha256'],
  hostKey: ['ssh-ed25519'],
  cipherToServer: ['aes128-gcm@openssh.com'],
  cipherToClient: ['aes128-gcm@openssh.com'],
  macToServer: [],
  macToClient: [],
  compressionToServer: ['none'],
  compressionToClient: ['none'],
  languageToServer: [],
  languageToClient: [],
};
