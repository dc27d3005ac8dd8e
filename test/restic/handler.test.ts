/** The handler over real HTTP/2 on a real directory store: each case is a sequence of requests and the answers they must get. */
import { existsSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { NamedType } from '../../src/core/object.ts';
import { sample, sha256, type RequestParts } from '../support/restic-client.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';

let stack: Stack;
beforeEach(async () => {
  stack = await startStack({
    appsrv: { keys: [{ type: 'ssh-ed25519', blob: '', fingerprint: 'SHA256:abc', comment: '' }] },
    reader: { access: 'read-only', repository: { store: 'store', prefix: 'appsrv' } },
    owner: { access: 'full', repository: { store: 'store', prefix: 'appsrv' } },
    keyed: { addKeys: true },
  });
});
afterEach(async () => {
  await stack.close();
});

type Step = [method: string, path: string, parts: RequestParts, status: number, body?: Uint8Array | string];

/** Sends each request and holds its status, and its body where one is given. */
async function expectSequence(client: StackClient, steps: readonly Step[]): Promise<void> {
  for (const [method, path, parts, status, body] of steps) {
    const answer = await client.request(method, path, parts);
    expect(`${method} ${path} -> ${answer.status}`).toBe(`${method} ${path} -> ${status}`);
    // Compared by hash: a comparison element by element takes seconds for some MiB.
    if (body !== undefined) expect(sha256(answer.body)).toBe(sha256(Buffer.from(body)));
  }
}

const V2 = { headers: { accept: 'application/vnd.x.restic.rest.v2' } };

describe('what restic sends in an ordinary run', () => {
  test('greeting, init, save, list, load, stat', async () => {
    const client = await stack.connect('appsrv');
    const key = sample();
    const config = Buffer.from('encrypted config');
    const pack = sample(100_000);
    await expectSequence(client, [
      ['GET', '/file-5577006791947779410', {}, 404],
      ['HEAD', '/config', {}, 404],
      ['POST', '/?create=true', { body: Buffer.alloc(0) }, 200],
      ['GET', '/keys/', V2, 200, '[]'],
      ['POST', `/keys/${key.name}`, { body: key.body }, 200],
      ['POST', '/config', { body: config }, 200],
      ['HEAD', '/config', {}, 200],
      ['GET', '/config', { headers: { range: 'bytes=0-' } }, 206, config],
      ['POST', `/data/${pack.name}`, { body: pack.body }, 200],
      ['GET', '/data/', V2, 200, JSON.stringify([{ name: pack.name, size: 100_000 }])],
      ['GET', '/data/', {}, 200, JSON.stringify([pack.name])],
      ['GET', `/data/${pack.name}`, {}, 200, pack.body],
      ['GET', `/data/${pack.name}`, { headers: { range: 'bytes=10-19' } }, 206, pack.body.subarray(10, 20)],
      ['GET', `/data/${pack.name}`, { headers: { range: 'bytes=99990-' } }, 206, pack.body.subarray(99_990)],
      ['GET', `/data/${pack.name}`, { headers: { range: 'bytes=99990-200000' } }, 206, pack.body.subarray(99_990)],
      ['GET', `/data/${pack.name}`, { headers: { range: 'bytes=100000-' } }, 416],
      ['HEAD', `/data/${sample().name}`, {}, 404],
      ['GET', `/snapshots/${sample().name}`, {}, 404],
    ]);
    const stat = await client.request('HEAD', `/data/${pack.name}`);
    expect(stat.headers['content-length']).toBe('100000');
    const list = await client.request('GET', '/data/', V2);
    expect(list.headers['content-type']).toBe('application/vnd.x.restic.rest.v2');
    const part = await client.request('GET', `/data/${pack.name}`, { headers: { range: 'bytes=10-19' } });
    expect(part.headers['content-range']).toBe('bytes 10-19/100000');
    expect(part.headers['content-length']).toBe('10');
    expect(client.reported).toEqual([]);
  });

  test('an empty object and one of several MiB come back byte for byte', async () => {
    const client = await stack.connect('appsrv');
    for (const size of [0, 1, 16_384, 5_000_000]) {
      const { name, body } = sample(size);
      await expectSequence(client, [
        ['POST', `/data/${name}`, { body }, 200],
        ['GET', `/data/${name}`, {}, 200, body],
        // As restic asks. Before 0.15 it waits out a 416, which an object without bytes was answered with.
        ['GET', `/data/${name}`, { headers: { range: 'bytes=0-' } }, size === 0 ? 200 : 206, body],
      ]);
    }
  });

  test('sixty requests at once are all answered', async () => {
    const client = await stack.connect('appsrv');
    const packs = Array.from({ length: 60 }, () => sample(50_000));
    const saved = await Promise.all(packs.map(({ name, body }) => client.request('POST', `/data/${name}`, { body })));
    expect(saved.map(({ status }) => status)).toEqual(packs.map(() => 200));
    const loaded = await Promise.all(packs.map(({ name }) => client.request('GET', `/data/${name}`)));
    expect(loaded.map(({ body }) => sha256(body))).toEqual(packs.map(({ name }) => name));
  });
});

describe('append-only', () => {
  test.each(['data', 'index', 'snapshots'] as const)(
    'the sequence every peer is held to: %s',
    async (type: NamedType) => {
      const client = await stack.connect('appsrv');
      const { name, body } = sample();
      const other = Buffer.from('other content');
      await expectSequence(client, [
        ['GET', `/${type}/${name}`, {}, 404],
        ['POST', `/${type}/${name}`, { body: other }, 400],
        ['GET', `/${type}/${name}`, {}, 404],
        ['POST', `/${type}/${name}`, { body }, 200],
        ['GET', `/${type}/${name}`, {}, 200, body],
        ['POST', `/${type}/${name}`, { body: other }, 403],
        ['GET', `/${type}/${name}`, {}, 200, body],
        ['DELETE', `/${type}/${name}`, {}, 403],
        ['GET', `/${type}/${name}`, {}, 200, body],
        ['POST', `/${type}/${name}`, { body }, 200],
      ]);
    },
  );

  test('config is written once; the same again is good, other content is not, and it stays', async () => {
    const client = await stack.connect('appsrv');
    const first = Buffer.from('the config');
    await expectSequence(client, [
      ['POST', '/config', { body: first }, 200],
      ['POST', '/config', { body: first }, 200],
      ['POST', '/config', { body: Buffer.from('another one') }, 403],
      ['DELETE', '/config', {}, 403],
      ['GET', '/config', {}, 200, first],
    ]);
  });

  test('a stored object that was damaged behind the gateway is not passed off as saved', async () => {
    const client = await stack.connect('appsrv');
    const { name, body } = sample();
    await expectSequence(client, [['POST', `/index/${name}`, { body }, 200]]);
    writeFileSync(stack.file('appsrv', `index/${name}`), 'damaged');
    await expectSequence(client, [['POST', `/index/${name}`, { body }, 403]]);
  });

  test('keys come with init only, unless the config lets the client add them', async () => {
    const client = await stack.connect('appsrv');
    const [first, second] = [sample(), sample()];
    await expectSequence(client, [
      ['POST', `/keys/${first.name}`, { body: first.body }, 200],
      ['POST', '/config', { body: Buffer.from('config') }, 200],
      ['POST', `/keys/${second.name}`, { body: second.body }, 403],
      ['GET', `/keys/${second.name}`, {}, 404],
      ['DELETE', `/keys/${first.name}`, {}, 403],
    ]);
    const keyed = await stack.connect('keyed');
    await expectSequence(keyed, [
      ['POST', '/config', { body: Buffer.from('config') }, 200],
      ['POST', `/keys/${second.name}`, { body: second.body }, 200],
    ]);
  });

  test('a lock of its own goes, in this session or a later one; removing it again is good', async () => {
    const lock = sample();
    await expectSequence(await stack.connect('appsrv'), [['POST', `/locks/${lock.name}`, { body: lock.body }, 200]]);
    await expectSequence(await stack.connect('appsrv'), [
      ['DELETE', `/locks/${lock.name}`, {}, 200],
      ['GET', `/locks/${lock.name}`, {}, 404],
      ['DELETE', `/locks/${lock.name}`, {}, 200],
    ]);
  });

  test("another's lock stays for 30 minutes, the admin's too, and is stale after", async () => {
    const client = await stack.connect('appsrv');
    for (const other of [await stack.connect('owner'), await stack.connect('appsrv', { via: 'admin' })]) {
      const { name, body } = sample();
      await expectSequence(other, [['POST', `/locks/${name}`, { body }, 200]]);
      await expectSequence(client, [['DELETE', `/locks/${name}`, {}, 403]]);
      const minutesAgo = (minutes: number): Date => new Date(Date.now() - minutes * 60_000);
      utimesSync(stack.file('appsrv', `locks/${name}`), minutesAgo(29), minutesAgo(29));
      await expectSequence(client, [['DELETE', `/locks/${name}`, {}, 403]]);
      utimesSync(stack.file('appsrv', `locks/${name}`), minutesAgo(31), minutesAgo(31));
      await expectSequence(client, [['DELETE', `/locks/${name}`, {}, 200]]);
    }
  });

  test('a denial is told once, in one plain line', async () => {
    const client = await stack.connect('appsrv');
    const { name, body } = sample();
    await expectSequence(client, [
      ['POST', `/snapshots/${name}`, { body }, 200],
      ['DELETE', `/snapshots/${name}`, {}, 403],
      ['DELETE', `/snapshots/${name}`, {}, 403],
    ]);
    expect(client.reported).toEqual([
      'append-only: this key may not remove anything; that is for the admin, on the gateway host: restic-gateway restic appsrv -- COMMAND.',
    ]);
  });

  test("restic's own clean-up after a failed save is refused without bothering anyone", async () => {
    const client = await stack.connect('appsrv');
    const { name } = sample();
    await expectSequence(client, [
      ['POST', `/data/${name}`, { body: Buffer.from('broken on the way') }, 400],
      ['DELETE', `/data/${name}`, {}, 403],
    ]);
    expect(client.reported).toEqual(['the content does not hash to its name; nothing was stored.']);
    expect(stack.audit().find((line) => line['event'] === 'denied' && line['operation'] === 'remove')).toMatchObject({
      reason: 'cleanup-after-failed-save',
    });
  });
});

describe('the other levels of access', () => {
  test('read-only reads and writes nothing, not even a lock', async () => {
    const { name, body } = sample();
    await expectSequence(await stack.connect('appsrv'), [['POST', `/snapshots/${name}`, { body }, 200]]);
    const reader = await stack.connect('reader');
    await expectSequence(reader, [
      ['GET', `/snapshots/${name}`, {}, 200, body],
      ['POST', `/snapshots/${sample().name}`, { body }, 403],
      ['POST', `/locks/${name}`, { body }, 403],
      ['DELETE', `/locks/${name}`, {}, 403],
      ['POST', '/?create=true', { body: Buffer.alloc(0) }, 403],
      ['POST', '/config', { body }, 403],
    ]);
    expect(reader.reported).toEqual(['read-only: this key may not write, not even a lock; use restic with --no-lock.']);
  });

  test('full access removes, twice if need be, and overwrites no more than anyone', async () => {
    const owner = await stack.connect('owner');
    const { name, body } = sample();
    await expectSequence(owner, [
      ['POST', `/data/${name}`, { body }, 200],
      ['POST', `/data/${name}`, { body: Buffer.from('other') }, 403],
      ['DELETE', `/data/${name}`, {}, 200],
      ['DELETE', `/data/${name}`, {}, 200],
      ['GET', `/data/${name}`, {}, 404],
    ]);
  });
});

describe('requests that restic does not make', () => {
  const name = 'a'.repeat(64);
  test.each([
    ['GET', '/'],
    ['DELETE', '/'],
    ['PUT', `/data/${name}`],
    ['PATCH', '/config'],
    ['OPTIONS', '/config'],
    ['POST', '/data/'],
    ['DELETE', '/snapshots/'],
    ['POST', '/file-1'],
  ])('405 with Allow: %s %s', async (method, path) => {
    const answer = await (await stack.connect('owner')).request(method, path);
    expect(answer.status).toBe(405);
    expect(answer.headers['allow']).toMatch(/GET|POST/);
  });

  test.each([
    '/test/../other',
    '/data/../config',
    '/data/%2e%2e/config',
    '/%2e%2e/other/config',
    '/./config',
    '/data/./x',
    '//config',
    '/config/',
    '/data',
    `/data/aa/${name}`,
    `/data/${name}?x=1`,
    `/keys/${name}/`,
    '/other/config',
    '/?create=false',
    '/.restic-gateway/origin/config',
  ])('refused by every method, nothing read or written: %s', async (path) => {
    const client = await stack.connect('owner');
    for (const method of ['GET', 'HEAD', 'POST', 'DELETE', 'PUT']) {
      const body = method === 'POST' ? { body: Buffer.from('x') } : {};
      const { status } = await client.request(method, path, body);
      expect(`${method} ${status}`).toBe(`${method} 400`);
    }
    expect(existsSync(stack.file('owner', ''))).toBe(false);
  });

  test('an upload must say its length, keep to it and be no larger than its type may be', async () => {
    const client = await stack.connect('appsrv');
    const stream = client.session.request({ ':method': 'POST', ':path': `/data/${name}` });
    stream.end('x');
    const headers = await new Promise<Record<string, unknown>>((resolve) => stream.once('response', resolve));
    expect(headers[':status']).toBe(411);
    const big = sample(70_000);
    await expectSequence(client, [
      ['POST', `/locks/${big.name}`, { body: big.body }, 413],
      ['POST', '/config', { body: big.body }, 413],
    ]);
  });

  test('a half-sent upload leaves nothing, and the session goes on', async () => {
    const client = await stack.connect('appsrv');
    const pack = sample(200_000);
    const stream = client.session.request({
      ':method': 'POST',
      ':path': `/data/${pack.name}`,
      'content-length': '200000',
    });
    stream.on('error', () => undefined);
    // More than the first window: it is through once the gateway has taken half of it.
    await new Promise((resolve) => stream.write(pack.body.subarray(0, 150_000), resolve));
    stream.close(8);
    await expectSequence(client, [
      ['GET', `/data/${pack.name}`, {}, 404],
      ['GET', '/data/', V2, 200, '[]'],
      ['POST', `/data/${pack.name}`, { body: pack.body }, 200],
    ]);
  });
});

describe('the audit of a session', () => {
  test('names who, what and how it ended, with totals', async () => {
    const client = await stack.connect('appsrv', {
      key: 'SHA256:abc',
      from: '192.0.2.7',
      fromPort: 4711,
      command: 'serve restic',
      user: 'backup',
    });
    const { name, body } = sample(1000);
    const lock = sample(10);
    await expectSequence(client, [
      ['POST', `/data/${name}`, { body }, 200],
      ['POST', `/locks/${lock.name}`, { body: lock.body }, 200],
      ['DELETE', `/locks/${lock.name}`, {}, 200],
      ['GET', `/data/${name}`, {}, 200, body],
      ['DELETE', `/data/${name}`, {}, 403],
    ]);
    client.socket.end();
    expect(await client.served.ended).toBe('client-ended');
    const lines = stack.audit();
    expect(lines.map((line) => [line['event'], line['object']])).toEqual([
      ['session-start', undefined],
      ['create', `data/${name}`],
      ['create', `locks/${lock.name}`],
      ['remove', `locks/${lock.name}`],
      ['denied', `data/${name}`],
      ['session-end', undefined],
    ]);
    for (const line of lines)
      expect(line).toMatchObject({
        session: client.served.id,
        client: 'appsrv',
        key: 'SHA256:abc',
        from: '192.0.2.7',
        store: 'store',
        prefix: 'appsrv',
      });
    expect(lines.at(-1)).toMatchObject({
      reason: 'client-ended',
      bytesIn: 1010,
      bytesOut: 1000,
      objectsCreated: 2,
      objectsRemoved: 1,
      denied: 1,
    });
  });

  test('the same content sent again is no second object in the audit', async () => {
    const client = await stack.connect('appsrv');
    const { name, body } = sample();
    await expectSequence(client, [
      ['POST', `/data/${name}`, { body }, 200],
      ['POST', `/data/${name}`, { body }, 200],
    ]);
    client.socket.end();
    await client.served.ended;
    expect(stack.audit().at(-1)).toMatchObject({ objectsCreated: 1, denied: 0 });
  });
});

describe('who is let in', () => {
  test.each([
    ['disabled', { disabled: true }, {}, /disabled/],
    ['expired', { expires: new Date('2020-01-01') }, {}, /expired on 2020-01-01/],
    ['from elsewhere', { from: ['10.0.0.0/8', '2001:db8::/32'] }, { from: '192.0.2.1' }, /address/],
    ['from nowhere known', { from: ['10.0.0.0/8'] }, {}, /address/],
    ['too many sessions', { maxSessions: 0 }, {}, /sessions/],
  ])('%s: refused with one line, and in the audit', async (_what, rule, principal, line) => {
    const strict = await startStack({ strict: rule });
    try {
      await expect(strict.connect('strict', principal)).rejects.toThrow(line);
      expect(strict.audit()).toHaveLength(1);
      expect(strict.audit()[0]).toMatchObject({ event: 'session-refused', client: 'strict' });
    } finally {
      await strict.close();
    }
  });

  test.each(['10.1.2.3', '::ffff:10.1.2.3', '2001:db8::7'])('an allowed address: %s', async (from) => {
    const strict = await startStack({ strict: { from: ['10.0.0.0/8', '2001:db8::/32'] } });
    try {
      const client = await strict.connect('strict', { from });
      expect((await client.request('GET', '/file-1')).status).toBe(404);
    } finally {
      await strict.close();
    }
  });

  test('the last place cannot be taken by two that come at once', async () => {
    const strict = await startStack({ strict: { maxSessions: 3 } });
    try {
      const results = await Promise.allSettled(Array.from({ length: 8 }, () => strict.connect('strict')));
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    } finally {
      await strict.close();
    }
  });
});

test('what is stored is on disk in the layout of restic itself', async () => {
  const client = await stack.connect('appsrv');
  const { name, body } = sample();
  await expectSequence(client, [['POST', `/data/${name}`, { body }, 200]]);
  expect(readFileSync(stack.file('appsrv', `data/${name.slice(0, 2)}/${name}`))).toEqual(body);
});
