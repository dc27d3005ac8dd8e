/** The key exchange mlkem768x25519-sha256: its parts, in the server with ssh2's client, against hostile values, and with another ssh2. */
import * as crypto from 'node:crypto';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import ssh2, { type Algorithms, type Connection } from 'ssh2';
import { addMlKemKex, MLKEM_KEX } from '../../src/frontends/mlkem-kex.ts';
import { hybridExchange, nobleMlKem, nodeMlKem, type MlKem768 } from '../../src/frontends/mlkem768x25519.ts';
import { echoed, rekey, startEchoServer, type EchoServer } from '../support/echo-server.ts';
import { kexInit, kexinit, KEY_EXCHANGE_FAILED, MESSAGE, parseKexinit, rawClient } from '../support/raw-ssh.ts';
import type { Proposal, RawClient } from '../support/raw-ssh.ts';
import { keyPair } from '../support/ssh-stack.ts';

const noble = await nobleMlKem();
const native = nodeMlKem();
const engines: [string, MlKem768][] = [['in JavaScript', noble]];
if (native !== undefined) engines.push(["of Node's OpenSSL", native]);

const ENCAPSULATION_KEY = 1184;
const INIT = 1216;
const REPLY = 1120;
const Q = 3329;

/** A copy of an encapsulation key with one of its 768 coefficients set; two of 12 bits share three bytes (FIPS 203, 4.2.1). */
function withCoefficient(key: Uint8Array, index: number, value: number): Buffer {
  const copy = Buffer.from(key);
  const at = 3 * Math.floor(index / 2);
  const pair = copy.readUIntLE(at, 3);
  copy.writeUIntLE(index % 2 === 0 ? (pair & 0xfff000) | value : (pair & 0xfff) | (value << 12), at, 3);
  return copy;
}

/** Points of small order on curve25519, with which the result is all zeros whatever the other side's key (RFC 7748, 6.1). */
const SMALL_ORDER: [string, string][] = [
  ['0', '00'.repeat(32)],
  ['1', `01${'00'.repeat(31)}`],
  ['order 8', 'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800'],
  ['order 8, the other', '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157'],
  ['p - 1', `ec${'ff'.repeat(30)}7f`],
  ['p', `ed${'ff'.repeat(30)}7f`],
  ['p + 1', `ee${'ff'.repeat(30)}7f`],
];

test("ML-KEM is Node's own where Node has it", () => {
  expect(native !== undefined).toBe('encapsulate' in crypto);
});

describe.each(engines)('ML-KEM-768 %s', (_where, mlKem) => {
  test('gives both sides the same shared key, and another ciphertext another', () => {
    const { encapsulationKey, decapsulate } = mlKem.generate();
    const { ciphertext, sharedKey } = mlKem.encapsulate(encapsulationKey);
    expect([encapsulationKey.length, ciphertext.length, sharedKey.length]).toEqual([ENCAPSULATION_KEY, 1088, 32]);
    expect(Buffer.from(decapsulate(ciphertext))).toEqual(Buffer.from(sharedKey));
    const changed = Buffer.from(ciphertext);
    changed.writeUInt8(changed.readUInt8(0) ^ 1);
    expect(Buffer.from(decapsulate(changed))).not.toEqual(Buffer.from(sharedKey));
  });

  test.each(engines)('agrees with the one %s', (_other, other) => {
    const { encapsulationKey, decapsulate } = mlKem.generate();
    const { ciphertext, sharedKey } = other.encapsulate(encapsulationKey);
    expect(Buffer.from(decapsulate(ciphertext))).toEqual(Buffer.from(sharedKey));
  });

  test.each([0, 1, 383, 766, 767])('refuses a key whose coefficient %i is not below 3329 (FIPS 203, 7.2)', (index) => {
    const { encapsulationKey } = mlKem.generate();
    mlKem.encapsulate(withCoefficient(encapsulationKey, index, Q - 1));
    for (const value of [Q, Q + 1, 0xfff])
      expect(() => mlKem.encapsulate(withCoefficient(encapsulationKey, index, value))).toThrow();
  });
});

describe.each(engines)('the hybrid exchange on ML-KEM %s', (_where, mlKem) => {
  const hybrid = hybridExchange(mlKem);

  test('gives both sides the same secret, SHA-256 of both halves, ML-KEM first', () => {
    const known = {
      generate: () => ({ encapsulationKey: Buffer.alloc(ENCAPSULATION_KEY), decapsulate: () => Buffer.alloc(32, 1) }),
      encapsulate: () => ({ ciphertext: Buffer.alloc(1088, 2), sharedKey: Buffer.alloc(32, 1) }),
    };
    const client = crypto.generateKeyPairSync('x25519');
    const publicKey = client.publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
    const { reply, secret } = hybridExchange(known).answer(Buffer.concat([Buffer.alloc(ENCAPSULATION_KEY), publicKey]));
    const spki = Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), reply.subarray(-32)]);
    const shared = crypto.diffieHellman({
      privateKey: client.privateKey,
      publicKey: crypto.createPublicKey({ key: spki, type: 'spki', format: 'der' }),
    });
    expect(reply.subarray(0, -32)).toEqual(Buffer.alloc(1088, 2));
    expect(secret).toEqual(crypto.createHash('sha256').update(Buffer.alloc(32, 1)).update(shared).digest());

    const { init, finish } = hybrid.begin();
    const answered = hybrid.answer(init);
    expect([init.length, answered.reply.length]).toEqual([INIT, REPLY]);
    expect(finish(answered.reply)).toEqual(answered.secret);
  });

  test.each([0, 32, INIT - 1, INIT + 1, 35_000])('refuses a C_INIT of %i bytes', (length) => {
    expect(() => hybrid.answer(Buffer.concat([hybrid.begin().init, Buffer.alloc(40_000)]).subarray(0, length))).toThrow(
      `the peer's key exchange value has ${length} bytes instead of 1216`,
    );
  });

  test.each([0, REPLY - 1, REPLY + 1])('refuses an S_REPLY of %i bytes', (length) => {
    const { init, finish } = hybrid.begin();
    const { reply } = hybrid.answer(init);
    expect(() => finish(Buffer.concat([reply, Buffer.alloc(1)]).subarray(0, length))).toThrow(
      `the peer's key exchange value has ${length} bytes instead of 1120`,
    );
  });

  test.each(SMALL_ORDER)('refuses the point %s, by which X25519 is all zeros, from either side', (_name, point) => {
    const { init, finish } = hybrid.begin();
    const { reply } = hybrid.answer(init);
    const spoilt = (value: Buffer): Buffer => Buffer.concat([value.subarray(0, -32), Buffer.from(point, 'hex')]);
    expect(() => hybrid.answer(spoilt(init))).toThrow("the peer's key exchange value is not valid");
    expect(() => finish(spoilt(reply))).toThrow("the peer's key exchange value is not valid");
  });
});

describe('the server', () => {
  let echo: EchoServer;
  const clients: ssh2.Client[] = [];
  beforeAll(async () => {
    echo = await startEchoServer();
  });
  afterEach(() => {
    for (const client of clients.splice(0)) client.end();
  });
  afterAll(async () => {
    await echo.close();
  });

  /** Connects ssh2's client, and says by which method. */
  async function connected(kex: readonly string[]): Promise<{ client: ssh2.Client; method: string }> {
    const client = new ssh2.Client();
    clients.push(client);
    let method = '';
    client.on('handshake', (negotiated) => (method = negotiated.kex));
    const ready = once(client, 'ready');
    const { host, port } = echo.server.address;
    const algorithms = { kex } as Algorithms;
    client.connect({ host, port, username: 'x', privateKey: echo.key.private, algorithms });
    (await addMlKemKex()).use(client);
    await ready;
    return { client, method };
  }

  test.each([
    [[MLKEM_KEX], MLKEM_KEX],
    [[MLKEM_KEX, 'curve25519-sha256'], MLKEM_KEX],
    [['ecdh-sha2-nistp256', MLKEM_KEX, 'curve25519-sha256'], MLKEM_KEX],
    [['curve25519-sha256', MLKEM_KEX], 'curve25519-sha256'],
    [['curve25519-sha256@libssh.org', MLKEM_KEX], 'curve25519-sha256@libssh.org'],
    [['curve25519-sha256'], 'curve25519-sha256'],
  ])('with a client that has %j uses %s, also when it exchanges keys again', async (kex, method) => {
    const connection = await connected(kex);
    expect(connection.method).toBe(method);
    const again = once(connection.client, 'handshake');
    rekey(connection.client);
    const [negotiated] = (await again) as [{ kex: string }];
    expect(negotiated.kex).toBe(method);
    expect(await echoed(connection.client, [])).toBe(true);
  });

  test('exchanges keys again and again while data flows in both directions, and none of it is lost', async () => {
    const { client } = await connected([MLKEM_KEX]);
    let exchanges = 0;
    client.on('handshake', () => exchanges++);
    expect(
      await echoed(client, [
        () => {
          rekey(client);
        },
      ]),
    ).toBe(true);
    expect(exchanges).toBeGreaterThan(5);
  });
});

describe('a bare ssh2 server that asks for new keys itself', () => {
  test('while data flows in both directions, alone and together with the client, and nothing is lost', async () => {
    const mlKemKex = await addMlKemKex();
    const kex = [MLKEM_KEX] as never;
    const connections: Connection[] = [];
    const server = new ssh2.Server({ hostKeys: [keyPair().private], algorithms: { kex } }, (connection) => {
      mlKemKex.use(connection);
      connections.push(connection);
      connection.on('authentication', (context) => {
        context.accept();
      });
      connection.on('session', (accept) => {
        accept().on('exec', (acceptExec) => {
          const channel = acceptExec();
          channel.pipe(channel);
        });
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const client = new ssh2.Client();
    const methods: string[] = [];
    client.on('handshake', (negotiated) => methods.push(negotiated.kex));
    const { port } = server.address() as AddressInfo;
    client.connect({ host: '127.0.0.1', port, username: 'x', password: 'x', algorithms: { kex } });
    mlKemKex.use(client);
    await once(client, 'ready');
    const fromServer = (): void => {
      for (const connection of connections) connection.rekey();
    };
    const fromClient = (): void => {
      rekey(client);
    };
    const fromBoth = (): void => {
      fromServer();
      fromClient();
    };
    expect(await echoed(client, [fromServer, fromBoth, fromClient])).toBe(true);
    expect(methods.length).toBeGreaterThan(5);
    expect(new Set(methods)).toEqual(new Set([MLKEM_KEX]));
    client.end();
    await new Promise((resolve) => server.close(resolve));
  });
});

describe('a hostile client', () => {
  const hybrid = hybridExchange(noble);
  const good = (): Buffer => hybrid.begin().init;
  const proposal: Proposal = {
    kex: [MLKEM_KEX, 'curve25519-sha256', 'kex-strict-c-v00@openssh.com'],
    hostKey: ['ssh-ed25519'],
    cipherToServer: ['aes128-gcm@openssh.com'],
    cipherToClient: ['aes128-gcm@openssh.com'],
    macToServer: [],
    macToClient: [],
    compressionToServer: ['none'],
    compressionToClient: ['none'],
    languageToServer: [],
    languageToClient: [],
  };
  let echo: EchoServer;
  let client: RawClient;
  beforeAll(async () => {
    echo = await startEchoServer();
  });
  afterEach(() => {
    client.close();
  });
  afterAll(async () => {
    await echo.close();
  });

  async function begun(): Promise<void> {
    client = await rawClient(echo.server.address);
    expect((await client.next())?.[0]).toBe(MESSAGE.kexinit);
  }

  /** The server's answer to one who behaves, from the next connection. */
  async function answersOthers(): Promise<void> {
    const other = await rawClient(echo.server.address);
    other.send(kexinit(proposal), kexInit(good()));
    expect((await other.next())?.[0]).toBe(MESSAGE.kexinit);
    expect((await other.next())?.[0]).toBe(MESSAGE.kexReply);
    other.close();
  }

  test.each<[string, () => Buffer]>([
    ['nothing', () => Buffer.alloc(0)],
    ['only an X25519 key', () => good().subarray(-32)],
    ['one byte too few', () => good().subarray(1)],
    ['one byte too many', () => Buffer.concat([good(), Buffer.alloc(1)])],
    ['30,000 bytes', () => randomBytes(30_000)],
    ['zeros', () => Buffer.alloc(INIT)],
    ['ones', () => Buffer.alloc(INIT, 0xff)],
    ['an ML-KEM key with a first coefficient of 3329', () => withCoefficient(good(), 0, Q)],
    ['an ML-KEM key with a last coefficient of 4095', () => withCoefficient(good(), 767, 0xfff)],
    ...SMALL_ORDER.map<[string, () => Buffer]>(([name, point]) => [
      `the X25519 point ${name}`,
      () => Buffer.concat([good().subarray(0, -32), Buffer.from(point, 'hex')]),
    ]),
  ])('who sends %s as its value is told that the key exchange failed, and others are served', async (_what, value) => {
    await begun();
    client.send(kexinit(proposal), kexInit(value()));
    const answer = await client.next();
    expect(answer?.[0]).toBe(MESSAGE.disconnect);
    expect(answer?.readUInt32BE(1)).toBe(KEY_EXCHANGE_FAILED);
    expect(await client.next()).toBeUndefined();
    expect(echo.logged.at(-1)).toMatch(/^connection failed: .*the peer's key exchange value/);
    await answersOthers();
  });

  test.each<[string, () => Buffer[]]>([
    ['a bad value and goes on as if nothing were', () => [kexInit(Buffer.alloc(9)), newkeys(), kexInit(good())]],
    ['its value twice', () => [kexInit(good()), kexInit(good())]],
    ['NEWKEYS instead of its value', () => [newkeys()]],
    ['a second KEXINIT', () => [kexinit(proposal), kexInit(good())]],
    ['a packet that may be ignored, which strict key exchange forbids', () => [Buffer.of(MESSAGE.ignore, 0, 0, 0, 0)]],
    ['no value but the beginning of one', () => [Buffer.of(MESSAGE.kexInit, 0, 0, 0x04, 0xc0)]],
  ])('who sends %s is disconnected, and others are served', async (_what, messages) => {
    await begun();
    client.send(kexinit(proposal), ...messages());
    const answers = [];
    for (let answer = await client.next(); answer !== undefined; answer = await client.next()) answers.push(answer[0]);
    expect(answers.at(-1)).toBe(MESSAGE.disconnect);
    await answersOthers();
  });

  test.each<[string, () => Buffer[]]>([
    ['its value before anything else', () => [kexInit(good())]],
    ['a KEXINIT that ends in its cookie', () => [kexinit(proposal).subarray(0, 12)]],
    ['a KEXINIT whose first list is longer than the message', () => [overlong(), kexInit(good())]],
  ])('who sends %s gets nothing, and others are served', async (_what, messages) => {
    await begun();
    client.send(...messages());
    const answers = [];
    for (let answer = await client.next(); answer !== undefined; answer = await client.next()) answers.push(answer[0]);
    expect(answers).not.toContain(MESSAGE.kexReply);
    await answersOthers();
  });

  function newkeys(): Buffer {
    return Buffer.of(MESSAGE.newkeys);
  }

  function overlong(): Buffer {
    const message = kexinit(proposal);
    message.writeUInt32BE(0xffffffff, 17);
    return message;
  }
});

describe('a client that guesses (RFC 4253, 7.1)', () => {
  let echo: EchoServer;
  beforeAll(async () => {
    echo = await startEchoServer();
  });
  afterAll(async () => {
    await echo.close();
  });

  test.each([
    ['this method, rightly,', [MLKEM_KEX, 'curve25519-sha256'], []],
    ['another method, wrongly,', ['sntrup761x25519-sha512', MLKEM_KEX], [kexInit(randomBytes(1190))]],
    ["the host key's type wrongly", [MLKEM_KEX], [kexInit(randomBytes(INIT))], ['ssh-rsa', 'ssh-ed25519']],
  ])('%s is answered to the value that counts', async (_what, kex, wrong, hostKey = ['ssh-ed25519']) => {
    const client = await rawClient(echo.server.address);
    const own = parseKexinit((await client.next()) ?? Buffer.alloc(0));
    client.send(kexinit({ ...own, kex, hostKey }, true), ...wrong, kexInit(hybridExchange(noble).begin().init));
    const answer = await client.next();
    expect(answer?.[0]).toBe(MESSAGE.kexReply);
    expect(answer?.readUInt32BE(5 + answer.readUInt32BE(1))).toBe(REPLY);
    client.close();
  });
});
