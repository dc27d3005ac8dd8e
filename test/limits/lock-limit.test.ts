/** The number of live locks that a client may hold, over real HTTP/2 on a real directory store. */
import { readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { sample } from '../support/restic-client.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';

let stack: Stack;
beforeEach(async () => {
  const repository = { store: 'store', prefix: 'appsrv' };
  stack = await startStack({
    appsrv: { maxLocks: 20, repository },
    other: { maxLocks: 3, repository },
  });
});
afterEach(async () => {
  await stack.close();
});

const lock = async (client: StackClient): Promise<number> => {
  const { name, body } = sample();
  return (await client.request('POST', `/locks/${name}`, { body })).status;
};
const locks = async (client: StackClient, count: number): Promise<number[]> =>
  Promise.all(Array.from({ length: count }, () => lock(client)));
/** Makes a lock of appsrv's repository 31 minutes old, as the store and its side file have it. */
const age = (name: string): void => {
  const [file, side] = [`locks/${name}`, `.restic-gateway/origin/locks/${name}.json`].map((key) =>
    stack.file('appsrv', key),
  );
  if (file === undefined || side === undefined) throw new Error('both are given');
  const old = new Date(Date.now() - 31 * 60_000);
  utimesSync(file, old, old);
  const noted = JSON.parse(readFileSync(side, 'utf8')) as { bootMs: number };
  const { mtimeNs } = statSync(file, { bigint: true });
  writeFileSync(side, JSON.stringify({ ...noted, modifiedNs: String(mtimeNs), bootMs: noted.bootMs - 31 * 60_000 }));
};
const stored = (): string[] => readdirSync(stack.file('appsrv', 'locks'));

test('a flood of locks is cut at the most, in one session and in the next', async () => {
  const client = await stack.connect('appsrv');
  const statuses = await locks(client, 60);
  expect(statuses.filter((status) => status === 200)).toHaveLength(20);
  expect(statuses.filter((status) => status === 403)).toHaveLength(40);
  expect(stored()).toHaveLength(20);
  expect(client.reported).toEqual(['this client holds as many locks as it may; wait for its other runs to end.']);
  expect(await lock(await stack.connect('appsrv'))).toBe(403);
  expect(await lock(await stack.connect('appsrv', { via: 'admin' }))).toBe(200);
  expect(stack.audit().filter((line) => line['event'] === 'denied')).toHaveLength(41);
  expect(stack.audit().findLast((line) => line['event'] === 'denied')).toMatchObject({ reason: 'too-many-locks' });
});

test('listing while locks are made does not win more of them', async () => {
  const client = await stack.connect('appsrv');
  const lists = (async () => {
    for (let times = 0; times < 50; times++) await client.request('GET', '/locks/');
  })();
  for (let times = 0; times < 5; times++) await locks(client, 20);
  await lists;
  expect(stored()).toHaveLength(20);
});

test("neither another client's locks count nor stale ones", async () => {
  const client = await stack.connect('appsrv');
  expect(new Set(await locks(client, 10))).toEqual(new Set([200]));
  const other = await stack.connect('other');
  expect(new Set(await locks(other, 3))).toEqual(new Set([200]));
  expect(await lock(other)).toBe(403);
  const old = new Date(Date.now() - 31 * 60_000);
  for (const name of stored()) utimesSync(stack.file('appsrv', `locks/${name}`), old, old);
  expect(await lock(await stack.connect('other'))).toBe(200);
});

test('whoever waits for the locks to become stale does not pile them up, and the others keep theirs', async () => {
  const other = await stack.connect('other');
  await locks(other, 3);
  const others = stored();
  for (let times = 0; times < 4; times++) {
    for (const name of stored()) age(name);
    await locks(await stack.connect('appsrv'), 20);
  }
  expect(stored().length).toBeLessThanOrEqual(2 * 20 + 3);
  expect(stored()).toEqual(expect.arrayContaining(others));
  const removed = stack.audit().filter((line) => line['event'] === 'remove' && line['client'] === 'appsrv');
  expect(removed.length).toBeGreaterThanOrEqual(40);
});

test('a lock that is made, listed and removed again can be made any number of times', async () => {
  const client = await stack.connect('other');
  for (let times = 0; times < 40; times++) {
    const { name, body } = sample();
    await client.request('GET', '/locks/');
    expect((await client.request('POST', `/locks/${name}`, { body })).status).toBe(200);
    expect((await client.request('DELETE', `/locks/${name}`)).status).toBe(200);
  }
});
