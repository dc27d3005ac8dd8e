/** Floods of connections without a key, from many addresses of loopback: newcomers with a real OpenSSH get in all the same. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import ssh2, { type ClientChannel } from 'ssh2';
import type { ClientConfig } from '../../src/config/types.ts';
import { parsePublicKey } from '../../src/config/public-key.ts';
import { startGateway } from '../support/gateway-process.ts';
import { message } from '../support/hostile-ssh.ts';
import { generateKey, lab, run, sshClientArgs, tempDir } from '../support/lab.ts';
import { kexinit, MESSAGE, parseKexinit, rawClient, type RawClient } from '../support/raw-ssh.ts';
import { resticClient } from '../support/restic-client.ts';
import { startSshSession } from '../support/ssh-session.ts';
import {
  channelOf,
  keyPair,
  outcomeOf,
  sshConnect,
  startSshStack,
  type KeyPair,
  type SshStack,
} from '../support/ssh-stack.ts';
import { freshStore } from '../support/stores.ts';
import { testClient } from '../support/test-client.ts';

let stack: SshStack;
let sshArgs: readonly string[];
const floods: ChildProcess[] = [];
const cleanups: (() => unknown)[] = [];

beforeAll(async () => {
  stack = await startSshStack({ maxSessions: 1000 });
  const directory = tempDir();
  const [privateFile, knownHosts] = [path.join(directory, 'key'), path.join(directory, 'known_hosts')];
  writeFileSync(privateFile, stack.key.private, { mode: 0o600 });
  const { port, host } = stack.server.address;
  writeFileSync(knownHosts, stack.server.hostKeys.map(({ publicKey }) => `[${host}]:${port} ${publicKey}\n`).join(''));
  const key = { privateFile, publicFile: `${privateFile}.pub`, publicLine: stack.key.public, fingerprint: '' };
  sshArgs = sshClientArgs({ port, key, knownHosts });
});
afterAll(() => stack.close());
afterEach(async () => {
  for (const flood of floods.splice(0)) {
    flood.stdin?.end();
    if (flood.exitCode === null) await once(flood, 'exit');
  }
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Starts a flood, and waits until each of its connections has been tried once. */
async function flooded(addresses: number, each: number, behaviour: string): Promise<void> {
  const script = path.join(import.meta.dirname, '../support/flood.mjs');
  const { port } = stack.server.address;
  const flood = spawn(process.execPath, [script, ...[port, addresses, each, behaviour].map(String)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  floods.push(flood);
  await once(flood.stdout, 'data');
}

/** An honest run: a session that ends at once. @returns whether it got in */
async function honest(): Promise<boolean> {
  const started = performance.now();
  const { code } = await run(lab().ssh, ['-o', 'ConnectTimeout=60', ...sshArgs, 'x'], { input: '' });
  if (process.env['FLOOD_TIMES'] !== undefined) process.stderr.write(`${Math.round(performance.now() - started)} `);
  return code === 0;
}

/** Logs in by ssh2 and leaves. @returns whether it got in */
async function login(localAddress?: string): Promise<boolean> {
  const { host, port } = stack.server.address;
  const client = new ssh2.Client();
  const inside = new Promise<boolean>((resolve) => {
    client.on('ready', () => {
      resolve(true);
      client.end();
    });
    client.on('error', () => {
      resolve(false);
    });
    client.on('close', () => {
      resolve(false);
    });
  });
  const sock = connect({ host, port, ...(localAddress !== undefined && { localAddress }) });
  client.connect({ sock, username: 'x', privateKey: stack.key.private, readyTimeout: 0 });
  return inside;
}

describe('a flood', () => {
  test.each([
    ['of silent connections, 100 each from 6 addresses', 6, 100, 'silent'],
    ['of silent connections, 100 each from 50 addresses', 50, 100, 'silent'],
    ['of connections that send a byte a second', 50, 50, 'dribble'],
    ['of connections that say their first line and no more', 50, 50, 'banner'],
    ['of connections that exchange keys and do no more', 20, 10, 'keys'],
    ['of connections that come and go', 50, 4, 'churn'],
  ])('%s: real clients get in', async (_what, addresses, each, behaviour) => {
    await flooded(addresses, each, behaviour);
    const outcomes: boolean[] = [];
    for (let i = 0; i < Number(process.env['FLOOD_LOGINS'] ?? 6); i++) outcomes.push(await honest());
    const refused = outcomes.filter((inside) => !inside).length;
    expect(refused).toBeLessThanOrEqual(outcomes.length * 0.05);
  });

  test('of silent connections behind the address of honest clients: they get in', async () => {
    await flooded(1, 600, 'silent');
    // The floods before have earned the address a penalty, too, which honest clients behind it wait for. One of them may be drawn; who
    // comes again gets in.
    const getsIn = async (): Promise<boolean> =>
      (await login('127.1.0.9')) || (await login('127.1.0.9')) || login('127.1.0.9');
    for (let i = 0; i < 5; i++) expect(await getsIn()).toBe(true);
  });
});

/** X25519 keys of nobody's; what a server makes of one costs it as much as of any other. */
const ecdhInit = (): Buffer => message(MESSAGE.kexInit, randomBytes(32));

test('of 400 strangers who have their keys computed in the same moment: a session does not wait for all of them', async () => {
  const key = await generateKey();
  const gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore('directory') },
    clients: { honest: { keys: [key.publicLine], repository: { store: 'main', prefix: 'honest' } } },
    // So that nobody is drawn, and a second round waits for nothing.
    ssh: { limits: { unauthenticated: 8000, loginSeconds: 600, maxDelaySeconds: 0 } },
  });
  const session = startSshSession({ port: gateway.port, key, knownHosts: gateway.knownHosts });
  expect((await session.request('GET', '/file-1')).status).toBe(404);

  /** How many of them have their answer by the time that the session is seen to have its own. */
  const computedBefore = async (path: string): Promise<number> => {
    const strangers: RawClient[] = [];
    while (strangers.length < 400) {
      const one = await rawClient({ host: '127.0.0.1', port: gateway.port });
      const theirs = parseKexinit((await one.next()) ?? Buffer.alloc(0));
      one.send(kexinit({ ...theirs, kex: ['curve25519-sha256'] }));
      strangers.push(one);
    }
    let computed = 0;
    const answers = strangers.map(async (one) => {
      one.send(ecdhInit());
      const [kind] = (await one.next()) ?? [];
      computed++;
      return kind;
    });
    expect((await session.request('GET', path)).status).toBe(404);
    const before = computed;
    // Nobody is refused, though, and each has its turn.
    expect((await Promise.all(answers)).filter((kind) => kind !== MESSAGE.kexReply)).toEqual([]);
    for (const one of strangers) one.close();
    return before;
  };
  // On a busy machine, ssh may be the last to be given time for its answer.
  let least = Infinity;
  for (let round = 0; least >= 390 && round < 3; round++)
    least = Math.min(least, await computedBefore(`/file-${round + 2}`));
  expect(least).toBeLessThan(390);

  session.close();
  await gateway.stop();
});

test('a key that comes again and again for sessions that are refused is turned away before it is told so each time', async () => {
  const [hostile, honest] = [keyPair(), keyPair()];
  const client = (name: string, { public: line }: KeyPair) =>
    testClient(name, { keys: [parsePublicKey(line)], maxSessions: 1 });
  const clients = { hostile: { ...client('hostile', hostile), disabled: true }, honest: client('honest', honest) };
  const both = await startSshStack({}, { clients });
  let [told, turnedAway] = [0, 0];
  for (let connections = 0; connections < 30; connections++) {
    const connection = await sshConnect(both, { privateKey: hostile.private });
    const attempts = Array.from({ length: 15 }, async () => {
      try {
        const channel = await channelOf((done) => connection.exec('x', done));
        const { stderr } = await outcomeOf(channel);
        told += Number(stderr.includes('disabled'));
      } catch {
        turnedAway++;
      }
    });
    await Promise.all(attempts);
    connection.destroy();
  }
  expect(told).toBeGreaterThanOrEqual(300);
  expect(turnedAway).toBeGreaterThan(0);
  // Those of another client are its own.
  const other = await sshConnect(both, { privateKey: honest.private });
  const session = resticClient(await channelOf((done) => other.exec('x', done)));
  expect((await session.request('GET', '/file-1')).status).toBe(404);
  other.destroy();
  await both.close();
});

test('an address that keeps failing waits; a session that is let in ends that, and no login of a key that has none does', async () => {
  const restricted = {
    disabled: { disabled: true },
    expired: { expires: new Date(0) },
    elsewhere: { from: ['192.0.2.0/24'] },
    full: { maxSessions: 0 },
  };
  const clients: Record<string, ClientConfig> = {};
  const keys: Record<string, string> = {};
  for (const [name, restriction] of Object.entries({ ...restricted, honest: {} })) {
    const pair = keyPair();
    clients[name] = testClient(name, { keys: [parsePublicKey(pair.public)], ...restriction });
    keys[name] = pair.private;
  }
  // Far longer than anything here takes.
  const limits = { maxDelaySeconds: 3600, loginSeconds: 600 };
  const all = await startSshStack({}, { clients, ssh: { extraCiphers: [], limits } });
  cleanups.push(() => all.close());
  const { host, port } = all.server.address;
  const tcp = async (): Promise<Socket> => {
    const socket = connect({ host, port });
    cleanups.push(() => socket.destroy());
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    return socket;
  };

  // These come before the address fails, and stop short of their login.
  const arrived = new Map<string, () => Promise<ssh2.Client>>();
  for (const [name, privateKey] of Object.entries(keys)) {
    const client = new ssh2.Client();
    client.on('error', () => undefined);
    cleanups.push(() => client.destroy());
    const ready = once(client, 'ready');
    await new Promise<void>((resolve) => {
      client.connect({
        ...{ host, port, username: 'x', privateKey, readyTimeout: 0 },
        authHandler: (_left, _partial, next) => {
          arrived.set(name, async () => {
            next({ type: 'publickey', username: 'x', key: privateKey });
            await ready;
            return client;
          });
          resolve();
        },
      });
    });
  }
  const openSession = async (name: string): Promise<ClientChannel> => {
    const client = await arrived.get(name)?.();
    return channelOf((done) => client?.exec('x', done));
  };

  for (let failures = 0; failures < 20; failures++) {
    const socket = (await tcp()).resume();
    socket.write('GET / HTTP/1.1\r\n');
    await once(socket, 'close');
  }
  let served = 0;
  /** One more of the address. Resolves when the server has said its line, as it does at once; to exchange keys it may have to wait. */
  const comes = async (): Promise<{ readonly begun: Promise<void> }> => {
    const socket = await tcp();
    let heard = '';
    socket.on('data', (chunk: Buffer) => (heard += chunk.toString('latin1')));
    const hears = (enough: RegExp): Promise<void> =>
      new Promise((resolve) => {
        socket.on('data', () => {
          if (enough.test(heard)) resolve();
        });
      });
    const line = hears(/\n/);
    const begun = hears(/\n[^]/).then(() => {
      served++;
    });
    socket.write('SSH-2.0-x\r\n');
    await line;
    return { begun };
  };
  await comes();
  for (const name of Object.keys(restricted)) {
    const { status, stderr } = await outcomeOf(await openSession(name));
    expect([name, status, stderr]).toEqual([name, 1, expect.stringContaining('restic-gateway: ')]);
    await comes();
  }
  const session = resticClient(await openSession('honest'));
  expect((await session.request('GET', '/file-1')).status).toBe(404);
  expect(served).toBe(0);
  await (
    await comes()
  ).begun;
  expect(served).toBe(1);
});

test('with two workers, an address has as many connections that have not logged in as with one', async () => {
  const key = await generateKey();
  const gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore('directory') },
    clients: { honest: { keys: [key.publicLine], repository: { store: 'main', prefix: 'honest' } } },
    workers: 2,
    ssh: { limits: { unauthenticatedPerAddress: 10 } },
  });
  cleanups.push(() => gateway.stop());
  let cut = 0;
  const silent = Array.from({ length: 40 }, async () => {
    const socket = connect({ host: '127.0.0.1', port: gateway.port });
    socket.on('error', () => undefined);
    let heard = '';
    socket.on('data', (chunk: Buffer) => (heard += chunk.toString('latin1')));
    await once(socket, 'close');
    cut += Number(heard.includes('too many connections'));
  });
  // The others are closed for their silence, after a while.
  await Promise.all(silent);
  expect(cut).toBe(30);
});

test('with two workers, a client has as many connections that have logged in as with one', async () => {
  const key = await generateKey();
  const gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore('directory') },
    clients: { thief: { keys: [key.publicLine], maxSessions: 10, repository: { store: 'main', prefix: 'thief' } } },
    workers: 2,
    ssh: { limits: { idleSeconds: 3600 } },
  });
  cleanups.push(() => gateway.stop());
  const privateKey = readFileSync(key.privateFile);
  let [open, inside] = [60, 0];
  for (let index = 0; index < 60; index++) {
    const client = new ssh2.Client();
    client.on('error', () => undefined);
    client.on('ready', () => inside++);
    client.on('close', () => open--);
    client.connect({ host: '127.0.0.1', port: gateway.port, username: 'x', privateKey, readyTimeout: 0 });
    cleanups.push(() => client.end());
  }
  // Twenty in one process; two hear of each other a moment later.
  while (open > 25) await sleep(10);
  while (inside < 60) await sleep(10);
  expect(open).toBeGreaterThanOrEqual(20);
});

test('a thousand honest logins behind one address, a hundred a second, are no flood', async () => {
  let inside = 0;
  const underWay = new Set<Promise<void>>();
  for (let begun = 0; begun < 1000; begun++) {
    const one = login().then((success) => {
      inside += Number(success);
      underWay.delete(one);
    });
    underWay.add(one);
    await sleep(10);
    // A machine that is slow has them all the same, one after the other.
    while (underWay.size > 200) await Promise.race(underWay);
  }
  await Promise.all(underWay);
  expect(inside).toBe(1000);
});

test('200 honest clients behind one address who log in at once are no flood', async () => {
  const outcomes = await Promise.all(Array.from({ length: 200 }, () => login()));
  expect(outcomes.filter((inside) => !inside)).toEqual([]);
});
