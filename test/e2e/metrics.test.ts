/** `/metrics`, `/healthz` and `/readyz` of a gateway that serves real restic: what they say is what the audit says, whoever dies. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
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
  type KeyFiles,
} from '../support/lab.ts';
import { parseMetrics, type Sample } from '../support/metrics.ts';
import { startSshSession, type SshSession } from '../support/ssh-session.ts';
import type { AuditLine } from '../support/stack.ts';
import { startStdio } from '../support/stdio-client.ts';
import { withTmpfs } from '../support/mounts.ts';
import { freshStore, secretFile } from '../support/stores.ts';

const TOKEN = 'c0rrect-horse-battery';

interface Site extends RunningGateway {
  readonly key: KeyFiles;
  get(path: string): Promise<{ status: number; body: string }>;
  scrape(): Promise<readonly Sample[]>;
  audit(): AuditLine[];
  session(): SshSession;
}

async function startSite(workers: number, more: Readonly<Record<string, unknown>> = {}): Promise<Site> {
  const port = await freePort();
  const key = await generateKey();
  const gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore('directory') },
    clients: {
      appsrv: { keys: [key.publicLine], repository: { store: 'main' }, quota: '1GB' },
      dbsrv: { keys: [(await generateKey()).publicLine], repository: { store: 'main' } },
    },
    metrics: { listen: `0.0.0.0:${port}`, tokenFile: secretFile(TOKEN) },
    workers,
    drainSeconds: 600,
    ...more,
  });
  const get = async (url: string): Promise<{ status: number; body: string }> => {
    const answer = await fetch(`http://127.0.0.1:${port}${url}`, { headers: { authorization: `Bearer ${TOKEN}` } });
    return { status: answer.status, body: await answer.text() };
  };
  return {
    ...gateway,
    key,
    get,
    scrape: async () => {
      const { status, body } = await get('/metrics');
      expect(status).toBe(200);
      return parseMetrics(body);
    },
    audit: () =>
      readFileSync(gateway.auditFile, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as AuditLine),
    session: () => startSshSession({ port: gateway.port, knownHosts: gateway.knownHosts, key }),
  };
}

/** The sum of all values of a metric that have these labels. */
function sum(samples: readonly Sample[], name: string, labels: Readonly<Record<string, string>> = {}): number {
  return samples
    .filter((one) => one.name === `restic_gateway_${name}`)
    .filter((one) => Object.entries(labels).every(([label, value]) => one.labels[label] === value))
    .reduce((total, { value }) => total + value, 0);
}

const until = async (done: () => Promise<boolean>): Promise<void> => {
  while (!(await done())) await new Promise((resolve) => setTimeout(resolve, 50));
};

describe.each([1, 2])('with %i processes that serve', (workers) => {
  let site: Site;
  beforeAll(async () => {
    site = await startSite(workers);
  });
  afterAll(async () => {
    await site.stop();
  });

  test('the figures are those of the audit', async () => {
    const tree = path.join(tempDir(), 'tree');
    await makeTree(tree, { files: 10, bytes: 1_000_000, seed: 'metrics' });
    const options = {
      'rclone.program': [lab().ssh, ...sshClientArgs({ ...site })].join(' '),
    };
    for (const args of [['init'], ['backup', tree], ['check', '--read-data']]) {
      const { code, stderr } = await restic(
        lab().resticNewest,
        { repo: 'rclone:appsrv', options, password: 'secret', timeoutMs: 120_000 },
        args,
      );
      expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    }
    const [snapshot] = site
      .audit()
      .flatMap(({ event, object }) =>
        event === 'create' && String(object).startsWith('snapshots/') ? [String(object)] : [],
      );
    // What it may not, by the forced command too, which is a process of its own.
    const session = site.session();
    expect((await session.request('DELETE', `/${snapshot ?? ''}`)).status).toBe(403);
    expect((await session.request('GET', `/data/${'0'.repeat(64)}`)).status).toBe(404);
    expect((await session.request('PUT', '/nonsense')).status).toBe(400);
    const forced = startStdio(['dbsrv', '-c', site.configFile]);
    expect((await forced.request('DELETE', `/${snapshot ?? ''}`)).status).toBe(403);

    let samples = await site.scrape();
    expect(sum(samples, 'client_sessions', { client: 'appsrv', via: 'ssh' })).toBe(1);
    expect(sum(samples, 'client_sessions', { client: 'dbsrv', via: 'stdio' })).toBe(1);
    // Of a session that runs, too.
    expect(sum(samples, 'denials_total', { client: 'appsrv', reason: 'append-only' })).toBe(1);
    forced.end();
    await forced.exited;
    session.close();
    await until(async () => sum((samples = await site.scrape()), 'sessions_total', { reason: 'client-ended' }) === 4);

    const audit = site.audit();
    const ends = audit.filter(({ event, client }) => event === 'session-end' && client === 'appsrv');
    const total = (field: string): number => ends.reduce((all, line) => all + Number(line[field]), 0);
    expect(ends).toHaveLength(4);
    expect(sum(samples, 'received_bytes_total', { client: 'appsrv' })).toBe(total('bytesIn'));
    expect(sum(samples, 'sent_bytes_total', { client: 'appsrv' })).toBe(total('bytesOut'));
    expect(total('bytesIn')).toBeGreaterThan(1_000_000);
    expect(sum(samples, 'denials_total', { client: 'appsrv' })).toBe(total('denied'));
    const creates = audit.filter(({ event, client }) => event === 'create' && client === 'appsrv');
    const operation = (kind: string, result: string): number =>
      sum(samples, 'operations_total', { client: 'appsrv', operation: kind, result });
    expect(operation('save', 'ok')).toBe(creates.length);
    expect(operation('remove', 'denied')).toBe(1);
    expect(operation('load', 'absent')).toBeGreaterThan(0);
    expect(operation('request', 'denied')).toBe(1);
    expect(sum(samples, 'store_duration_seconds_count', { store: 'main', operation: 'create' })).toBe(creates.length);
    expect(sum(samples, 'store_errors_total')).toBe(0);

    // Of the forced command nothing is counted here, but the audit tells of it.
    expect(sum(samples, 'operations_total', { client: 'dbsrv' })).toBe(0);
    expect(sum(samples, 'client_denials_week', { client: 'dbsrv' })).toBe(1);
    expect(sum(samples, 'client_anomalies', { client: 'dbsrv', rule: 'denied-delete' })).toBe(1);
    expect(sum(samples, 'client_snapshots_total', { client: 'appsrv' })).toBe(1);
    const arrived = audit.find(({ event, object }) => event === 'create' && object === snapshot)?.['time'];
    expect(sum(samples, 'client_last_snapshot_timestamp_seconds', { client: 'appsrv' })).toBe(
      Date.parse(String(arrived)) / 1000,
    );
    expect(sum(samples, 'client_quota_limit_bytes', { client: 'appsrv' })).toBe(1e9);
    expect(sum(samples, 'client_quota_used_bytes', { client: 'appsrv' })).toBeGreaterThan(1_000_000);
    expect(sum(samples, 'client_state', { client: 'appsrv', state: 'attention' })).toBe(1);
    expect(sum(samples, 'client_state', { client: 'appsrv' })).toBe(1);
    expect(sum(samples, 'serving_processes')).toBe(workers);
    expect([sum(samples, 'ready'), sum(samples, 'audit_read')]).toEqual([1, 1]);
    const processes = samples.filter(({ name }) => name === 'process_resident_memory_bytes');
    expect(processes.map(({ labels }) => labels['process']).sort()).toEqual(
      workers === 1 ? ['main'] : ['main', 'worker-1', 'worker-2'],
    );
    expect(samples.filter(({ name }) => name === 'nodejs_eventloop_lag_p99_seconds')).toHaveLength(processes.length);
  });
});

test('a worker that dies takes nothing away that was told', async () => {
  const site = await startSite(2);
  const sessions = [site.session(), site.session()];
  for (const session of sessions) expect((await session.request('GET', '/locks/')).status).toBe(200);
  const listed = async (): Promise<number> =>
    sum(await site.scrape(), 'operations_total', { operation: 'list', result: 'ok' });
  expect(await listed()).toBe(2);
  const [victim = 0] = readFileSync(`/proc/${site.process.pid}/task/${site.process.pid}/children`, 'utf8')
    .split(' ')
    .map(Number);
  process.kill(victim, 'SIGKILL');
  await site.process.waitForLine(/worker \d+ died/);
  expect(await listed()).toBe(2);
  await site.process.waitForLine(/worker \d+ serves/);
  const again = site.session();
  expect((await again.request('GET', '/locks/')).status).toBe(200);
  expect(await listed()).toBe(3);
  const names = (await site.scrape()).filter(({ name }) => name === 'nodejs_heap_size_used_bytes');
  expect(names.map(({ labels }) => labels['process']).sort()).toEqual(['main', 'worker-1', 'worker-2']);
  for (const session of [...sessions, again]) session.close();
  await site.stop();
});

test('who is not in the config is not in the metrics, and another token counts when the config is read again', async () => {
  const site = await startSite(1);
  const session = site.session();
  expect((await session.request('GET', '/locks/')).status).toBe(200);
  expect(sum(await site.scrape(), 'operations_total', { client: 'appsrv' })).toBeGreaterThan(0);
  const yaml = parse(readFileSync(site.configFile, 'utf8')) as {
    clients: Record<string, unknown>;
    metrics: Record<string, unknown>;
  };
  delete yaml.clients['appsrv'];
  writeFileSync(site.configFile, stringify(yaml));
  await session.ended;
  await until(async () => (await site.scrape()).every(({ labels }) => labels['client'] !== 'appsrv'));

  yaml.metrics['tokenFile'] = secretFile('another-token-from-now-on');
  writeFileSync(site.configFile, stringify(yaml));
  await until(async () => (await site.get('/metrics')).status === 401);
  // Still beyond loopback until it is started again, and so still closed.
  const port = Number(String(yaml.metrics['listen']).split(':').at(-1));
  yaml.metrics = { listen: `127.0.0.1:${port}` };
  writeFileSync(site.configFile, stringify(yaml));
  await site.process.waitForLine(/metrics\.listen: what was changed there needs a restart/);
  expect((await site.get('/metrics')).status).toBe(401);
  await site.stop();
});

test('ready is who lets sessions in and can write the audit; healthy, who answers', async () => {
  const site = await startSite(2);
  expect(await site.get('/healthz')).toEqual({ status: 200, body: 'ok\n' });
  expect(await site.get('/readyz')).toEqual({ status: 200, body: 'ready\n' });

  renameSync(site.auditFile, `${site.auditFile}.away`);
  mkdirSync(site.auditFile);
  expect(await site.get('/readyz')).toEqual({ status: 503, body: 'not ready: the audit cannot be written\n' });
  expect((await site.get('/healthz')).status).toBe(200);
  rmSync(site.auditFile, { recursive: true });
  renameSync(`${site.auditFile}.away`, site.auditFile);
  expect((await site.get('/readyz')).status).toBe(200);

  // No session could be counted where its file cannot be written.
  await withTmpfs(
    'size=8k',
    async (state) => {
      writeFileSync(path.join(state, 'full'), Buffer.alloc(8192));
      await until(async () => (await site.get('/readyz')).status === 503);
      expect((await site.get('/readyz')).body).toBe('not ready: the state directory cannot be written\n');
    },
    path.join(path.dirname(site.configFile), 'state'),
  );
  await until(async () => (await site.get('/readyz')).status === 200);

  // One in each worker.
  const sessions = [site.session(), site.session()];
  for (const session of sessions) expect((await session.request('GET', '/locks/')).status).toBe(200);
  site.process.signal('SIGTERM');
  await site.process.waitForLine(/stopping on SIGTERM/);
  expect(await site.get('/readyz')).toEqual({ status: 503, body: 'not ready: no sessions are accepted\n' });
  expect(sum(await site.scrape(), 'ready')).toBe(0);
  sessions[0]?.close();
  // Its worker ends with it, and has told all that it counted.
  let samples: readonly Sample[] = [];
  await until(async () => sum((samples = await site.scrape()), 'serving_processes') === 1);
  expect(sum(samples, 'sessions_total', { reason: 'client-ended' })).toBe(1);
  sessions[1]?.close();
  expect(await site.process.exited).toBe(0);
});

test('an address that cannot be had, and one that is open to everybody, are told at the start', async () => {
  const site = await startSite(1);
  const yaml = parse(readFileSync(site.configFile, 'utf8')) as Record<string, Record<string, unknown>>;
  const file = path.join(path.dirname(site.configFile), 'second.yaml');
  const serve = async (config: unknown, command = 'serve') => {
    writeFileSync(file, stringify(config));
    return run(process.execPath, [GATEWAY, command, '-c', file], { timeoutMs: 180_000 });
  };
  for (const workers of [1, 2]) {
    const taken = await serve({ ...yaml, workers, listen: `127.0.0.1:${await freePort()}` });
    expect(taken).toMatchObject({ code: 2 });
    expect(taken.stderr).toMatch(/metrics\.listen: 0\.0\.0\.0:\d+: the port is in use by another program/);
    expect(taken.stderr).not.toMatch(/\n\s+at /);
  }
  const open = await serve({ ...yaml, metrics: { listen: '0.0.0.0:9150' } }, 'check');
  expect(open).toMatchObject({ code: 2 });
  expect(open.stderr).toMatch(/metrics\.listen: others than this machine can reach that address: add tokenFile/);
  await site.stop();
});
