/** `status` after real sessions through both ways in: what it says, its exit status, and what serve tells of by itself. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import type { ClientStatus } from '../../src/monitor/client-status.ts';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import {
  generateKey,
  lab,
  makeTree,
  restic,
  run,
  sshClientArgs,
  tempDir,
  type KeyFiles,
  type Outcome,
} from '../support/lab.ts';
import type { AuditLine } from '../support/stack.ts';
import { startStdio } from '../support/stdio-client.ts';
import { until } from '../support/store-calls.ts';
import { freshStore } from '../support/stores.ts';

let directory: string;
let config: Readonly<Record<string, unknown>>;
let gateway: RunningGateway;
let key: KeyFiles;
let tree: string;

beforeAll(async () => {
  directory = tempDir();
  key = await generateKey();
  config = {
    stores: { main: await freshStore('directory') },
    clients: {
      appsrv: { keys: [key.publicLine], repository: { store: 'main' }, expectEvery: '26h', quota: '1GB' },
      dbsrv: { keys: [(await generateKey()).publicLine], repository: { store: 'main' } },
    },
  };
  gateway = await startGateway(directory, config);
  tree = path.join(directory, 'tree');
  await makeTree(tree, { files: 20, bytes: 3_000_000, seed: 'status' });
});

afterAll(async () => {
  await gateway.stop();
});

const status = (...args: string[]): Promise<Outcome> =>
  run(process.execPath, [GATEWAY, 'status', '-c', gateway.configFile, ...args], { timeoutMs: 180_000 });
const statuses = async (...args: string[]): Promise<[number | null, ClientStatus[]]> => {
  const { code, stdout } = await status('--json', ...args);
  const lines = stdout.split('\n').filter((line) => line !== '');
  return [code, lines.map((line) => JSON.parse(line) as ClientStatus)];
};
const audit = (): AuditLine[] =>
  readFileSync(gateway.auditFile, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditLine);

/** Runs restic, as appsrv through serve or as dbsrv by the forced command. */
async function as(client: 'appsrv' | 'dbsrv', ...args: string[]): Promise<void> {
  const { port, knownHosts, configFile } = gateway;
  const options =
    client === 'appsrv'
      ? { 'rclone.program': [lab().ssh, ...sshClientArgs({ port, key, knownHosts })].join(' ') }
      : { 'rclone.program': `${process.execPath} ${GATEWAY}`, 'rclone.args': `stdio -c ${configFile}` };
  const { code, stderr } = await restic(
    lab().resticNewest,
    { repo: `rclone:${client}`, options, password: 'secret', timeoutMs: 120_000 },
    args,
  );
  expect({ client, args, code, stderr: code === 0 ? '' : stderr }).toEqual({ client, args, code: 0, stderr: '' });
}

test('shows what sessions through both ways in have done', async () => {
  expect((await status()).stdout).toMatch(/2 clients: 2 never\n$/);
  for (const client of ['appsrv', 'dbsrv'] as const) {
    await as(client, 'init');
    await as(client, 'backup', tree);
  }
  await as('appsrv', 'backup', tree);
  // restic ends before the gateway has written the ends of its sessions.
  await until(() => audit().filter(({ event }) => event === 'session-end').length === 5);

  const [code, [appsrv, dbsrv]] = await statuses();
  expect(code).toBe(0);
  const ends = audit().filter(({ event, client }) => event === 'session-end' && client === 'appsrv');
  expect(appsrv).toMatchObject({
    ...{
      client: 'appsrv',
      state: 'ok',
      reasons: [],
      access: 'append-only',
      snapshots: 2,
      expectEveryMs: 26 * 3_600_000,
    },
    lastSnapshot: { session: ends.at(-1)?.['session'] },
    size: { by: 'counted' },
    quota: { limit: 1_000_000_000, used: appsrv?.size?.bytes },
    running: [],
    denials: { total: 0, byReason: {} },
    anomalies: [],
    addresses: [{ address: '127.0.0.1' }],
  });
  expect(appsrv?.latest.map(({ via, snapshots, outcome }) => [via, snapshots, outcome])).toEqual([
    ['ssh', 1, 'client-ended'],
    ['ssh', 1, 'client-ended'],
    ['ssh', 0, 'client-ended'],
  ]);
  expect(dbsrv).toMatchObject({
    client: 'dbsrv',
    state: 'ok',
    snapshots: 1,
    size: { by: 'estimated' },
    addresses: [],
  });
  expect(dbsrv?.latest.map(({ via }) => via)).toEqual(['stdio', 'stdio']);
  // The estimate is what the store holds, where nothing was removed; the two repositories hold the same tree.
  const [counted, estimated] = [appsrv?.size?.bytes ?? 0, dbsrv?.size?.bytes ?? 0];
  expect(Math.abs(counted - estimated) / counted).toBeLessThan(0.1);
  expect(appsrv?.days.at(-1)?.snapshots).toBe(2);

  const { stdout } = await status();
  expect(stdout).toMatch(/^CLIENT +STATE +LAST SNAPSHOT.*\nappsrv +ok +\d.*\ndbsrv +ok .*\n\n2 clients: 2 ok\n$/);
  expect(await status('--quiet')).toMatchObject({ code: 0, stdout: '', stderr: '' });
});

test('an attack shows in the audit and the log by itself, and in the status until it is acknowledged', async () => {
  const session = startStdio(['dbsrv', '-c', gateway.configFile]);
  const [snapshot] = audit().flatMap(({ client, event, object }) =>
    client === 'dbsrv' && event === 'create' && String(object).startsWith('snapshots/') ? [String(object)] : [],
  );
  expect((await session.request('DELETE', `/${snapshot ?? ''}`)).status).toBe(403);
  const [during, [, running]] = await statuses();
  expect([during, running?.state, running?.running]).toMatchObject([
    1,
    'attention',
    [{ outcome: 'running', denied: 1 }],
  ]);
  session.end();
  await session.exited;

  await gateway.process.waitForLine(/client dbsrv: Once it tried to remove backups/);
  const reported = audit().filter(({ event }) => event === 'anomaly');
  expect(reported).toMatchObject([{ client: 'dbsrv', rule: 'denied-delete' }]);
  // `status --report` finds nothing that is not told yet.
  expect(await status('--report', '--quiet')).toMatchObject({ code: 1, stderr: '' });
  expect(audit().filter(({ event }) => event === 'anomaly')).toHaveLength(1);

  const { code, stdout } = await status('dbsrv');
  expect(code).toBe(1);
  expect(stdout).toMatch(/^client +dbsrv\nstate +attention\n +Once it tried to remove backups, and was refused\.\n/);
  expect(stdout).toMatch(/Open anomalies\n.* denied-delete .*\n +Once it tried.*\n +If nobody ran forget.*recovery/);
  expect(stdout).toMatch(/Latest sessions\nSESSION .*\n.* stdio .* 1 +client-ended\n/);
  expect(stdout).not.toContain('\u001b');

  expect(await status('dbsrv', '--acknowledge', '--quiet')).toMatchObject({
    code: 0,
    stdout: '',
    stderr: 'acknowledged 1 anomaly\n',
  });
  expect((await statuses())[0]).toBe(0);
  const verified = await run(process.execPath, [GATEWAY, 'audit', 'verify', '-c', gateway.configFile]);
  expect(verified).toMatchObject({ code: 0 });
});

/** Tries to remove a snapshot, by the forced command. */
async function attack(client: string, configFile: string): Promise<void> {
  const session = startStdio([client, '-c', configFile]);
  expect((await session.request('DELETE', `/snapshots/${'ab'.repeat(32)}`)).status).toBe(403);
  session.end();
  await session.exited;
}

test('what was told is not told again by the next serve, which has workers', async () => {
  const reported = (): unknown[] => audit().flatMap(({ event, client }) => (event === 'anomaly' ? [client] : []));
  await attack('appsrv', gateway.configFile);
  await gateway.process.waitForLine(/client appsrv: Once it tried to remove backups/);
  await gateway.stop();
  gateway = await startGateway(directory, { ...config, workers: 2 });
  await attack('dbsrv', gateway.configFile);
  await gateway.process.waitForLine(/client dbsrv: Once it tried to remove backups/);
  expect(reported()).toEqual(['dbsrv', 'appsrv', 'dbsrv']);
});

test('where there is no serve, status tells when it is told to', async () => {
  const place = tempDir();
  const [configFile, auditFile] = [path.join(place, 'gateway.yaml'), path.join(place, 'audit.jsonl')];
  writeFileSync(configFile, stringify({ ...config, audit: { file: auditFile } }));
  await attack('appsrv', configFile);
  const alone = (...args: string[]): Promise<Outcome> =>
    run(process.execPath, [GATEWAY, 'status', '-c', configFile, '--quiet', ...args], { timeoutMs: 180_000 });
  const reported = (): number => readFileSync(auditFile, 'utf8').split('"event":"anomaly"').length - 1;
  expect([await alone(), reported()]).toMatchObject([{ code: 1, stderr: '' }, 0]);
  const words = /^client appsrv: Once it tried to remove backups, and was refused\. .*\n$/;
  expect([await alone('--report'), reported()]).toMatchObject([{ code: 1, stderr: expect.stringMatching(words) }, 1]);
  expect([await alone('--report'), reported()]).toMatchObject([{ code: 1, stderr: '' }, 1]);
});

test('wrong use is told, and a forced command gets nothing', async () => {
  expect(await status('nobody')).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringContaining('there is no client nobody'),
  });
  const forced = await run(process.execPath, [GATEWAY, 'status', '-c', gateway.configFile], {
    env: { SSH_ORIGINAL_COMMAND: 'x' },
  });
  expect(forced).toMatchObject({ code: 2, stdout: '' });
});
