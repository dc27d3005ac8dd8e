/** The private parts of ssh2 that the server goes by: a missing one is named at start, and the fast way of encryption is taken. */
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { expect, test } from '@jest/globals';
import ssh2 from 'ssh2';
import { ChannelStream } from '../../src/frontends/channel-stream.ts';
import { guardPeer } from '../../src/frontends/peer-guard.ts';
import {
  checkSsh2,
  encryptsInPlace,
  loadSsh2,
  MEMBERS,
  missingIn,
  passingHostKey,
  protocolOf,
  withSsh2Parts,
  type Ssh2Parts,
} from '../../src/frontends/ssh2-internals.ts';

const native = loadSsh2().crypto.bindingAvailable;

test('this ssh2 has them all', async () => {
  await expect(checkSsh2()).resolves.toBeUndefined();
  await expect(withSsh2Parts((parts) => missingIn(parts, native))).resolves.toBeUndefined();
});

/** The parts with one member replaced, down to the object that has it. */
function without(parts: Ssh2Parts, part: keyof Ssh2Parts, path: string, value?: unknown): Ssh2Parts {
  const replaced = (from: object, [name = '', ...rest]: readonly string[]): object =>
    new Proxy(from, {
      get: (target, key): unknown => {
        const found: unknown = Reflect.get(target, key);
        if (key !== name) return found;
        return rest.length === 0 ? value : replaced(found as object, rest);
      },
      has: (target, key) =>
        key === name && rest.length === 0 && value === undefined ? false : Reflect.has(target, key),
    });
  return { ...parts, [part]: replaced(parts[part], path.split('.')) };
}

const everyMember = (Object.entries(MEMBERS) as [keyof Ssh2Parts, (typeof MEMBERS)['channel']][]).flatMap(
  ([part, members]) => members.map(([path, type]) => [part, path, type] as const),
);
test.each(everyMember)('of a %s without %s it is said so', async (part, path, type) => {
  const said = await withSsh2Parts((parts) => missingIn(without(parts, part, path), native));
  expect(said).toBe(`${path} of a ${part} is of type undefined, not ${type}`);
});

test.each([
  ['connection', '_protocol._kexinit', /_kexinit of a connection is missing/],
  ['channel', '_chunkcb', /_chunkcb of a channel is missing/],
] as const)('of a %s without %s, which is undefined for most of the time, it is said so', async (part, path, said) => {
  expect(await withSsh2Parts((parts) => missingIn(without(parts, part, path), native))).toMatch(said);
});

test('a cipher that is called otherwise is found, where there is a native part', async () => {
  class Renamed {
    outSeqno = 0;
    _dead = false;
    allocPacket = (): Buffer => Buffer.alloc(0);
    encrypt = (): void => undefined;
    _instance = { encrypt: (): void => undefined };
  }
  const parts = (given: Ssh2Parts): Ssh2Parts => without(given, 'connection', '_protocol._cipher', new Renamed());
  expect(await withSsh2Parts((given) => missingIn(parts(given), true))).toMatch(
    'the cipher of AES-GCM is Renamed, not AESGCMCipherBinding with its native part',
  );
  expect(await withSsh2Parts((given) => missingIn(parts(given), false))).toBeUndefined();
});

test('what a channel sends is encrypted in place, packet by packet, and none of it by ssh2', async () => {
  // The lab's machines have what builds it; another one has the slower way alone.
  expect(native).toBe(true);
  const bytes = 1024 * 1024;
  let inPlace = 0;
  let bySsh2 = 0;
  const server = new ssh2.Server({ hostKeys: [passingHostKey()] }, (connection) => {
    const link = guardPeer(connection, () => undefined);
    connection.on('error', () => undefined);
    connection.on('authentication', (context) => {
      context.accept();
    });
    connection.on('session', (accept) => {
      accept().on('exec', (acceptExec) => {
        const protocol = protocolOf(connection);
        const channelData = protocol.channelData.bind(protocol);
        protocol.channelData = (id, data) => {
          bySsh2 += data.length;
          channelData(id, data);
        };
        const cipher = encryptsInPlace(protocol);
        if (cipher === undefined) throw new Error('no cipher that encrypts in place');
        const encrypt = cipher.encrypt.bind(cipher);
        cipher.encrypt = (packet) => {
          inPlace += packet.length;
          encrypt(packet);
        };
        new ChannelStream(acceptExec(), link).end(Buffer.alloc(bytes));
      });
    });
  });
  const listener = createServer((socket) => {
    server.injectSocket(socket);
  }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const client = new ssh2.Client();
  const received = await new Promise<number>((resolve, reject) => {
    client.on('error', reject);
    client.on('ready', () => {
      client.exec('x', (error, channel) => {
        let length = 0;
        if (error) reject(error);
        else
          channel
            .on('data', (chunk: Buffer) => (length += chunk.length))
            .on('end', () => {
              resolve(length);
            });
      });
    });
    const { port } = listener.address() as AddressInfo;
    client.connect({ host: '127.0.0.1', port, username: 'x', algorithms: { cipher: ['aes128-gcm@openssh.com'] } });
  });
  client.end();
  listener.close();
  expect(received).toBe(bytes);
  expect(inPlace).toBeGreaterThan(bytes);
  expect(bySsh2).toBe(0);
});
