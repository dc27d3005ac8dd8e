/** What one client may have of a store at once, on a real directory: its own calls wait, nobody else's do. */
import { setMaxListeners } from 'node:events';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, expect, test } from '@jest/globals';
import { createStoreCalls } from '../../src/limits/store-calls.ts';
import type { ListedObject, LoadedObject, RepositoryStore } from '../../src/ports/repository-store.ts';
import { createDirectoryStorage } from '../../src/stores/directory-store.ts';
import { tempDir } from '../support/lab.ts';
import { contentOf, MIB, NEVER, UPLOADER, PREFIX, readAll, refOf, until } from '../support/store-calls.ts';

const PACK = Buffer.alloc(2 * MIB, 7);
/** Long enough that nothing is let go while a test looks. */
const LONG_MS = 600_000;

let store: RepositoryStore;
beforeEach(async () => {
  const directory = path.join(tempDir(), 'store');
  mkdirSync(directory);
  store = createDirectoryStorage({ type: 'directory', name: 'main', path: directory }).repository(PREFIX);
  await store.create(refOf(PACK), contentOf(PACK), UPLOADER, NEVER);
});

/** Whether it is settled by the time that something later, of the same kind, is. */
function watch(promise: Promise<unknown>): { readonly settled: boolean } {
  const state = { settled: false };
  promise.then(
    () => (state.settled = true),
    () => (state.settled = true),
  );
  return state;
}

const loadAs = (client: RepositoryStore, signal = NEVER.signal): Promise<LoadedObject> =>
  client.load(refOf(PACK), undefined, { signal });

test('downloads beyond a number wait for one to end; those of others, and look-ups, do not', async () => {
  const calls = createStoreCalls(LONG_MS);
  const [one, other] = [calls.of('appsrv', store), calls.of('neighbour', store)];
  // From several sessions.
  const open = await Promise.all(Array.from({ length: 32 }, () => loadAs(calls.of('appsrv', store))));
  const waiting = loadAs(one);
  const state = watch(waiting);
  expect((await readAll(await loadAs(other))).equals(PACK)).toBe(true);
  expect((await one.stat(refOf(PACK), NEVER))?.size).toBe(PACK.length);
  expect(state.settled).toBe(false);
  // While there is another, it begins no more than restic has connections.
  for (const object of open.slice(0, 27)) expect((await readAll(object)).equals(PACK)).toBe(true);
  expect((await readAll(await waiting)).equals(PACK)).toBe(true);
});

test('who goes away while it waits, or before it reads, takes nothing with it', async () => {
  const one = createStoreCalls(LONG_MS).of('appsrv', store);
  const sessions = new AbortController();
  setMaxListeners(0, sessions.signal);
  await Promise.all(Array.from({ length: 32 }, () => loadAs(one, sessions.signal)));
  const gone = new AbortController();
  const waiting = loadAs(one, gone.signal);
  gone.abort();
  await expect(waiting).rejects.toMatchObject({ code: 'client-gone' });
  sessions.abort();
  expect((await readAll(await loadAs(one))).equals(PACK)).toBe(true);
});

test('a download that nobody reads makes room, and comes whole once it is read', async () => {
  const one = createStoreCalls(20).of('appsrv', store);
  const open = await Promise.all(Array.from({ length: 32 }, () => loadAs(one)));
  const begun = (open[0] as LoadedObject).body[Symbol.asyncIterator]();
  const first = await begun.next();
  // It waits for those who do not read.
  expect((await readAll(await loadAs(one))).equals(PACK)).toBe(true);
  const chunks = [first.value as Uint8Array];
  for (let step = await begun.next(); step.done !== true; step = await begun.next()) chunks.push(step.value);
  expect(Buffer.concat(chunks).equals(PACK)).toBe(true);
});

test('look-ups of a client that is alone are many at once, and few while there is another', async () => {
  const calls = createStoreCalls(LONG_MS);
  const stuck: (() => void)[] = [];
  /** Look-ups that end when the test says so. */
  const slow: RepositoryStore = {
    ...{ create: (...call) => store.create(...call), load: (...call) => store.load(...call) },
    ...{ remove: (...call) => store.remove(...call), list: (...call) => store.list(...call) },
    stat: async (...call) => {
      await new Promise<void>((resolve) => stuck.push(resolve));
      return store.stat(...call);
    },
  };
  const stats = Array.from({ length: 50 }, () => calls.of('appsrv', slow).stat(refOf(PACK), NEVER));
  await until(() => stuck.length === 32);
  expect((await calls.of('neighbour', store).stat(refOf(PACK), NEVER))?.size).toBe(PACK.length);
  // What was begun before goes on; until there are few, no other begins.
  for (let ended = 0; ended < 28; ended++) stuck[ended]?.();
  await Promise.all(stats.slice(0, 28));
  await calls.of('neighbour', store).stat(refOf(PACK), NEVER);
  expect(stuck).toHaveLength(32);
  stuck[28]?.();
  await until(() => stuck.length === 33);
  for (let next = 29; next < 50; next++) {
    await until(() => stuck.length > next);
    stuck[next]?.();
  }
  await Promise.all(stats);
});

test('lists beyond a number wait, and fetch nothing meanwhile', async () => {
  const calls = createStoreCalls(LONG_MS);
  let asked = 0;
  const counted: RepositoryStore = {
    create: (...call) => store.create(...call),
    load: (...call) => store.load(...call),
    stat: (...call) => store.stat(...call),
    remove: (...call) => store.remove(...call),
    async *list(type, options) {
      asked += 1;
      yield* store.list(type, options);
    },
  };
  const listAs = (client: string): AsyncIterator<readonly ListedObject[]> =>
    calls.of(client, counted).list('data', NEVER)[Symbol.asyncIterator]();
  const open = Array.from({ length: 4 }, () => listAs('appsrv'));
  await Promise.all(open.map((list) => list.next()));
  const fifth = listAs('appsrv').next();
  const state = watch(fifth);
  expect((await listAs('neighbour').next()).value).toHaveLength(1);
  expect(state.settled).toBe(false);
  expect(asked).toBe(5);
  for (const list of open.slice(0, 3)) await list.return?.();
  expect((await fifth).value).toHaveLength(1);
  await until(() => state.settled);
});

test('all clients together leave a part for those that have few', async () => {
  const calls = createStoreCalls(LONG_MS);
  // More than there are places for, by clients that each keep to their own bound.
  const greedy = Array.from({ length: 43 }, (_, client) =>
    Array.from({ length: 6 }, () => watchOpened(loadAs(calls.of(`greedy-${client}`, store)))),
  ).flat();
  await until(() => greedy.filter(({ opened }) => opened).length >= 192);
  // Whoever comes with one has it at once, and so has the next one.
  for (const client of ['appsrv', 'neighbour'])
    expect((await readAll(await loadAs(calls.of(client, store)))).equals(PACK)).toBe(true);
  const had = greedy.filter(({ opened }) => opened).length;
  expect(had).toBeLessThan(256);
  // What is given back, beyond what is kept, goes to those who wait.
  for (const { object } of greedy.slice(0, 60)) await readAll(await object);
  await until(() => greedy.filter(({ opened }) => opened).length > had);
});

function watchOpened(object: Promise<LoadedObject>): {
  readonly object: Promise<LoadedObject>;
  readonly opened: boolean;
} {
  const state = { object, opened: false };
  void object.then(() => (state.opened = true));
  return state;
}
