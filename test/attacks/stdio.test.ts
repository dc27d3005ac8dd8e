/** Hostile clients at the forced command, on one socket for both directions as sshd gives it: no process stays, and each end is told. */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:http2';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, tempDir } from '../support/lab.ts';
import { END_HEADERS, END_STREAM, FRAME, frame, PREFACE, requestHeaders } from '../support/raw-http2.ts';
import { freshStore } from '../support/stores.ts';

const WHOLE = END_HEADERS | END_STREAM;
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});

/** Starts `stdio` on the other end of a socket. */
async function startOnSocket(configFile: string) {
  const listener = createServer({ pauseOnConnect: true, allowHalfOpen: true });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const accepted = new Promise<Socket>((resolve) => listener.once('connection', resolve));
  const socket = connect({ port: (listener.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });
  sockets.push(socket);
  socket.on('error', () => undefined);
  socket.resume();
  const other = await accepted;
  listener.close();
  const child = spawn(process.execPath, [GATEWAY, 'stdio', 'appsrv', '-c', configFile], {
    stdio: [other, other, 'pipe'],
  });
  other.destroy();
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const exited = new Promise((resolve) => {
    child.on('close', (status) => {
      resolve({ status, stderr });
    });
  });
  return { socket, exited };
}

const body = requestHeaders('GET', '/config');
test.each([
  [
    'rapid reset (CVE-2023-44487)',
    Buffer.concat(
      Array.from({ length: 6000 }, (_, i) =>
        Buffer.concat([
          frame(FRAME.headers, WHOLE, 2 * i + 1, body),
          frame(FRAME.reset, 0, 2 * i + 1, Buffer.of(0, 0, 0, constants.NGHTTP2_CANCEL)),
        ]),
      ),
    ),
  ],
  ['HEADERS on stream 0', frame(FRAME.headers, WHOLE, 0, body)],
  ['a window that overflows', frame(FRAME.window, 0, 0, Buffer.from([0x7f, 0xff, 0xff, 0xff]))],
])('%s, from a client that then keeps the connection open', async (_what, attack) => {
  const directory = tempDir();
  const auditFile = path.join(directory, 'audit.jsonl');
  const configFile = path.join(directory, 'gateway.yaml');
  writeFileSync(
    configFile,
    stringify({
      stores: { main: await freshStore('directory') },
      clients: { appsrv: { keys: [(await generateKey()).publicLine], repository: { store: 'main' } } },
      audit: { file: auditFile },
    }),
  );
  const { socket, exited } = await startOnSocket(configFile);
  socket.write(Buffer.concat([PREFACE, attack]));
  expect(await exited).toEqual({ status: 1, stderr: '' });
  const last = readFileSync(auditFile, 'utf8').trimEnd().split('\n').at(-1) ?? '';
  // Where Node itself notices, the socket may close before the session has said why.
  expect(JSON.parse(last)).toMatchObject({
    event: 'session-end',
    reason: expect.stringMatching(/^(protocol-error|connection-lost)$/),
  });
});
