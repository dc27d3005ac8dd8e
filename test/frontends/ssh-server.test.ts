/** The SSH server against ssh2's own client: who is let in, what a key opens, and what it does not. */
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import ssh2 from 'ssh2';
import { readHostKey } from '../../src/frontends/host-key.ts';
import { resticClient, sample } from '../support/restic-client.ts';
import { channelOf, keyPair, outcomeOf, sshConnect, startSshStack, type SshStack } from '../support/ssh-stack.ts';

let stack: SshStack;
const clients: ssh2.Client[] = [];
beforeEach(async () => {
  stack = await startSshStack({ maxSessions: 3 });
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.end();
  await stack.close();
});

async function connected(options: ssh2.ConnectConfig = {}): Promise<ssh2.Client> {
  const client = await sshConnect(stack, options);
  clients.push(client);
  return client;
}

describe('who is let in', () => {
  test('the key of the config, under any user name', async () => {
    for (const username of ['backup', 'root', 'x'.repeat(300)]) await connected({ username });
  });

  test.each([
    ['an unknown key', { privateKey: keyPair().private }],
    ['a password', { privateKey: '', password: 'secret' }],
    ['keyboard-interactive', { privateKey: '', tryKeyboard: true }],
    ['nothing', { privateKey: '' }],
  ])('not %s', async (_what, options) => {
    await expect(connected(options)).rejects.toThrow(/authentication methods failed/);
    expect(stack.audit()).toEqual([]);
  });

  test('not a key that was offered and not proved', async () => {
    const offered = ssh2.utils.parseKey(stack.key.public);
    if (offered instanceof Error) throw offered;
    const other = ssh2.utils.parseKey(keyPair().private);
    if (other instanceof Error) throw other;
    // An agent that holds the wrong private half: the offer is accepted, the signature is not.
    class WrongAgent extends ssh2.BaseAgent {
      override getIdentities(done: (error: undefined, keys: ssh2.ParsedKey[]) => void): void {
        done(undefined, [offered as ssh2.ParsedKey]);
      }
      override sign(_key: unknown, data: Buffer, _options: unknown, done?: unknown): void {
        (done as (error: undefined, signature: Buffer) => void)(undefined, (other as ssh2.ParsedKey).sign(data));
      }
    }
    await expect(connected({ privateKey: '', agent: new WrongAgent() })).rejects.toThrow(
      /authentication methods failed/,
    );
  });

  test.each([
    ['a CBC cipher', { cipher: ['aes128-cbc'] }],
    ['a CTR cipher', { cipher: ['aes256-ctr'] }],
    ['chacha20-poly1305 unless configured', { cipher: ['chacha20-poly1305@openssh.com'] }],
    ['group1 key exchange', { kex: ['diffie-hellman-group1-sha1'] }],
    ['group14 key exchange', { kex: ['diffie-hellman-group14-sha256'] }],
    ['an RSA host key', { serverHostKey: ['ssh-rsa'] }],
  ])('no client that wants %s', async (_what, algorithms) => {
    await expect(connected({ algorithms: algorithms as ssh2.Algorithms })).rejects.toThrow(/no matching/);
  });

  test('chacha20-poly1305 when the config adds it', async () => {
    await stack.close();
    stack = await startSshStack({}, { ssh: { extraCiphers: ['chacha20-poly1305@openssh.com'] } });
    await connected({ algorithms: { cipher: ['chacha20-poly1305@openssh.com'] } });
  });
});

describe('what a key opens', () => {
  test.each(['serve restic --stdio --b2-hard-delete x', 'serve restic --stdio', 'rm -rf /', ''])(
    'its repository, whatever the command: %j',
    async (command) => {
      const client = await connected();
      const channel = await channelOf((done) => client.exec(command, done));
      const restic = resticClient(channel);
      const { name, body } = sample(100_000);
      expect((await restic.request('POST', `/data/${name}`, { body })).status).toBe(200);
      expect((await restic.request('GET', `/data/${name}`)).body).toEqual(body);
      channel.end();
      expect(await outcomeOf(channel)).toEqual({ status: 0, stderr: '' });
      expect(stack.audit()[0]).toMatchObject({ client: 'appsrv', user: 'backup', command, from: '127.0.0.1' });
    },
  );

  test('channels of one connection are sessions of their own, up to the limit; one more gets one line', async () => {
    const client = await connected();
    const channels = [];
    for (let i = 0; i < 3; i++) channels.push(await channelOf((done) => client.exec('x', done)));
    for (const channel of channels) expect((await resticClient(channel).request('GET', '/file-1')).status).toBe(404);
    const fourth = await channelOf((done) => client.exec('x', done));
    expect(await outcomeOf(fourth)).toEqual({
      status: 1,
      stderr: 'restic-gateway: client appsrv has 3 sessions open already, the most it may; wait for one to end.\n',
    });
  });
});

describe('what a key does not open', () => {
  test('a shell', async () => {
    const client = await connected();
    const channel = await channelOf((done) => client.shell(false, done));
    expect(await outcomeOf(channel)).toEqual({
      status: 1,
      stderr: 'restic-gateway: this key serves restic only; there is no shell here.\n',
    });
  });

  test('a subsystem', async () => {
    const client = await connected();
    const channel = await channelOf((done) => client.subsys('netconf', done));
    expect(await outcomeOf(channel)).toEqual({
      status: 1,
      stderr: 'restic-gateway: this key serves restic only; there is no netconf here.\n',
    });
  });

  test('a terminal, the environment, agent and X11 forwarding', async () => {
    const client = await connected();
    await expect(channelOf((done) => client.exec('x', { pty: true }, done))).rejects.toThrow(/pseudo-terminal/);
    await expect(channelOf((done) => client.exec('x', { x11: true }, done))).rejects.toThrow(/X11/);
    // env has no answer that a client waits for: the session runs, without it.
    const channel = await channelOf((done) => client.exec('x', { env: { LD_PRELOAD: '/tmp/evil.so' } }, done));
    expect((await resticClient(channel).request('GET', '/file-1')).status).toBe(404);
    expect(process.env['LD_PRELOAD']).toBeUndefined();
  });

  test('forwarding of any kind', async () => {
    const target = createServer((socket) => socket.end('reached'));
    await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
    const { port } = target.address() as AddressInfo;
    const client = await connected();
    try {
      await expect(channelOf((done) => client.forwardOut('127.0.0.1', 1, '127.0.0.1', port, done))).rejects.toThrow(
        /Channel open failure/,
      );
      await expect(
        channelOf((done) => client.openssh_forwardOutStreamLocal('/var/run/docker.sock', done)),
      ).rejects.toThrow(/Channel open failure/);
      await expect(
        new Promise((resolve, reject) =>
          client.forwardIn('127.0.0.1', 0, (error, bound) => {
            if (error) reject(error);
            else resolve(bound);
          }),
        ),
      ).rejects.toThrow(/Unable to bind/);
    } finally {
      target.close();
    }
  });
});

test('a connection that breaks ends its sessions and their audit', async () => {
  const client = await connected();
  const channel = await channelOf((done) => client.exec('x', done));
  expect((await resticClient(channel).request('GET', '/file-1')).status).toBe(404);
  client.destroy();
  await once(client, 'close');
  while (stack.audit().at(-1)?.['event'] !== 'session-end') await new Promise((resolve) => setTimeout(resolve, 20));
  expect(stack.audit().at(-1)).toMatchObject({ event: 'session-end', reason: 'connection-lost' });
});

describe('a server that cannot be opened says why', () => {
  test('the port is in use', async () => {
    const { host, port } = stack.server.address;
    await expect(startSshStack({}, { listen: [{ host, port }] })).rejects.toThrow(
      `listen: ${host}:${port}: the port is in use by another program`,
    );
  });

  test('no host key in the config', async () => {
    await expect(startSshStack({}, { hostKeys: [] })).rejects.toThrow(
      /hostKeys is missing; make a key with: ssh-keygen/,
    );
  });

  const rsa = keyPair('rsa');
  const locked = keyPair('ed25519', 'secret');
  test.each([
    ['of the wrong type', rsa.private, 0o600, /of type ssh-rsa; make one with: ssh-keygen/],
    ['that others can read', keyPair().private, 0o644, /others can read it; run: chmod 600/],
    ['with a passphrase', locked.private, 0o600, /has a passphrase.*ssh-keygen -p/],
    ['that is the public half', keyPair().public, 0o600, /is a public key; name the private one/],
    ['that is no key', 'hello', 0o600, /is not an OpenSSH private key/],
  ])('a host key %s', async (_what, content, mode, message) => {
    const directory = mkdtempSync(path.join(tmpdir(), 'host-key-'));
    const file = path.join(directory, 'key');
    writeFileSync(file, content);
    chmodSync(file, mode);
    await expect(readHostKey(file)).rejects.toThrow(message);
    rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
  });

  test('a host key that is not there', async () => {
    await expect(readHostKey('/nowhere/key')).rejects.toThrow(/no such file; make one with: ssh-keygen/);
  });
});
