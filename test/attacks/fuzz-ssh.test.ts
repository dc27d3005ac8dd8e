/** Mutated SSH at a real gateway, before the key exchange, at login and with a key: it lives, serves the others and changes nothing. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from '@jest/globals';
import ssh2, { type Client, type ParsedKey } from 'ssh2';
import { fuzz, mutated, type Chance } from '../support/fuzz.ts';
import { startFuzzedGateway, type FuzzedGateway } from '../support/fuzzed-gateway.ts';
import { message, overhear, sendMessage, tcpOf } from '../support/hostile-ssh.ts';
import { kexinit, kexInit, packet, type Proposal } from '../support/raw-ssh.ts';

/** Cases of each kind in CI; each is a connection, which costs both sides a key exchange. */
const CASES = 120;
const LANES = 4;

const PROPOSAL: Proposal = {
  ...{ kex: ['mlkem768x25519-sha256', 'curve25519-sha256', 'kex-strict-c-v00@openssh.com'], hostKey: ['ssh-ed25519'] },
  ...{ cipherToServer: ['aes128-gcm@openssh.com'], cipherToClient: ['aes128-gcm@openssh.com'] },
  ...{ macToServer: ['hmac-sha2-256-etm@openssh.com'], macToClient: ['hmac-sha2-256-etm@openssh.com'] },
  ...{ compressionToServer: ['none'], compressionToClient: ['none'], languageToServer: [], languageToClient: [] },
};

/** Messages of the transport, which may come at any time (RFC 4253). */
function transport(chance: Chance): Buffer {
  return chance.of([
    () => message(1, [chance.below(16)], 'bye', ''),
    () => message(2, chance.bytes(chance.below(300))),
    () => message(3, [chance.below(100)]),
    () => message(4, true, 'debug', 'en'),
    () => message(5, chance.of(['ssh-userauth', 'ssh-connection', 'x'])),
    () => message(7, [1], 'server-sig-algs', 'ssh-ed25519'),
    () => message(21),
    () => kexinit(PROPOSAL, chance.once(4)),
    () => kexInit(chance.bytes(chance.of([32, 1216, chance.below(1300)]))),
    () => Buffer.concat([Buffer.of(chance.below(256)), chance.bytes(chance.below(100))]),
  ])();
}

/** Messages of a login (RFC 4252). */
function login(chance: Chance, key: ParsedKey): Buffer {
  const head = (method: string): Buffer => message(50, 'user', 'ssh-connection', method);
  const public_ = key.getPublicSSH();
  return chance.of([
    () => head('none'),
    () => Buffer.concat([head('password'), message(chance.once(2), 'secret', 'new')]),
    () => Buffer.concat([head('keyboard-interactive'), message('', '')]),
    () => Buffer.concat([head('publickey'), message(false, 'ssh-ed25519', public_)]),
    () =>
      Buffer.concat([
        head('publickey'),
        message(true, 'ssh-ed25519', public_, message('ssh-ed25519', chance.bytes(64))),
      ]),
    () =>
      Buffer.concat([
        head('publickey'),
        message(true, 'rsa-sha2-256', chance.bytes(80), message('rsa-sha2-256', chance.bytes(256))),
      ]),
    () => Buffer.concat([head('publickey'), message(true, 'ecdsa-sha2-nistp256', chance.bytes(80), chance.bytes(90))]),
    () => Buffer.concat([head('hostbased'), message('ssh-ed25519', public_, 'host', 'user', chance.bytes(83))]),
    () => message(61, [chance.below(4)], 'answer'),
    () => Buffer.of(chance.of([51, 52, 53, 60])),
    () => transport(chance),
  ])();
}

/** Messages of a connection (RFC 4254). */
function channels(chance: Chance): Buffer {
  const id = chance.below(4);
  const request = (kind: string, rest: Buffer = Buffer.alloc(0)): Buffer =>
    Buffer.concat([message(98, [id], kind, chance.once(2)), rest]);
  return chance.of([
    () => message(90, 'session', [id], [chance.below(100_000)], [chance.below(65_536)]),
    () => message(90, 'session', [id], [65_536], [32_768]),
    () => message(90, 'direct-tcpip', [id], [65_536], [32_768], '127.0.0.1', [22], '127.0.0.1', [1]),
    () => message(90, 'direct-streamlocal@openssh.com', [id], [65_536], [32_768], '/run/x', '', [0]),
    () => message(91, [id], [id], [65_536], [32_768]),
    () => message(92, [id], [1], 'no', ''),
    () => message(93, [id], [chance.of([0, 1, 65_536, 0xffffffff])]),
    () => message(94, [id], chance.bytes(chance.below(2000))),
    () => message(95, [id], [1], chance.bytes(20)),
    () => message(96, [id]),
    () => message(97, [id]),
    () => request('exec', message('serve restic')),
    () => request('shell'),
    () => request('subsystem', message('sftp')),
    () => request('env', message('NAME', 'value')),
    () =>
      request('pty-req', message('xterm', [80], [24], [640], [480], Buffer.concat([Buffer.of(53), chance.bytes(4)]))),
    () => request('window-change', message([80], [24], [640], [480])),
    () => request('x11-req', message(false, 'MIT-MAGIC-COOKIE-1', 'aa', [0])),
    () => request('auth-agent-req@openssh.com'),
    () => request('signal', message('TERM')),
    () => request('exit-status', message([0])),
    () => message(99, [id]),
    () => message(100, [id]),
    () => message(80, chance.of(['tcpip-forward', 'cancel-tcpip-forward', 'keepalive@openssh.com']), true, '', [0]),
    () => message(80, 'streamlocal-forward@openssh.com', true, '/x'),
    () => message(80, 'hostkeys-prove-00@openssh.com', true, chance.bytes(51)),
    () => message(81),
    () => message(82),
    () => transport(chance),
  ])();
}

/** Sends messages, most of them changed, as long as the gateway listens; then goes, one way or the other. */
async function assail(client: Client, chance: Chance, make: () => Buffer): Promise<void> {
  const socket = tcpOf(client);
  const closed = new Promise<void>((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', resolve);
  });
  for (let left = 1 + chance.below(12); left > 0 && !socket.destroyed; left--) {
    const whole = make();
    const bytes = chance.once(3) ? whole : mutated(whole, chance);
    try {
      sendMessage(client, bytes.subarray(0, 200_000), chance.once(2));
    } catch {
      // ssh2's own client has given the connection up.
      break;
    }
    if (chance.once(3)) await sleep(1);
    if (chance.once(25)) socket.write(chance.bytes(1 + chance.below(200)));
  }
  if (chance.once(2)) socket.resetAndDestroy();
  else socket.end();
  // The server waits for a key exchange that was begun longer than a test should.
  await Promise.race([closed, sleep(500)]);
  client.destroy();
}

/** Agrees on keys; what comes then is the caller's. Undefined when the gateway hangs up first. */
async function atLogin({ port }: FuzzedGateway): Promise<Client> {
  const client = new ssh2.Client();
  client.on('error', () => undefined);
  const accepted = new Promise<void>((resolve) => {
    client.once('handshake', () => {
      overhear(client, 'SERVICE_ACCEPT', () => {
        resolve();
      });
    });
    client.once('close', () => {
      resolve();
    });
  });
  client.connect({ host: '127.0.0.1', port, username: 'user', authHandler: () => undefined });
  await accepted;
  return client;
}

test('before and in the key exchange', async () => {
  const gateway = await startFuzzedGateway();
  await fuzz('ssh, unencrypted', { cases: 2 * CASES, lanes: LANES }, async (chance) => {
    const socket = connect({ host: '127.0.0.1', port: gateway.port, noDelay: true });
    socket.on('error', () => undefined);
    socket.resume();
    await once(socket, 'connect');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const parts = [Buffer.from('SSH-2.0-fuzz\r\n'), packet(kexinit(PROPOSAL)), packet(kexInit(chance.bytes(1216)))];
    for (let more = chance.below(4); more > 0; more--) parts.push(packet(transport(chance)));
    const at = chance.below(parts.length);
    for (const [index, part] of parts.entries())
      socket.write(index === at || chance.once(6) ? mutated(part, chance) : part);
    if (chance.once(2)) socket.end();
    await Promise.race([closed, sleep(200)]);
    socket.destroy();
  });
  await gateway.conclude([]);
});

test('at login, encrypted', async () => {
  const gateway = await startFuzzedGateway();
  const key = ssh2.utils.parseKey(gateway.hostileKey) as ParsedKey;
  await fuzz('ssh, login', { cases: CASES, lanes: LANES }, async (chance) => {
    const client = await atLogin(gateway);
    await assail(client, chance, () => login(chance, key));
  });
  await gateway.conclude([]);
});

test('with a key, encrypted', async () => {
  const gateway = await startFuzzedGateway();
  await fuzz('ssh, connection', { cases: CASES, lanes: LANES }, async (chance) => {
    const client = await gateway.connect('hostile');
    client.on('error', () => undefined);
    // Half of them begin with a session that is in order.
    if (chance.once(2)) {
      sendMessage(client, message(90, 'session', [0], [65_536], [32_768]));
      sendMessage(client, message(98, [0], 'exec', true, 'x'));
    }
    await assail(client, chance, () => channels(chance));
  });
  await gateway.conclude(['connection-lost']);
});
