/** The key exchange that a quantum computer cannot undo later, with real OpenSSH on the other side, in both roles. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import ssh2, { type Connection } from 'ssh2';
import { addMlKemKex, MLKEM_KEX } from '../../src/frontends/mlkem-kex.ts';
import { echoed, rekey, startEchoServer, type EchoServer } from '../support/echo-server.ts';
import { startGateway } from '../support/gateway-process.ts';
import { generateKey, lab, makeTree, restic, run, sshClientArgs, startSshd, tempDir } from '../support/lab.ts';
import { keyPair } from '../support/ssh-stack.ts';

/** What OpenSSH 10.1 and newer say where the server has no such key exchange; a client's own KexAlgorithms silences it. */
const WARNING = /WARNING: connection is not using a post-quantum key exchange/;
const SIZE = 24 * 1024 * 1024;

/** An ssh2 server that echoes, without the method or with it, and then asks for new keys itself after every MiB. */
async function bareServer(mlKem: boolean): Promise<{ readonly port: number; readonly close: () => Promise<void> }> {
  const mlKemKex = await addMlKemKex();
  const kex = mlKem ? [MLKEM_KEX] : ['curve25519-sha256'];
  const serve = (connection: Connection): void => {
    if (mlKem) mlKemKex.use(connection);
    connection.on('authentication', (context) => {
      context.accept();
    });
    connection.on('session', (accept) => {
      accept().on('exec', (acceptExec) => {
        const channel = acceptExec();
        let length = 0;
        channel.on('data', (chunk: Buffer) => {
          if (mlKem && Math.floor((length + chunk.length) / 2 ** 20) > Math.floor(length / 2 ** 20)) connection.rekey();
          length += chunk.length;
        });
        channel.pipe(channel);
        channel.on('end', () => {
          channel.exit(0);
        });
      });
    });
  };
  const server = new ssh2.Server({ hostKeys: [keyPair().private], algorithms: { kex: kex as never } }, serve);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
      }),
  };
}

/** Sends 24 MiB through an echo by a real ssh; what it said, and whether the same came back. */
async function through(
  ssh: string,
  port: number,
  key: string,
  ...options: string[]
): Promise<{ readonly said: string; readonly intact: boolean }> {
  const directory = tempDir();
  const sent = randomBytes(SIZE);
  const file = { sent: path.join(directory, 'sent'), received: path.join(directory, 'received') };
  writeFileSync(file.sent, sent);
  const privateFile = path.join(directory, 'key');
  writeFileSync(privateFile, key);
  chmodSync(privateFile, 0o600);
  const args = ['-v', '-F', 'none', '-p', String(port), '-i', privateFile, '-o', 'IdentitiesOnly=yes'];
  const trust = ['UserKnownHostsFile=/dev/null', 'GlobalKnownHostsFile=none', 'StrictHostKeyChecking=no'];
  const all = [...args, ...[...trust, 'BatchMode=yes', ...options].flatMap((option) => ['-o', option])];
  const { stderr } = await run(
    'sh',
    ['-c', 'sent=$1 received=$2; shift 2; exec "$@" <"$sent" >"$received"', 'sh', file.sent, file.received, ssh].concat(
      all,
      ['x@127.0.0.1', 'cat'],
    ),
    { timeoutMs: 120_000 },
  );
  const hash = (content: Buffer): string => createHash('sha256').update(content).digest('hex');
  return { said: stderr, intact: hash(readFileSync(file.received)) === hash(sent) };
}

/** The methods of all key exchanges, in their order. */
function methodsOf(said: string): string[] {
  return [...said.matchAll(/kex: algorithm: (\S+)/g)].map(([, method]) => method ?? '');
}

let site: EchoServer;
beforeAll(async () => {
  site = await startEchoServer({ extraCiphers: ['chacha20-poly1305@openssh.com'] });
});
afterAll(async () => {
  await site.close();
});

describe('the newest OpenSSH client', () => {
  test('warns of a server without it, so that the tests below can fail', async () => {
    const server = await bareServer(false);
    const { said, intact } = await through(lab().sshNewest, server.port, site.key.private);
    expect([methodsOf(said), intact]).toEqual([['curve25519-sha256'], true]);
    expect(said).toMatch(WARNING);
    await server.close();
  });

  test('takes it at the server and does not warn', async () => {
    const { said, intact } = await through(lab().sshNewest, site.server.address.port, site.key.private);
    expect([methodsOf(said), intact]).toEqual([[MLKEM_KEX], true]);
    expect(said).not.toMatch(WARNING);
  });

  // chacha20 counts packets, which strict key exchange has begin anew with every exchange; AES-GCM has a counter of its own.
  test.each(['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'chacha20-poly1305@openssh.com'])(
    'exchanges keys after every MiB while 24 MiB flow in both directions under %s',
    async (cipher) => {
      const { port } = site.server.address;
      const options = ['RekeyLimit=1M', `Ciphers=${cipher}`];
      const { said, intact } = await through(lab().sshNewest, port, site.key.private, ...options);
      expect(said).toContain(`kex: client->server cipher: ${cipher} `);
      const methods = methodsOf(said);
      expect(methods.length).toBeGreaterThan(20);
      expect([new Set(methods), intact]).toEqual([new Set([MLKEM_KEX]), true]);
    },
  );

  test('follows a server that asks for new keys after every MiB', async () => {
    const server = await bareServer(true);
    const { said, intact } = await through(lab().sshNewest, server.port, site.key.private);
    const methods = methodsOf(said);
    expect(methods.length).toBeGreaterThan(5);
    expect([new Set(methods), intact]).toEqual([new Set([MLKEM_KEX]), true]);
    await server.close();
  });

  test.each(['curve25519-sha256', 'curve25519-sha256@libssh.org'])('can insist on %s', async (method) => {
    const { port } = site.server.address;
    const { said, intact } = await through(lab().sshNewest, port, site.key.private, `KexAlgorithms=${method}`);
    expect([methodsOf(said), intact]).toEqual([[method], true]);
  });
});

test("this Debian's OpenSSH client, which does not know it, is served too, new keys included", async () => {
  const { port } = site.server.address;
  const { said, intact } = await through(lab().ssh, port, site.key.private, 'RekeyLimit=1M');
  const methods = methodsOf(said);
  expect(methods.length).toBeGreaterThan(20);
  expect([new Set(methods), intact]).toEqual([new Set(['curve25519-sha256']), true]);
});

test("ssh2's client, with it, agrees with the newest sshd, and does again and again while data flows", async () => {
  const key = await generateKey();
  const sshd = await startSshd({ newest: true, authorizedKeysLines: [key.publicLine] });
  const client = new ssh2.Client();
  const methods: string[] = [];
  client.on('handshake', ({ kex }) => methods.push(kex));
  client.connect({
    host: '127.0.0.1',
    port: sshd.port,
    username: sshd.user,
    privateKey: readFileSync(key.privateFile),
    algorithms: { kex: [MLKEM_KEX as never] },
  });
  (await addMlKemKex()).use(client);
  await once(client, 'ready');
  const askAgain = (): void => {
    rekey(client);
  };
  expect(await echoed(client, [askAgain])).toBe(true);
  expect(methods.length).toBeGreaterThan(5);
  expect(new Set(methods)).toEqual(new Set([MLKEM_KEX]));
  client.end();
  await sshd.stop();
});

test('restic says nothing of it at a backup through the gateway', async () => {
  const directory = tempDir();
  const key = await generateKey();
  const storage = path.join(directory, 'store');
  const source = path.join(directory, 'source');
  mkdirSync(storage);
  await makeTree(source, { files: 10, bytes: 1_000_000, seed: 'post-quantum' });
  const gateway = await startGateway(path.join(directory, 'gateway'), {
    stores: { local: { type: 'directory', path: storage } },
    clients: { appsrv: { keys: [key.publicLine], repository: { store: 'local' } } },
  });
  const ssh = [lab().sshNewest, ...sshClientArgs({ port: gateway.port, key, knownHosts: gateway.knownHosts })];
  const options = { 'rclone.program': ssh.join(' ') };
  for (const command of [['init'], ['backup', source]]) {
    const { code, stdout, stderr } = await restic(lab().resticNewest, { repo: 'rclone:x', options }, command);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).not.toMatch(/WARNING|quantum/);
  }
  await gateway.stop();
});
