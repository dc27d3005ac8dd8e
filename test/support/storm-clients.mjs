/**
 * Honest clients that log in, each once, behind one address of loopback, as a process of its own so that the server is not slowed by it.
 *
 *     node storm-clients.mjs PORT ADDRESS SECONDS <KEYS
 *
 * KEYS is a JSON array of private keys, one a client. They come evenly over SECONDS, or at once with 0, and leave once they are
 * in. It prints a JSON array: how long each waited to be let in, in ms, and null for each that was not.
 */
import { connect } from 'node:net';
import { performance } from 'node:perf_hooks';
import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import ssh2 from 'ssh2';

const [port, localAddress, seconds] = process.argv.slice(2);
const keys = JSON.parse(await text(process.stdin));

async function connected() {
  const socket = connect({ host: '127.0.0.1', port: Number(port), localAddress });
  socket.on('error', () => undefined);
  await new Promise((resolve) => {
    socket.once('connect', resolve);
    socket.once('close', resolve);
  });
  return socket;
}

async function login(privateKey, sock, began) {
  const client = new ssh2.Client();
  const waited = await new Promise((resolve) => {
    client.on('ready', () => resolve(performance.now() - began));
    client.on('error', () => resolve(null));
    client.on('close', () => resolve(null));
    client.connect({ sock, username: 'x', privateKey, readyTimeout: 0 });
  });
  client.end();
  return waited;
}

async function inTime(privateKey, index) {
  await setTimeout((index / keys.length) * Number(seconds) * 1000);
  const began = performance.now();
  return login(privateKey, await connected(), began);
}

/** None computes keys before all are connected: on a busy machine that would spread them. */
async function atOnce() {
  const began = performance.now();
  const sockets = await Promise.all(keys.map(connected));
  return Promise.all(keys.map((key, index) => login(key, sockets[index], began)));
}

const waits = Number(seconds) === 0 ? await atOnce() : await Promise.all(keys.map(inTime));
process.stdout.write(`${JSON.stringify(waits)}\n`);
process.exit(0);
