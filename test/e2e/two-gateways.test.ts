/** Two gateways with one config and host key on one S3, behind a TCP balancer: they need nothing of each other. */
import { writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { generateKey, tempDir } from '../support/lab.ts';
import { startSshSession, type SshSession } from '../support/ssh-session.ts';
import { freshStore } from '../support/stores.ts';

const balancers = new Set<() => void>();
afterEach(() => {
  for (const close of balancers) close();
  balancers.clear();
});

/** Takes the next of `ports` for each connection, and another one where that refuses. */
async function startBalancer(ports: readonly number[]): Promise<number> {
  let next = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    sockets.add(client);
    const attempt = (left: number): void => {
      const upstream = connect({ port: ports[next++ % ports.length] ?? 0, host: '127.0.0.1' });
      sockets.add(upstream);
      upstream.once('connect', () => client.pipe(upstream).pipe(client));
      upstream.once('error', () => {
        if (left > 0) attempt(left - 1);
        else client.destroy();
      });
      client.once('error', () => upstream.destroy());
    };
    attempt(ports.length - 1);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  balancers.add(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

test('a name is created once over both, and each can be drained while clients go to the other', async () => {
  const [key, hostKey] = [await generateKey(), await generateKey()];
  const config = {
    hostKeys: [hostKey.privateFile],
    stores: { main: await freshStore('s3') },
    clients: { a: { keys: [key.publicLine], repository: { store: 'main' }, maxSessions: 20 } },
    drainSeconds: 600,
  };
  const gateways: RunningGateway[] = [await startGateway(tempDir(), config), await startGateway(tempDir(), config)];
  const port = await startBalancer(gateways.map((gateway) => gateway.port));
  const knownHosts = path.join(tempDir(), 'known_hosts');
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${hostKey.publicLine}\n`);
  const open = async (): Promise<SshSession> => {
    const session = startSshSession({ port, key, knownHosts });
    expect((await session.request('GET', '/locks/')).status).toBe(200);
    return session;
  };

  const writers: SshSession[] = [];
  for (let count = 0; count < 8; count++) writers.push(await open());
  const answers = await Promise.all(
    writers.map((writer, index) => writer.request('POST', '/config', { body: Buffer.from(`config of ${index}`) })),
  );
  expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array<number>(7).fill(403)]);
  const winner = answers.findIndex(({ status }) => status === 200);
  for (const writer of writers) {
    const { body } = await writer.request('GET', '/config');
    expect(body.toString()).toBe(`config of ${winner}`);
  }

  // Both had their share, and the one goes while its sessions finish and new ones go to the other.
  const [first, second] = gateways;
  first?.process.signal('SIGTERM');
  await first?.process.waitForLine(/stopping on SIGTERM: 4 sessions/);
  const later = [await open(), await open()];
  for (const session of [...writers, ...later]) expect((await session.request('GET', '/config')).status).toBe(200);
  for (const session of writers) session.close();
  const ends = await Promise.all(writers.map(({ ended }) => ended));
  expect(ends.map(({ status }) => status)).toEqual(Array(8).fill(0));
  expect(await first?.process.exited).toBe(0);
  for (const session of later) {
    expect((await session.request('GET', '/config')).status).toBe(200);
    session.close();
    await session.ended;
  }
  second?.process.signal('SIGTERM');
  expect(await second?.process.exited).toBe(0);
});
