/** Sessions over gateways: exact of those who come at once, whatever processes they are in. */
import { afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { loadConfig } from '../../src/config/load.ts';
import { openFleet, type Fleet } from '../../src/database/fleet.ts';
import { openSharedSessions } from '../../src/database/sessions.ts';
import { SILENT } from '../../src/ports/log.ts';
import type { SharedSessions } from '../../src/ports/shared-sessions.ts';
import { enterLiveSessions } from '../../src/state/live-sessions.ts';
import { sharedConfig, startPostgres, type Postgres } from '../support/postgres.ts';

let postgres: Postgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
let open: (SharedSessions | Fleet)[] = [];
beforeEach(async () => {
  await postgres.sql('drop schema if exists restic_gateway cascade');
});
afterEach(async () => {
  await Promise.all(open.map((one) => one.close()));
  open = [];
});

async function gateway(name: string) {
  const config = loadConfig(sharedConfig(postgres, name));
  const { database, state } = config;
  if (database === undefined) throw new Error('it has no database');
  const fleet = await openFleet({ config, database, version: '1', isServe: true, log: SILENT });
  const sessions = openSharedSessions({ config: database, state, log: SILENT });
  open.push(sessions, fleet);
  return { sessions, fleet, state };
}

const count = (): Promise<string> => postgres.sql('select count(*) from restic_gateway.sessions');
async function until(look: () => Promise<unknown>, wanted: unknown): Promise<void> {
  for (const end = Date.now() + 30_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 50)))
    if ((await look()) === wanted) return;
  expect(await look()).toBe(wanted);
}

test('of many who come at once as many are let in as may be, and a place is free when one leaves', async () => {
  const gateways = [await gateway('one'), await gateway('two')];
  const entries = await Promise.all(
    gateways.flatMap(({ sessions }, index) =>
      Array.from({ length: 20 }, (_, number) => sessions.enter(`${index}-${number}`, 'laptop', 7)),
    ),
  );
  const entered = entries.flatMap((entry) => (entry.entered ? [entry] : []));
  expect(entered).toHaveLength(7);
  expect(entries.flatMap((entry) => (entry.entered ? [] : [entry.others]))).toEqual(Array(33).fill(7));
  expect(await gateways[0]?.sessions.enter('other', 'server', 1)).toMatchObject({ entered: true });
  entered[0]?.leave();
  await until(count, '7');
  expect(await gateways[1]?.sessions.enter('next', 'laptop', 7)).toMatchObject({ entered: true });
  expect(await gateways[1]?.sessions.enter('last', 'laptop', 7)).toEqual({ entered: false, others: 7 });
});

test('a gateway that is not heard of has no sessions, and what a killed process has left goes away', async () => {
  const [one, two] = [await gateway('one'), await gateway('two')];
  expect(await two.sessions.enter('a', 'laptop', 1)).toMatchObject({ entered: true });
  expect(await one.sessions.enter('b', 'laptop', 1)).toEqual({ entered: false, others: 1 });
  // No process of the other machine has it, so whoever keeps its sessions there takes it out.
  await until(count, '0');
  expect(await two.sessions.enter('c', 'laptop', 1)).toMatchObject({ entered: true });
  await two.fleet.close();
  await postgres.sql("update restic_gateway.gateways set seen = now() - interval '11 seconds' where name = 'two'");
  expect(await one.sessions.enter('d', 'laptop', 1)).toMatchObject({ entered: true });
});

test('while the database is away all are let in, and they are counted in once it is back', async () => {
  const [one, two] = [await gateway('one'), await gateway('two')];
  await postgres.kill();
  const principal = { client: 'laptop', via: 'ssh' as const };
  const here = await enterLiveSessions(two.state, { id: '20261127T000000Z-0a', principal }, { client: 5, all: 5 });
  expect(here).toMatchObject({ entered: true });
  expect(await two.sessions.enter('20261127T000000Z-0a', 'laptop', 1)).toMatchObject({ entered: true });
  await postgres.start();
  await until(count, '1');
  const entry = await one.sessions.enter('b', 'laptop', 1);
  expect(entry).toEqual({ entered: false, others: 1 });
});
