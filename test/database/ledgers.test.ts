/** Quotas over gateways while the database comes and goes: each `gateway` has a state of its own. */
import { existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { loadConfig } from '../../src/config/load.ts';
import { openSharedLedgers } from '../../src/database/ledgers.ts';
import { openLedger } from '../../src/limits/ledger.ts';
import type { Ledger } from '../../src/ports/ledger.ts';
import { SILENT } from '../../src/ports/log.ts';
import { ledgerId, readKnownUsage } from '../../src/state/known-usage.ts';
import { tempDir } from '../support/lab.ts';
import { sharedConfig, startPostgres, type Postgres } from '../support/postgres.ts';

let postgres: Postgres;
beforeAll(async () => {
  postgres = await startPostgres();
});

let identity: string;
let measured: number;
let open: (() => Promise<void>)[];
beforeEach(() => {
  identity = `repository ${Math.random()}`;
  measured = 0;
  open = [];
});
afterEach(async () => {
  await Promise.all(open.map((end) => end()));
});

function gateway(name: string, state = tempDir()): { ledger: Ledger; state: string; end: () => Promise<void> } {
  const { database } = loadConfig(sharedConfig(postgres, name));
  if (database === undefined) throw new Error('it has no database');
  const ledgers = openSharedLedgers({ config: database, state, log: SILENT }, openLedger);
  const ledger = ledgers.open(state, identity, () => {
    measured += 1;
    return Promise.resolve(0);
  });
  const end = async (): Promise<void> => {
    open = open.filter((one) => one !== end);
    await ledger.close();
    await ledgers.close();
  };
  open.push(end);
  return { ledger, state, end };
}

const used = (): Promise<string> =>
  postgres.sql(`select used from restic_gateway.ledgers where id = '${ledgerId(identity)}'`);
const pending = (state: string): string[] => {
  const directory = path.join(state, 'usage-pending');
  return existsSync(directory) ? readdirSync(directory) : [];
};
/** All of these are one process: what one that is closed has left looks as if its own had ended. */
function die(state: string, before: readonly string[] = []): void {
  for (const name of pending(state).filter((one) => !before.includes(one)))
    renameSync(
      path.join(state, 'usage-pending', name),
      path.join(state, 'usage-pending', name.replace(/^\d+/, '4000000')),
    );
}
async function until(look: () => Promise<unknown>, wanted: unknown): Promise<void> {
  for (const end = Date.now() + 30_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 50)))
    if ((await look()) === wanted) return;
  expect(await look()).toBe(wanted);
}
const store = async ({ ledger }: { ledger: Ledger }, size: number, limit = 100): Promise<boolean> => {
  const token = await ledger.reserve(size, limit, 'data/a');
  if (token !== undefined) await ledger.settle(token, 'stored');
  return token !== undefined;
};

test('an outage: what each has left of the last sum is taken on each, and all of it is counted in once', async () => {
  const [one, two] = [gateway('one'), gateway('two')];
  expect(await store(one, 30)).toBe(true);
  expect(await store(two, 10)).toBe(true);
  expect(await readKnownUsage(two.state, identity)).toBe(40);
  expect(measured).toBe(1);
  const underWay = await two.ledger.reserve(5, 100, 'data/under');
  await postgres.kill();
  // 30 are known on the one, 45 on the other.
  expect(await store(one, 80)).toBe(false);
  expect(await store(one, 20)).toBe(true);
  // Of the same machine, and begun meanwhile.
  const second = gateway('one', one.state);
  expect(await store(second, 60)).toBe(false);
  const ofOne = pending(one.state);
  expect(await store(second, 50)).toBe(true);
  await second.end();
  die(one.state, ofOne);
  expect(await store(two, 56)).toBe(false);
  expect(await store(two, 15)).toBe(true);
  await two.ledger.settle(underWay ?? '', 'failed');
  const failed = await one.ledger.reserve(0, 100, 'data/nothing');
  await one.ledger.settle(failed ?? '', 'failed');
  expect(measured).toBe(1);
  await postgres.start();
  // 30 + 10 before, 20 + 50 + 15 without it.
  await until(used, '125');
  await until(() => Promise.resolve(pending(one.state).length), 0);
  expect(await store(one, 1)).toBe(false);
  expect(await store(one, 1, 126)).toBe(true);
  expect(await used()).toBe('126');
});

test('what a process that has ended has left is counted in by the next', async () => {
  const first = gateway('one');
  expect(await store(first, 10)).toBe(true);
  await postgres.kill();
  expect(await store(first, 10)).toBe(true);
  await first.end();
  await postgres.start();
  expect(pending(first.state)).toHaveLength(1);
  die(first.state);
  expect(await store(gateway('one', first.state), 1, 20)).toBe(false);
  expect(await used()).toBe('20');
});

test('what somebody has put among those files keeps nobody from storing', async () => {
  const state = tempDir();
  const directory = path.join(state, 'usage-pending');
  mkdirSync(path.join(directory, '4000000.1-aa-1'), { recursive: true });
  symlinkSync('/etc/passwd', path.join(directory, '4000000.1-ab-1'));
  writeFileSync(path.join(directory, '4000000.1-ac-1'), '{"ledger":"../x","bytes":-5}\nnull\n{"ledger":5}\n[]\n');
  writeFileSync(path.join(directory, 'other'), '');
  const one = gateway('one', state);
  expect(await store(one, 10)).toBe(true);
  expect(await used()).toBe('10');
});

test('a database that hangs holds one upload for its short time, and the others not at all', async () => {
  const one = gateway('one');
  expect(await store(one, 10)).toBe(true);
  await postgres.freeze();
  try {
    // Each would wait more than a second, were it to ask; in the time of a test they would not end.
    for (let count = 0; count < 60; count++) expect(await store(one, 1)).toBe(true);
    const all = await Promise.all(Array.from({ length: 40 }, () => store(one, 1)));
    expect(all.filter(Boolean)).toHaveLength(30);
  } finally {
    await postgres.thaw();
  }
  await until(used, '100');
}, 60_000);

test('more uploads at once than there are connections wait for one another, and the database is not away for that', async () => {
  const one = gateway('one');
  const all = await Promise.all(Array.from({ length: 400 }, () => store(one, 1, 300)));
  expect(all.filter(Boolean)).toHaveLength(300);
  expect(await used()).toBe('300');
  expect(existsSync(path.join(one.state, 'usage-away'))).toBe(false);
});
