/**
 * PROXY headers from who may send them and from who may not: the client's own address is what counts, and nobody says another's.
 *
 * The balancers are 127.9.0.0/24 here; whoever comes from elsewhere on loopback is somebody else.
 */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import ssh2 from 'ssh2';
import { parse, stringify } from 'yaml';
import { startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { generateKey, tempDir, type KeyFiles } from '../support/lab.ts';
import { proxyV1, proxyV2 } from '../support/proxy-headers.ts';
import { freshStore } from '../support/stores.ts';

const BALANCER = '127.9.0.1';
const [ONE, OTHER] = ['203.0.113.7', '198.51.100.9'];
const LOCAL = proxyV2(0x20, 0x00, Buffer.alloc(0));
const UNKNOWN = Buffer.from('PROXY UNKNOWN\r\n');

let gateway: RunningGateway;
let key: KeyFiles;
let fenced: KeyFiles;
let wrong: KeyFiles;
const sockets = new Set<Socket>();

beforeAll(async () => {
  [key, fenced, wrong] = [await generateKey(), await generateKey(), await generateKey()];
  gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore('directory') },
    clients: {
      honest: { keys: [key.publicLine], repository: { store: 'main' } },
      fenced: { keys: [fenced.publicLine], repository: { store: 'main' }, from: [ONE] },
    },
    proxyProtocol: { from: ['127.9.0.0/24'] },
    // Who has to wait for its penalty waits until the test is over.
    ssh: { limits: { unauthenticated: 40, maxDelaySeconds: 60, loginSeconds: 600 } },
  });
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});
afterAll(() => gateway.stop());

/** Connects, from an address of loopback, and sends these first. */
async function dial(localAddress: string, ...first: readonly Uint8Array[]): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port: gateway.port, localAddress, noDelay: true });
  socket.on('error', () => undefined);
  sockets.add(socket);
  await once(socket, 'connect');
  for (const bytes of first) {
    socket.write(bytes);
    // Each in a packet of its own.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return socket;
}

/** Asks for a session on a connection. @returns what became of it: its exit status, or that it was cut */
async function session(socket: Socket, by: KeyFiles): Promise<number | 'cut'> {
  const client = new ssh2.Client();
  return new Promise((resolve) => {
    client.on('error', () => undefined);
    client.on('close', () => {
      resolve('cut');
    });
    client.on('ready', () => {
      client.exec('restic', (error, channel) => {
        if (error !== undefined) return;
        channel.on('exit', (status: number) => {
          resolve(status);
          client.end();
        });
        channel.resume().end();
      });
    });
    client.connect({ sock: socket, username: 'x', privateKey: readFileSync(by.privateFile), readyTimeout: 0 });
  });
}

/** What the log has of connections that failed, up to one that is made to fail now. */
async function failuresSoFar(): Promise<readonly string[]> {
  const mark = `198.18.0.${(marks += 1)}`;
  await once((await dial(BALANCER, proxyV1(mark), Buffer.from('GET /\r\n'))).resume(), 'close');
  await gateway.process.waitForLine(new RegExp(`${mark}".*connection failed`));
  return gateway.process.lines.filter((line) => line.includes('connection failed') && !line.includes('198.18.0.'));
}
let marks = 0;

/** The first line of the audit that is from there. */
function audited(address: string): Readonly<Record<string, unknown>> | undefined {
  return readFileSync(gateway.auditFile, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>)
    .find(({ from }) => from === address);
}

describe('what a listed balancer says', () => {
  const block = (hex: string, to: string): Buffer => Buffer.from(`${hex}${to}dead0016`, 'hex');
  test.each([
    ['in a line', '203.0.113.1', proxyV1('203.0.113.1')],
    ['in binary', '203.0.113.2', proxyV2(0x21, 0x11, block('cb007102', '7f000001'))],
    [
      'of IPv6',
      '2001:db8::7',
      proxyV2(0x21, 0x21, block('20010db8000000000000000000000007', '00000000000000000000000000000001')),
    ],
    [
      'of IPv4 in IPv6',
      '203.0.113.3',
      proxyV2(0x21, 0x21, block('00000000000000000000ffffcb007103', '00000000000000000000000000000001')),
    ],
  ])('%s is who the session is from, even in single bytes', async (_how, address, header) => {
    expect(await session(await dial(BALANCER, header), key)).toBe(0);
    expect(await session(await dial(BALANCER, ...[...header].map((byte) => Buffer.from([byte]))), key)).toBe(0);
    expect(audited(address)).toMatchObject({ event: 'session-start', client: 'honest' });
  });

  test('is what `from` of a client is held against, and not the balancer', async () => {
    expect(await session(await dial(BALANCER, proxyV1(ONE)), fenced)).toBe(0);
    expect(await session(await dial(BALANCER, proxyV1(OTHER)), fenced)).toBe(1);
    expect(await session(await dial(BALANCER, LOCAL), fenced)).toBe(1);
  });
});

describe('who is cut, and the log says why', () => {
  const cases: readonly (readonly [string, string, readonly Buffer[], RegExp])[] = [
    ['a line from who is not listed', '127.8.0.1', [proxyV1(ONE)], /127\.8\.0\.1.*from the addresses in proxyProtocol/],
    ['binary from who is not listed', '127.8.0.2', [LOCAL], /127\.8\.0\.2.*from the addresses in proxyProtocol/],
    ['a second header', BALANCER, [proxyV1(OTHER), proxyV1(ONE)], /198\.51\.100\.9.*which is taken once/],
    [
      'a second header in one packet',
      BALANCER,
      [Buffer.concat([proxyV1('198.51.100.8'), LOCAL])],
      /198\.51\.100\.8.*once/,
    ],
    ['none from who is listed', '127.9.0.2', [Buffer.from('SSH-2.0-x\r\n')], /127\.9\.0\.2.*is no PROXY header/],
    ['one that is wrong', '127.9.0.3', [Buffer.from('PROXY TCP4 a b c d\r\n')], /127\.9\.0\.3.*is no PROXY header/],
    [
      'one that goes on for ever',
      '127.9.0.4',
      [Buffer.from('PROXY UNKNOWN '.padEnd(500, 'x'))],
      /127\.9\.0\.4.*longer/,
    ],
    ['one that never comes', '127.9.0.5', [Buffer.from('PROXY ')], /127\.9\.0\.5.*no PROXY header came within 5 s/],
  ];
  test.each(cases)('%s', async (_who, from, sent, why) => {
    const socket = await dial(from, ...sent);
    let told = '';
    socket.on('data', (bytes: Buffer) => (told += bytes.toString('latin1')));
    await once(socket, 'close');
    expect(told).not.toContain('\n\0');
    await gateway.process.waitForLine(why);
  });

  test('one that ends within it', async () => {
    (await dial('127.9.0.6', Buffer.from('PROXY TC'))).end();
    await gateway.process.waitForLine(/127\.9\.0\.6.*it ended within its PROXY header/);
  });
});

test('connections whose header does not come are the first to go, and take no place from those who log in', async () => {
  const silent = await Promise.all(Array.from({ length: 60 }, () => dial(BALANCER)));
  let cut = 0;
  for (const socket of silent) socket.resume().once('close', () => (cut += 1));
  expect(await session(await dial(BALANCER, proxyV1(ONE)), key)).toBe(0);
  expect(await session(await dial('127.0.0.1'), key)).toBe(0);
  expect(cut).toBeGreaterThan(0);
});

test('wrong keys behind a balancer make their own address wait, and no other behind it', async () => {
  for (let i = 0; i < 6; i++) expect(await session(await dial(BALANCER, proxyV1('203.0.113.66')), wrong)).toBe('cut');
  let waits = true;
  void session(await dial(BALANCER, proxyV1('203.0.113.66')), key).then(() => (waits = false));
  expect(await session(await dial(BALANCER, proxyV1('203.0.113.67')), key)).toBe(0);
  expect(waits).toBe(true);
});

test('health checks leave nothing in the log, and earn no penalty', async () => {
  const before = (await failuresSoFar()).length;
  const checks = [[], [LOCAL], [UNKNOWN], [LOCAL, Buffer.from('SSH-2.0-check\r\n')], [LOCAL, Buffer.from('QUIT\r\n')]];
  for (const sent of checks)
    for (let i = 0; i < 6; i++) {
      const socket = await dial('127.9.0.20', ...sent);
      if (i % 2 === 0) socket.resetAndDestroy();
      else await once(socket.resume().end(), 'close');
    }
  expect((await failuresSoFar()).slice(before)).toEqual([]);
  expect(await session(await dial('127.9.0.20', LOCAL), key)).toBe(0);
});

test('a reload takes another balancer up, and the one before becomes somebody else', async () => {
  const config = parse(readFileSync(gateway.configFile, 'utf8')) as Record<string, unknown>;
  writeFileSync(gateway.configFile, stringify({ ...config, proxyProtocol: { from: ['127.7.0.1'] } }));
  await gateway.process.waitForLine(/the config was read again/);
  expect(await session(await dial('127.7.0.1', proxyV1(ONE)), key)).toBe(0);
  expect(await session(await dial(BALANCER), key)).toBe(0);
  await once((await dial('127.9.0.99', proxyV1(ONE))).resume(), 'close');
  await gateway.process.waitForLine(/127\.9\.0\.99.*from the addresses in proxyProtocol/);
});
