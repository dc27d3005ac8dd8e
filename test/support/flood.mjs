/**
 * Hostile connections to an SSH server, from many addresses of loopback, as a process of its own so that the server is not slowed by it.
 *
 *     node flood.mjs PORT ADDRESSES EACH BEHAVIOUR
 *
 * Each address keeps EACH connections open and opens another for each that is cut. It prints `full` once all have tried, and runs until
 * its stdin ends. Behaviours: `silent`, `dribble` (a byte a second), `banner` (the first line and no more), `keys` (a key exchange and
 * no more), `churn` (connects and leaves).
 */
import { connect } from 'node:net';
import { clearInterval, setInterval, setTimeout } from 'node:timers';
import ssh2 from 'ssh2';

const [port, addresses, each, behaviour] = process.argv.slice(2);
const wanted = Number(addresses) * Number(each);
let tried = 0;
let behind = 0;

function open(address) {
  tried++;
  if (tried === wanted) process.stdout.write('full\n');
  const socket = connect({ port: Number(port), host: '127.0.0.1', localAddress: address });
  let timer;
  socket.on('error', () => undefined);
  socket.on('close', () => {
    clearInterval(timer);
    // Not all in one moment: what a host can do, it does evenly.
    setTimeout(open, 200 + Math.random() * 600, address);
  });
  switch (behaviour) {
    case 'dribble': {
      const line = `SSH-2.0-${'x'.repeat(200)}`;
      let at = 0;
      timer = setInterval(() => socket.write(line[at++ % line.length]), 1000);
      socket.resume();
      return;
    }
    case 'banner':
      socket.write('SSH-2.0-x\r\n');
      socket.resume();
      return;
    case 'keys': {
      const client = new ssh2.Client();
      client.on('error', () => undefined);
      client.connect({ sock: socket, username: 'x', readyTimeout: 0, authHandler: () => undefined });
      return;
    }
    case 'churn':
      socket.once('connect', () => socket.destroy());
      return;
    default:
      socket.resume();
  }
}

for (let i = 0; i < Number(each); i++)
  for (let from = 0; from < Number(addresses); from++) {
    const address = `127.${1 + (from >> 8)}.${from & 255}.9`;
    setTimeout(open, (behind += 0.2), address);
  }
process.stdin.resume();
process.stdin.once('end', () => process.exit(0));
