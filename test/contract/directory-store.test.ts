/**
 * The directory store: the contract of all stores, and what is its own: files and their modes, other processes, restic beside it, disks
 * that are full, missing, read-only or hang.
 */
import { createHash, randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import {
  chmod,
  chown,
  copyFile,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
} from 'node:fs/promises';
import { symlink, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { GatewayError } from '../../src/core/errors.ts';
import { CONFIG_REF, NAMED_TYPES, objectKey, parseObjectName } from '../../src/core/object.ts';
import type { NamedType, ObjectName, ObjectRef } from '../../src/core/object.ts';
import type { Uploader } from '../../src/core/principal.ts';
import type { Content, RepositoryStore } from '../../src/ports/repository-store.ts';
import { createDirectoryStorage } from '../../src/stores/directory-store.ts';
import { bounded } from '../../src/stores/directory/bounded.ts';
import { makeCall } from '../../src/stores/directory/call.ts';
import { storeFailure } from '../../src/stores/directory/failures.ts';
import { assertLinked, linkIfFree } from '../../src/stores/directory/files.ts';
import { lab, restic, run, startProcess, tempDir } from '../support/lab.ts';
import { bundleProgram } from '../support/module-process.ts';
import { must, withFreezable, withTmpfs } from '../support/mounts.ts';
import { describeRepositoryStore, eventually } from './repository-store.ts';

const storageAt = (root: string) => createDirectoryStorage({ type: 'directory', name: 'local', path: root });

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)))
    .sort();
}

/** Plants a file as someone beside the gateway would. */
async function plant(file: string, bytes: string | Uint8Array): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, bytes);
}

describeRepositoryStore('directory', async () => {
  const root = await mkdtemp(path.join(tmpdir(), 'directory-store-'));
  return {
    storage: storageAt(root),
    peer: storageAt(root),
    rawRead: (prefix, key) => readFile(path.join(root, prefix, key)).catch(() => undefined),
    rawWrite: (prefix, key, bytes) => plant(path.join(root, prefix, key), bytes),
    rawKeys: (prefix) => filesBelow(path.join(root, prefix)),
    dispose: () => rm(root, { recursive: true }),
  };
});

const UPLOADER: Uploader = { client: 'appsrv', via: 'ssh', session: '01JD9Z0QW6' };
/** For calls that nobody gives up. Shared by all of them, so with many listeners at once. */
const NEVER = { signal: new AbortController().signal };
setMaxListeners(0, NEVER.signal);
const MIB = 1024 * 1024;

function nameOf(text: string): ObjectName {
  const name = parseObjectName(text);
  if (name === undefined) throw new Error(`not an object name: ${text}`);
  return name;
}
const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const someRef = (type: NamedType = 'data'): ObjectRef & { readonly name: ObjectName } => ({
  type,
  name: nameOf(randomBytes(32).toString('hex')),
});

function contentOf(bytes: Uint8Array): Content {
  return {
    size: bytes.length,
    sha256: hashOf(bytes),
    body: (async function* () {
      for (let at = 0; at < bytes.length; at += 65_536) yield await Promise.resolve(bytes.subarray(at, at + 65_536));
    })(),
  };
}
const save = (store: RepositoryStore, ref: ObjectRef, text: string | Uint8Array): Promise<'created' | 'exists'> =>
  store.create(ref, contentOf(Buffer.from(text)), UPLOADER, NEVER);

async function read(store: RepositoryStore, ref: ObjectRef): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of (await store.load(ref, undefined, NEVER)).body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function listAll(store: RepositoryStore, type: NamedType): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for await (const page of store.list(type, NEVER)) for (const { name, size } of page) found[name] = size;
  return found;
}

/** The `GatewayError` that the promise rejects with; anything else fails the test. */
async function errorOf(promise: Promise<unknown>): Promise<GatewayError> {
  const error: unknown = await promise.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof GatewayError) return error;
  throw error;
}
const codeOf = async (promise: Promise<unknown>): Promise<string> => (await errorOf(promise)).code;

/** Every call on a repository that a client can cause, with an object to ask for. */
const CALLS: readonly (readonly [string, (store: RepositoryStore, ref: ObjectRef) => Promise<unknown>])[] = [
  ['create', (store, ref) => save(store, ref, 'new')],
  ['load', (store, ref) => store.load(ref, undefined, NEVER)],
  ['stat', (store, ref) => store.stat(ref, NEVER)],
  ['remove', (store, ref) => store.remove(ref, NEVER)],
  ['list', (store, ref) => listAll(store, ref.type === 'config' ? 'keys' : ref.type)],
];

/** Does work as a user who owns nothing. */
async function asNobody(work: () => Promise<void>): Promise<void> {
  if (process.seteuid === undefined) throw new Error('this needs a system with users');
  process.seteuid(65_534);
  try {
    await work();
  } finally {
    process.seteuid(0);
  }
}

describe('files', () => {
  test('all are for their owner alone, whatever the umask', async () => {
    const root = tempDir();
    const old = process.umask(0);
    try {
      const store = storageAt(root).repository('a/b');
      for (const ref of [CONFIG_REF, ...NAMED_TYPES.map((type) => someRef(type))]) await save(store, ref, 'content');
      await storageAt(root).reach(NEVER);
    } finally {
      process.umask(old);
    }
    const { stdout } = await run('find', [root, '-mindepth', '1', '-printf', '%y %m\\n']);
    expect([...new Set(stdout.trim().split('\n'))].sort()).toEqual(['d 700', 'f 600']);
  });

  test('where everything lies', async () => {
    const root = tempDir();
    const name = nameOf('ab'.repeat(32));
    const store = storageAt(root).repository('customers/appsrv');
    await save(store, CONFIG_REF, 'c');
    await save(store, { type: 'data', name }, 'd');
    await save(store, { type: 'locks', name }, 'l');
    expect(await filesBelow(root)).toEqual(
      [
        'config',
        `data/ab/${name}`,
        `locks/${name}`,
        '.restic-gateway/origin/config.json',
        `.restic-gateway/origin/data/ab/${name}.json`,
        `.restic-gateway/origin/locks/${name}.json`,
      ]
        .map((file) => `customers/appsrv/${file}`)
        .sort(),
    );
  });

  // With little memory in use: what is left open would be closed when its garbage is collected, and not be seen.
  test('none stays open, however a call ends', async () => {
    const root = tempDir();
    const store = storageAt(root).repository('r');
    const [ref, directory] = [someRef(), someRef()];
    await save(store, ref, 'content');
    await mkdir(path.join(root, 'r', objectKey(directory)), { recursive: true });
    const openFiles = async (): Promise<number> => (await readdir('/proc/self/fd')).length;
    const before = await openFiles();
    const endings: readonly (() => Promise<unknown>)[] = [
      () => read(store, ref),
      async () => {
        for await (const chunk of (await store.load(ref, undefined, NEVER)).body) if (chunk.length > 0) break;
      },
      async () => {
        const controller = new AbortController();
        await store.load(ref, undefined, controller);
        controller.abort();
      },
      // Given up at one moment or another while it is being opened
      ...Array.from({ length: 10 }, (_, sharedTime) => async () => {
        const controller = new AbortController();
        const loading = store.load(ref, undefined, controller).catch(() => undefined);
        for (let i = 0; i < sharedTime; i += 1) await turn();
        controller.abort();
        await loading;
      }),
      () => codeOf(store.load(ref, { first: 7 }, NEVER)),
      () => codeOf(store.load(directory, undefined, NEVER)),
      () => codeOf(store.create(someRef(), { ...contentOf(Buffer.alloc(9)), size: 10 }, UPLOADER, NEVER)),
      () => save(store, ref, 'exists'),
      async () => {
        for await (const page of store.list('data', NEVER)) if (page.length > 0) break;
      },
      () => listAll(store, 'data'),
    ];
    for (const ending of endings) {
      for (let i = 0; i < 20; i += 1) await ending();
      for (let tries = 0; tries < 18_000 && (await openFiles()) > before; tries += 1) await sleep(10);
      expect(await openFiles()).toBeLessThanOrEqual(before);
    }
  });

  // Clients' names are checked before they get here: only someone on the gateway's machine can have put such a thing there.
  describe.each<readonly [string, (file: string) => Promise<unknown>]>([
    ['a symbolic link to a file', (file) => symlink('/etc/hostname', file)],
    ['a symbolic link to another object', (file) => symlink('0'.repeat(64), file)],
    ['a symbolic link to nothing', (file) => symlink('/nonexistent', file)],
    ['a directory', (file) => mkdir(file)],
    ['a FIFO', (file) => must('mkfifo', [file])],
    ['a device', (file) => must('mknod', [file, 'c', '1', '5'])],
  ])('%s in the place of an object', (_, make) => {
    test.each(CALLS.filter(([call]) => call !== 'list'))('%s fails and leaves it alone', async (_call, work) => {
      const root = tempDir();
      const store = storageAt(root).repository('r');
      const ref = someRef('locks');
      await plant(path.join(root, 'r/locks', '0'.repeat(64)), 'another');
      const file = path.join(root, 'r', objectKey(ref));
      await make(file);
      const before = await lstat(file);
      const error = await errorOf(work(store, ref));
      expect(error.code).toBe('store-failed');
      expect(error.message).toMatch(/not a regular file|symbolic link/);
      expect((await lstat(file)).ino).toBe(before.ino);
      expect(await filesBelow(path.join(root, 'r/.restic-gateway'))).toEqual([]);
      expect(await listAll(store, 'locks')).toEqual({ ['0'.repeat(64)]: 7 });
    });
  });

  test('a file in the place of a directory is a failure, not an empty list', async () => {
    const root = tempDir();
    const store = storageAt(root).repository('r');
    for (const type of NAMED_TYPES) await plant(path.join(root, 'r', type), 'a file');
    for (const type of NAMED_TYPES)
      for (const [, work] of CALLS) expect(await codeOf(work(store, someRef(type)))).toBe('store-failed');
  });

  test('objects that vanish while they are listed are left out, and nothing fails', async () => {
    const root = tempDir();
    const store = storageAt(root).repository('r');
    const directory = path.join(root, 'r/snapshots');
    const stays = Array.from({ length: 300 }, () => someRef('snapshots').name);
    for (const name of stays) await plant(path.join(directory, name), 'stays');
    const listed = { all: false };
    const churn = (async () => {
      while (!listed.all) {
        const names = Array.from({ length: 100 }, () => path.join(directory, someRef().name));
        await Promise.all(names.map((file) => writeFile(file, 'goes')));
        await Promise.all(names.map((file) => unlink(file)));
      }
    })();
    for (let i = 0; i < 50; i += 1) {
      const found = await listAll(store, 'snapshots');
      expect(stays.filter((name) => found[name] !== 5)).toEqual([]);
    }
    listed.all = true;
    await churn;
  });

  test('a file that becomes shorter while it is read ends in an error', async () => {
    const root = tempDir();
    const store = storageAt(root).repository('r');
    const ref = someRef();
    await save(store, ref, randomBytes(4 * MIB));
    const loaded = await store.load(ref, undefined, NEVER);
    const handle = await open(path.join(root, 'r', objectKey(ref)), 'r+');
    await handle.truncate(MIB);
    await handle.close();
    let got = 0;
    const drain = (async () => {
      for await (const chunk of loaded.body) got += chunk.length;
    })();
    expect(await codeOf(drain)).toBe('store-failed');
    expect(got).toBe(MIB);
  });

  test('what is there already is not asked of the client again', async () => {
    const store = storageAt(tempDir()).repository('r');
    const ref = someRef();
    await save(store, ref, 'content');
    const body: AsyncIterable<Uint8Array> = {
      [Symbol.asyncIterator]: () => {
        throw new Error('it was read');
      },
    };
    expect(await store.create(ref, { size: 7, sha256: '', body }, UPLOADER, NEVER)).toBe('exists');
  });

  test('a repository whose directories were removed meanwhile is written to again', async () => {
    const root = tempDir();
    const store = storageAt(root).repository('r');
    await save(store, someRef('index'), 'content');
    await rm(path.join(root, 'r'), { recursive: true });
    // The first may fail; restic tries again.
    await save(store, someRef('index'), 'content').catch(() => undefined);
    const ref = someRef('index');
    expect(await save(store, ref, 'content')).toBe('created');
    expect((await read(store, ref)).toString()).toBe('content');
  });
});

describe('the origin', () => {
  const ref = someRef('locks');
  const sideFile = `r/.restic-gateway/origin/${objectKey(ref)}.json`;

  test('counts for the object it was written about only', async () => {
    const root = tempDir();
    const store = storageAt(root).repository('r');
    await save(store, ref, 'lock');
    // What two gateways may leave behind when one creates, the other removes and creates again, and one of them is killed.
    const file = path.join(root, 'r', objectKey(ref));
    await plant(`${file}.new`, 'lock');
    await rename(`${file}.new`, file);
    expect((await store.stat(ref, NEVER))?.uploader).toBeUndefined();
  });

  test('is replaced by that of the next object, if one was left over', async () => {
    const root = tempDir();
    const store = storageAt(root).repository('r');
    await save(store, ref, 'lock');
    await rm(path.join(root, 'r', objectKey(ref)));
    const uploader: Uploader = { client: 'other', via: 'admin', session: 'next' };
    await store.create(ref, contentOf(Buffer.from('lock')), uploader, NEVER);
    expect((await store.stat(ref, NEVER))?.uploader).toEqual(uploader);
  });

  test.each<readonly [string, (text: string) => string]>([
    ['empty', () => ''],
    ['torn', (text) => text.slice(0, -5)],
    ['not an object', () => '"text"'],
    ['null', () => 'null'],
    ['with another way in', (text) => text.replace('"ssh"', '"window"')],
    ['without a client', (text) => text.replace('client', 'tneilc')],
    ['with a session that is no text', (text) => text.replace('"01JD9Z0QW6"', '17')],
  ])('a side file that is %s is none', async (_, change) => {
    const root = tempDir();
    const store = storageAt(root).repository('r');
    await save(store, ref, 'lock');
    expect((await store.stat(ref, NEVER))?.uploader).toEqual(UPLOADER);
    const file = path.join(root, sideFile);
    await writeFile(file, change(await readFile(file, 'utf8')));
    expect(await store.stat(ref, NEVER)).toMatchObject({ size: 4 });
    expect((await store.stat(ref, NEVER))?.uploader).toBeUndefined();
  });

  test('a side file that cannot be read is a failure, not an object without origin', async () => {
    const root = tempDir();
    const store = storageAt(root).repository('r');
    await save(store, ref, 'lock');
    await rm(path.join(root, sideFile));
    await mkdir(path.join(root, sideFile));
    expect(await codeOf(store.stat(ref, NEVER))).toBe('store-failed');
  });
});

describe('age', () => {
  test.each<readonly [string, number, number]>([
    ['of an hour ago', -3_600_000, 3_600_000],
    ['in the future counts as new', 3_600_000, 0],
  ])('a last write %s', async (_, shiftMs, ageMs) => {
    const root = tempDir();
    const ref = someRef('locks');
    const file = path.join(root, 'r', objectKey(ref));
    await plant(file, 'lock');
    // Whole seconds, as a number of seconds with milliseconds is not exact
    const time = new Date(Math.floor((Date.now() + shiftMs) / 1000) * 1000);
    await utimes(file, time, time);
    const stat = await storageAt(root).repository('r').stat(ref, NEVER);
    expect(stat?.modified).toEqual(time);
    expect(stat?.ageMs).toBeGreaterThanOrEqual(ageMs);
    expect(stat?.ageMs).toBeLessThan(ageMs + 60_000);
  });
});

describe('processes', () => {
  test('4 that create the same 40 names at once: each name is created once, with its creator as origin', async () => {
    const root = tempDir();
    const names = Array.from({ length: 40 }, (_, i) => hashOf(Buffer.from(`race ${i}`)));
    const program = await bundleProgram(`
      import { createDirectoryStorage } from './src/stores/directory-store.ts';
      const [path, me, ...names] = process.argv.slice(2);
      const store = createDirectoryStorage({ type: 'directory', name: 'local', path }).repository('r');
      const results = await Promise.all(names.map((name) => {
        const bytes = Buffer.from(me.repeat(50000));
        async function* body() { yield bytes.subarray(0, 9); yield bytes.subarray(9); }
        const content = { size: bytes.length, sha256: '', body: body() };
        return store.create({ type: 'data', name }, content, { client: 'c', via: 'ssh', session: me }, new AbortController());
      }));
      console.log(JSON.stringify(results));
    `);
    const outcomes = await Promise.all(
      ['a', 'b', 'c', 'd'].map((me) => run(process.execPath, [program, root, me, ...names])),
    );
    expect(outcomes.map(({ code, stderr }) => ({ code, stderr }))).toEqual(Array(4).fill({ code: 0, stderr: '' }));
    const results = outcomes.map(({ stdout }) => JSON.parse(stdout) as string[]);
    const store = storageAt(root).repository('r');
    for (const [i, name] of names.entries()) {
      const winners = ['a', 'b', 'c', 'd'].filter((_, process) => results[process]?.[i] === 'created');
      expect(winners).toHaveLength(1);
      const ref: ObjectRef = { type: 'data', name: nameOf(name) };
      expect((await read(store, ref)).toString()).toBe(winners.join().repeat(50_000));
      expect((await store.stat(ref, NEVER))?.uploader?.session).toBe(winners[0]);
    }
    expect(await readdir(path.join(root, 'r/.restic-gateway/tmp'))).toEqual([]);
  });

  test('one that is killed leaves whole objects only, all that it had told of among them, and is cleaned up after', async () => {
    const root = tempDir();
    const program = await bundleProgram(`
      import { createHash, randomBytes } from 'node:crypto';
      import { createDirectoryStorage } from './src/stores/directory-store.ts';
      const store = createDirectoryStorage({ type: 'directory', name: 'local', path: process.argv[2] }).repository('r');
      const signal = new AbortController().signal;
      async function worker() {
        for (;;) {
          const bytes = randomBytes(1500000);
          const name = createHash('sha256').update(bytes).digest('hex');
          async function* body() { for (let at = 0; at < bytes.length; at += 16384) yield bytes.subarray(at, at + 16384); }
          const content = { size: bytes.length, sha256: name, body: body() };
          await store.create({ type: 'data', name }, content, { client: 'c', via: 'ssh', session: 's' }, { signal });
          console.log('created ' + name);
        }
      }
      await Promise.all([worker(), worker(), worker()]);
    `);
    const reported: string[] = [];
    const temporary = path.join(root, 'r/.restic-gateway/tmp');
    let left: readonly string[] = [];
    // Some uploads are through by the time that the signal arrives.
    for (let round = 0; round < 5 || (left.length === 0 && round < 30); round += 1) {
      const victim = await startProcess(process.execPath, [program, root]);
      await victim.waitForLine(/^created/);
      // Kills it in the middle of an upload.
      while ((await readdir(temporary)).length === 0);
      victim.signal('SIGKILL');
      await victim.exited;
      reported.push(...victim.lines.map((line) => line.slice('created '.length)));
      left = await readdir(temporary);
    }
    const store = storageAt(root).repository('r');
    const found = await listAll(store, 'data');
    expect(reported.filter((name) => found[name] === undefined)).toEqual([]);
    for (const [name, size] of Object.entries(found)) {
      expect(size).toBe(1_500_000);
      expect(hashOf(await read(store, { type: 'data', name: nameOf(name) }))).toBe(name);
    }

    expect(left.length).toBeGreaterThan(0);
    // What a dead process of this machine left goes at once; of others, only the age is known.
    const [old, young] = [path.join(temporary, 'old'), path.join(temporary, 'young')];
    await writeFile(old, 'left by a process of another machine');
    await writeFile(young, 'of a live writer, perhaps');
    await mkdir(path.join(temporary, 'directory'));
    const minutesAgo = (minutes: number): Date => new Date(Date.now() - minutes * 60_000);
    await utimes(old, minutesAgo(61), minutesAgo(61));
    await utimes(young, minutesAgo(59), minutesAgo(59));
    await utimes(path.join(temporary, 'directory'), minutesAgo(61), minutesAgo(61));
    await save(store, someRef(), 'the next to create');
    expect((await readdir(temporary)).sort()).toEqual(['directory', 'young']);
  });

  test('of a process that was killed, the next start removes what it left, and nothing of those that live', async () => {
    const root = tempDir();
    const program = await bundleProgram(`
      import { createDirectoryStorage } from './src/stores/directory-store.ts';
      const store = createDirectoryStorage({ type: 'directory', name: 'main', path: process.argv[2] }).repository('r');
      async function* body() { yield new Uint8Array(1 << 20); console.log('begun'); await new Promise((go) => setTimeout(go, 1e6)); }
      const content = { size: 1 << 21, sha256: '0'.repeat(64), body: body() };
      const origin = { client: 'c', via: 'ssh', session: 's' };
      await store.create({ type: 'data', name: '0'.repeat(64) }, content, origin, { signal: new AbortController().signal });
    `);
    const temporary = path.join(root, 'r/.restic-gateway/tmp');
    const [victim, other] = await Promise.all([1, 2].map(() => startProcess(process.execPath, [program, root])));
    if (victim === undefined || other === undefined) throw new Error('both were started');
    await Promise.all([victim, other].map((one) => one.waitForLine(/^begun/)));
    victim.signal('SIGKILL');
    await victim.exited;
    expect(await readdir(temporary)).toHaveLength(2);
    const signal = AbortSignal.timeout(180_000);
    await storageAt(root).tidy(['r', 'never-used'], { signal });
    expect(await readdir(temporary)).toHaveLength(1);
    other.signal('SIGKILL');
    await other.exited;
    await storageAt(root).tidy(['r'], { signal });
    expect(await readdir(temporary)).toEqual([]);
  });
});

describe('the root', () => {
  test.each<readonly [string, (root: string) => Promise<unknown>]>([
    ['missing', (root) => rm(root, { recursive: true })],
    [
      'a file',
      async (root) => {
        await rm(root, { recursive: true });
        await writeFile(root, '');
      },
    ],
    [
      'a link to nothing',
      async (root) => {
        await rm(root, { recursive: true });
        await symlink('/nonexistent', root);
      },
    ],
  ])('when it is %s every call says so, and none makes it', async (_, spoil) => {
    const root = path.join(tempDir(), 'root');
    await mkdir(root);
    const storage = storageAt(root);
    const store = storage.repository('r');
    const used = storage.repository('used');
    await save(used, someRef('locks'), 'lock');
    await spoil(root);
    const before = await lstat(root).catch(() => undefined);
    for (const type of NAMED_TYPES)
      for (const [, work] of CALLS)
        for (const repository of [store, used, storage.repository('')]) {
          const error = await errorOf(work(repository, someRef(type)));
          expect(error.code).toBe('store-misconfigured');
          expect(error.message).toMatch(
            /is missing; mount the disk that holds it, or create it$|is not a directory; set/,
          );
          expect(error.message).toContain(root);
        }
    expect(await codeOf(storage.reach(NEVER))).toBe('store-misconfigured');
    expect((await lstat(root).catch(() => undefined))?.ino).toBe(before?.ino);
  });

  test.each(['/', '/.', '//', '/sub/..'])('may be written with %s at its end', async (ending) => {
    const root = tempDir();
    const store = storageAt(root + ending).repository('r');
    expect(await save(store, CONFIG_REF, 'content')).toBe('created');
    expect((await readFile(path.join(root, 'r/config'))).toString()).toBe('content');
  });

  test('may be a symbolic link to a directory, and so may a repository in it', async () => {
    const [root, link, other] = [tempDir(), path.join(tempDir(), 'link'), tempDir()];
    await symlink(root, link);
    await symlink(other, path.join(root, 'r'));
    const ref = someRef();
    await save(storageAt(link).repository('r'), ref, 'content');
    expect((await readFile(path.join(other, objectKey(ref)))).toString()).toBe('content');
  });
});

describe('reach', () => {
  test('leaves nothing behind, and what is there alone', async () => {
    const root = tempDir();
    await storageAt(root).reach(NEVER);
    expect(await readdir(root)).toEqual([]);
    await plant(path.join(root, '.restic-gateway/origin/config.json'), '{}');
    await storageAt(root).reach(NEVER);
    expect(await filesBelow(root)).toEqual(['.restic-gateway/origin/config.json']);
  });

  test('a directory of another user is refused, with what to do', async () => {
    const root = tempDir();
    await chmod(path.dirname(root), 0o711);
    await chmod(root, 0o755);
    await asNobody(async () => {
      const error = await errorOf(storageAt(root).reach(NEVER));
      expect(error.code).toBe('store-misconfigured');
      expect(error.message).toBe(
        `trying ${root}: permission denied; make the gateway's user the owner of the store's directory`,
      );
    });
    await chown(root, 65_534, 65_534);
    await asNobody(() => storageAt(root).reach(NEVER));
  });
});

describe('permissions', () => {
  test.each(CALLS)('%s without them says so', async (_, work) => {
    const root = tempDir();
    await chmod(root, 0o700);
    const ref = someRef('keys');
    await save(storageAt(root).repository('r'), ref, 'key');
    await asNobody(async () => {
      const error = await errorOf(work(storageAt(root).repository('r'), ref));
      expect(error.code).toBe('store-misconfigured');
      expect(error.message).toContain('permission denied');
    });
  });
});

describe('disks', () => {
  test('a full one takes nothing, shows nothing half, and goes on when there is room', () =>
    withTmpfs('size=4m', async (root) => {
      const store = storageAt(root).repository('r');
      const small = someRef();
      await save(store, small, 'before');
      // The first fits but for its last piece, of which a part is written.
      for (const size of [4 * MIB, 5 * MIB, 50 * MIB]) {
        const ref = someRef();
        const error = await errorOf(save(store, ref, Buffer.alloc(size)));
        expect(error.code).toBe('store-full');
        expect(error.message).toBe(
          `storing ${objectKey(ref)}: the file system is full; free space on it or enlarge it`,
        );
        expect(await store.stat(ref, NEVER)).toBeUndefined();
        expect(await readdir(path.join(root, 'r/.restic-gateway/tmp'))).toEqual([]);
      }
      expect(await listAll(store, 'data')).toEqual({ [small.name]: 6 });
      expect(await save(store, someRef(), Buffer.alloc(3 * MIB))).toBe('created');
      expect((await read(store, small)).toString()).toBe('before');
    }));

  test('a write that the system cuts short is not taken for a whole one', async () => {
    const root = tempDir();
    const program = await bundleProgram(`
      import { createDirectoryStorage } from './src/stores/directory-store.ts';
      const store = createDirectoryStorage({ type: 'directory', name: 'local', path: process.argv[2] }).repository('r');
      async function* body() { yield Buffer.alloc(120000); }
      const content = { size: 120000, sha256: '', body: body() };
      const origin = { client: 'c', via: 'ssh', session: 's' };
      await store.create({ type: 'config' }, content, origin, new AbortController()).then(
        (result) => console.log(result),
        (error) => console.log(error.code, error.message),
      );
    `);
    // A limit of 100 KiB a file: a write across it is cut short there, and only the one after it fails.
    const limited = ['-c', 'trap "" XFSZ; ulimit -f 100; exec "$@"', 'bash', process.execPath, program, root];
    expect((await run('bash', limited)).stdout).toBe('store-failed storing config: EFBIG: file too large, write\n');
    expect(await filesBelow(root)).toEqual([]);
  });

  test('a read-only one is read, and says why it is not written', () =>
    withTmpfs('size=4m', async (root) => {
      const storage = storageAt(root);
      const [there, locked] = [someRef(), someRef('locks')];
      await save(storage.repository('r'), there, 'content');
      await save(storage.repository('r'), locked, 'lock');
      await must('mount', ['-o', 'remount,ro', root]);
      const store = storage.repository('r');
      expect((await read(store, there)).toString()).toBe('content');
      for (const attempt of [
        () => save(store, someRef(), 'new'),
        () => store.remove(locked, NEVER),
        () => storage.reach(NEVER),
      ]) {
        const error = await errorOf(attempt());
        expect(error.code).toBe('store-misconfigured');
        expect(error.message).toContain('mounted read-only; mount it read-write');
      }
      expect(await listAll(store, 'locks')).toEqual({ [locked.name]: 4 });
    }));

  test('a part of a repository on another one is refused', async () => {
    const root = tempDir();
    const place = path.join(root, 'r/snapshots');
    await mkdir(place, { recursive: true });
    await withTmpfs(
      'size=4m',
      async () => {
        const store = storageAt(root).repository('r');
        const error = await errorOf(save(store, someRef('snapshots'), 'content'));
        expect(error.code).toBe('store-misconfigured');
        expect(error.message).toContain('the repository spans several file systems');
        expect(await readdir(place)).toEqual([]);
      },
      place,
    );
  });

  // Linux answers EPERM to link(2) on every file system that has none; devpts is one that is always there.
  test('one without hard links is refused', async () => {
    const bounds = { doing: 'trying', signal: NEVER.signal, limitMs: 1000 };
    const error = await errorOf(bounded(bounds, (steps) => linkIfFree(steps, '/dev/pts/ptmx', '/dev/pts/new')));
    expect(error.code).toBe('store-misconfigured');
    expect(error.message).toContain('/dev/pts: the file system has no hard links');
  });

  test('one that hangs ends every change in time, and is clean once it answers', () =>
    withFreezable(async (disk) => {
      const storage = createDirectoryStorage({ type: 'directory', name: 'local', path: disk.path }, { ioMs: 300 });
      const store = storage.repository('r');
      const locked = someRef('locks');
      await save(store, locked, 'lock');
      const before = await filesBelow(path.join(disk.path, 'r'));
      const gate = { open: (): void => undefined };
      const stalled = someRef();
      const body = (async function* () {
        yield Buffer.alloc(MIB);
        await new Promise<void>((resolve) => {
          gate.open = resolve;
        });
        yield Buffer.alloc(MIB);
      })();
      const creation = errorOf(store.create(stalled, { size: 2 * MIB, sha256: '', body }, UPLOADER, NEVER));
      await sleep(100);
      await disk.freeze();
      gate.open();
      expect(await creation).toMatchObject({
        code: 'store-timeout',
        message: `storing ${objectKey(stalled)}: the file system has not answered for 1 s; look at the disk or the mount`,
      });
      expect(await codeOf(store.remove(locked, NEVER))).toBe('store-timeout');
      expect(await codeOf(storage.reach(NEVER))).toBe('store-timeout');
      const controller = new AbortController();
      const patient = createDirectoryStorage({ type: 'directory', name: 'local', path: disk.path });
      const given = errorOf(
        patient.repository('r').create(someRef(), contentOf(Buffer.alloc(9)), UPLOADER, controller),
      );
      setTimeout(() => {
        controller.abort(new GatewayError('shutting-down'));
      });
      expect((await given).code).toBe('shutting-down');
      await disk.thaw();
      await eventually(async () => {
        expect(await readdir(path.join(disk.path, 'r/.restic-gateway/tmp'))).toEqual([]);
      });
      // The removal that hung was under way in the kernel, and may have happened.
      const now = (await filesBelow(path.join(disk.path, 'r'))).filter((file) => !file.includes(locked.name));
      expect(now).toEqual(before.filter((file) => !file.includes(locked.name)));
      expect(await save(store, stalled, 'content')).toBe('created');
    }));
});

describe('bounds', () => {
  const signal = NEVER.signal;

  test('waiting for a client, who has time limits of his own, is not the file system hanging', async () => {
    const result = await bounded({ doing: 'testing', signal, limitMs: 20 }, async (steps) => {
      await steps.client(sleep(200));
      return steps.io(() => Promise.resolve('done'));
    });
    expect(result).toBe('done');
  });

  test('many steps that each take a while are progress', async () => {
    const result = await bounded({ doing: 'testing', signal, limitMs: 1200 }, async (steps) => {
      for (let i = 0; i < 10; i += 1) await steps.io(() => sleep(150));
      return 'done';
    });
    expect(result).toBe('done');
  });

  test('a body that fails just after its call was given up ends nothing but that call', async () => {
    const program = await bundleProgram(`
      import { bounded } from './src/stores/directory/bounded.ts';
      const controller = new AbortController();
      const bounds = { doing: 'testing', signal: controller.signal, limitMs: 1000 };
      const call = bounded(bounds, async (steps) => {
        controller.abort();
        await steps.client(Promise.reject(new Error('the client went away')));
      });
      await call.catch(() => undefined);
      // A rejection that nobody has heard ends the process before this.
      await new Promise((resolve) => setTimeout(resolve, 20));
      console.log('goes on');
    `);
    expect(await run(process.execPath, [program])).toEqual({ code: 0, stdout: 'goes on\n', stderr: '' });
  });

  test('of two steps at once the end of one is progress for the other', async () => {
    const result = await bounded({ doing: 'testing', signal, limitMs: 1200 }, async (steps) => {
      await Promise.all([800, 1600].map((ms) => steps.io(() => sleep(ms))));
      return 'done';
    });
    expect(result).toBe('done');
  });

  test('what comes too late is discarded, so that a file which was opened late is closed', async () => {
    const discarded: string[] = [];
    const late = bounded(
      { doing: 'opening', signal, limitMs: 20 },
      (steps) => steps.io(() => sleep(200, 'handle')),
      (value) => discarded.push(value),
    );
    expect(await codeOf(late)).toBe('store-timeout');
    expect(discarded).toEqual([]);
    await eventually(() => {
      expect(discarded).toEqual(['handle']);
      return Promise.resolve();
    });
  });

  test('a change that was made is not given up on the signal', async () => {
    const controller = new AbortController();
    const result = await bounded({ doing: 'testing', signal: controller.signal, limitMs: 1000 }, async (steps) => {
      await steps.io(() => Promise.resolve('linked'));
      steps.committed();
      controller.abort();
      return steps.io(() => Promise.resolve('synced'));
    });
    expect(result).toBe('synced');
  });

  test('a change that was made while it was given up is finished', async () => {
    const controller = new AbortController();
    const done: string[] = [];
    const work = bounded({ doing: 'testing', signal: controller.signal, limitMs: 1000 }, async (steps) => {
      await steps.io(() => sleep(100));
      steps.committed();
      await steps.io(() => Promise.resolve(done.push('synced')));
    });
    controller.abort();
    expect(await codeOf(work)).toBe('store-failed');
    await eventually(() => {
      expect(done).toEqual(['synced']);
      return Promise.resolve();
    });
  });

  test('work that was given up stops at its next step, and still cleans up', async () => {
    const controller = new AbortController();
    const done: string[] = [];
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const work = bounded({ doing: 'testing', signal: controller.signal, limitMs: 1000 }, async (steps) => {
      try {
        await steps.io(() => sleep(100));
        done.push('first');
        await steps.io(() => Promise.resolve(done.push('second')));
      } finally {
        await steps.cleanUp(() => Promise.resolve(done.push('cleaned')));
        end();
      }
    });
    controller.abort();
    expect(await codeOf(work)).toBe('store-failed');
    await ended;
    expect(done).toEqual(['first', 'cleaned']);
  });
});

describe('what errors mean', () => {
  test.each<readonly [string, number, string, RegExp]>([
    ['ENOSPC', -28, 'store-full', /free space/],
    // It has no name in libuv.
    ['Unknown system error -122', -122, 'store-full', /quota/],
    ['EACCES', -13, 'store-misconfigured', /permission denied/],
    ['EPERM', -1, 'store-misconfigured', /not permitted/],
    ['EROFS', -30, 'store-misconfigured', /read-only/],
    ['EXDEV', -18, 'store-misconfigured', /several file systems/],
    ['EMFILE', -24, 'store-failed', /LimitNOFILE/],
    ['ENFILE', -23, 'store-failed', /fs\.file-max/],
    ['EIO', -5, 'store-failed', /^storing: EIO: text$/],
    ['ENOENT', -2, 'store-failed', /^storing: ENOENT: text$/],
    ['ESTALE', -116, 'store-failed', /^storing: ESTALE: text$/],
  ])('%s', (errno, number, code, words) => {
    const error = Object.assign(new Error(`${errno}: text`), { code: errno, errno: number });
    const failure = storeFailure('storing', error);
    expect(failure.code).toBe(code);
    expect(failure.message).toMatch(words);
    expect(failure.cause).toBe(error);
  });
});

describe('restic', () => {
  const TYPES = NAMED_TYPES.filter((type) => type !== 'locks');

  /** Copies a repository object by object, from one store to another. */
  async function copy(from: RepositoryStore, to: RepositoryStore): Promise<number> {
    let objects = 0;
    const copyOne = async (ref: ObjectRef): Promise<void> => {
      const bytes = await read(from, ref);
      if (ref.type !== 'config') expect(hashOf(bytes)).toBe(ref.name);
      expect(await save(to, ref, bytes)).toBe('created');
      objects += 1;
    };
    await copyOne(CONFIG_REF);
    for (const type of TYPES)
      for (const [name, size] of Object.entries(await listAll(from, type))) {
        const ref: ObjectRef = { type, name: nameOf(name) };
        expect((await from.stat(ref, NEVER))?.size).toBe(size);
        await copyOne(ref);
      }
    return objects;
  }

  test.each(['resticDebian', 'resticTrixie', 'resticNewest'] as const)(
    'a repository that %s made is served, and one that was written here is one to it',
    async (version) => {
      const binary = lab()[version];
      const [root, source] = [tempDir(), tempDir()];
      for (let i = 0; i < 20; i += 1) await writeFile(path.join(source, `file-${i}`), randomBytes(300_000));
      const original = path.join(root, 'original');
      const here = path.join(root, 'customers/here');
      const must = async (repo: string, args: readonly string[]): Promise<string> => {
        const { code, stdout, stderr } = await restic(binary, { repo }, args);
        expect({ code, stderr }).toEqual({ code: 0, stderr: expect.anything() });
        return stdout;
      };
      await must(original, ['init']);
      await must(original, ['backup', source]);
      const storage = storageAt(root);
      expect(await copy(storage.repository('original'), storage.repository('customers/here'))).toBeGreaterThan(4);

      await must(here, ['check', '--read-data']);
      const target = tempDir();
      await must(here, ['restore', 'latest', '--target', target]);
      expect((await run('diff', ['-r', source, path.join(target, source)])).code).toBe(0);
      // What restic adds beside the gateway is served too.
      await writeFile(path.join(source, 'another'), randomBytes(1000));
      await must(here, ['backup', source]);
      expect(Object.keys(await listAll(storage.repository('customers/here'), 'snapshots'))).toHaveLength(2);
      await must(here, ['forget', '--keep-last', '1', '--prune']);
      expect(Object.keys(await listAll(storage.repository('customers/here'), 'snapshots'))).toHaveLength(1);
    },
  );
});

describe('what link(2) and fsync(2) said is what is there', () => {
  const bytes = Buffer.from('the content of a pack');
  const hash = createHash('sha256').update(bytes).digest('hex');

  /** Looks whether `name` leads to the file `kept`, after the file system did with them what it liked. */
  async function linked(change: (kept: string, name: string) => Promise<unknown>): Promise<unknown> {
    const directory = tempDir();
    const [kept, name] = [path.join(directory, 'kept'), path.join(directory, 'name')];
    await writeFile(kept, bytes);
    const file = await lstat(kept, { bigint: true });
    await change(kept, name);
    const { signal } = new AbortController();
    return makeCall(directory, 10_000)('linking', signal, (steps) => assertLinked(steps, name, file, hash)).then(
      () => 'there',
      (error: unknown) => (error as GatewayError).message,
    );
  }

  test('the same file, and one that a file system gives another inode by its name', async () => {
    expect(await linked((kept, name) => link(kept, name))).toBe('there');
    expect(await linked((kept, name) => copyFile(kept, name))).toBe('there');
  });

  test.each<readonly [string, (kept: string, name: string) => Promise<unknown>, RegExp]>([
    ['nothing', () => Promise.resolve(), /the name is not there; the file system does not keep what it takes/],
    ['a shorter file', (_, name) => writeFile(name, bytes.subarray(1)), /has 20 of 21 bytes/],
    ['another file of that length', (_, name) => writeFile(name, Buffer.alloc(bytes.length)), /leads to another file/],
  ])('%s', async (_, change, message) => {
    expect(await linked(change)).toMatch(message);
  });
});
