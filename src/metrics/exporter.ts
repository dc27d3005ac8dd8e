/** `/metrics`: the figures of this process, of its workers, and of the clients by the audit log. */
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { within } from '../core/waiting.ts';
import type { ClientStatus } from '../monitor/client-status.ts';
import type { WebAnswer } from '../ports/web.ts';
import { keptByCost } from '../core/kept-by-cost.ts';
import { formatOwn, writeCounted, type Figures } from './figures.ts';
import { writeStatusMetrics } from './status-metrics.ts';
import { openTextWriter } from './text-format.ts';

interface MetricSources {
  /** `0.1.0 (1a2b3c4d5e6f)`. */
  readonly version: string;
  /** Figures of the processes that serve by their names; `main` is this one where it serves itself. `ended`: of those that are gone. */
  readonly served: () => Promise<{
    readonly processes: ReadonlyMap<string, Figures>;
    readonly ended: Figures['counted'];
  }>;
  readonly statuses: () => Promise<readonly ClientStatus[]>;
  readonly isReady: () => Promise<boolean>;
  /** What is wrong with the gateway itself and has to be looked at, by its kind. */
  readonly problems: () => Promise<ReadonlySet<string>>;
  readonly knownClient: (name: string) => boolean;
  /** How many clients the config has. */
  readonly clientCount: () => number;
  /** With more clients than this, series of their own are for those alone who need a look; undefined: however many there are. */
  readonly mostWithSeries: () => number | undefined;
}

/** From so many clients on, who asks shortly after another one gets the same. */
const MANY_CLIENTS = 500;

/** How long a scrape waits for the audit to be read, in ms, which after a long absence may take minutes; Prometheus waits for 10 s. */
const PATIENCE_MS = 4000;

/** @returns a function that answers a scrape */
export function createExporter(sources: MetricSources): () => Promise<WebAnswer> {
  /** Of a process that only stands above those that serve. */
  let own: Registry | undefined;
  const self = new Registry();
  const [, version = sources.version, commit = ''] = /^(\S+) \((.+)\)$/.exec(sources.version) ?? [];
  new Gauge({
    name: 'restic_gateway_build_info',
    help: 'Which version this is',
    labelNames: ['version', 'commit'],
    registers: [self],
  }).set({ version, commit }, 1);
  const gauge = (name: string, help: string): Gauge =>
    new Gauge({ name: `restic_gateway_${name}`, help, registers: [self] });
  const ready = gauge('ready', 'Whether sessions are accepted and the audit log can be written, as in /readyz');
  const ofProblems = {
    'audit-copy': gauge('audit_copy_late', 'Whether the copy of the audit log in a bucket is late'),
    'audit-lost': gauge('audit_lost', 'Whether the file of the audit log was removed, replaced or cut off'),
    database: gauge('database_away', 'Whether the database that gateways share gives no answer'),
    notify: gauge('notify_failing', 'Whether a target of notifications cannot be reached'),
    config: gauge('config_rejected', 'Whether serve does not use the config file as it is now'),
  };
  const serving = gauge('serving_processes', 'Processes that serve sessions');

  const render = async (): Promise<WebAnswer> => {
    const [served, statuses, isReady, problems] = await Promise.all([
      sources.served(),
      within(PATIENCE_MS, sources.statuses()).catch(() => undefined),
      sources.isReady(),
      sources.problems(),
    ]);
    for (const [kind, one] of Object.entries(ofProblems)) one.set(problems.has(kind) ? 1 : 0);
    ready.set(isReady ? 1 : 0);
    serving.set(served.processes.size);
    const ofProcesses = new Map([...served.processes].map(([name, figures]) => [name, figures.own]));
    if (!ofProcesses.has('main')) {
      if (own === undefined) {
        own = new Registry();
        collectDefaultMetrics({ register: own });
      }
      ofProcesses.set('main', (await own.getMetricsAsJSON()) as unknown as Figures['own']);
    }
    const everyClient = sources.clientCount() <= (sources.mostWithSeries() ?? Infinity);
    const writer = openTextWriter();
    await writeStatusMetrics(writer, statuses, everyClient);
    const counted = [
      (await self.getMetricsAsJSON()) as unknown as Figures['counted'],
      served.ended,
      ...[...served.processes.values()].map((figures) => figures.counted),
    ];
    await writeCounted(writer, counted, everyClient, sources.knownClient);
    writer.add(`${(await formatOwn(ofProcesses)).trimEnd()}\n`);
    return { status: 200, headers: { 'content-type': Registry.PROMETHEUS_CONTENT_TYPE }, body: writer.end() };
  };

  /** The answer that is being made. */
  let rendering: Promise<WebAnswer> | undefined;
  const kept = keptByCost(render);
  // Whoever asks meanwhile gets the same one, so that many who ask cost the sessions no more than one.
  return () =>
    sources.clientCount() >= MANY_CLIENTS
      ? kept.get()
      : (rendering ??= render().finally(() => {
          rendering = undefined;
        }));
}
