/** A patient attacker who has an append-only client's key and tries to change or remove what is stored: over time, sessions and names. */
import { randomInt } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { sample, sha256 } from '../support/restic-client.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';

let stack: Stack;
beforeEach(async () => {
  stack = await startStack({ appsrv: { maxSessions: 50 } });
});
afterEach(async () => {
  await stack.close();
});

const admin = (): Promise<StackClient> => stack.connect('appsrv', { via: 'admin' });
const status = async (client: StackClient, method: string, path: string, body?: Uint8Array): Promise<number> =>
  (await client.request(method, path, body === undefined ? {} : { body })).status;

test('the admin’s lock, saved once more by the client, does not become its own to remove', async () => {
  const { name, body } = sample();
  expect(await status(await admin(), 'POST', `/locks/${name}`, body)).toBe(200);
  const client = await stack.connect('appsrv');
  expect(await status(client, 'POST', `/locks/${name}`, body)).toBe(200);
  expect(await status(client, 'DELETE', `/locks/${name}`)).toBe(403);
  expect(await status(await stack.connect('appsrv'), 'DELETE', `/locks/${name}`)).toBe(403);
  expect((await client.request('GET', `/locks/${name}`)).body).toEqual(body);
});

test('a lock saved by all at once belongs to whoever was first, and to nobody else', async () => {
  for (let round = 0; round < 20; round++) {
    const { name, body } = sample();
    const [client, owner] = [await stack.connect('appsrv'), await admin()];
    const answers = await Promise.all([client, owner].map((each) => status(each, 'POST', `/locks/${name}`, body)));
    expect(answers).toEqual([200, 200]);
    const first = stack
      .audit()
      .filter((line) => line['object'] === `locks/${name}`)
      .reduce((sessions, line) => {
        if (line['event'] === 'create') sessions.add(line['via']);
        if (line['event'] === 'create-failed') sessions.delete(line['via']);
        return sessions;
      }, new Set<unknown>());
    expect(first.size).toBe(1);
    expect(await status(client, 'DELETE', `/locks/${name}`)).toBe(first.has('ssh') ? 200 : 403);
    client.close();
    owner.close();
  }
});

test('a save that fails on purpose opens no way to remove what is stored', async () => {
  for (const type of ['data', 'index', 'snapshots', 'keys']) {
    const { name, body } = sample();
    expect(await status(await admin(), 'POST', `/${type}/${name}`, body)).toBe(200);
    const client = await stack.connect('appsrv');
    for (let tries = 0; tries < 3; tries++) {
      expect(await status(client, 'POST', `/${type}/${name}`, Buffer.from('forged'))).not.toBe(200);
      expect(await status(client, 'DELETE', `/${type}/${name}`)).toBe(403);
    }
    expect((await client.request('GET', `/${type}/${name}`)).body).toEqual(body);
  }
});

test('forged content that races the honest one for a name never wins it', async () => {
  const clients = await Promise.all(Array.from({ length: 8 }, () => stack.connect('appsrv')));
  for (let round = 0; round < 20; round++) {
    const { name, body } = sample(randomInt(1, 300_000));
    const forged = Buffer.from(body);
    forged.writeUInt8(forged.readUInt8(forged.length - 1) ^ 1, forged.length - 1);
    const answers = await Promise.all(
      clients.map((client, index) => status(client, 'POST', `/data/${name}`, index % 2 === 0 ? body : forged)),
    );
    answers.forEach((answer, index) => {
      if (index % 2 === 0) expect(answer).toBe(200);
      else expect([400, 403]).toContain(answer);
    });
    expect((await (clients[1] as StackClient).request('GET', `/data/${name}`)).body.equals(body)).toBe(true);
  }
});

test('keys that race each other, before and after init: none comes in once there is a config', async () => {
  const client = await stack.connect('appsrv');
  const own = sample();
  expect(await status(client, 'POST', `/keys/${own.name}`, own.body)).toBe(200);
  expect(await status(client, 'POST', '/config', Buffer.from('config'))).toBe(200);
  const junk = Array.from({ length: 50 }, () => sample());
  const sessions = await Promise.all(Array.from({ length: 5 }, () => stack.connect('appsrv')));
  const answers = await Promise.all(
    junk.map(({ name, body }, index) => status(sessions[index % 5] as StackClient, 'POST', `/keys/${name}`, body)),
  );
  expect(answers).toEqual(Array<number>(50).fill(403));
  expect((await client.request('GET', '/keys/')).body.toString()).toBe(JSON.stringify([own.name]));
});

test('a bare 200 means stored whole, whatever else goes on: forged, cut, short and lost saves store nothing', async () => {
  const clients = await Promise.all(Array.from({ length: 4 }, () => stack.connect('appsrv')));
  const answered = new Set<string>();
  const whole = new Set<string>();
  await Promise.all(
    Array.from({ length: 200 }, async (_, index) => {
      const client = clients[index % 4] as StackClient;
      const { name, body } = sample(randomInt(2, 60_000));
      const path = `/data/${name}`;
      const kind = index % 5;
      if (kind === 0) {
        // Begun and called off.
        const stream = client.session.request({ ':method': 'POST', ':path': path, 'content-length': body.length });
        stream.on('error', () => undefined);
        stream.write(body.subarray(0, -1));
        await new Promise((resolve) => {
          stream.on('close', resolve);
          stream.close(8);
        });
        return;
      }
      const headers = kind === 1 ? { 'content-length': String(body.length + 1) } : {};
      const sent = kind === 2 ? Buffer.concat([body.subarray(1), Buffer.of(0)]) : body;
      const answer = await client.request('POST', path, { body: sent, headers }).catch(() => undefined);
      if (answer?.status === 200) answered.add(name);
      if (kind > 2) whole.add(name);
    }),
  );
  expect([...answered].sort()).toEqual([...whole].sort());
  const reader = await stack.connect('appsrv');
  const listed = JSON.parse((await reader.request('GET', '/data/')).body.toString()) as string[];
  expect(listed.sort()).toEqual([...answered].sort());
  for (const name of listed) expect(sha256((await reader.request('GET', `/data/${name}`)).body)).toBe(name);
});

test('a save whose answer the client did not wait for: the same again is good, other content is not', async () => {
  const { name, body } = sample(200_000);
  const first = await stack.connect('appsrv');
  const lost = first.request('POST', `/data/${name}`, { body }).catch(() => undefined);
  const reader = await stack.connect('appsrv');
  while ((await status(reader, 'HEAD', `/data/${name}`)) !== 200);
  first.close();
  await lost;
  expect(await status(reader, 'POST', `/data/${name}`, body)).toBe(200);
  expect(await status(reader, 'POST', `/data/${name}`, body.subarray(1))).toBe(403);
  expect(await status(reader, 'DELETE', `/data/${name}`)).toBe(403);
  expect((await reader.request('GET', `/data/${name}`)).body.equals(body)).toBe(true);
});
