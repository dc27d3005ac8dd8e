/** Strangers at the SSH server's login: every method but the one, names to guess, keys swapped, old algorithms, rekeys and packets out of turn. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import ssh2, { type AuthContext, type Client, type ParsedKey } from 'ssh2';
import { parsePublicKey } from '../../src/config/public-key.ts';
import type { GatewayConfig } from '../../src/config/types.ts';
import { createAuthentication } from '../../src/frontends/ssh-auth.ts';
import { rekey } from '../support/echo-server.ts';
import { awaitKeyAnswers, message, overhear, sendMessage, tcpOf } from '../support/hostile-ssh.ts';
import { lab, run, sshClientArgs, tempDir, type Outcome } from '../support/lab.ts';
import { KEY_EXCHANGE_FAILED, kexinit, MESSAGE, parseKexinit, rawClient, type Proposal } from '../support/raw-ssh.ts';
import { resticClient } from '../support/restic-client.ts';
import { channelOf, keyPair, sshConnect, startSshStack, type KeyPair, type SshStack } from '../support/ssh-stack.ts';
import { testClient } from '../support/test-client.ts';

/** Message numbers: RFC 4252, 6; RFC 4254, 9. */
const SERVICE_REQUEST = 5;
const SERVICE_ACCEPT = 6;
const AUTH_REQUEST = 50;
const AUTH_SUCCESS = 52;
const AUTH_PK_OK = 60;
const GLOBAL_REQUEST = 80;
const CHANNEL_OPEN = 90;
const CHANNEL_OPEN_CONFIRMATION = 91;
const CHANNEL_DATA = 94;
const CHANNEL_REQUEST = 98;

let stack: SshStack;
/** A client of the gateway whose key is in the attacker's hands. */
let other: KeyPair;
const clients: Client[] = [];
async function open(limits: NonNullable<GatewayConfig['ssh']['limits']> = {}): Promise<void> {
  const victim = keyPair();
  other = keyPair();
  const client = (name: string, key: KeyPair) =>
    testClient(name, { keys: [parsePublicKey(key.public)], maxSessions: 5 });
  stack = await startSshStack(
    {},
    {
      clients: { victim: client('victim', victim), other: client('other', other) },
      ssh: { extraCiphers: [], limits: { maxDelaySeconds: 0, ...limits } },
    },
  );
  Object.assign(stack, { key: victim });
}
beforeEach(() => open());
afterEach(async () => {
  // Whatever happened: one that keeps to the rules is served.
  await served(await connected(), 'victim');
  for (const each of clients.splice(0)) each.destroy();
  await stack.close();
});

async function connected(privateKey = stack.key.private): Promise<Client> {
  const client = await sshConnect(stack, { privateKey });
  clients.push(client);
  return client;
}

/** Opens a session, and holds the audit to whose it is. */
async function served(client: Client, name: string): Promise<void> {
  // A session before may be ending meanwhile.
  const starts = (): unknown[] =>
    stack.audit().flatMap((line) => (line['event'] === 'session-start' ? [line['client']] : []));
  const before = starts();
  const restic = resticClient(await channelOf((done) => client.exec('x', done)));
  expect((await restic.request('GET', '/file-1')).status).toBe(404);
  expect(starts()).toEqual([...before, name]);
}

async function closedOf(client: Client): Promise<void> {
  const socket = tcpOf(client);
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
}

/** A client that has agreed on keys and may speak of authentication, and does nothing by itself. */
async function atLogin(readyTimeout = 20_000): Promise<Client> {
  const client = new ssh2.Client();
  clients.push(client);
  client.on('error', () => undefined);
  const { host, port } = stack.server.address;
  client.connect({ host, port, username: 'x', readyTimeout, authHandler: () => undefined });
  await once(client, 'handshake');
  await new Promise<void>((resolve) => {
    overhear(client, 'SERVICE_ACCEPT', () => {
      resolve();
    });
  });
  return client;
}

const parsed = (text: string): ParsedKey => ssh2.utils.parseKey(text) as ParsedKey;
const offer = (user: string, key: string): Buffer =>
  message(AUTH_REQUEST, user, 'ssh-connection', 'publickey', false, 'ssh-ed25519', parsed(key).getPublicSSH());

/** Real OpenSSH, with a session of no requests. */
async function ssh(program: string, key: KeyPair, ...options: string[]): Promise<Outcome> {
  const directory = tempDir();
  const [privateFile, knownHosts] = [path.join(directory, 'key'), path.join(directory, 'known_hosts')];
  writeFileSync(privateFile, key.private, { mode: 0o600 });
  const { port, host } = stack.server.address;
  writeFileSync(knownHosts, stack.server.hostKeys.map(({ publicKey }) => `[${host}]:${port} ${publicKey}\n`).join(''));
  const files = { privateFile, publicFile: `${privateFile}.pub`, publicLine: key.public, fingerprint: '' };
  const args = sshClientArgs({ port, key: files, knownHosts });
  return run(program, ['-v', ...options.flatMap((option) => ['-o', option]), ...args, 'x'], { input: '' });
}

describe('methods and names', () => {
  /** All that the server says to the five ways to come in without the right key, in its words. */
  async function answersTo(user: string, known: string, unknown: string): Promise<unknown[]> {
    const client = await atLogin();
    const answers: unknown[] = [];
    const attempt = async (...request: Buffer[]): Promise<void> => {
      const before = answers.length;
      for (const each of request) sendMessage(client, each);
      while (answers.length === before && !tcpOf(client).closed) await sleep(2);
    };
    overhear(client, 'USERAUTH_FAILURE', (...said) => answers.push(['failure', ...said]));
    overhear(client, 'USERAUTH_PK_OK', () => answers.push(['may sign']));
    overhear(client, 'USERAUTH_INFO_REQUEST', () => answers.push(['asks']));
    overhear(client, 'USERAUTH_SUCCESS', () => answers.push(['success']));
    const head = (method: string): Buffer => message(AUTH_REQUEST, user, 'ssh-connection', method);
    await attempt(head('none'));
    await attempt(Buffer.concat([head('password'), message(false, 'letmein')]));
    await attempt(Buffer.concat([head('keyboard-interactive'), message('', '')]));
    awaitKeyAnswers(client, 2);
    await attempt(offer(user, unknown));
    await attempt(offer(user, known));
    client.destroy();
    return answers;
  }

  test('whatever the name: each method but the key is refused in the same words, and so are unknown keys', async () => {
    const unknown = keyPair().public;
    const names = ['root', 'victim', 'other', 'no-such-user', '', 'a'.repeat(5000), 'x\0y', 'ünïcode', '../../etc'];
    for (const name of names)
      expect([name, await answersTo(name, stack.key.public, unknown)]).toEqual([
        name,
        [...Array<unknown>(4).fill(['failure', ['publickey'], false]), ['may sign']],
      ]);
    expect(stack.audit()).toEqual([]);
  });

  test('the name is not so much as looked at before a key is proved, so that there is no time to measure', () => {
    const answers: unknown[] = [];
    const authentication = createAuthentication(
      { find: () => undefined, areCertified: () => true, certified: () => undefined },
      () => answers.push('cut'),
      (work) => {
        work();
      },
    );
    const attempt = (rest: object): void => {
      const context = {
        get username(): string {
          throw new Error('the name was looked at');
        },
        reject: (methods: string[]) => answers.push(methods),
        accept: () => answers.push('accepted'),
        ...rest,
      };
      // The one thing made by hand here: no client can show what is read of what it sends.
      Object.defineProperty(context, 'username', {
        get: () => {
          throw new Error('the name was looked at');
        },
      });
      authentication.attempt(context as unknown as AuthContext);
    };
    const key = { algo: 'ssh-ed25519', data: parsed(keyPair().public).getPublicSSH() };
    attempt({ method: 'none' });
    attempt({ method: 'password', password: 'x' });
    attempt({ method: 'keyboard-interactive' });
    attempt({ method: 'publickey', key });
    attempt({ method: 'publickey', key, signature: Buffer.alloc(64), blob: Buffer.alloc(9) });
    expect(answers).toEqual(Array<unknown>(5).fill(['publickey']));
  });

  test.each([
    ['hostbased', message('ssh-ed25519', Buffer.alloc(51), 'host', 'root', Buffer.alloc(83))],
    ['gssapi-with-mic', message([1], Buffer.alloc(11))],
    ['a method of its own', Buffer.alloc(0)],
    ['another service', message(AUTH_REQUEST, 'x', 'ssh-userauth', 'none')],
  ])('%s lets nobody in', async (method, rest) => {
    const client = await atLogin();
    const said: unknown[] = [];
    overhear(client, 'USERAUTH_FAILURE', (...what) => said.push(what));
    overhear(client, 'USERAUTH_SUCCESS', () => said.push('success'));
    sendMessage(
      client,
      method === 'another service' ? rest : Buffer.concat([message(AUTH_REQUEST, 'x', 'ssh-connection', method), rest]),
    );
    while (said.length === 0 && !tcpOf(client).closed) await sleep(2);
    expect(said.filter((each) => each === 'success')).toEqual([]);
    await opensNothing(client);
  });
});

/** Tries a channel, and holds that none is opened and no session began. */
async function opensNothing(client: Client): Promise<void> {
  let opened = 0;
  let refused = 0;
  overhear(client, 'CHANNEL_OPEN_CONFIRMATION', () => opened++);
  overhear(client, 'CHANNEL_OPEN_FAILURE', () => refused++);
  if (!tcpOf(client).destroyed) sendMessage(client, message(CHANNEL_OPEN, 'session', [0], [65536], [32768]), true);
  while (refused + opened === 0 && !tcpOf(client).closed) await sleep(2);
  expect(opened).toBe(0);
  expect(stack.audit()).toEqual([]);
}

describe('keys swapped between attempts', () => {
  /** Offers keys, then signs; `sign` says with what, over what. */
  async function comeIn(offers: readonly string[], signing: KeyPair, forge = (data: Buffer): Buffer => data) {
    class Agent extends ssh2.BaseAgent {
      override getIdentities(done: (error: undefined, keys: ParsedKey[]) => void): void {
        done(undefined, [parsed(signing.private)]);
      }
      override sign(_key: unknown, data: Buffer, _options: unknown, done?: unknown): void {
        (done as (error: undefined, signature: Buffer) => void)(undefined, parsed(signing.private).sign(forge(data)));
      }
    }
    const client = new ssh2.Client();
    clients.push(client);
    const outcome = Promise.race([
      once(client, 'ready').then(
        () => 'in' as const,
        () => 'out' as const,
      ),
      new Promise<'out'>((resolve) => {
        client.on('error', () => undefined);
        client.on('close', () => {
          resolve('out');
        });
      }),
    ]);
    let mayGoOn = (): void => undefined;
    const offered = new Promise<void>((resolve) => (mayGoOn = resolve));
    client.on('handshake', () => {
      overhear(client, 'SERVICE_ACCEPT', () => {
        if (offers.length === 0) mayGoOn();
        awaitKeyAnswers(client, offers.length);
        for (const key of offers) sendMessage(client, offer('x', key));
      });
      let answered = 0;
      overhear(client, 'USERAUTH_PK_OK', () => {
        if (++answered === offers.length) mayGoOn();
      });
    });
    const { host, port } = stack.server.address;
    client.connect({
      ...{ host, port, username: 'x' },
      authHandler: (_left, _partial, next) => {
        void offered.then(() => {
          next({ type: 'agent', username: 'x', agent: new Agent() });
        });
      },
    });
    return { client, outcome: await outcome };
  }

  test('one who offers another’s key and proves its own gets its own repository', async () => {
    const { client, outcome } = await comeIn([stack.key.public, stack.key.public], other);
    expect(outcome).toBe('in');
    await served(client, 'other');
  });

  test('one who has proved its key and then offers another’s is cut, and never was the other', async () => {
    const client = await connected(other.private);
    await served(client, 'other');
    sendMessage(client, offer('x', stack.key.public));
    await closedOf(client);
    expect(stack.audit().map((line) => line['client'])).not.toContain('victim');
  });

  test('a signature that was made over another session lets nobody in', async () => {
    const { outcome } = await comeIn([], stack.key, (data) => {
      const replayed = Buffer.from(data);
      // The first 4 bytes are the length of the session's identifier (RFC 4252, 7).
      replayed.writeUInt8(replayed.readUInt8(4) ^ 1, 4);
      return replayed;
    });
    expect(outcome).toBe('out');
    expect(stack.audit()).toEqual([]);
  });
});

describe('an old OpenSSH client', () => {
  const OFFERED = {
    kex: ['mlkem768x25519-sha256', 'curve25519-sha256', 'curve25519-sha256@libssh.org'],
    cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'],
    mac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com'],
    key: ['ssh-ed25519', 'ssh-ed25519-cert-v01@openssh.com'],
  } as const;

  /** What this Debian's ssh can do beyond what the server offers. */
  async function others(kind: keyof typeof OFFERED): Promise<string[]> {
    const { stdout } = await run(lab().ssh, ['-Q', kind]);
    return stdout
      .trim()
      .split('\n')
      .filter((name) => !(OFFERED[kind] as readonly string[]).includes(name));
  }

  test('comes in by what is offered, so that the refusals below mean something', async () => {
    const { code, stderr } = await ssh(lab().ssh, stack.key);
    expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
    expect(stderr).toMatch(/server->client cipher: aes128-gcm@openssh\.com MAC: <implicit>/);
  });

  test.each([
    ['kex', 'KexAlgorithms', /no matching key exchange method found/],
    ['cipher', 'Ciphers', /no matching cipher found/],
    ['key', 'HostKeyAlgorithms', /no matching host key type found/],
  ] as const)('that knows no better %s than any one not offered is refused', async (kind, option, words) => {
    const weak = (await others(kind)).filter((name) => !/^sk-|cert/.test(name));
    expect(weak.length).toBeGreaterThan(2);
    for (const name of weak) {
      const { code, stderr } = await ssh(lab().ssh, stack.key, `${option}=${name}`);
      expect([name, code]).toEqual([name, 255]);
      expect(stderr).toMatch(words);
      expect(stderr).not.toMatch(/debug1: Authentications that can continue/);
    }
    expect(stack.audit()).toEqual([]);
  });

  test('that knows no better MAC gets none of it: AES-GCM brings its own', async () => {
    for (const name of await others('mac')) {
      const { code, stderr } = await ssh(lab().ssh, stack.key, `MACs=${name}`);
      expect([name, code, /MAC: (\S+)/.exec(stderr)?.[1]]).toEqual([name, 0, '<implicit>']);
    }
  });

  test.each(['rsa', 'ecdsa'])('with a key of type %s is told that its key is not known', async (type) => {
    const { code, stderr } = await ssh(lab().ssh, keyPair(type), 'PubkeyAcceptedAlgorithms=+ssh-rsa');
    expect(code).toBe(255);
    expect(stderr).toMatch(/Permission denied \(publickey\)/);
    expect(stack.audit()).toEqual([]);
  });
});

describe('a rekey at odd moments', () => {
  const PROPOSAL: Proposal = {
    ...{ kex: ['curve25519-sha256'], hostKey: ['ssh-ed25519'] },
    ...{ cipherToServer: ['aes128-gcm@openssh.com'], cipherToClient: ['aes128-gcm@openssh.com'] },
    ...{ macToServer: [], macToClient: [], compressionToServer: ['none'], compressionToClient: ['none'] },
    ...{ languageToServer: [], languageToClient: [] },
  };

  test('whole, in mid-channel-open: an honest client does not notice', async () => {
    const client = await connected();
    let exchanges = 0;
    client.on('handshake', () => exchanges++);
    const opening = channelOf((done) => client.exec('x', done));
    rekey(client);
    const channel = await opening;
    rekey(client);
    expect((await resticClient(channel).request('GET', '/file-1')).status).toBe(404);
    expect(exchanges).toBeGreaterThanOrEqual(2);
  });

  test('whole, before the login: cut at the first, as nobody needs one there', async () => {
    const client = await atLogin();
    let exchanges = 0;
    client.on('handshake', () => exchanges++);
    rekey(client);
    await closedOf(client);
    expect(exchanges).toBe(0);
    expect(stack.audit()).toEqual([]);
  });

  test('by an OpenSSH client that exchanges keys every few bytes: it logs in, as it asks for none before', async () => {
    for (const program of [lab().ssh, lab().sshNewest]) {
      const outcome = await ssh(program, stack.key, 'RekeyLimit=16');
      expect([outcome.code, outcome.code === 0 ? '' : outcome.stderr]).toEqual([0, '']);
    }
  });

  test.each([
    ['authentication', 'login', message(AUTH_REQUEST, 'x', 'ssh-connection', 'none')],
    ['a channel', 'login', message(CHANNEL_OPEN, 'session', [0], [65536], [32768])],
    ['another KEXINIT', 'login', kexinit(PROPOSAL)],
    ['authentication', 'channel', message(AUTH_REQUEST, 'x', 'ssh-connection', 'none')],
    ['a channel', 'channel', message(CHANNEL_OPEN, 'session', [0], [65536], [32768])],
    ['data', 'channel', message(CHANNEL_DATA, [0], 'x')],
    ['another KEXINIT', 'channel', kexinit(PROPOSAL)],
  ])('half, and %s in its middle (%s): the connection ends', async (_what, phase, slipped) => {
    const client = phase === 'login' ? await atLogin() : await connected();
    if (phase === 'channel') {
      await channelOf((done) => client.exec('x', done));
      // Else it may begin while the one after this story is counted.
      while (!stack.audit().some((line) => line['event'] === 'session-start')) await sleep(10);
    }
    sendMessage(client, kexinit(PROPOSAL), true);
    sendMessage(client, slipped, true);
    await closedOf(client);
    const begun = stack.audit().filter((line) => line['event'] === 'session-start').length;
    expect(begun).toBeLessThanOrEqual(phase === 'login' ? 0 : 1);
  });

  test.each(['login', 'channel'])('to algorithms that are not offered (%s): the connection ends', async (phase) => {
    const client = phase === 'login' ? await atLogin() : await connected();
    sendMessage(client, kexinit({ ...PROPOSAL, cipherToServer: ['aes128-cbc'], macToServer: ['hmac-md5'] }), true);
    await closedOf(client);
  });

  test('begun in mid-authentication and never ended: cut when the time to log in is over', async () => {
    await stack.close();
    await open({ loginSeconds: 2 });
    const client = await atLogin();
    sendMessage(client, kexinit(PROPOSAL), true);
    await closedOf(client);
  });

  test('again and again: cut after a hundred', async () => {
    const client = await connected();
    let exchanges = 0;
    client.on('handshake', () => {
      exchanges++;
      rekey(client);
    });
    rekey(client);
    await closedOf(client);
    expect(exchanges).toBeGreaterThan(90);
    expect(exchanges).toBeLessThan(130);
  });
});

describe('more than a login takes', () => {
  // Neither side's patience ends it.
  beforeEach(async () => {
    await stack.close();
    await open({ loginSeconds: 600 });
  });

  const flood: readonly (readonly [string, Buffer])[] = [
    ['IGNORE', message(2, 'x')],
    ['DEBUG', message(4, true, 'x', '')],
    ['UNIMPLEMENTED', message(3, [0])],
    ['numbers that mean nothing', Buffer.of(255)],
    ['EXT_INFO', message(7, [0])],
    ['global requests', message(GLOBAL_REQUEST, 'x', false)],
    ['channels', message(CHANNEL_OPEN, 'session', [0], [65536], [32768])],
  ];

  test.each(flood)('%s, 250 of them: cut', async (_what, bytes) => {
    const client = await atLogin(0);
    for (let i = 0; i < 250; i++) sendMessage(client, bytes);
    await closedOf(client);
    expect(stack.audit()).toEqual([]);
  });

  test('the service asked for twice: cut', async () => {
    const client = await atLogin(0);
    sendMessage(client, message(SERVICE_REQUEST, 'ssh-userauth'));
    await closedOf(client);
  });

  test('ten packets of 30,000 bytes: cut', async () => {
    const client = await atLogin(0);
    for (let i = 0; i < 10; i++) sendMessage(client, message(2, Buffer.alloc(30_000)));
    await closedOf(client);
  });

  test('bytes without end in the first key exchange, which is not the strict one: cut', async () => {
    const client = await rawClient(stack.server.address);
    const theirs = parseKexinit((await client.next()) ?? Buffer.alloc(0));
    client.send(kexinit({ ...theirs, kex: ['curve25519-sha256'] }));
    for (let i = 0; i < 300; i++) client.send(message(2, Buffer.alloc(1000)));
    while ((await client.next()) !== undefined);
    client.close();
  });
});

describe('packets out of turn, too large or malformed', () => {
  const HUGE = Buffer.alloc(300_000, 0x41);

  test.each<[string, (theirs: Proposal) => Buffer[]]>([
    ['a login before any key exchange', () => [message(AUTH_REQUEST, 'x', 'ssh-connection', 'none')]],
    ['the service before any key exchange', () => [message(SERVICE_REQUEST, 'ssh-userauth')]],
    ['a channel before any key exchange', () => [message(CHANNEL_OPEN, 'session', [0], [65536], [32768])]],
    ['an empty packet before any key exchange', () => [Buffer.alloc(0)]],
    ['a packet of 300,000 bytes before any key exchange', () => [Buffer.concat([Buffer.of(2), HUGE])]],
    [
      'a KEXINIT of 100,000 bytes',
      (theirs) => [kexinit({ ...theirs, kex: Array<string>(5000).fill('curve25519-sha256') })],
    ],
    ['a KEXINIT of empty lists', (theirs) => [kexinit(emptied(theirs))]],
    ['a KEXINIT of commas and NULs', (theirs) => [kexinit({ ...theirs, kex: [',,', '\0\0', ','] })]],
    [
      'a login in the key exchange',
      (theirs) => [kexinit(theirs), message(AUTH_REQUEST, 'x', 'ssh-connection', 'none')],
    ],
    ['AUTH_SUCCESS in the key exchange', (theirs) => [kexinit(theirs), Buffer.of(AUTH_SUCCESS)]],
    [
      'a packet of 300,000 bytes in the key exchange',
      (theirs) => [kexinit(theirs), Buffer.concat([Buffer.of(30), HUGE])],
    ],
    ['a key of 4 GiB in the key exchange', (theirs) => [kexinit(theirs), Buffer.of(30, 0xff, 0xff, 0xff, 0xff)]],
    ['NEWKEYS and nothing before it', () => [Buffer.of(MESSAGE.newkeys)]],
  ])('%s: hung up on, and nothing is begun', async (_what, messages) => {
    // ssh2 waits for more after some of these.
    await stack.close();
    await open({ loginSeconds: 5 });
    const client = await rawClient(stack.server.address);
    const theirs = parseKexinit((await client.next()) ?? Buffer.alloc(0));
    client.send(...messages(theirs));
    const answers: number[] = [];
    for (let next = await client.next(); next !== undefined; next = await client.next()) {
      answers.push(next[0] ?? -1);
      if (next[0] === MESSAGE.disconnect && next.length > 5) expect(next.readUInt32BE(1)).toBeLessThanOrEqual(15);
    }
    expect(answers.filter((kind) => kind !== MESSAGE.disconnect)).toEqual([]);
    client.close();
    expect(stack.audit()).toEqual([]);
  });

  const emptied = (proposal: Proposal): Proposal =>
    Object.fromEntries(Object.keys(proposal).map((name) => [name, []])) as unknown as Proposal;

  test('no common algorithm at all: told that the key exchange failed', async () => {
    const client = await rawClient(stack.server.address);
    const theirs = parseKexinit((await client.next()) ?? Buffer.alloc(0));
    client.send(kexinit({ ...theirs, kex: ['diffie-hellman-group1-sha1'] }));
    const answer = await client.next();
    expect([answer?.[0], answer?.readUInt32BE(1)]).toEqual([MESSAGE.disconnect, KEY_EXCHANGE_FAILED]);
    client.close();
  });

  /** What is no message of a client, or none at all; sent with and without a key. */
  const MESSAGES: readonly (readonly [string, Buffer])[] = [
    ['an empty packet', Buffer.alloc(0)],
    ['a number that means nothing', Buffer.of(255, 1, 2, 3)],
    ['a number left to extensions', Buffer.of(192)],
    ['AUTH_SUCCESS, which is the server’s to say (as CVE-2018-10933)', Buffer.of(AUTH_SUCCESS)],
    ['AUTH_PK_OK', message(AUTH_PK_OK, 'ssh-ed25519', Buffer.alloc(51))],
    ['SERVICE_ACCEPT', message(SERVICE_ACCEPT, 'ssh-connection')],
    ['a channel confirmed that nobody asked for', message(CHANNEL_OPEN_CONFIRMATION, [0], [0], [65536], [32768])],
    ['the service ssh-connection, without a login', message(SERVICE_REQUEST, 'ssh-connection')],
    ['a service without a name', Buffer.of(SERVICE_REQUEST)],
    ['a login cut off', message(AUTH_REQUEST, 'x').subarray(0, 3)],
    ['a login whose name claims 4 GiB', message(AUTH_REQUEST, [0xffffffff], 'ssh-connection', 'none')],
    [
      'a signed login whose algorithm claims 4 GiB',
      Buffer.concat([
        message(AUTH_REQUEST, 'x', 'ssh-connection', 'publickey', true, [0xffffffff]),
        message(Buffer.alloc(51), Buffer.alloc(83)),
      ]),
    ],
    [
      'a signed login with a key of nothing',
      message(AUTH_REQUEST, 'x', 'ssh-connection', 'publickey', true, 'ssh-ed25519', '', ''),
    ],
    ['a login with a name of 30,000 bytes', message(AUTH_REQUEST, 'n'.repeat(30_000), 'ssh-connection', 'none')],
    ['a packet of 300,000 bytes', Buffer.concat([Buffer.of(2), HUGE])],
    ['a global request without a name', Buffer.of(GLOBAL_REQUEST)],
    ['a channel opened by half', message(CHANNEL_OPEN, 'session').subarray(0, 9)],
    ['a request on a channel of no one', message(CHANNEL_REQUEST, [4_000_000_000], 'exec', true, 'x')],
    ['EXT_INFO that promises 4 G extensions', message(7, [0xffffffff], 'server-sig-algs', 'ssh-rsa')],
    [
      'a terminal’s modes cut off',
      message(CHANNEL_REQUEST, [0], 'pty-req', true, 'xterm', [80], [24], [0], [0], '\x81'),
    ],
  ];

  test.each(MESSAGES)('without a key, %s: no session, no channel', async (_what, bytes) => {
    const client = await atLogin();
    sendMessage(client, bytes);
    await opensNothing(client);
  });

  test.each(MESSAGES)(
    'with a key, in a session, %s: the session is no other’s, and ends or goes on',
    async (_what, bytes) => {
      const client = await connected();
      const channel = await channelOf((done) => client.exec('x', done));
      channel.on('error', () => undefined);
      const restic = resticClient(channel);
      expect((await restic.request('GET', '/file-1')).status).toBe(404);
      sendMessage(client, bytes);
      const [answer] = await Promise.all([
        Promise.race([
          restic.request('GET', '/file-2').then(
            ({ status }) => status,
            () => 'ended',
          ),
          closedOf(client).then(() => 'ended'),
        ]),
      ]);
      expect([404, 'ended']).toContain(answer);
      expect(new Set(stack.audit().map((line) => line['client']))).toEqual(new Set(['victim']));
      expect(stack.audit().filter((line) => line['event'] === 'session-start')).toHaveLength(1);
    },
  );
});
