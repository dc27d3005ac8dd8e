/**
 * A client as a process of its own that fills channels which nobody serves, as far as their windows go, and never closes one:
 * `node --import ./scripts/bench/typescript.mjs test/support/stuff-channels.ts PORT KEYFILE CONNECTIONS`
 * Prints `stuffed BYTES` once the server has taken in all of it, and stays until it is killed.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import ssh2, { type Client } from 'ssh2';
import { message, overhear, sendMessage, tcpOf } from './hostile-ssh.ts';

/** RFC 4254, 9. */
const [GLOBAL_REQUEST, CHANNEL_OPEN, CHANNEL_DATA, CHANNEL_REQUEST] = [80, 90, 94, 98];
const CHANNELS = 20;
const PIECE = 32 * 1024;

const [, , port = '', keyFile = '', connections = ''] = process.argv;
const privateKey = readFileSync(keyFile);

async function drained(client: Client): Promise<void> {
  const socket = tcpOf(client);
  if (socket.writableNeedDrain) await once(socket, 'drain');
}

/** @returns how many bytes its channels took */
async function stuff(): Promise<number> {
  const client = new ssh2.Client();
  client.connect({ host: '127.0.0.1', port: Number(port), username: 'x', privateKey });
  await once(client, 'ready');
  const windows = new Map<number, number>();
  const opened = new Promise<void>((resolve) => {
    overhear(client, 'CHANNEL_OPEN_CONFIRMATION', (info) => {
      const { sender, window } = info as { readonly sender: number; readonly window: number };
      windows.set(sender, window);
      if (windows.size === CHANNELS) resolve();
    });
  });
  for (let id = 100; id < 100 + CHANNELS; id++)
    sendMessage(client, message(CHANNEL_OPEN, 'session', [id], [PIECE], [PIECE]));
  await opened;
  let bytes = 0;
  for (const [id, window] of windows) {
    sendMessage(client, message(CHANNEL_REQUEST, [id], 'shell', false));
    for (let left = window; left > 0; left -= PIECE) {
      const piece = Buffer.alloc(Math.min(left, PIECE));
      sendMessage(client, message(CHANNEL_DATA, [id], piece));
      bytes += piece.length;
      await drained(client);
    }
  }
  // What is answered was taken in after all before it.
  const answered = new Promise<void>((resolve) => {
    for (const answer of ['REQUEST_SUCCESS', 'REQUEST_FAILURE'])
      overhear(client, answer, () => {
        resolve();
      });
  });
  sendMessage(client, message(GLOBAL_REQUEST, 'keepalive@openssh.com', true));
  await answered;
  return bytes;
}

const all = await Promise.all(Array.from({ length: Number(connections) }, stuff));
process.stdout.write(`stuffed ${all.reduce((sum, bytes) => sum + bytes, 0)}\n`);
