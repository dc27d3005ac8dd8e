/** Floods of connections without a key, from many addresses of loopback: newcomers with a real OpenSSH get in all the same. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import ssh2 from 'ssh2';
import { lab, run, sshClientArgs, tempDir } from '../support/lab.ts';
import { startSshStack, type SshStack } from '../support/ssh-stack.ts';

let stack: SshStack;
let sshArgs: readonly string[];
const floods: ChildProcess[] = [];

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

test('200 honest clients behind one address who log in at once are no flood', async () => {
  const outcomes = await Promise.all(Array.from({ length: 200 }, () => login()));
  expect(outcomes.filter((inside) => !inside)).toEqual([]);
});
