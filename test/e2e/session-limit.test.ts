/** `maxSessions` over all processes of a machine: forced commands, each a process, and `serve` beside them. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { readLiveSessions } from '../../src/state/live-sessions.ts';
import { startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { generateKey, tempDir, type KeyFiles } from '../support/lab.ts';
import { startSshSession } from '../support/ssh-session.ts';
import { startStdio, type StdioClient } from '../support/stdio-client.ts';
import { freshStore } from '../support/stores.ts';

interface Site extends RunningGateway {
  readonly key: KeyFiles;
  readonly state: string;
  stdio(client?: string): StdioClient;
  refusals(): unknown[];
}

async function startSite(maxSessions: number, all = 100): Promise<Site> {
  const key = await generateKey();
  const directory = tempDir();
  const gateway = await startGateway(directory, {
    stores: { main: await freshStore('directory') },
    maxSessions: all,
    clients: {
      a: { keys: [key.publicLine], repository: { store: 'main' }, maxSessions },
      b: { keys: [(await generateKey()).publicLine], repository: { store: 'main', prefix: 'other' } },
    },
  });
  return {
    ...gateway,
    key,
    state: path.join(directory, 'state'),
    stdio: (client = 'a') => startStdio([client, '-c', gateway.configFile]),
    refusals: () =>
      readFileSync(gateway.auditFile, 'utf8')
        .split('\n')
        .filter((line) => line.includes('"session-refused"'))
        .map((line) => (JSON.parse(line) as Record<string, unknown>)['reason']),
  };
}

const isServed = (client: Pick<StdioClient, 'request'>, over: Promise<unknown>): Promise<boolean> =>
  Promise.race([
    client.request('GET', '/locks/').then(
      ({ status }) => status === 200,
      () => false,
    ),
    over.then(() => false),
  ]);

test('forced commands and serve count together, and a place comes free however its process ends', async () => {
  const site = await startSite(2);
  const ssh = startSshSession({ port: site.port, knownHosts: site.knownHosts, key: site.key });
  expect(await isServed(ssh, ssh.ended)).toBe(true);
  const first = site.stdio();
  expect(await isServed(first, first.exited)).toBe(true);
  expect((await readLiveSessions(site.state)).map(({ via }) => via)).toEqual(['ssh', 'stdio']);

  expect(await site.stdio().exited).toEqual({
    status: 1,
    stderr: 'restic-gateway: client a has 2 sessions open already, the most it may; wait for one to end.\n',
  });
  const refused = startSshSession({ port: site.port, knownHosts: site.knownHosts, key: site.key });
  expect((await refused.ended).stderr).toContain('client a has 2 sessions open already');
  expect(site.refusals()).toEqual(['max-sessions', 'max-sessions']);

  first.end();
  expect(await first.exited).toMatchObject({ status: 0 });
  const second = site.stdio();
  expect(await isServed(second, second.exited)).toBe(true);
  const pid = (await readLiveSessions(site.state)).at(-1)?.pid ?? 0;
  process.kill(pid, 'SIGKILL');
  await second.exited;
  const third = site.stdio();
  expect(await isServed(third, third.exited)).toBe(true);

  third.end();
  await third.exited;
  ssh.close();
  await ssh.ended;
  while ((await readLiveSessions(site.state)).length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
});

test('of forced commands that come at once exactly as many are served as may', async () => {
  const site = await startSite(2);
  const all = Array.from({ length: 5 }, () => site.stdio());
  const served = await Promise.all(all.map((client) => isServed(client, client.exited)));
  expect(served.filter(Boolean)).toHaveLength(2);
  expect(site.refusals()).toEqual(Array(3).fill('max-sessions'));
  for (const client of all) client.end();
  await Promise.all(all.map(({ exited }) => exited));
});

test('all clients together have no more sessions than the machine may, whichever way in they take', async () => {
  const site = await startSite(2, 2);
  const ssh = startSshSession({ port: site.port, knownHosts: site.knownHosts, key: site.key });
  expect(await isServed(ssh, ssh.ended)).toBe(true);
  const other = site.stdio('b');
  expect(await isServed(other, other.exited)).toBe(true);
  const line = 'restic-gateway: the gateway has 2 sessions open already, the most it may; try again in a while.';
  expect(await site.stdio('b').exited).toEqual({ status: 1, stderr: `${line}\n` });
  const refused = startSshSession({ port: site.port, knownHosts: site.knownHosts, key: site.key });
  expect((await refused.ended).stderr).toContain(line);
  expect(site.refusals()).toEqual(['max-sessions-of-all', 'max-sessions-of-all']);
  other.end();
  await other.exited;
  const again = startSshSession({ port: site.port, knownHosts: site.knownHosts, key: site.key });
  expect(await isServed(again, again.ended)).toBe(true);
  for (const each of [ssh, again]) {
    each.close();
    await each.ended;
  }
});

test('who cannot be counted is not let in, and the audit says why', async () => {
  const site = await startSite(2);
  rmSync(site.state, { recursive: true, force: true });
  writeFileSync(site.state, 'in the way');
  expect(await site.stdio().exited).toEqual({
    status: 1,
    stderr: 'restic-gateway: the gateway cannot count its sessions; its admin finds why in the audit.\n',
  });
  expect(site.refusals()).toEqual(['state-unavailable']);
  rmSync(site.state);
  mkdirSync(site.state);
  const client = site.stdio();
  expect(await isServed(client, client.exited)).toBe(true);
  client.end();
  expect(await client.exited).toMatchObject({ status: 0 });
});
