/**
 * Certificates at the SSH server: real ones of real CAs by real OpenSSH, and those who have one that is not, no longer or not yet for them, or that they
 * have made themselves. What is read here comes from strangers.
 */
import { sign } from 'node:crypto';
import { once } from 'node:events';
import path from 'node:path';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import ssh2, { type Client } from 'ssh2';
import { parseAuthorityKey } from '../../src/config/authority-key.ts';
import { parsePublicKey } from '../../src/config/public-key.ts';
import type { ClientConfig, GatewayConfig } from '../../src/config/types.ts';
import { parseRevocation } from '../../src/config/values.ts';
import {
  certify,
  generateAuthority,
  makeCertificate,
  pairInMemory,
  strings,
  type CertifiedKey,
} from '../support/certificates.ts';
import { awaitKeyAnswers, message, overhear, sendMessage, tcpOf } from '../support/hostile-ssh.ts';
import {
  generateKey,
  lab,
  run,
  sshClientArgs,
  startProcess,
  tempDir,
  type KeyFiles,
  type Outcome,
} from '../support/lab.ts';
import { resticClient } from '../support/restic-client.ts';
import { channelOf, sshConnect, startSshStack, type SshStack } from '../support/ssh-stack.ts';
import { startStack } from '../support/stack.ts';
import { until } from '../support/store-calls.ts';
import { testClient } from '../support/test-client.ts';

const AUTH_REQUEST = 50;
const CERTIFICATE = 'ssh-ed25519-cert-v01@openssh.com';

let ca: KeyFiles;
let key: KeyFiles;
beforeAll(async () => {
  [ca, key] = await Promise.all([generateAuthority(), generateKey()]);
});

let stack: SshStack;
const clients: Client[] = [];
afterEach(async () => {
  for (const each of clients.splice(0)) each.destroy();
  // Whatever happened: one that keeps to the rules is served.
  const client = await sshConnect(stack);
  const restic = resticClient(await channelOf((done) => client.exec('x', done)));
  expect((await restic.request('GET', '/file-1')).status).toBe(404);
  client.destroy();
  await stack.close();
});

const revoked = (...words: string[]) => ({ revokedCertificates: words.map(parseRevocation) });

/** Opens a server that trusts CAs, with the clients `web` of principals `web-7` and `web-7.example.com`, and `db` of `db`. */
async function open(
  authorities: readonly KeyFiles[] = [ca],
  changes: Partial<GatewayConfig> = {},
  web: Partial<ClientConfig> = {},
): Promise<void> {
  const honest = await generateKey();
  stack = await startSshStack(
    {},
    {
      clients: clientsOf(web, honest),
      ssh: { extraCiphers: [], limits: { maxDelaySeconds: 0 } },
      trustedUserCAKeys: authorities.map(({ publicLine }) => parseAuthorityKey(publicLine)),
      ...changes,
    },
  );
  Object.assign(stack, { key: { ...stack.key, private: await privateOf(honest) }, honest });
}

function clientsOf(web: Partial<ClientConfig>, honest: KeyFiles): Record<string, ClientConfig> {
  return {
    appsrv: testClient('appsrv', { keys: [parsePublicKey(honest.publicLine)] }),
    web: testClient('web', { principals: ['web-7', 'web-7.example.com'], ...web }),
    db: testClient('db', { principals: ['db'] }),
  };
}

/** A reload that changes the client `web` or the whole. */
async function reload(web: Partial<ClientConfig>, changes: Partial<GatewayConfig> = {}): Promise<void> {
  const { honest } = stack as unknown as { readonly honest: KeyFiles };
  await stack.reconfigure({ clients: clientsOf(web, honest), ...changes });
}

async function privateOf({ privateFile }: KeyFiles): Promise<string> {
  return (await run('cat', [privateFile])).stdout;
}

/** What real OpenSSH makes of it, with a session of no requests. */
function args(certified: KeyFiles, ...options: string[]): string[] {
  const { port, host } = stack.server.address;
  const knownHosts = path.join(tempDir(), 'known_hosts');
  writeFileSync(knownHosts, stack.server.hostKeys.map((each) => `[${host}]:${port} ${each.publicKey}\n`).join(''));
  return [...options.flatMap((option) => ['-o', option]), ...sshClientArgs({ port, key: certified, knownHosts }), 'x'];
}

function ssh(certified: KeyFiles, program: 'ssh' | 'sshNewest' = 'ssh', ...options: string[]): Promise<Outcome> {
  return run(lab()[program], args(certified, ...options), { input: '' });
}

/** Real OpenSSH whose session stays. */
async function staying(certified: CertifiedKey) {
  const before = stack.audit().filter(({ event }) => event === 'session-start').length;
  const held = await startProcess('bash', [
    ...['-c', 'exec "$0" "$@" < <(exec sleep 300)'],
    ...[lab().ssh, ...args(certified)],
  ]);
  await until(() => stack.audit().filter(({ event }) => event === 'session-start').length > before);
  return held;
}

const SERVED = { code: 0, stderr: '' };
const REFUSED = { code: 255, stderr: expect.stringContaining('Permission denied (publickey)') };

describe('a certificate', () => {
  test.each([
    ['ed25519', '', []],
    ['ecdsa', '256', []],
    ['ecdsa', '384', []],
    ['ecdsa', '521', []],
    ['rsa', '2048', []],
    ['rsa', '3072', ['-t', 'rsa-sha2-256']],
  ])('of a CA of type %s %s lets its client in, and the audit names CA, key id and serial', async (type, bits, how) => {
    const authority = type === 'ed25519' ? ca : await generateAuthority(type, bits);
    await open([await generateAuthority(), authority]);
    const certified = await certify(authority, key, ...how, '-n', 'somebody,web-7', '-z', '18446744073709551615');
    expect(await ssh(certified)).toMatchObject(SERVED);
    expect(await ssh(certified, 'sshNewest')).toMatchObject(SERVED);
    const names = { ca: authority.fingerprint, keyId: 'web-7', serial: '18446744073709551615' };
    const [start, end] = stack.audit();
    expect(start).toMatchObject({ event: 'session-start', client: 'web', key: key.fingerprint, ...names });
    expect([end?.['event'], end?.['key'], end?.['ca']]).toEqual(['session-end', key.fingerprint, undefined]);
  });

  test('with source-address, times and extensions lets in from where it says, and its kind is announced where there is a CA', async () => {
    await open();
    const address = ['-O', 'source-address=10.0.0.0/8,127.0.0.0/8', '-O', 'extension:login@example.com=x'];
    const certified = await certify(ca, key, '-n', 'web-7.example.com', '-V', '-1h:+1h', ...address);
    const { code, stderr } = await ssh(certified, 'ssh', 'LogLevel=DEBUG3');
    expect([code, /server-sig-algs=<?([^>\s]*)/.exec(stderr)?.[1]]).toEqual([0, `ssh-ed25519,${CERTIFICATE}`]);
    await stack.close();
    await open([]);
    const without = await ssh(certified, 'ssh', 'LogLevel=DEBUG3');
    expect([without.code, /server-sig-algs=<?([^>\s]*)/.exec(without.stderr)?.[1]]).toEqual([255, 'ssh-ed25519']);
  });

  test('counts for its client as its keys do: limits, from, expires and disabled', async () => {
    await open([ca], {}, { maxSessions: 1 });
    const certified = await certify(ca, key, '-n', 'web-7');
    const other = await certify(ca, await generateKey(), '-n', 'web-7.example.com', '-z', '2');
    const held = await staying(certified);
    expect((await ssh(other)).stderr).toContain('client web has 1 sessions open already, the most it may');
    await held.stop();
    for (const [change, said] of [
      [{ disabled: true }, 'client web is disabled'],
      [{ expires: new Date(0) }, 'the key of client web expired on 1970-01-01'],
      [{ from: ['10.0.0.0/8'] }, 'client web may not connect from this address'],
    ] as const) {
      await reload(change);
      expect((await ssh(certified)).stderr).toContain(said);
    }
    expect(stack.audit().at(-1)).toMatchObject({ event: 'session-refused', reason: 'address', ca: ca.fingerprint });
  });
});

describe('a certificate that is not for here', () => {
  const hour = ['-n', 'web-7'];
  test.each<[what: string, options: string[], warned: string | undefined, changes?: () => Partial<GatewayConfig>]>([
    ['that has expired', [...hour, '-V', '-2h:-1h'], 'it has expired'],
    ['that is not valid yet', [...hour, '-V', '+1h:+2h'], 'it is not valid yet'],
    ['of a principal that no client has', ['-n', 'web-8'], 'none of its principals is one of a client'],
    ['of what is like a principal', ['-n', 'web,WEB-7,web-7.example,web-77,*,web-?'], 'none of its principals'],
    ['of a client by its name alone', ['-n', 'web,appsrv'], 'none of its principals is one of a client'],
    ['without principals', [], 'none of its principals is one of a client'],
    ['of principals of two clients', ['-n', 'web-7,db'], 'its principals are those of several clients'],
    ['with a forced command', [...hour, '-O', 'force-command=restic'], 'it has a critical option'],
    ['with an option that nobody knows', [...hour, '-O', 'critical:new@example.com=1'], 'it has a critical option'],
    ['with verify-required', [...hour, '-O', 'verify-required'], 'it has a critical option'],
    ['for another address', [...hour, '-O', 'source-address=10.0.0.0/8,::1'], 'it may not be used from this address'],
    ['that is revoked by its key id', hour, 'it was revoked', () => revoked('id:web', 'id:web-7')],
    ['that is revoked by its serial', [...hour, '-z', '7'], 'it was revoked', () => revoked('serial:5-7')],
    [
      'that is revoked by its serial of its CA',
      [...hour, '-z', '7'],
      'it was revoked',
      () => revoked(`serial:7 ${ca.fingerprint}`),
    ],
    ['whose key is revoked', hour, 'it was revoked', () => revoked(key.fingerprint)],
    ['whose CA is revoked, though it is trusted', hour, 'it was revoked', () => revoked(ca.fingerprint)],
    ['of a CA that nobody trusts', hour, undefined, () => ({ trustedUserCAKeys: [] })],
  ])('%s is refused, and the log says why', async (_what, options, warned, changes = () => ({})) => {
    await open([ca], changes());
    expect(await ssh(await certify(ca, key, ...options))).toMatchObject(REFUSED);
    expect(stack.audit()).toEqual([]);
    expect(stack.warnings).toEqual(
      warned === undefined ? [] : [expect.stringContaining(`a certificate is refused: ${warned}`)],
    );
  });

  test('that is not the one revoked lets in', async () => {
    await open([ca], revoked('id:web', 'serial:1-6', 'serial:8-99', `serial:7 SHA256:${'A'.repeat(43)}`));
    expect(await ssh(await certify(ca, key, '-n', 'web-7', '-z', '7'))).toMatchObject(SERVED);
  });

  test('of an RSA CA that signs with SHA-1 is refused, without a word for what anybody might make', async () => {
    const rsa = await generateAuthority('rsa');
    await open([rsa]);
    expect(await ssh(await certify(rsa, key, '-t', 'ssh-rsa', '-n', 'web-7'))).toMatchObject(REFUSED);
    expect(await ssh(await certify(rsa, key, '-n', 'web-7'))).toMatchObject(SERVED);
    expect(stack.warnings).toEqual([]);
  });

  test('for a key that is not ed25519 is refused, however good', async () => {
    await open();
    const ecdsa = await generateAuthority('ecdsa', '256');
    expect(await ssh(await certify(ca, ecdsa, '-n', 'web-7'))).toMatchObject(REFUSED);
  });
});

describe('what a reload takes away', () => {
  test.each<[what: string, web: Partial<ClientConfig>, changes: () => Partial<GatewayConfig>, said: string]>([
    ['its CA', {}, () => ({ trustedUserCAKeys: [] }), 'its CA is not, or no longer, trusted'],
    ['its principal', { principals: ['web-8'] }, () => ({}), 'none of its principals is, or is any longer'],
    ['the certificate', {}, () => revoked('serial:7'), 'this certificate of client web was revoked'],
    ['the whole client', { disabled: true }, () => ({}), 'client web is disabled'],
  ])('%s: its session ends, and no other', async (_what, web, changes, said) => {
    await open();
    const held = await staying(await certify(ca, key, '-n', 'web-7', '-z', '7'));
    const other = await staying(await certify(ca, await generateKey(), '-n', 'db'));
    await reload(web, changes());
    await held.exited;
    expect(held.lines.join('\n')).toContain(said);
    const ended = () => stack.audit().filter(({ event }) => event === 'session-end');
    expect(ended()).toContainEqual(expect.objectContaining({ client: 'web', reason: 'revoked' }));
    // But for the CA, which was the other's as well.
    expect(ended().some(({ client }) => client === 'db')).toBe(said.startsWith('its CA'));
    await other.stop();
  });

  test('a key that stands in the config, too: revoked, it is of no use by itself either', async () => {
    await open([ca], {}, { keys: [parsePublicKey(key.publicLine)] });
    const held = await staying({ ...key, certificate: Buffer.alloc(0) });
    await reload({ keys: [parsePublicKey(key.publicLine)] }, revoked(key.fingerprint));
    await held.exited;
    expect(held.lines.join('\n')).toContain('this key of client web was revoked');
    expect((await ssh(key)).stderr).toContain('this key of client web was revoked');
    expect(stack.audit().at(-1)).toMatchObject({ event: 'session-refused', reason: 'key-revoked' });
  });

  test('its being one client alone: its session ends when another gets one of its principals', async () => {
    await open();
    const held = await staying(await certify(ca, key, '-n', 'web-7,new'));
    const { honest } = stack as unknown as { readonly honest: KeyFiles };
    const clients = { ...clientsOf({}, honest), new: testClient('new', { principals: ['new'] }) };
    await stack.reconfigure({ clients });
    await held.exited;
    expect(held.lines.join('\n')).toContain('its principals are those of several clients');
  });

  test('time: a session goes on when its certificate expires, and on its connection no other begins', async () => {
    await open();
    const trustedUserCAKeys = [parseAuthorityKey(ca.publicLine)];
    const inside = await startStack({ web: { principals: ['web-7'] } }, undefined, { trustedUserCAKeys });
    const principal = (validBefore: number) => ({
      ...{ via: 'ssh' as const, key: key.fingerprint },
      certificate: {
        ...{ ca: ca.fingerprint, keyId: 'x', serial: '1', principals: ['web-7'] },
        validBefore: String(validBefore),
      },
    });
    const soon = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds;
    // A busy machine may take longer to open it.
    let until = 0;
    let client;
    for (let patience = 1; client === undefined && patience < 60; patience *= 2) {
      until = soon(patience);
      client = await inside.connect('web', principal(until)).catch(() => undefined);
    }
    while (Date.now() < until * 1000) await new Promise((resolve) => setTimeout(resolve, 20));
    await inside.gateway.reconfigure({ ...inside.config, maxSessions: 999 });
    expect((await client?.request('GET', '/file-1'))?.status).toBe(404);
    await expect(inside.connect('web', principal(until))).rejects.toThrow('has expired; get a new one');
    expect(inside.audit().at(-1)).toMatchObject({ event: 'session-refused', reason: 'certificate-expired' });
    await inside.close();
  });
});

/** A CA whose key is in the test's hands, and who comes. */
const [hands, mine] = [pairInMemory(), pairInMemory()];

describe('a stranger at the login', () => {
  /** A client that has agreed on keys and may speak of authentication, and does nothing by itself. */
  async function atLogin(): Promise<{ readonly client: Client; readonly answers: string[] }> {
    const client = new ssh2.Client();
    clients.push(client);
    client.on('error', () => undefined);
    const answers: string[] = [];
    const { host, port } = stack.server.address;
    client.connect({ host, port, username: 'x', authHandler: () => undefined });
    await once(client, 'handshake');
    await new Promise<void>((resolve) => {
      overhear(client, 'SERVICE_ACCEPT', () => {
        resolve();
      });
    });
    overhear(client, 'USERAUTH_FAILURE', () => answers.push('failure'));
    overhear(client, 'USERAUTH_PK_OK', () => answers.push('may sign'));
    overhear(client, 'USERAUTH_SUCCESS', () => answers.push('success'));
    awaitKeyAnswers(client, 20);
    return { client, answers };
  }
  const offer = (blob: Buffer): Buffer =>
    message(AUTH_REQUEST, 'x', 'ssh-connection', 'publickey', false, CERTIFICATE, blob);
  /** A login. @param signatureOf - of what is to be signed */
  function login(client: Client, blob: Buffer, signatureOf: (data: Buffer) => Buffer, algorithm = CERTIFICATE): Buffer {
    const { sessionID } = (client as unknown as { _protocol: { _kex: { sessionID: Buffer } } })._protocol._kex;
    const asked = message(AUTH_REQUEST, 'x', 'ssh-connection', 'publickey', true, algorithm, blob);
    return Buffer.concat([asked, strings(signatureOf(Buffer.concat([strings(sessionID), asked])))]);
  }
  async function openWithHands(): Promise<void> {
    const trusted = [parseAuthorityKey(`ssh-ed25519 ${hands.blob.toString('base64')}`)];
    await open([], { trustedUserCAKeys: trusted });
  }

  test('learns by certificates of his own making neither principals nor their fate, and is cut after six', async () => {
    await openWithHands();
    const { client, answers } = await atLogin();
    const forged = { signature: Buffer.alloc(64, 1) };
    const past = { validBefore: 1n };
    for (const said of [{}, { principals: strings('nobody') }, past, { kind: 2 }, { principals: strings('db') }, {}])
      sendMessage(client, offer(makeCertificate(hands, mine, { ...said, ...forged })));
    await until(() => tcpOf(client).closed);
    expect(answers).toEqual(Array<string>(5).fill('failure'));
    expect([stack.warnings.filter((line) => line.includes('certificate')), stack.audit()]).toEqual([[], []]);
  });

  test('who has seen a good certificate but has not its key is not let in, whatever he signs with', async () => {
    await openWithHands();
    const good = makeCertificate(hands, mine);
    const thief = pairInMemory();
    const bySigning =
      (pair: typeof mine, type = 'ssh-ed25519') =>
      (data: Buffer) =>
        strings(type, sign(null, data, pair.privateKey));
    const attempts: ((data: Buffer) => Buffer)[] = [
      bySigning(thief),
      bySigning(hands),
      () => strings('ssh-ed25519', Buffer.alloc(64)),
      () => Buffer.alloc(0),
      () => strings('ssh-ed25519'),
      (data) => sign(null, data, thief.privateKey),
      bySigning(mine, CERTIFICATE),
      bySigning(mine, 'ssh-rsa'),
      (data) => bySigning(mine)(data.subarray(1)),
      (data) => Buffer.concat([bySigning(mine)(data), Buffer.of(0)]),
    ];
    for (const signatureOf of attempts) {
      const { client, answers } = await atLogin();
      sendMessage(client, offer(good));
      await until(() => answers.length === 1);
      sendMessage(client, login(client, good, signatureOf));
      await until(() => answers.length === 2 || tcpOf(client).closed);
      expect(answers).not.toContain('success');
    }
    // The bare key of the certificate, and the certificate under the name of a bare key.
    const { client, answers } = await atLogin();
    sendMessage(client, login(client, mine.blob, bySigning(mine), 'ssh-ed25519'));
    sendMessage(client, login(client, good, bySigning(mine), 'ssh-ed25519'));
    sendMessage(client, login(client, mine.blob, bySigning(mine)));
    await until(() => answers.length === 3);
    expect(answers).toEqual(['failure', 'failure', 'failure']);
    // And as it should be.
    const right = await atLogin();
    sendMessage(right.client, login(right.client, good, bySigning(mine)));
    await until(() => right.answers.length === 1);
    expect(right.answers).toEqual(['success']);
    expect(stack.audit()).toEqual([]);
  });

  test('fills no log by a certificate with a key id of 30 KB that was refused', async () => {
    await openWithHands();
    const { client, answers } = await atLogin();
    sendMessage(client, offer(makeCertificate(hands, mine, { keyId: 'x'.repeat(30_000), validBefore: 1n })));
    await until(() => answers.length === 1);
    const about = stack.warned.find((fields) => fields['keyId'] !== undefined);
    expect(String(about?.['keyId'])).toMatch(/^x{256}\u2026 \(cut from 30000 characters\)$/);
  });

  test('floods of forged certificates, each as large as one may be, leave the server serving', async () => {
    await openWithHands();
    const large = makeCertificate(hands, mine, { nonce: Buffer.alloc(30_000), signature: Buffer.alloc(64, 1) });
    const crowd = await Promise.all(Array.from({ length: 30 }, () => atLogin()));
    for (const { client } of crowd) for (let i = 0; i < 6; i++) sendMessage(client, offer(large));
    await until(() => crowd.every(({ client }) => tcpOf(client).closed));
    expect(crowd.flatMap(({ answers }) => answers).filter((answer) => answer !== 'failure')).toEqual([]);
    expect(stack.audit()).toEqual([]);
  });
});
