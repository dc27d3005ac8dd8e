/** A quota as a client meets it: over real HTTP/2, on a real directory store. */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync, appendFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { sample } from '../support/restic-client.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';

const QUOTA = 1_000_000;
const REPORTED = 'the repository would outgrow its quota; ask the admin of the gateway.';

let stack: Stack;
beforeEach(async () => {
  const repository = { store: 'store', prefix: 'appsrv' };
  stack = await startStack({ appsrv: { quota: QUOTA }, owner: { access: 'full', repository }, free: {} });
});
afterEach(async () => {
  await stack.close();
});

const save = async (client: StackClient, size: number, type = 'data'): Promise<number> => {
  const { name, body } = sample(size);
  return (await client.request('POST', `/${type}/${name}`, { body })).status;
};

test('an upload that fits to the last byte is stored; beyond it every type is refused, locks excepted', async () => {
  const client = await stack.connect('appsrv');
  expect(await save(client, QUOTA - 300)).toBe(200);
  expect(await save(client, 301)).toBe(507);
  expect(client.reported).toEqual([REPORTED]);
  expect(await save(client, 300, 'index')).toBe(200);
  for (const type of ['data', 'index', 'snapshots', 'keys']) expect(await save(client, 1, type)).toBe(507);
  expect(client.reported).toEqual([REPORTED]);
  const lock = sample();
  expect((await client.request('POST', `/locks/${lock.name}`, { body: lock.body })).status).toBe(200);
  expect((await client.request('DELETE', `/locks/${lock.name}`)).status).toBe(200);
  const denied = stack.audit().filter((line) => line['event'] === 'denied');
  expect(denied).toHaveLength(5);
  expect(denied[0]).toMatchObject({ client: 'appsrv', operation: 'save', reason: 'quota-exceeded' });
  expect(stack.audit().filter((line) => line['event'] === 'create')).toHaveLength(3);
});

test('it is refused before its body comes', async () => {
  const client = await stack.connect('appsrv');
  const stream = client.session.request(
    { ':method': 'POST', ':path': `/data/${sample().name}`, 'content-length': String(QUOTA + 1) },
    { endStream: false },
  );
  const status = await new Promise((resolve) => {
    stream.on('response', (headers) => {
      resolve(headers[':status']);
    });
  });
  expect(status).toBe(507);
  stream.destroy();
});

test('what is stored already is 200 at a full quota, and other content under its name is not', async () => {
  const client = await stack.connect('appsrv');
  const { name, body } = sample(QUOTA);
  expect((await client.request('POST', `/data/${name}`, { body })).status).toBe(200);
  expect((await client.request('POST', `/data/${name}`, { body })).status).toBe(200);
  const other = sample(QUOTA).body;
  expect((await client.request('POST', `/data/${name}`, { body: other })).status).toBe(403);
});

test('an upload that failed, or was there already, takes no room', async () => {
  const client = await stack.connect('appsrv');
  const { name, body } = sample(400_000);
  for (let times = 0; times < 4; times++) {
    expect((await client.request('POST', `/data/${name}`, { body })).status).toBe(200);
    expect((await client.request('POST', `/index/${name}`, { body: sample(400_000).body })).status).toBe(400);
  }
  expect(await save(client, 600_000)).toBe(200);
});

test('of many uploads at once over several sessions, exactly as many are stored as fit', async () => {
  const clients = await Promise.all([1, 2, 3].map(() => stack.connect('appsrv')));
  const statuses = await Promise.all(
    clients.flatMap((client) => Array.from({ length: 10 }, () => save(client, 90_000))),
  );
  expect(statuses.filter((status) => status === 200)).toHaveLength(11);
  expect(statuses.filter((status) => status === 507)).toHaveLength(19);
});

test('all who have the repository count; what is removed makes room; the admin is held to nothing', async () => {
  const [client, owner, admin] = [
    await stack.connect('appsrv'),
    await stack.connect('owner'),
    await stack.connect('appsrv', { via: 'admin' }),
  ];
  const pack = sample(QUOTA);
  expect((await owner.request('POST', `/data/${pack.name}`, { body: pack.body })).status).toBe(200);
  expect(await save(client, 1)).toBe(507);
  expect(await save(admin, 500)).toBe(200);
  expect((await admin.request('DELETE', `/data/${pack.name}`)).status).toBe(200);
  expect((await admin.request('DELETE', `/data/${pack.name}`)).status).toBe(200);
  expect(await save(client, QUOTA - 499)).toBe(507);
  expect(await save(client, QUOTA - 500)).toBe(200);
});

test('what a repository holds from before is counted, its locks are not', async () => {
  const owner = await stack.connect('owner');
  const state = path.join(stack.directory, 'state');
  expect(await save(owner, 300_000)).toBe(200);
  expect(await save(owner, 200_000, 'snapshots')).toBe(200);
  expect(await save(owner, 4096, 'locks')).toBe(200);
  expect((await owner.request('POST', '/config', { body: Buffer.alloc(1000) })).status).toBe(200);
  rmSync(path.join(state, 'usage'), { recursive: true });
  const client = await stack.connect('appsrv');
  expect(await save(client, QUOTA - 501_000 + 1)).toBe(507);
  expect(await save(client, QUOTA - 501_000)).toBe(200);
});

test('a count that is due mends the ledger while uploads go on, and drops what the dead had set aside', async () => {
  const client = await stack.connect('appsrv');
  expect(await save(client, 100_000)).toBe(200);
  const usage = path.join(stack.directory, 'state', 'usage');
  const ledger = path.join(usage, readdirSync(usage)[0] ?? '', '1');
  // Far above any process id.
  appendFileSync(ledger, `["+",900000,null,"999999999-dead-1","data/never"]\n`);
  expect(await save(client, 50_000)).toBe(507);
  appendFileSync(ledger, `["claim",0,"due"]\n`);
  const statuses: number[] = [];
  for (let tries = 0; tries < 20_000 && statuses.at(-1) !== 200; tries++) statuses.push(await save(client, 50_000));
  expect(statuses.at(-1)).toBe(200);
  expect(await save(client, QUOTA - 150_000 + 1)).toBe(507);
  expect(await save(client, QUOTA - 150_000)).toBe(200);
});

test('where the ledger cannot be kept nothing is stored, and the rest is served', async () => {
  const client = await stack.connect('appsrv');
  mkdirSync(path.join(stack.directory, 'state'), { recursive: true });
  writeFileSync(path.join(stack.directory, 'state', 'usage'), 'a file');
  expect(await save(client, 100)).toBe(503);
  expect(client.reported).toEqual(['the gateway cannot keep count of what is stored, so nothing is changed.']);
  expect((await client.request('GET', '/data/')).body.toString()).toBe('[]');
});

test('a quota of one costs another nothing: no ledger is kept for it', async () => {
  const client = await stack.connect('free');
  expect(await save(client, QUOTA + 1)).toBe(200);
  expect(existsSync(path.join(stack.directory, 'state', 'usage'))).toBe(false);
});
