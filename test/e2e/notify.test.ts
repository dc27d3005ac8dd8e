/** `serve` tells a webhook and a dead man's switch what happens to a real client, over an outage of theirs and a restart of its own. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import {
  freePort,
  generateKey,
  lab,
  makeTree,
  restic,
  run,
  sshClientArgs,
  tempDir,
  type Outcome,
} from '../support/lab.ts';
import { receiveHttp, type HttpReceiver } from '../support/notify-receivers.ts';
import { freshStore } from '../support/stores.ts';

interface Told {
  readonly kind: string;
  readonly id: string;
  readonly items: readonly {
    readonly state: string;
    readonly client: string;
    readonly rule: string;
    readonly key: string;
  }[];
}

let receiver: HttpReceiver;
let gateway: RunningGateway;
let key: Awaited<ReturnType<typeof generateKey>>;
let tree: string;
let directory: string;
let config: Record<string, unknown>;

beforeAll(async () => {
  directory = tempDir();
  receiver = await receiveHttp();
  key = await generateKey();
  tree = path.join(directory, 'tree');
  await makeTree(tree, { files: 2, bytes: 300_000, seed: 'notify' });
  config = {
    stores: { main: await freshStore('directory') },
    clients: { appsrv: { keys: [key.publicLine], repository: { store: 'main' }, expectEvery: '1h' } },
    metrics: { listen: `127.0.0.1:${await freePort()}` },
    notify: {
      admins: { webhook: { url: `${receiver.url}/hook` } },
      switch: { ping: { url: `${receiver.url}/ping/{client}` } },
      alive: { ping: { url: `${receiver.url}/gateway` }, events: ['gateway'] },
    },
  };
  gateway = await startGateway(directory, config, { NOTHING: '' });
});

afterAll(async () => {
  await gateway.stop();
  await receiver.close();
});

const client = (...args: string[]): Promise<Outcome> =>
  restic(
    lab().resticNewest,
    {
      repo: 'rclone:x',
      options: { 'rclone.program': [lab().ssh, ...sshClientArgs({ ...gateway, key })].join(' ') },
      password: 'secret',
    },
    args,
  );
const command = (...args: string[]): Promise<Outcome> =>
  run(process.execPath, [GATEWAY, ...args, '-c', gateway.configFile], { timeoutMs: 120_000 });
const backup = async (): Promise<void> => {
  expect((await client('backup', tree, '--host', 'appsrv')).code).toBe(0);
};
const until = async (right: () => boolean): Promise<void> => {
  while (!right()) await sleep(50);
};
const told = (): Told[] =>
  receiver.received
    .filter(({ path: at, status }) => at === '/hook' && status === 200)
    .map(({ body }) => JSON.parse(body) as Told)
    .filter(({ kind }) => kind !== 'test');
const said = (): string[] =>
  told().flatMap(({ items }) => items.map(({ state, client: who, rule }) => `${state} ${who} ${rule}`));
const pings = (): string[] => receiver.received.map(({ path: at }) => at).filter((at) => at.startsWith('/ping/'));
/** Changes what the config says of the client. */
const expectEvery = (time: string): void => {
  const now = parse(readFileSync(gateway.configFile, 'utf8')) as { clients: Record<string, object> };
  now.clients['appsrv'] = { ...now.clients['appsrv'], expectEvery: time };
  writeFileSync(gateway.configFile, stringify(now));
};

test('a test message goes to each target, and a ping of one changes no state', async () => {
  for (const target of ['admins', 'switch', 'alive'])
    expect(await command('notify', 'test', target)).toMatchObject({ code: 0, stdout: expect.stringContaining(target) });
  const paths = receiver.received.map(({ path: at }) => at);
  expect(paths).toEqual(expect.arrayContaining(['/hook', '/ping/appsrv/log', '/gateway/log']));
  expect(JSON.parse(receiver.received.find(({ path: at }) => at === '/hook')?.body ?? '')).toMatchObject({
    kind: 'test',
  });
  expect(await command('notify', 'test', 'admin')).toMatchObject({ code: 2, stderr: expect.stringMatching(/admins/) });
});

test('backups are pinged, an attack is told at once, and the gateway says that it is alive', async () => {
  expect((await client('init')).code).toBe(0);
  await until(() => receiver.received.some(({ path: at }) => at === '/gateway'));
  await backup();
  await until(() => pings().includes('/ping/appsrv'));
  expect(told()).toEqual([]);
  expect((await client('forget', 'latest')).code).not.toBe(0);
  await until(() => said().includes('new appsrv denied-delete'));
  await until(() => pings().includes('/ping/appsrv/fail'));
});

test('late is told, and when it is over', async () => {
  expectEvery('1s');
  await until(() => said().includes('new appsrv late'));
  expectEvery('1h');
  await until(() => said().includes('over appsrv late'));
});

test('a target that is down is told when it is back', async () => {
  const { port, received } = receiver;
  await receiver.close();
  expectEvery('1s');
  await gateway.process.waitForLine(/admins was not notified, and is tried again: .*ECONNREFUSED/);
  expect(await command('notify', 'list')).toMatchObject({ stdout: expect.stringMatching(/admins.*failing for/) });
  receiver = await receiveHttp(port);
  receiver.received.push(...received);
  const before = said().filter((one) => one === 'new appsrv late').length;
  await until(() => said().filter((one) => one === 'new appsrv late').length > before);
});

test('one that refuses is a problem, in status, in the metrics, and for the others', async () => {
  receiver.answer = { status: 410, body: 'gone' };
  expectEvery('1h');
  let status;
  do status = await command('status');
  while (!/notifications have not reached admins since .*410/.test(status.stderr));
  expect(status.code).toBe(1);
  const { listen } = config['metrics'] as { listen: string };
  expect(await (await fetch(`http://${listen}/metrics`)).text()).toMatch(/^restic_gateway_notify_failing 1$/m);
  expect(await command('notify', 'list', '--json')).toMatchObject({ code: 1 });
  receiver.answer = { status: 200 };
  await until(() => said().filter((one) => one === 'over appsrv late').length >= 2);
});

test('a restart tells nothing again', async () => {
  const before = said();
  const seen = told().length;
  await gateway.stop();
  const { port, configFile, knownHosts } = gateway;
  const now = parse(readFileSync(configFile, 'utf8')) as Record<string, unknown>;
  gateway = await startGateway(directory, { ...config, listen: `127.0.0.1:${port}`, hostKeys: now['hostKeys'] });
  writeFileSync(gateway.knownHosts, readFileSync(knownHosts));
  gateway = { ...gateway, port };
  expectEvery('1s');
  await until(() => said().length > before.length);
  expect(said()).toEqual([...before, 'new appsrv late']);
  expect(told()).toHaveLength(seen + 1);
  const ids = told().map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
});
