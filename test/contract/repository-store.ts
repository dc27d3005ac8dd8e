/**
 * The contract of `RepositoryStore` as tests: every store runs them all, against the real thing behind it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { GatewayError, type ErrorCode } from '../../src/core/errors.ts';
import { CONFIG_REF, NAMED_TYPES, objectKey, parseObjectName } from '../../src/core/object.ts';
import type { NamedType, ObjectName, ObjectRef } from '../../src/core/object.ts';
import type { Uploader } from '../../src/core/principal.ts';
import type {
  Content,
  LoadedObject,
  RepositoryStore,
  Storage,
  StoredRepository,
} from '../../src/ports/repository-store.ts';

/** A store under test with a way to look and write behind it. Keys are below the repository's prefix, parts divided by `/`. */
interface StoreUnderTest {
  /** Empty at the start, and nobody else's. */
  readonly storage: Storage;
  /** A second gateway's view of the same place. */
  readonly peer: Storage;
  /** What lies under a key, or undefined. */
  rawRead(prefix: string, key: string): Promise<Uint8Array | undefined>;
  /** Plants a file, as someone beside the gateway would. */
  rawWrite(prefix: string, key: string, bytes: Uint8Array): Promise<void>;
  /** Every key under a prefix, the store's own private ones among them (side files, temporary files, unfinished uploads). */
  rawKeys(prefix: string): Promise<readonly string[]>;
  /** Frees everything, the place included. */
  dispose(): Promise<void>;
}

const UPLOADER: Uploader = { client: 'appsrv', via: 'ssh', session: '01JD9Z0QW6S8M5RZ4T3V2X1Y0A' };
/** For calls that nobody gives up. Shared by all of them, so with many listeners at once. */
const NEVER = { signal: new AbortController().signal };
setMaxListeners(0, NEVER.signal);
const MIB = 1024 * 1024;

const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

function nameOf(text: string): ObjectName {
  const name = parseObjectName(text);
  if (name === undefined) throw new Error(`not an object name: ${text}`);
  return name;
}

/** A fresh random name; the store does not care that nothing hashes to it. */
const someName = (): ObjectName => nameOf(randomBytes(32).toString('hex'));
const someRef = (type: NamedType = 'data'): ObjectRef => ({ type, name: someName() });

/** Bytes as they come off the wire: in chunks of 16 KiB, one an event-loop turn. */
async function* inChunks(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 16_384) {
    await turn();
    yield bytes.subarray(at, at + 16_384);
  }
}

const contentOf = (bytes: Uint8Array): Content => ({
  size: bytes.length,
  sha256: hashOf(bytes),
  body: inChunks(bytes),
});

async function readAll(loaded: LoadedObject): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of loaded.body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function listAll(store: RepositoryStore, type: NamedType): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for await (const page of store.list(type, NEVER))
    for (const { name, size } of page) {
      if (name in found) throw new Error(`listed twice: ${name}`);
      found[name] = size;
    }
  return found;
}

async function drain(pages: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const page of pages) count += page === undefined ? 0 : 1;
  return count;
}

/** The code of the `GatewayError` that the promise rejects with; any other outcome fails the test. */
async function codeOf(promise: Promise<unknown>): Promise<ErrorCode> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if (!('error' in outcome)) throw new Error(`resolved to ${JSON.stringify(outcome.value)}`);
  if (!(outcome.error instanceof GatewayError))
    throw new Error('threw something else than a GatewayError', { cause: outcome.error });
  return outcome.error.code;
}

/** Waits until the check holds, for as long as a busy machine may need. */
export async function eventually(check: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries += 1)
    try {
      await check();
      return;
    } catch (error) {
      if (tries === 400) throw error;
      await sleep(50);
    }
}

/** A promise with the function that resolves it. */
function makeGate(): { readonly passed: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined;
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { passed, open };
}

/** Runs the work on every item, at most 16 at once. */
async function forEach<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const left = [...items];
  const worker = async (): Promise<void> => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await work(item);
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}

/** Registers the whole contract as tests on the store that the factory makes. */
export function describeRepositoryStore(name: string, factory: () => Promise<StoreUnderTest>): void {
  describe(`${name}: contract of RepositoryStore`, () => {
    let under: StoreUnderTest;
    let count = 0;

    beforeAll(async () => {
      under = await factory();
    });
    afterAll(async () => {
      await under.dispose();
    });

    /** A repository of its own for each test. */
    function fresh(): { readonly prefix: string; readonly store: StoredRepository; readonly peer: StoredRepository } {
      const prefix = `repository-${(count += 1)}`;
      return { prefix, store: under.storage.repository(prefix), peer: under.peer.repository(prefix) };
    }

    /** Nothing of the object is visible, by any method, to this gateway and another. */
    async function expectInvisible(stores: readonly RepositoryStore[], ref: ObjectRef): Promise<void> {
      for (const store of stores) {
        expect(await codeOf(store.load(ref, undefined, NEVER))).toBe('not-found');
        expect(await store.stat(ref, NEVER)).toBeUndefined();
        if (ref.type !== 'config') expect(await listAll(store, ref.type)).toEqual({});
      }
    }

    const save = (store: RepositoryStore, ref: ObjectRef, bytes: Uint8Array): Promise<'created' | 'exists'> =>
      store.create(ref, contentOf(bytes), UPLOADER, NEVER);

    describe('create', () => {
      test.each<readonly [string, number]>([
        ['empty content', 0],
        ['one byte', 1],
        ['one chunk', 16_384],
        ['a byte more than a chunk', 16_385],
        ['several MiB', 5 * MIB + 7],
      ])('%s comes back as it went in', async (_, size) => {
        const { prefix, store, peer } = fresh();
        const ref = someRef();
        const bytes = randomBytes(size);
        expect(await save(store, ref, bytes)).toBe('created');
        const loaded = await peer.load(ref, undefined, NEVER);
        expect({ size: loaded.size, first: loaded.first, length: loaded.length }).toEqual({
          size,
          first: 0,
          length: size,
        });
        expect((await readAll(loaded)).equals(bytes)).toBe(true);
        expect(Buffer.from((await under.rawRead(prefix, objectKey(ref))) ?? 'nothing').equals(bytes)).toBe(true);
      });

      test.each<ObjectRef>([CONFIG_REF, ...NAMED_TYPES.map((type) => someRef(type))])(
        'stores $type where restic looks for it',
        async (ref) => {
          const { prefix, store } = fresh();
          expect(await save(store, ref, Buffer.from('content'))).toBe('created');
          const shard = ref.type === 'data' ? `${ref.name.slice(0, 2)}/` : '';
          const key = ref.type === 'config' ? 'config' : `${ref.type}/${shard}${ref.name}`;
          expect(Buffer.from((await under.rawRead(prefix, key)) ?? '').toString()).toBe('content');
        },
      );

      test('chunks of many sizes, empty ones among them', async () => {
        const { store } = fresh();
        const chunks = [0, 1, 0, 70_000, 3, 3 * MIB, 0, 16_384, 1].map((size) => randomBytes(size));
        const whole = Buffer.concat(chunks);
        const body = (async function* () {
          for (const chunk of chunks) {
            await turn();
            yield chunk;
          }
        })();
        const ref = someRef();
        const content = { size: whole.length, sha256: hashOf(whole), body };
        expect(await store.create(ref, content, UPLOADER, NEVER)).toBe('created');
        expect((await readAll(await store.load(ref, undefined, NEVER))).equals(whole)).toBe(true);
      });

      test.each<ObjectRef>([CONFIG_REF, someRef('data'), someRef('locks')])(
        'a second $type of the same name says `exists` and changes nothing, whoever asks and whatever the content',
        async (ref) => {
          const { store, peer } = fresh();
          await save(store, ref, Buffer.from('the first'));
          const before = await store.stat(ref, NEVER);
          for (const other of ['the first', 'another, longer one', ''])
            for (const asked of [store, peer]) {
              const uploader: Uploader = { client: 'other', via: 'stdio', session: 'other' };
              expect(await asked.create(ref, contentOf(Buffer.from(other)), uploader, NEVER)).toBe('exists');
            }
          expect((await readAll(await store.load(ref, undefined, NEVER))).toString()).toBe('the first');
          const after = await store.stat(ref, NEVER);
          expect(after).toMatchObject({ modified: before?.modified, size: 9, uploader: UPLOADER });
        },
      );

      test('what someone put there beside the gateway is not overwritten either', async () => {
        const { prefix, store } = fresh();
        const ref = someRef('index');
        await under.rawWrite(prefix, objectKey(ref), Buffer.from('planted'));
        expect(await save(store, ref, Buffer.from('new'))).toBe('exists');
        expect(Buffer.from((await under.rawRead(prefix, objectKey(ref))) ?? '').toString()).toBe('planted');
      });

      test.each<ObjectRef>([CONFIG_REF, someRef('data')])(
        'of 20 who create one $type at once with different content exactly one wins',
        async (ref) => {
          const { store, peer } = fresh();
          const contents = Array.from({ length: 20 }, (_, i) => Buffer.alloc(40_000 + i, `content ${i} `));
          const results = await Promise.all(
            contents.map((bytes, i) =>
              (i % 2 === 0 ? store : peer).create(ref, contentOf(bytes), { ...UPLOADER, session: `s${i}` }, NEVER),
            ),
          );
          expect([...results].sort()).toEqual(['created', ...Array.from({ length: 19 }, () => 'exists')]);
          const winner = results.indexOf('created');
          const stored = await readAll(await store.load(ref, undefined, NEVER));
          expect(contents.findIndex((bytes) => bytes.equals(stored))).toBe(winner);
          expect((await store.stat(ref, NEVER))?.uploader).toEqual({ ...UPLOADER, session: `s${winner}` });
        },
      );

      test('nothing is visible until the last chunk is there, then all of it', async () => {
        const { store, peer } = fresh();
        const ref = someRef('snapshots');
        const bytes = randomBytes(3 * MIB);
        const gate = makeGate();
        const reached = makeGate();
        const body = (async function* () {
          yield bytes.subarray(0, 2 * MIB);
          reached.open();
          await gate.passed;
          yield bytes.subarray(2 * MIB);
        })();
        const creation = store.create(ref, { size: bytes.length, sha256: hashOf(bytes), body }, UPLOADER, NEVER);
        await reached.passed;
        await expectInvisible([store, peer], ref);
        gate.open();
        expect(await creation).toBe('created');
        expect(await listAll(peer, 'snapshots')).toEqual({ [objectKey(ref).slice(-64)]: bytes.length });
        expect((await readAll(await peer.load(ref, undefined, NEVER))).equals(bytes)).toBe(true);
      });

      test('an upload that stalls does not hold the name', async () => {
        const { store, peer } = fresh();
        const ref = someRef('data');
        const slow = randomBytes(MIB);
        const gate = makeGate();
        const reached = makeGate();
        const body = (async function* () {
          yield slow.subarray(0, MIB / 2);
          reached.open();
          await gate.passed;
          yield slow.subarray(MIB / 2);
        })();
        const stalled = store.create(ref, { size: MIB, sha256: hashOf(slow), body }, UPLOADER, NEVER);
        await reached.passed;
        expect(await save(peer, ref, Buffer.from('quick'))).toBe('created');
        gate.open();
        expect(await stalled).toBe('exists');
        expect((await readAll(await store.load(ref, undefined, NEVER))).toString()).toBe('quick');
      });

      describe.each<readonly [string, number, number]>([
        ['at once', 0, 100],
        ['after a chunk', 1, 100_000],
        ['before the last of many chunks', 63, MIB],
      ])('a body that throws %s', (_, after, size) => {
        test.each<readonly [string, Error]>([
          ['a GatewayError', new GatewayError('content-mismatch')],
          ['any other error', new TypeError('defect')],
        ])('with %s: that very error, and nothing is left', async (_kind, error) => {
          const { prefix, store, peer } = fresh();
          const ref = someRef();
          const bytes = randomBytes(size);
          const body = (async function* () {
            let sent = 0;
            for await (const chunk of inChunks(bytes)) {
              if ((sent += 1) > after) throw error;
              yield chunk;
            }
          })();
          const creation = store.create(ref, { size, sha256: hashOf(bytes), body }, UPLOADER, NEVER);
          await expect(creation).rejects.toBe(error);
          await expectInvisible([store, peer], ref);
          await eventually(async () => {
            expect(await under.rawKeys(prefix)).toEqual([]);
          });
          expect(await save(store, ref, bytes)).toBe('created');
        });
      });

      test.each<readonly [string, number, number]>([
        ['empty instead of one byte', 0, 1],
        ['a byte short', 99_999, 100_000],
        ['much too short', 20_000, 5 * MIB],
        ['a byte long', 100_001, 100_000],
        ['long by many chunks', 3 * MIB, 100],
        ['not empty where it should be', 1, 0],
      ])('a body that is %s creates nothing', async (_, sent, declared) => {
        const { prefix, store, peer } = fresh();
        const ref = someRef();
        const declaredBytes = Buffer.alloc(declared, 1);
        const body = inChunks(Buffer.alloc(sent, 1));
        await codeOf(store.create(ref, { size: declared, sha256: hashOf(declaredBytes), body }, UPLOADER, NEVER));
        await expectInvisible([store, peer], ref);
        await eventually(async () => {
          expect(await under.rawKeys(prefix)).toEqual([]);
        });
      });

      test('a body is let go of when the store gives it up', async () => {
        const { store } = fresh();
        let freed = false;
        const body = (async function* () {
          try {
            for (;;) {
              await turn();
              yield Buffer.alloc(1000);
            }
          } finally {
            freed = true;
          }
        })();
        await codeOf(
          store.create(someRef(), { size: 1500, sha256: hashOf(Buffer.alloc(1500)), body }, UPLOADER, NEVER),
        );
        await eventually(() => {
          expect(freed).toBe(true);
          return Promise.resolve();
        });
      });
    });

    describe('load', () => {
      const bytes = randomBytes(2 * MIB + 5);
      const ref = someRef('data');
      let store: RepositoryStore;
      beforeAll(async () => {
        ({ store } = fresh());
        await save(store, ref, bytes);
      });

      test.each<readonly [string, number, number | undefined, number]>([
        ['the whole object', 0, undefined, bytes.length],
        ['the whole object by both ends', 0, bytes.length - 1, bytes.length],
        ['the first byte', 0, 0, 1],
        ['one byte in the middle', MIB, MIB, 1],
        ['the last byte', bytes.length - 1, bytes.length - 1, 1],
        ['from the last byte on', bytes.length - 1, undefined, 1],
        ['a part across many chunks', 12_345, MIB + 54_321, MIB + 54_321 - 12_345 + 1],
        ['from the middle on', MIB, undefined, bytes.length - MIB],
        ['past the end', MIB, 900_000_000_000_000, bytes.length - MIB],
      ])('%s', async (_, first, last, length) => {
        const loaded = await store.load(ref, last === undefined ? { first } : { first, last }, NEVER);
        expect({ size: loaded.size, first: loaded.first, length: loaded.length }).toEqual({
          size: bytes.length,
          first,
          length,
        });
        expect((await readAll(loaded)).equals(bytes.subarray(first, first + length))).toBe(true);
      });

      test.each<readonly [string, number, number | undefined]>([
        ['from the end on', bytes.length, undefined],
        ['far past the end', 900_000_000_000_000, undefined],
        ['a part past the end', bytes.length + 1, bytes.length + 2],
      ])('%s cannot be satisfied', async (_, first, last) => {
        const range = last === undefined ? { first } : { first, last };
        expect(await codeOf(store.load(ref, range, NEVER))).toBe('range-not-satisfiable');
      });

      test.each([undefined, { first: 0 }, { first: 0, last: 9 }, { first: 5 }])(
        'an object without bytes is whole by any range: %j',
        async (range) => {
          const empty = someRef('data');
          await save(store, empty, Buffer.alloc(0));
          const loaded = await store.load(empty, range, NEVER);
          expect({ ...loaded, body: await readAll(loaded) }).toEqual({
            size: 0,
            first: 0,
            length: 0,
            body: Buffer.alloc(0),
          });
        },
      );

      test.each<ObjectRef>([CONFIG_REF, ...NAMED_TYPES.map((type) => someRef(type))])(
        'a missing $type is not found, with a range or without, in a repository with objects and in an empty one',
        async (missing) => {
          for (const asked of [store, fresh().store]) {
            expect(await codeOf(asked.load(missing, undefined, NEVER))).toBe('not-found');
            expect(await codeOf(asked.load(missing, { first: 5, last: 7 }, NEVER))).toBe('not-found');
          }
        },
      );

      // More than any pool of connections or handles bears: what is not freed makes the last ones wait for ever.
      test('a loop that is left early frees what the store held, 300 times', async () => {
        await forEach(
          Array.from({ length: 300 }, (_, i) => i),
          async (i) => {
            const loaded = await store.load(ref, { first: i }, NEVER);
            for await (const chunk of loaded.body) {
              expect(chunk[0]).toBe(bytes[i]);
              break;
            }
          },
        );
        expect((await readAll(await store.load(ref, { first: MIB }, NEVER))).equals(bytes.subarray(MIB))).toBe(true);
      });

      test('a body that is never read is freed by the signal, 300 times', async () => {
        await forEach(
          Array.from({ length: 300 }, (_, i) => i),
          async (first) => {
            const controller = new AbortController();
            await store.load(ref, { first }, { signal: controller.signal });
            controller.abort();
          },
        );
        expect((await readAll(await store.load(ref, { first: MIB }, NEVER))).equals(bytes.subarray(MIB))).toBe(true);
      });
    });

    describe('stat', () => {
      test.each<ObjectRef>([CONFIG_REF, ...NAMED_TYPES.map((type) => someRef(type))])(
        'size, time and age of a $type, and who brought it',
        async (ref) => {
          const { store, peer } = fresh();
          const before = Date.now();
          await save(store, ref, Buffer.alloc(123_456));
          const stat = await peer.stat(ref, NEVER);
          expect(stat?.size).toBe(123_456);
          expect(stat?.uploader).toEqual(UPLOADER);
          expect(stat?.ageMs).toBeGreaterThanOrEqual(0);
          expect(stat?.ageMs).toBeLessThan(60_000);
          expect(Math.abs((stat?.modified.getTime() ?? NaN) - before)).toBeLessThan(60_000);
        },
      );

      test.each<Uploader>([
        { client: 'appsrv', via: 'ssh', session: '0' },
        { client: 'app.srv-2_x', via: 'stdio', session: 'f47ac10b-58cc-4372-a567-0e02b2c3d479' },
        { client: 'a', via: 'admin', session: 'gateway-1/2026-11-23T10:11:12.345Z#17' },
      ])('an origin comes back exactly: $client by $via', async (uploader) => {
        const { store, peer } = fresh();
        const ref = someRef('locks');
        await store.create(ref, contentOf(Buffer.from('lock')), uploader, NEVER);
        expect((await peer.stat(ref, NEVER))?.uploader).toEqual(uploader);
      });

      test('what came beside the gateway has no origin', async () => {
        const { prefix, store } = fresh();
        const ref = someRef('locks');
        await under.rawWrite(prefix, objectKey(ref), Buffer.from('lock'));
        const stat = await store.stat(ref, NEVER);
        expect({ size: stat?.size, uploader: stat?.uploader }).toEqual({ size: 4, uploader: undefined });
      });

      test('what is missing is not found', async () => {
        const { store } = fresh();
        expect(await store.stat(CONFIG_REF, NEVER)).toBeUndefined();
        await save(store, CONFIG_REF, Buffer.from('config'));
        expect(await store.stat(someRef('data'), NEVER)).toBeUndefined();
      });
    });

    describe('remove', () => {
      test.each<ObjectRef>([CONFIG_REF, ...NAMED_TYPES.map((type) => someRef(type))])(
        'a $type: removed, then absent, and nothing of it is left',
        async (ref) => {
          const { prefix, store, peer } = fresh();
          await save(store, ref, Buffer.from('content'));
          expect(await peer.remove(ref, NEVER)).toBe('removed');
          await expectInvisible([store, peer], ref);
          expect(await store.remove(ref, NEVER)).toBe('absent');
          expect(await under.rawKeys(prefix)).toEqual([]);
        },
      );

      test('what never was is absent, also in a repository that never was', async () => {
        const { prefix, store } = fresh();
        expect(await store.remove(someRef('locks'), NEVER)).toBe('absent');
        expect(await under.rawKeys(prefix)).toEqual([]);
      });

      test('only the one object goes', async () => {
        const { store } = fresh();
        const [gone, left] = [someRef('locks'), someRef('locks')];
        await save(store, gone, Buffer.from('gone'));
        await save(store, left, Buffer.from('left'));
        expect(await store.remove(gone, NEVER)).toBe('removed');
        expect(await listAll(store, 'locks')).toEqual({ [objectKey(left).slice(-64)]: 4 });
        expect((await store.stat(left, NEVER))?.uploader).toEqual(UPLOADER);
      });

      test('what was removed can be created again, by someone else with other content', async () => {
        const { store, peer } = fresh();
        const ref = someRef('locks');
        await save(store, ref, Buffer.from('old'));
        await store.remove(ref, NEVER);
        const uploader: Uploader = { client: 'other', via: 'stdio', session: 'later' };
        expect(await peer.create(ref, contentOf(Buffer.from('newer')), uploader, NEVER)).toBe('created');
        expect((await readAll(await store.load(ref, undefined, NEVER))).toString()).toBe('newer');
        const stat = await store.stat(ref, NEVER);
        expect({ size: stat?.size, uploader: stat?.uploader }).toEqual({ size: 5, uploader });
      });

      test('a later object of the name that came beside the gateway does not inherit the origin', async () => {
        const { prefix, store } = fresh();
        const ref = someRef('locks');
        await save(store, ref, Buffer.from('old'));
        await store.remove(ref, NEVER);
        await under.rawWrite(prefix, objectKey(ref), Buffer.from('planted'));
        expect((await store.stat(ref, NEVER))?.uploader).toBeUndefined();
      });
    });

    describe('setAside', () => {
      const BATCH = '20261127T0304Z_20261127T030400Z-0123456789_admin';
      const trashKey = (ref: ObjectRef, batch = BATCH): string => `.restic-gateway/trash/${batch}/${objectKey(ref)}`;

      test.each<ObjectRef>([CONFIG_REF, ...NAMED_TYPES.map((type) => someRef(type))])(
        'a $type: removed for every reader, whole in the trash, then absent',
        async (ref) => {
          const { prefix, store, peer } = fresh();
          const bytes = randomBytes(100_000);
          await save(store, ref, bytes);
          expect(await peer.setAside(ref, BATCH, NEVER)).toBe('kept');
          await expectInvisible([store, peer], ref);
          expect(Buffer.from((await under.rawRead(prefix, trashKey(ref))) ?? [])).toEqual(bytes);
          expect(await store.setAside(ref, BATCH, NEVER)).toBe('absent');
          expect(await store.remove(ref, NEVER)).toBe('absent');
          // Nothing else is left in the repository's own places.
          for (const key of await under.rawKeys(prefix)) expect(key.startsWith(trashKey(ref))).toBe(true);
        },
      );

      test('what never was is absent, also in a repository that never was', async () => {
        const { store } = fresh();
        expect(await store.setAside(someRef('data'), BATCH, NEVER)).toBe('absent');
      });

      test('removed, brought anew and removed again within the same minute: one is in the trash', async () => {
        const { prefix, store } = fresh();
        const ref = someRef('snapshots');
        for (let round = 0; round < 3; round += 1) {
          await save(store, ref, Buffer.from('the same content'));
          expect(await store.setAside(ref, BATCH, NEVER)).toBe('kept');
          await expectInvisible([store], ref);
        }
        const kept = Buffer.from((await under.rawRead(prefix, trashKey(ref))) ?? []);
        expect(kept.toString()).toBe('the same content');
      });

      test('a config of other content is not lost within the same minute, and goes in the next', async () => {
        const { prefix, store } = fresh();
        await save(store, CONFIG_REF, Buffer.from('first'));
        await store.setAside(CONFIG_REF, BATCH, NEVER);
        await save(store, CONFIG_REF, Buffer.from('other'));
        expect(await codeOf(store.setAside(CONFIG_REF, BATCH, NEVER))).toBe('store-unavailable');
        expect((await readAll(await store.load(CONFIG_REF, undefined, NEVER))).toString()).toBe('other');
        const next = BATCH.replace('T0304Z', 'T0305Z');
        expect(await store.setAside(CONFIG_REF, next, NEVER)).toBe('kept');
        expect(Buffer.from((await under.rawRead(prefix, trashKey(CONFIG_REF))) ?? []).toString()).toBe('first');
        expect(Buffer.from((await under.rawRead(prefix, trashKey(CONFIG_REF, next))) ?? []).toString()).toBe('other');
      });

      test('two who remove the same at the same moment both succeed, and it is in the trash', async () => {
        const { prefix, store, peer } = fresh();
        const other = BATCH.replace('0123456789', '9876543210');
        for (let round = 0; round < 5; round += 1) {
          const ref = someRef('data');
          await save(store, ref, Buffer.from('content'));
          const outcomes = await Promise.all([store.setAside(ref, BATCH, NEVER), peer.setAside(ref, other, NEVER)]);
          expect(outcomes).toContain('kept');
          await expectInvisible([store], ref);
          const kept = await Promise.all([BATCH, other].map((batch) => under.rawRead(prefix, trashKey(ref, batch))));
          expect(kept.some((bytes) => bytes !== undefined)).toBe(true);
        }
      });
    });

    describe('list', () => {
      test.each(NAMED_TYPES)('%s of a repository that never was, and of one without any, is empty', async (type) => {
        const { store } = fresh();
        expect(await listAll(store, type)).toEqual({});
        await save(store, CONFIG_REF, Buffer.from('config'));
        expect(await listAll(store, type)).toEqual({});
      });

      test.each(NAMED_TYPES)('200 %s with their sizes, each once, and no other type', async (type) => {
        const { store, peer } = fresh();
        const sizes = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [someName(), i * 7]));
        await forEach(Object.entries(sizes), ([object, size]) =>
          save(store, { type, name: nameOf(object) }, Buffer.alloc(size)),
        );
        await forEach(
          [CONFIG_REF, ...NAMED_TYPES.filter((other) => other !== type).map((other) => someRef(other))],
          (ref) => save(store, ref, Buffer.from('of another type')),
        );
        expect(await listAll(peer, type)).toEqual(sizes);
      });

      test('foreign files, odd names and subdirectories are left out', async () => {
        const { prefix, store } = fresh();
        const hex = nameOf('ab'.repeat(32));
        const foreign = [
          'readme.txt',
          hex,
          ...NAMED_TYPES.flatMap((type) => [
            `${type}/readme.txt`,
            `${type}/${hex}.tmp`,
            `${type}/.${hex}`,
            `${type}/${hex.slice(1)}`,
            `${type}/${hex.toUpperCase()}`,
            `${type}/naïve name with spaces & <xml>`,
            `${type}/sub/${hex}`,
            `${type}/sub/deeper/${hex}`,
            // A directory whose name could be an object's.
            `${type}/${'cd'.repeat(32)}/file`,
          ]),
          // Not in the shard of its first two digits, where no client looks for it.
          `data/${hex}`,
          `data/cd/${hex}`,
          `data/AB/${hex}`,
          `data/ab/ab/${hex}`,
          `data/ab/${hex}-restic-temp-1234`,
          `data/ef`,
        ];
        await forEach(foreign, (key) => under.rawWrite(prefix, key, Buffer.from('foreign')));
        for (const type of NAMED_TYPES) {
          expect(await listAll(store, type)).toEqual({});
          const ref: ObjectRef = { type, name: nameOf('ab'.repeat(31) + '00') };
          await save(store, ref, Buffer.from('real'));
          expect(await listAll(store, type)).toEqual({ [ref.name]: 4 });
        }
      });

      test('a list can be left early and started again', async () => {
        const { store } = fresh();
        await forEach(
          Array.from({ length: 30 }, () => someRef('data')),
          (ref) => save(store, ref, Buffer.from('x')),
        );
        for (let i = 0; i < 100; i += 1) for await (const page of store.list('data', NEVER)) if (page.length > 0) break;
        expect(Object.keys(await listAll(store, 'data'))).toHaveLength(30);
      });

      // S3 gives 1,000 a page: these are two at least.
      describe('of 1,100 objects', () => {
        const names = Array.from({ length: 1100 }, (_, i) => hashOf(Buffer.from(`many ${i}`)));
        let store: RepositoryStore;
        beforeAll(async () => {
          const repository = fresh();
          store = repository.store;
          await forEach(names, (object) => under.rawWrite(repository.prefix, `snapshots/${object}`, Buffer.from('xy')));
        });

        test('comes in several pages and is whole', async () => {
          const pages: string[][] = [];
          for await (const page of store.list('snapshots', NEVER)) pages.push(page.map((entry) => entry.name));
          expect(pages.length).toBeGreaterThan(1);
          expect(pages.flat().sort()).toEqual([...names].sort());
        });

        test('throws when the signal comes after the first page', async () => {
          const controller = new AbortController();
          let pages = 0;
          const run = async (): Promise<void> => {
            for await (const page of store.list('snapshots', controller)) {
              pages += page.length > 0 ? 1 : 0;
              controller.abort();
            }
          };
          await codeOf(run());
          expect(pages).toBe(1);
        });
      });
    });

    describe('prefixes', () => {
      test('repositories see nothing of each other, however alike or nested their prefixes', async () => {
        const own = await factory();
        try {
          const prefixes = ['', 'a', 'ab', 'a/b', 'a/b/c', 'b', 'a/keys', 'a b', 'A'];
          const refs = new Map(prefixes.map((prefix) => [prefix, NAMED_TYPES.map((type) => someRef(type))] as const));
          for (const [prefix, mine] of refs)
            for (const ref of [CONFIG_REF, ...mine])
              expect(await save(own.storage.repository(prefix), ref, Buffer.from(prefix))).toBe('created');
          for (const [prefix, mine] of refs) {
            const store = own.peer.repository(prefix);
            for (const ref of [CONFIG_REF, ...mine]) {
              expect((await readAll(await store.load(ref, undefined, NEVER))).toString()).toBe(prefix);
              const raw = await own.rawRead(prefix, objectKey(ref));
              expect(Buffer.from(raw ?? 'nothing').toString()).toBe(prefix);
            }
            for (const [i, type] of NAMED_TYPES.entries())
              expect(Object.keys(await listAll(store, type))).toEqual([objectKey(mine[i] ?? CONFIG_REF).slice(-64)]);
            for (const [other, theirs] of refs)
              if (other !== prefix)
                for (const ref of theirs) {
                  expect(await codeOf(store.load(ref, undefined, NEVER))).toBe('not-found');
                  expect(await store.remove(ref, NEVER)).toBe('absent');
                }
          }
        } finally {
          await own.dispose();
        }
      });
    });

    describe('the signal', () => {
      test('given before the call: every method throws, and nothing changes', async () => {
        const { prefix, store } = fresh();
        const [there, missing] = [someRef('locks'), someRef('locks')];
        await save(store, there, Buffer.from('there'));
        const before = await under.rawKeys(prefix);
        const gone = { signal: AbortSignal.abort() };
        await codeOf(store.create(missing, contentOf(Buffer.from('new')), UPLOADER, gone));
        await codeOf(store.load(there, undefined, gone));
        await codeOf(store.stat(there, gone));
        await codeOf(store.remove(there, gone));
        await codeOf(drain(store.list('locks', gone)));
        await eventually(async () => {
          expect([...(await under.rawKeys(prefix))].sort()).toEqual([...before].sort());
        });
        expect((await readAll(await store.load(there, undefined, NEVER))).toString()).toBe('there');
      });

      test('while a create waits for its client: it throws, and nothing is left', async () => {
        const { prefix, store, peer } = fresh();
        const ref = someRef('data');
        const controller = new AbortController();
        const body = (async function* () {
          yield Buffer.alloc(MIB);
          setImmediate(() => {
            controller.abort();
          });
          await new Promise<never>(() => undefined);
        })();
        const size = 2 * MIB;
        await codeOf(store.create(ref, { size, sha256: hashOf(Buffer.alloc(size)), body }, UPLOADER, controller));
        await expectInvisible([store, peer], ref);
        await eventually(async () => {
          expect(await under.rawKeys(prefix)).toEqual([]);
        });
      });

      test('while a body is read: the reading throws', async () => {
        const { store } = fresh();
        const ref = someRef('data');
        await save(store, ref, randomBytes(32 * MIB));
        const controller = new AbortController();
        const loaded = await store.load(ref, undefined, controller);
        let read = 0;
        const run = async (): Promise<void> => {
          for await (const chunk of loaded.body) {
            read += chunk.length;
            controller.abort();
            await turn();
          }
        };
        await codeOf(run());
        expect(read).toBeGreaterThan(0);
        expect(read).toBeLessThan(32 * MIB);
      });

      test('after the call has ended it does nothing', async () => {
        const { store } = fresh();
        const ref = someRef('data');
        const controller = new AbortController();
        await store.create(ref, contentOf(Buffer.from('content')), UPLOADER, controller);
        const text = (await readAll(await store.load(ref, undefined, controller))).toString();
        controller.abort();
        await turn();
        expect(text).toBe('content');
        expect((await store.stat(ref, NEVER))?.size).toBe(7);
      });
    });

    test('an object of 512 MiB goes in and out in bounded memory', async () => {
      const { store } = fresh();
      const size = 512 * MIB;
      const block = randomBytes(16_384);
      // Fresh buffers, each different, as they would come off a socket.
      function* generate(): Generator<Buffer> {
        for (let at = 0; at < size; at += block.length) {
          const chunk = Buffer.from(block);
          chunk.writeUInt32LE(at / block.length);
          yield chunk;
        }
      }
      const wanted = createHash('sha256');
      for (const chunk of generate()) wanted.update(chunk);
      const sha256 = wanted.digest('hex');
      setFlagsFromString('--expose-gc');
      (runInNewContext('gc') as () => void)();
      const before = process.memoryUsage.rss();
      let most = before;
      const sampler = setInterval(() => {
        most = Math.max(most, process.memoryUsage.rss());
      });
      try {
        const ref = someRef('data');
        const body = (async function* () {
          for (const chunk of generate()) {
            await turn();
            yield chunk;
          }
        })();
        expect(await store.create(ref, { size, sha256, body }, UPLOADER, NEVER)).toBe('created');
        const got = createHash('sha256');
        for await (const chunk of (await store.load(ref, undefined, NEVER)).body) got.update(chunk);
        expect(got.digest('hex')).toBe(sha256);
        expect(await store.remove(ref, NEVER)).toBe('removed');
      } finally {
        clearInterval(sampler);
      }
      expect((most - before) / MIB).toBeLessThan(96);
    });

    test('reach succeeds and changes nothing', async () => {
      const { prefix, store } = fresh();
      await save(store, CONFIG_REF, Buffer.from('config'));
      const before = await under.rawKeys(prefix);
      await under.storage.reach(NEVER);
      await under.peer.reach(NEVER);
      expect([...(await under.rawKeys(prefix))].sort()).toEqual([...before].sort());
    });
  });
}
