/**
 * Login storms: a site whose clients all start at the same minute, behind one address, is no flood. All get in, and nearly all beside those who are one.
 *
 * `scripts/login-storm` runs the first of these with other numbers and prints how long they waited.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { generateOpenSshKey } from '../../src/frontends/openssh-key.ts';
import { startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { run, tempDir } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

/** By the script: with the limits as they are by default, which are for as many as it has. */
const MEASURED = process.env['STORM_LOGINS'] !== undefined;
const LOGINS = Number(process.env['STORM_LOGINS'] ?? 150);
const SECONDS = Number(process.env['STORM_SECONDS'] ?? 0);
/** Beside a flood, whoever comes in the very moment in which it has taken the last slots may be the one who goes. */
const NEARLY_ALL = Math.floor(LOGINS * 0.95);

let gateway: RunningGateway | undefined;
const floods: ChildProcess[] = [];
afterEach(async () => {
  for (const flood of floods.splice(0)) {
    flood.stdin?.end();
    if (flood.exitCode === null) await once(flood, 'exit');
  }
  await gateway?.stop();
});

const support = (name: string): string => path.join(import.meta.dirname, '../support', name);

/** A gateway with a client for each login. @param limits - so low that as few as there are in a test need all that there is. @returns their private keys */
async function open(limits: Readonly<Record<string, number>>): Promise<string[]> {
  const pairs = Array.from({ length: LOGINS }, () => generateOpenSshKey(''));
  const client = (line: string, index: number) => ({
    keys: [line],
    repository: { store: 'main', prefix: `clients/${index}` },
  });
  const clients = Object.fromEntries(pairs.map((pair, index) => [`c${index}`, client(pair.publicLine, index)]));
  gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore('directory') },
    clients,
    ...(!MEASURED && { ssh: { limits } }),
  });
  return pairs.map((pair) => pair.privateKey);
}

/** Starts a flood, and waits until each of its connections has been tried once. */
async function flooded(addresses: number, each: number, behaviour: string): Promise<void> {
  const flood = spawn(
    process.execPath,
    [support('flood.mjs'), ...[gateway?.port, addresses, each, behaviour].map(String)],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  floods.push(flood);
  await once(flood.stdout, 'data');
}

/** All of them log in, from two processes. @returns how long each that was let in has waited, in ms, the shortest first */
async function storm(keys: readonly string[], address = '127.0.0.1', seconds = SECONDS): Promise<number[]> {
  const halves = [0, 1].map((half) => keys.filter((_, index) => index % 2 === half));
  const outcomes = await Promise.all(
    halves.map((half) =>
      run(process.execPath, [support('storm-clients.mjs'), ...[gateway?.port, address, seconds].map(String)], {
        input: JSON.stringify(half),
      }),
    ),
  );
  const waits = outcomes.flatMap(({ stdout }) => JSON.parse(stdout) as (number | null)[]);
  return waits.filter((wait) => wait !== null).sort((a, b) => a - b);
}

function tell(what: string, waits: readonly number[]): void {
  if (!MEASURED) return;
  const at = (part: number): string => `${((waits[Math.floor((waits.length - 1) * part)] ?? NaN) / 1000).toFixed(2)} s`;
  process.stdout.write(
    `${what}: ${waits.length} of ${LOGINS} got in; median wait ${at(0.5)}, 95 % ${at(0.95)}, longest ${at(1)}\n`,
  );
}

test('all of a site that log in at once behind one address get in', async () => {
  const waits = await storm(await open({ unauthenticated: 320 }));
  tell('logins behind one address', waits);
  expect(waits).toHaveLength(LOGINS);
});

test('and beside silent connections from 50 addresses', async () => {
  const keys = await open({ unauthenticated: 640 });
  await flooded(50, MEASURED ? 100 : 6, 'silent');
  const waits = await storm(keys);
  tell('the same, beside 50 addresses × 100 silent connections', waits);
  expect(waits.length).toBeGreaterThanOrEqual(NEARLY_ALL);
});

test('and beside silent connections from their own', async () => {
  const keys = await open({ unauthenticated: 800, unauthenticatedPerAddress: 200 });
  await flooded(1, MEASURED ? 1000 : 250, 'silent');
  const waits = await storm(keys, '127.1.0.9');
  tell('the same, beside 1,000 silent connections from their own address', waits);
  expect(waits.length).toBeGreaterThanOrEqual(NEARLY_ALL);
});
