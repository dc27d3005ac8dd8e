/**
 * What a long history costs `serve` and `status`: makes up the audit log of many clients over many days, with chained lines, and the quota
 * ledgers of some of them, and measures who reads them: `scripts/history`.
 */
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { formatLinks, hashLine } from '../../src/audit/chain.ts';
import { repositoryIdentity } from '../../src/config/repositories.ts';
import type { ClientConfig, GatewayConfig } from '../../src/config/types.ts';
import { formatLine } from '../../src/limits/ledger-lines.ts';
import { ledgerDirectory } from '../../src/limits/usage.ts';
import { createExporter } from '../../src/metrics/exporter.ts';
import { openMonitor, type Monitor } from '../../src/monitor/monitor.ts';
import { pageRoutes } from '../../src/page/page.ts';
import { DAY, HOUR, inOrder, sessionLines } from '../../test/support/audit-history.ts';
import { testClient, testGateway } from '../../test/support/test-client.ts';

const USAGE = `usage: scripts/history [--clients N] [--days N] [--ledgers N] [--ledger-kib N]

Prints for each reading its seconds, its CPU seconds, the longest stall of the event loop and the memory after it.`;

const KIB = 1024;
const silent = (): void => undefined;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      clients: { type: 'string', default: '2000' },
      days: { type: 'string', default: '10' },
      ledgers: { type: 'string', default: '100' },
      'ledger-kib': { type: 'string', default: '500' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const directory = mkdtempSync(path.join(tmpdir(), 'gateway-history-'));
  try {
    const ledgers = Number(values.ledgers);
    const config = configOf(directory, Number(values.clients), ledgers);
    mkdirSync(config.state);
    await writeAudit(config, Number(values.days));
    const { size } = statSync(config.audit.file);
    console.log(`${values.clients} clients, ${values.days} days: ${(size / 2 ** 20).toFixed(0)} MiB of audit log`);
    writeLedgers(config, ledgers, Number(values['ledger-kib']) * KIB);
    await measure(config);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function configOf(directory: string, clients: number, ledgers: number): GatewayConfig {
  const names = Array.from({ length: clients }, (_, index) => `client-${index}`);
  const quota = (index: number) => (index < ledgers ? { quota: 2 ** 40 } : {});
  return testGateway(directory, {
    clients: Object.fromEntries(names.map((name, index) => [name, testClient(name, quota(index))])),
  });
}

/** Their nights overlap, and the lines are in the order of their times. */
async function writeAudit(config: GatewayConfig, days: number): Promise<void> {
  const out = createWriteStream(config.audit.file);
  const begin = Math.floor(Date.now() / DAY) * DAY - days * DAY;
  let last: string | undefined;
  const clients = Object.keys(config.clients);
  for (let day = 0; day < days; day++) {
    const lines = clients.flatMap((client, index) => {
      const start = begin + day * DAY + Math.floor((index * 20 * HOUR) / clients.length);
      return sessionLines(start, { client, init: day === 0, packs: 5, snapshots: 1 });
    });
    for (const { time, v, ...rest } of inOrder(lines)) {
      const links = formatLinks({ prev: last === undefined ? [] : [last], prior: [], joined: false });
      const text = `{"time":${JSON.stringify(time)},"v":${JSON.stringify(v)},${links},${JSON.stringify(rest).slice(1)}`;
      last = hashLine(Buffer.from(text));
      if (!out.write(`${text}\n`)) await once(out, 'drain');
    }
  }
  out.end();
  await once(out, 'finish');
}

function writeLedgers(config: GatewayConfig, count: number, bytes: number): void {
  for (const { repository } of Object.values(config.clients).slice(0, count)) {
    const directory = ledgerDirectory(config.state, repositoryIdentity(config, repository));
    mkdirSync(directory, { recursive: true });
    const lines = [formatLine(['base', 0, Date.now() + DAY, 1])];
    for (let length = 0, token = 0; length < bytes; token++) {
      const name = `1234.567890-abcdef0123-${token}`;
      const added = [formatLine(['+', 2 ** 20, 2 ** 40, name, `data/${'ab'.repeat(32)}`]), formatLine(['.', name])];
      lines.push(...added);
      length += added.join('\n\n').length + 2;
    }
    writeFileSync(path.join(directory, '1'), `${lines.join('\n')}\n`);
  }
}

async function measure(config: GatewayConfig): Promise<void> {
  const open = (only?: ClientConfig): Monitor =>
    openMonitor({ config, log: { info: silent, warn: silent, error: silent }, watch: false, only });
  let monitor = open();
  const statuses = () => monitor.statuses();
  await timed('read all of the audit log', statuses);
  await timed('keep what it adds up to', () => monitor.close());
  const kept = path.join(config.state, 'monitor/checkpoint.json');
  console.log(`  ${(statSync(kept).size / 2 ** 20).toFixed(1)} MiB`);
  monitor = open(config.clients['client-1']);
  await timed('status of one client, from that', () => monitor.status('client-1'));
  await monitor.close();
  monitor = open();
  await timed('status of all clients, from that', statuses);
  await timed('status of all clients again', statuses);
  const scrape = createExporter({
    ...{ version: '0.1.0 (0123456789ab)', statuses },
    served: () => Promise.resolve({ processes: new Map([['main', { counted: [], own: [] }]]), ended: [] }),
    ...{ isReady: () => Promise.resolve(true), problems: () => Promise.resolve(new Set<string>()) },
    knownClient: (name) => config.clients[name] !== undefined,
    ...{ clientCount: () => Object.keys(config.clients).length, mostWithSeries: () => undefined },
  });
  const size = (body: string | Uint8Array): string =>
    `${(Buffer.byteLength(body) / KIB).toFixed(0)} KiB, gzip ${(gzipSync(body).length / KIB).toFixed(0)} KiB`;
  for (const which of ['a scrape of the metrics', 'the next scrape']) {
    const { body } = await timed(which, async () => scrape());
    console.log(`  ${size(body)}, audit read: ${/^restic_gateway_audit_read \d/m.exec(String(body))?.[0] ?? '?'}`);
  }
  const [overview] = pageRoutes({
    monitor: { statuses, status: (name: string) => monitor.status(name), reading: () => monitor.reading() },
    config: () => config,
    ...{ problems: () => Promise.resolve([]), about: { host: 'gateway', version: '0.1.0' } },
  });
  for (const query of ['', 'find=client-77', 'page=2']) {
    const answer = await timed(`the page ?${query}`, async () =>
      overview?.answer({ parts: [], query: new URLSearchParams(query) }),
    );
    console.log(`  ${answer?.status ?? 0}, ${size(answer?.body ?? '')}`);
  }
  await monitor.close();
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const [begun, cpu] = [performance.now(), process.cpuUsage()];
  try {
    return await work();
  } finally {
    // What ends with a stall is seen a turn later.
    await new Promise((resolve) => setTimeout(resolve, 5));
    delay.disable();
    const { user, system } = process.cpuUsage(cpu);
    const figures = [
      `${((performance.now() - begun) / 1000).toFixed(2)} s`,
      `CPU ${((user + system) / 1e6).toFixed(2)} s`,
      `stall ${(delay.max / 1e6).toFixed(0)} ms`,
      `${(process.memoryUsage.rss() / 2 ** 20).toFixed(0)} MiB`,
    ];
    console.log(`${what}: ${figures.join(', ')}`);
  }
}

await main();
