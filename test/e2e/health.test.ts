/** `restic-gateway health`, as a container's health check runs it: a gateway that is ready, that ends, that is gone, and what is none. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { freePort, generateKey, run, tempDir, type KeyFiles, type Outcome } from '../support/lab.ts';
import { startSshSession } from '../support/ssh-session.ts';
import { freshStore } from '../support/stores.ts';

const health = (config: string, ...args: string[]): Promise<Outcome> =>
  run(process.execPath, [GATEWAY, 'health', '-c', config, ...args], { env: ENV });

const ENV = { TOKEN: 'token'.repeat(8) };

let key: KeyFiles;
let store: Readonly<Record<string, unknown>>;
beforeAll(async () => {
  key = await generateKey();
  store = await freshStore('directory');
});

const site = (): Readonly<Record<string, unknown>> => ({
  stores: { main: store },
  clients: { appsrv: { keys: [key.publicLine], repository: { store: 'main' } } },
});

let others: { readonly server: Server; readonly sockets: Set<Socket> }[] = [];
afterAll(() => {
  for (const { server, sockets } of others) {
    server.close();
    for (const socket of sockets) socket.destroy();
  }
  others = [];
});

/** A config whose SSH port is another program's. @param says - what that sends to whoever connects */
async function configOfAnother(says: string): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).write(says);
  });
  others.push({ server, sockets });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const file = path.join(tempDir(), 'gateway.yaml');
  const { port } = server.address() as AddressInfo;
  const { privateFile } = await generateKey();
  const audit = { file: path.join(path.dirname(file), 'audit.jsonl') };
  writeFileSync(file, stringify({ ...site(), listen: `127.0.0.1:${port}`, hostKeys: [privateFile], audit }));
  return file;
}

test('by /readyz: ready, no longer while it ends, and gone', async () => {
  const port = await freePort();
  // On all addresses, which is none to connect to; with a token, which this does not need.
  const metrics = { listen: `0.0.0.0:${port}`, token: '${TOKEN}' };
  const gateway = await startGateway(tempDir(), { ...site(), metrics, drainSeconds: 60 }, ENV);
  expect(await health(gateway.configFile)).toEqual({ code: 0, stdout: 'ready\n', stderr: expect.any(String) });
  expect(await health(gateway.configFile, '--quiet')).toEqual({ code: 0, stdout: '', stderr: expect.any(String) });

  const session = startSshSession({ port: gateway.port, knownHosts: gateway.knownHosts, key });
  expect((await session.request('GET', '/locks/')).status).toBe(200);
  gateway.process.signal('SIGTERM');
  await gateway.process.waitForLine(/sessions may go on/);
  expect(await health(gateway.configFile, '--quiet')).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/^restic-gateway: not ready: /m),
  });
  gateway.process.signal('SIGTERM');
  await gateway.process.exited;
  expect(await health(gateway.configFile)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`not ready: serve does not answer on 0.0.0.0:${port} (`),
  });
});

test('without metrics, by the greeting of the SSH port', async () => {
  const gateway: RunningGateway = await startGateway(tempDir(), site());
  expect(await health(gateway.configFile)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('accepts connections'),
  });
  expect(await gateway.stop()).toBe(0);
  expect(await health(gateway.configFile)).toMatchObject({ code: 1, stderr: expect.stringContaining('not ready: ') });
});

test.each([
  ['another program', 'HTTP/1.1 400 Bad Request\r\n\r\n'.repeat(100), 'is no SSH server'],
  ['one that is silent', '', 'no answer in 5 s'],
])('%s on the SSH port is not taken for the gateway', async (_who, says, words) => {
  const { code, stderr } = await health(await configOfAnother(says));
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(words) });
});
