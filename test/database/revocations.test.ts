/** Who is refused by whom: each `openFleet` stands for a gateway with its own state, and only the database connects them. */
import { writeFileSync, readFileSync, existsSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import type { GatewayConfig } from '../../src/config/types.ts';
import { openFleet, type Fleet } from '../../src/database/fleet.ts';
import { SILENT, type Log } from '../../src/ports/log.ts';
import { generateKey, tempDir, type KeyFiles } from '../support/lab.ts';
import { startPostgres, type Postgres } from '../support/postgres.ts';

let postgres: Postgres;
let keys: readonly KeyFiles[];
beforeAll(async () => {
  postgres = await startPostgres();
  keys = await Promise.all(Array.from({ length: 4 }, () => generateKey()));
});

let open: Fleet[] = [];
beforeEach(async () => {
  await postgres.sql('drop schema if exists restic_gateway cascade');
});
afterEach(async () => {
  await Promise.all(open.map((one) => one.close()));
  open = [];
});

type Clients = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

const client = (index: number, more: object = {}): Record<string, unknown> => ({
  keys: [keys[index]?.publicLine],
  repository: { store: 'main' },
  ...more,
});

/** A gateway of its own machine, whose config may change. */
function machine(name: string, database: object = postgres.config) {
  const directory = tempDir();
  const file = path.join(directory, 'gateway.yaml');
  const read = (clients: Clients): GatewayConfig => {
    const stores = { main: { type: 'directory', path: directory } };
    const audit = { file: path.join(directory, 'audit.jsonl') };
    writeFileSync(file, stringify({ stores, clients, audit, database: { ...database, gateway: name } }));
    return loadConfig(file);
  };
  const start = async (
    clients: Clients,
    { isServe = true, log = SILENT }: { readonly isServe?: boolean; readonly log?: Log } = {},
  ) => {
    const config = read(clients);
    if (config.database === undefined) throw new Error('it has no database');
    const fleet = await openFleet({ config, database: config.database, version: '1', isServe, log });
    const applied: GatewayConfig[] = [];
    fleet.follow((next) => {
      applied.push(next);
      return Promise.resolve();
    });
    open.push(fleet);
    return {
      applied,
      change: (next: Clients) => fleet.reconfigure(read(next)),
      disabled: () =>
        Object.values(fleet.effective().clients)
          .filter((one) => one.disabled)
          .map((one) => `${one.name} by ${one.disabledBy ?? 'itself'}`),
      revoked: () => fleet.effective().revokedCertificates,
      close: async () => {
        open = open.filter((one) => one !== fleet);
        await fleet.close();
      },
    };
  };
  return { directory, start };
}

/** Waits until it is so. */
async function until(what: () => unknown, expected: unknown): Promise<void> {
  for (const end = Date.now() + 30_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 20)))
    if (JSON.stringify(what()) === JSON.stringify(expected)) return;
  expect(what()).toEqual(expected);
}

test('what one disables is refused by all, and let in again when it says so', async () => {
  const both = { a: client(0), b: client(1) };
  const one = await machine('one').start(both);
  const two = await machine('two').start(both);
  expect(two.disabled()).toEqual([]);
  await one.change({ ...both, a: client(0, { disabled: true }) });
  await until(two.disabled, ['a by one']);
  // Who only has an older config does not take it back, nor does a start with one.
  await two.change({ ...both, c: client(2) });
  const three = await machine('three').start(both);
  expect(three.disabled()).toEqual(['a by one']);
  await until(two.disabled, ['a by one']);
  await one.change(both);
  await until(() => [two.disabled(), three.disabled()], [[], []]);
});

test('a client is known by its id, whatever its name', async () => {
  const one = await machine('one').start({ old: client(0) });
  const two = await machine('two').start({ new: client(0, { id: 'old' }), other: client(1) });
  await one.change({ old: client(0, { disabled: true }) });
  await until(two.disabled, ['new by one']);
});

test('a client that is removed is out, and so is a key; one that goes to another client is not', async () => {
  const both = { a: client(0), b: client(1, { keys: [keys[1]?.publicLine, keys[2]?.publicLine] }) };
  const one = await machine('one').start(both);
  const two = await machine('two').start(both);
  await one.change({ b: client(1, { keys: [keys[1]?.publicLine] }) });
  await until(two.disabled, ['a by one']);
  const fingerprints = [keys[0], keys[2]].map((key) => key?.fingerprint).sort();
  await until(
    () =>
      two
        .revoked()
        .map((entry) => entry.by === 'key' && entry.key)
        .sort(),
    fingerprints,
  );
  await one.change({ b: client(1, { keys: [keys[1]?.publicLine] }), c: client(2) });
  await until(() => two.revoked().map((entry) => entry.by === 'key' && entry.key), [keys[0]?.fingerprint]);
});

test('what is expired on one is refused on the other, from the moment on', async () => {
  const [one, two] = [machine('one'), machine('two')];
  const first = await one.start({ a: client(0, { expires: '2020-01-01' }) });
  const second = await two.start({ a: client(0) });
  await until(second.disabled, ['a by one']);
  await first.change({ a: client(0) });
  await until(second.disabled, []);
});

test('a start with a config that was cut off takes nobody out elsewhere, unless somebody says so', async () => {
  const all = { a: client(0), b: client(1), c: client(2), d: client(3) };
  const [one, two] = [machine('one'), machine('two')];
  const first = await one.start(all);
  const second = await two.start(all);
  await first.close();
  const said: string[] = [];
  const log: Log = { ...SILENT, error: (_fields, words) => said.push(words) };
  const cut = await one.start({ a: client(0, { disabled: true }) }, { log });
  await until(second.disabled, ['a by one']);
  expect(said.join()).toMatch(/leaves out 3 clients/);
  // Another change does not let it through.
  await cut.change({ a: client(0) });
  await until(second.disabled, []);
  await cut.change({ a: client(0) });
  await until(second.disabled, ['b by one', 'c by one', 'd by one']);
});

test('without the database the last word holds, for new processes too, and what happened meanwhile is told when it is back', async () => {
  const both = { a: client(0), b: client(1) };
  const [one, two] = [machine('one'), machine('two')];
  const first = await one.start(both);
  let second = await two.start(both);
  await first.change({ ...both, a: client(0, { disabled: true }) });
  await until(second.disabled, ['a by one']);
  await postgres.kill();
  try {
    await second.close();
    second = await two.start(both);
    expect(second.disabled()).toEqual(['a by one']);
    const command = await two.start(both, { isServe: false });
    expect(command.disabled()).toEqual(['a by one']);
    await first.change({ a: client(0), b: client(1, { disabled: true }) });
    await until(() => readFileSync(path.join(two.directory, 'state/database.json'), 'utf8').includes('away'), true);
    expect(second.disabled()).toEqual(['a by one']);
    await postgres.start();
    await until(() => [second.disabled(), command.disabled()], [['b by one'], ['b by one']]);
  } finally {
    await postgres.kill();
    await postgres.start();
  }
});

test('forced commands alone: one of them asks, the others follow, and another one takes its place', async () => {
  const both = { a: client(0), b: client(1) };
  const [one, two] = [machine('one'), machine('two')];
  const serve = await one.start(both);
  const commands: Awaited<ReturnType<typeof two.start>>[] = [];
  for (let count = 0; count < 3; count++) commands.push(await two.start(both, { isServe: false }));
  const connections = async () =>
    postgres.sql("select count(*) from pg_stat_activity where application_name = 'restic-gateway two'");
  expect(await connections()).toBe('1');
  await serve.change({ ...both, a: client(0, { disabled: true }) });
  await until(() => commands.map((command) => command.disabled()), Array(3).fill(['a by one']));
  await commands.shift()?.close();
  await serve.change(both);
  await until(() => commands.map((command) => command.disabled()), Array(2).fill([]));
  expect(await connections()).toBe('1');
});

test('a database that hangs holds no start up, and a forced command not at all once it is known', async () => {
  const both = { a: client(0) };
  const two = machine('two');
  await (await two.start(both)).close();
  await postgres.freeze();
  try {
    const serve = await two.start(both);
    await serve.close();
    expect(existsSync(path.join(two.directory, 'state/database.json'))).toBe(true);
    // A wait for the database's short time would make many of them slow.
    for (let count = 0; count < 30; count++) await (await two.start(both, { isServe: false })).close();
  } finally {
    await postgres.thaw();
  }
}, 120_000);

test('a server that cannot show who it is gets no password', async () => {
  const database = postgres.config;
  const said: string[] = [];
  const log: Log = { ...SILENT, error: (_fields, words) => said.push(words) };
  const elsewhere = machine('one', {
    ...database,
    url: database.url.replace('localhost', '127.0.0.1'),
    caFile: wrongCa(),
  });
  await elsewhere.start({ a: client(0) }, { log });
  expect(said.join()).toMatch(/the database is away \(.*certificate/);
});

function wrongCa(): string {
  const file = path.join(tempDir(), 'ca.pem');
  writeFileSync(
    file,
    readFileSync('/etc/ssl/certs/ca-certificates.crt', 'utf8').split(/(?<=END CERTIFICATE-----\n)/)[0] ?? '',
  );
  return file;
}
