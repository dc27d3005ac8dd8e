/** The count of a real directory store while uploads to it go on. */
import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { createUsage, type CountedRepository, type Usage } from '../../src/limits/usage.ts';
import type { RepositoryStore } from '../../src/ports/repository-store.ts';
import { createDirectoryStorage } from '../../src/stores/directory-store.ts';
import { contentOf, NEVER, UPLOADER, PREFIX, refOf, until } from '../support/store-calls.ts';

let directory: string;
let usage: Usage;
let real: RepositoryStore;
/** What happens while the store is being listed, by where the list is. */
let meanwhile: Readonly<Record<string, () => Promise<void>>>;
let repository: CountedRepository;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'gateway-recount-'));
  mkdirSync(path.join(directory, 'store'));
  const storage = createDirectoryStorage({ type: 'directory', name: 'store', path: path.join(directory, 'store') });
  real = storage.repository(PREFIX);
  meanwhile = {};
  const store: RepositoryStore = {
    create: (...args) => real.create(...args),
    load: (...args) => real.load(...args),
    stat: (...args) => real.stat(...args),
    remove: (...args) => real.remove(...args),
    list: async function* (type, options) {
      await meanwhile[`before ${type}`]?.();
      yield* real.list(type, options);
      await meanwhile[`after ${type}`]?.();
    },
  };
  repository = {
    state: path.join(directory, 'state'),
    identity: 'one',
    store,
    removedByClients: () => Promise.resolve(0),
  };
  const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
  usage = createUsage(silent);
});
afterEach(async () => {
  await usage.close();
  rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
});

/** Stores so many bytes as the gateway does. */
async function save(size: number, end: 'stored' | 'failed' | 'under way' = 'stored'): Promise<void> {
  const bytes = randomBytes(size);
  const settle = await usage.reserve(repository, refOf(bytes), size, undefined);
  if (end === 'under way') return;
  if (end === 'stored') await real.create(refOf(bytes), contentOf(bytes), UPLOADER, NEVER);
  await settle?.(end);
}

const ledger = (): string => {
  const [hash = ''] = readdirSync(path.join(directory, 'state', 'usage'));
  return path.join(directory, 'state', 'usage', hash, '1');
};

/** Has the store counted. @returns by how much the count changed the ledger, and in how many ms the next one is due */
async function recount(): Promise<{ change: number; due: number }> {
  appendFileSync(ledger(), '\n["claim",0,"due"]\n');
  await save(0, 'failed');
  await until(() => readFileSync(ledger(), 'utf8').includes('"fix"'));
  const [, line = ''] = /(\["fix".*\])/.exec(readFileSync(ledger(), 'utf8')) ?? [];
  const [, change, , due] = JSON.parse(line) as [string, number, number, number];
  return { change, due: due - Date.now() };
}

test('a ledger that is right stays as it is, whatever comes before, behind and beside the list', async () => {
  await save(1000);
  meanwhile = {
    'before data': () => save(200),
    'after data': async () => {
      await save(30);
      await save(4, 'failed');
      await save(5, 'under way');
    },
  };
  const { change, due } = await recount();
  expect(change).toBe(0);
  expect(due).toBeGreaterThan(20 * 60 * 60 * 1000);
});

test('what is in the store and not in the ledger comes in, and the other way round', async () => {
  await save(1000);
  const bytes = randomBytes(77);
  await real.create(refOf(bytes, 'index'), contentOf(bytes), UPLOADER, NEVER);
  appendFileSync(ledger(), '\n["+",100,null,"lie","data/lie"]\n[".","lie"]\n');
  expect((await recount()).change).toBe(77 - 100);
});

test('a removal during the list has it repeated soon', async () => {
  await save(1000);
  meanwhile = { 'after data': () => usage.removed(repository, 10) };
  expect((await recount()).due).toBeLessThan(20 * 60 * 1000);
});

test('room that a dead process had set aside comes back, though another one has its pid by now', async () => {
  await save(1000);
  const running = (pid: number): string =>
    /^.*\) (?:\S+ ){19}(\S+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1] ?? '';
  const begun = running(process.ppid);
  appendFileSync(
    ledger(),
    [
      ['+', 500, null, `${process.ppid}.${Number(begun) + 1}-aa-1`, 'data/dead'],
      ['+', 30, null, `${process.ppid}.${begun}-bb-1`, 'data/alive'],
      ['+', 7, null, 'nobody', 'data/forged'],
    ]
      .map((line) => `\n${JSON.stringify(line)}\n`)
      .join(''),
  );
  expect((await recount()).change).toBe(-507);
});
