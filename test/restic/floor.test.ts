/** The floor under removals, over real HTTP/2 on a real directory store: what stays, for whom, and how long. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
  statSync,
} from 'node:fs';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { sample } from '../support/restic-client.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;

let stack: Stack;
beforeAll(async () => {
  const shared = { repository: { store: 'store', prefix: 'shared' } };
  stack = await startStack({
    owner: { access: 'full', protectMs: DAY_MS },
    alone: { access: 'full', protectMs: DAY_MS },
    other: { access: 'full', protectMs: DAY_MS },
    thrifty: { removals: 'deferred', trashMs: DAY_MS, protectMs: DAY_MS },
    // Of two who share a repository, only one protects it, and has a trash.
    careful: { ...shared, protectMs: DAY_MS, trashMs: DAY_MS },
    careless: { ...shared, access: 'full' },
  });
});
afterAll(() => stack.close());

/** Saves a snapshot. @returns its name */
const save = async (client: StackClient): Promise<string> => {
  const { name, body } = sample();
  expect((await client.request('POST', `/snapshots/${name}`, { body })).status).toBe(200);
  return name;
};
const remove = async (client: StackClient, name: string): Promise<number> =>
  (await client.request('DELETE', `/snapshots/${name}`)).status;
const pathOf = (prefix: string, name: string): string => stack.file(prefix, `snapshots/${name}`);
const originOf = (prefix: string, name: string): string =>
  stack.file(prefix, `.restic-gateway/origin/snapshots/${name}.json`);

/** Has it come so long ago, by the store's own records. */
const age = (prefix: string, name: string, ms: number): void => {
  const arrived = new Date(Date.now() - ms);
  utimesSync(pathOf(prefix, name), arrived, arrived);
  const { mtimeNs } = statSync(pathOf(prefix, name), { bigint: true });
  const record = JSON.parse(readFileSync(originOf(prefix, name), 'utf8')) as Record<string, unknown>;
  writeFileSync(
    originOf(prefix, name),
    JSON.stringify({ ...record, modifiedNs: String(mtimeNs), time: arrived.toISOString(), boot: 'another' }),
  );
};

/** Five snapshots, that came 5, 4, 3, 2 and 1 of that long ago. */
const five = async (client: StackClient, prefix: string, ms: number): Promise<string[]> => {
  const names: string[] = [];
  for (const times of [5, 4, 3, 2, 1]) {
    const name = await save(client);
    age(prefix, name, times * ms);
    names.push(name);
  }
  return names;
};
const deniedLines = (name: string): number =>
  stack
    .audit()
    .filter(
      (line) => line['event'] === 'denied' && line['reason'] === 'protected' && line['object'] === `snapshots/${name}`,
    ).length;

describe.each(['owner', 'thrifty'])('a client that may remove (%s)', (who) => {
  test('cannot remove a snapshot that came lately; the line says until when, the audit has it', async () => {
    const client = await stack.connect(who);
    const name = await save(client);
    expect(await remove(client, name)).toBe(403);
    expect(existsSync(pathOf(who, name))).toBe(true);
    expect(client.reported).toEqual([
      expect.stringMatching(
        /^protected: snapshot [0-9a-f]{8} arrived recently, and cannot be removed before \d{4}-\d\d-\d\d \d\d:\d\d UTC\.$/,
      ),
    ]);
    expect(deniedLines(name)).toBe(1);
    // What was never there is no matter, as always.
    expect(await remove(client, sample().name)).toBe(200);
    age(who, name, DAY_MS - 60_000);
    expect(await remove(client, name)).toBe(403);
    rmSync(pathOf(who, name));
  });

  test('cannot remove the newest three at any age, whichever it begins with, and can remove the others', async () => {
    const client = await stack.connect(who);
    const names = await five(client, who, 100 * DAY_MS);
    const last = names.at(-1) ?? '';
    expect(await Promise.all([...names].reverse().map((name) => remove(client, name)))).toEqual([
      403, 403, 403, 200, 200,
    ]);
    expect(await remove(client, last)).toBe(403);
    expect(names.map((name) => existsSync(pathOf(who, name)))).toEqual([false, false, true, true, true]);
    // One more, and the oldest is none of the newest any more: another session sees so at once.
    await save(client);
    const next = await stack.connect(who);
    expect(await remove(next, names[2] ?? '')).toBe(200);
    expect(await remove(next, last)).toBe(403);
  });
});

test("an admin's restic is held to it too, unless it was told otherwise, which the audit has; a client cannot say so", async () => {
  const client = await stack.connect('other');
  const name = await save(client);
  const admin = await stack.connect('other', { via: 'admin' });
  expect(await remove(admin, name)).toBe(403);
  expect(admin.reported).toEqual([expect.stringContaining('UTC; --override-protect removes it anyway.')]);

  for (const via of ['ssh', 'stdio'] as const) {
    const pretender = await stack.connect('other', { via }, { overrideProtect: true });
    expect(await remove(pretender, name)).toBe(403);
  }
  const told = await stack.connect('other', { via: 'admin' }, { overrideProtect: true });
  expect(await remove(told, name)).toBe(200);
  expect(existsSync(pathOf('other', name))).toBe(false);
  const starts = stack.audit().filter((line) => line['event'] === 'session-start' && line['overrideProtect'] === true);
  expect(starts).toEqual([expect.objectContaining({ via: 'admin', session: told.served.id })]);
});

test('deferred removals take index and data, but no key, no config and nothing of the locks of others', async () => {
  const client = await stack.connect('thrifty');
  const owner = await stack.connect('thrifty', { via: 'admin' });
  const put = async (type: string, by = client): Promise<string> => {
    const { name, body } = sample();
    const path = type === 'config' ? '/config' : `/${type}/${name}`;
    expect((await by.request('POST', path, { body })).status).toBe(200);
    return path;
  };
  const paths = [
    await put('keys'),
    await put('config'),
    await put('locks', owner),
    await put('index'),
    await put('data'),
  ];
  const statuses = await Promise.all(paths.map(async (path) => (await client.request('DELETE', path)).status));
  expect(statuses).toEqual([403, 403, 403, 200, 200]);
  expect(client.reported).toEqual([
    'append-only: this key may remove snapshots, but not repository passwords or the config.',
  ]);
});

test('of several clients of one repository the one decides who protects it the longest; none displaces the newest of another', async () => {
  const careful = await stack.connect('careful');
  const careless = await stack.connect('careless');
  const admin = await stack.connect('careful', { via: 'admin' });
  const young = await save(careful);
  expect(await remove(careless, young)).toBe(403);
  rmSync(pathOf('shared', young));

  const theirs = await five(careful, 'shared', 100 * DAY_MS);
  const admins = await five(admin, 'shared', 80 * DAY_MS);
  // Newer than all of them.
  await five(careless, 'shared', 2 * HOUR_MS);
  for (const names of [theirs, admins]) {
    const statuses: number[] = [];
    for (const name of [...names].reverse()) statuses.push(await remove(careless, name));
    expect(statuses).toEqual([403, 403, 403, 200, 200]);
  }
});

test('one that came by no gateway is protected among its kind', async () => {
  const client = await stack.connect('owner');
  const names = await five(client, 'owner', 50 * DAY_MS);
  for (const name of names) rmSync(originOf('owner', name));
  const statuses: number[] = [];
  for (const name of [...names].reverse()) statuses.push(await remove(client, name));
  expect(statuses).toEqual([403, 403, 403, 200, 200]);
});

test('a store that cannot say when one came removes none, and says that it failed', async () => {
  const client = await stack.connect('owner');
  const names = await five(client, 'owner', 30 * DAY_MS);
  const broken = await save(client);
  const origin = originOf('owner', broken);
  renameSync(origin, `${origin}.away`);
  mkdirSync(origin);
  expect(await remove(client, names[0] ?? '')).toBe(502);
  expect(await remove(client, broken)).toBe(502);
  expect(names.map((name) => existsSync(pathOf('owner', name)))).not.toContain(false);
  rmSync(origin, { recursive: true });
  renameSync(`${origin}.away`, origin);
  expect(await remove(client, names[0] ?? '')).toBe(200);
});

test('newer ones that are taken away beside the session count no longer', async () => {
  const client = await stack.connect('alone');
  const names = await five(client, 'alone', 20 * DAY_MS);
  const first = await five(client, 'alone', 10 * DAY_MS);
  expect(await remove(client, names[0] ?? '')).toBe(200);
  // As undo does with what an intruder has added.
  for (const name of first) rmSync(pathOf('alone', name));
  const now = performance.now.bind(performance);
  const later = jest.spyOn(performance, 'now').mockImplementation(() => now() + 61_000);
  const statuses: number[] = [];
  for (const name of names.slice(1)) statuses.push(await remove(client, name));
  later.mockRestore();
  expect(statuses).toEqual([200, 403, 403, 403]);
});

test('a config that protects from now on holds for sessions that are open', async () => {
  const { config, gateway } = stack;
  const owner = config.clients['owner'];
  if (owner === undefined) throw new Error('no owner');
  const withProtect = (protectMs: number): typeof config => ({
    ...config,
    clients: { ...config.clients, owner: { ...owner, protectMs } },
  });
  const client = await stack.connect('owner');
  const [oldest = ''] = await five(client, 'owner', 5 * DAY_MS);
  await gateway.reconfigure(withProtect(300 * DAY_MS));
  expect(await remove(client, oldest)).toBe(403);
  await gateway.reconfigure(withProtect(DAY_MS));
  expect(await remove(client, oldest)).toBe(200);
});

test('after a snapshot that it could not remove, a session removes no index and no data; once it could, and in others, it does', async () => {
  const client = await stack.connect('owner');
  const name = await save(client);
  const other = await stack.connect('owner');
  const put = async (by: StackClient, type: string): Promise<string> => {
    const { name, body } = sample();
    expect((await by.request('POST', `/${type}/${name}`, { body })).status).toBe(200);
    return `/${type}/${name}`;
  };
  const [index, pack, lock] = [await put(other, 'index'), await put(client, 'data'), await put(client, 'locks')];
  expect(await remove(client, name)).toBe(403);
  for (const path of [index, pack]) expect((await client.request('DELETE', path)).status).toBe(403);
  expect(client.reported.at(-1)).toMatch(/^a snapshot could not be removed, so its data is kept: /);
  expect((await client.request('DELETE', lock)).status).toBe(200);
  expect((await other.request('DELETE', index)).status).toBe(200);

  await five(client, 'owner', DAY_MS);
  age('owner', name, 200 * DAY_MS);
  expect(await remove(client, name)).toBe(200);
  expect((await client.request('DELETE', pack)).status).toBe(200);
});

test('what one of two who share a repository removes goes to the trash that only the other has', async () => {
  const careless = await stack.connect('careless');
  const { name, body } = sample();
  expect((await careless.request('POST', `/data/${name}`, { body })).status).toBe(200);
  expect((await careless.request('DELETE', `/data/${name}`)).status).toBe(200);
  const kept = readdirSync(stack.file('shared', '.restic-gateway/trash'), { recursive: true });
  expect(kept.filter((file) => String(file).endsWith(name))).toHaveLength(1);
});
