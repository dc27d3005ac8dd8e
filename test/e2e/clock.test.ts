/** The clock of the gateway host is set ahead and back while it serves: nobody's lock becomes anybody's, and the audit stays one story. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, run, tempDir } from '../support/lab.ts';
import { sample } from '../support/restic-client.ts';
import { startStdio, type StdioClient } from '../support/stdio-client.ts';
import { freshStore } from '../support/stores.ts';

const HOUR = 3_600_000;

let directory: string;
let configFile: string;
let store: string;
let env: Readonly<Record<string, string>>;
const open: StdioClient[] = [];

/** Sets the clock of all processes that were started with `env`, those that run too. */
const setClock = (ms: number): void => {
  writeFileSync(path.join(directory, 'shift'), String(ms));
};
const start = (client: string): StdioClient => {
  const started = startStdio([client, '-c', configFile], env);
  open.push(started);
  return started;
};
const post = async (client: StdioClient, at: string, body: Uint8Array): Promise<number> =>
  (await client.request('POST', at, { body })).status;
const command = (...args: string[]) =>
  run(process.execPath, [GATEWAY, ...args, '-c', configFile], { env, timeoutMs: 180_000 });

beforeEach(async () => {
  directory = tempDir();
  setClock(0);
  const preload = path.join(directory, 'clock.mjs');
  writeFileSync(
    preload,
    `import { readFileSync } from 'node:fs';
    const Clock = Date;
    const now = () => Clock.now() + Number(readFileSync(${JSON.stringify(path.join(directory, 'shift'))}, 'latin1'));
    globalThis.Date = class extends Clock {
      constructor(...args) {
        super(...(args.length === 0 ? [now()] : args));
      }
      static now() {
        return now();
      }
    };`,
  );
  env = { NODE_OPTIONS: `--import ${preload}` };
  const entry = await freshStore('directory');
  store = entry['path'] ?? '';
  const client = async (more: object = {}) => ({
    ...{ keys: [(await generateKey()).publicLine], repository: { store: 'main', prefix: 'both' }, shared: true },
    ...more,
  });
  configFile = path.join(directory, 'gateway.yaml');
  const expires = new Date(Date.now() + HOUR / 2).toISOString().replace(/\.\d+/, '');
  writeFileSync(
    configFile,
    stringify({
      stores: { main: entry },
      clients: { one: await client(), two: await client(), short: await client({ expires }) },
      audit: { file: path.join(directory, 'audit.jsonl') },
    }),
  );
});
afterEach(() => {
  for (const client of open.splice(0)) client.kill();
});

test('a fresh lock stays another’s when the clock is set ahead, and a stale one is stale when it is set back', async () => {
  const [one, two] = [start('one'), start('two')];
  const [fresh, old] = [sample(), sample()];
  for (const { name, body } of [fresh, old]) expect(await post(one, `/locks/${name}`, body)).toBe(200);
  const remove = async (client: StdioClient, { name }: { readonly name: string }): Promise<number> =>
    (await client.request('DELETE', `/locks/${name}`)).status;

  for (const hours of [1, 24 * 365 * 5]) {
    setClock(hours * HOUR);
    expect(await remove(two, fresh)).toBe(403);
    expect(await remove(start('two'), fresh)).toBe(403);
  }
  // As if it had been there for so long: what counts is how long the machine has run since.
  const side = path.join(store, 'both', '.restic-gateway', 'origin', 'locks', `${old.name}.json`);
  const noted = JSON.parse(readFileSync(side, 'utf8')) as { bootMs: number };
  writeFileSync(side, JSON.stringify({ ...noted, bootMs: noted.bootMs - 31 * 60_000 }));
  setClock(-HOUR);
  expect(await remove(two, fresh)).toBe(403);
  expect(await remove(two, old)).toBe(200);
  expect(await remove(one, fresh)).toBe(200);
});

test('sessions and the audit go on in their order, and expiry is by the clock', async () => {
  const names: string[] = [];
  for (const [turn, hours] of [0, 3, -2, 24 * 400, 0].entries()) {
    setClock(hours * HOUR);
    const client = start('one');
    const { name, body } = sample();
    expect(await post(client, `/data/${name}`, body)).toBe(200);
    expect((await client.request('GET', `/data/${name}`)).body).toEqual(body);
    names.push(name);
    client.end();
    expect(await client.exited).toEqual({ status: 0, stderr: '' });
    const short = start('short');
    if (hours > 0) expect((await short.exited).stderr).toContain('expired');
    else {
      expect((await short.request('GET', `/data/${name}`)).status).toBe(200);
      short.end();
      expect((await short.exited).status).toBe(0);
    }
    const { stdout } = await command('audit', 'show', '--kind', 'create', '--json', '--limit', '1');
    expect(JSON.parse(stdout)).toMatchObject({ line: { object: `data/${name}` } });
    const sessions = await command('sessions', '--json', '--client', 'one');
    expect(sessions.stdout.trimEnd().split('\n')).toHaveLength(turn + 1);
  }
  const verified = await command('audit', 'verify');
  expect(verified.code).toBe(0);
  expect(verified.stdout.match(/note: the clock was set back by/g)).toHaveLength(2);
  const all = await command('sessions', '--json', '--limit', '1');
  // The newest is the one that began last, not the one that the clock says.
  const newest = JSON.parse(all.stdout) as { client: string; start: string };
  expect(newest.client).toBe('short');
  expect(Math.abs(Date.parse(newest.start) - Date.now())).toBeLessThan(HOUR);
});
