/** The figures of several processes as one: what goes from worker to primary, and how it adds up. */
import { AggregatorRegistry } from 'prom-client';

/** One metric as prom-client gives it in JSON; goes through a channel between processes. */
interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: unknown;
  readonly aggregator: string;
  readonly values: readonly {
    readonly value: number;
    readonly labels: Readonly<Record<string, string | number>>;
    readonly metricName?: string;
  }[];
}

/** All metrics of one process. */
export interface Figures {
  /** What it has counted: it adds up over processes, those that are gone included. */
  readonly counted: readonly Metric[];
  /** What it takes of the machine; each process has its own. */
  readonly own: readonly Metric[];
}

/** The sum of what processes have counted. */
export async function addUp(all: readonly Figures['counted'][]): Promise<Figures['counted']> {
  return (await AggregatorRegistry.aggregate(all as object[]).getMetricsAsJSON()) as unknown as Figures['counted'];
}

/**
 * Prometheus' text format.
 * @param counted - of all processes, the ended ones included
 * @param own - by the name of the process
 * @param knownClient - whether a client is in the config; figures of others are left out
 */
export function formatFigures(
  counted: readonly Figures['counted'][],
  own: ReadonlyMap<string, Figures['own']>,
  knownClient: (name: string) => boolean,
): Promise<string> {
  const known = counted.map((metrics) =>
    metrics.map((metric) => ({
      ...metric,
      values: metric.values.filter(({ labels: { client } }) => client === undefined || knownClient(String(client))),
    })),
  );
  const labelled = [...own].map(([process, metrics]) =>
    metrics.map((metric) => ({
      ...metric,
      // Each is exported by itself, so that none is a mean of several or left out.
      aggregator: 'sum',
      values: metric.values.map((value) => ({ ...value, labels: { process, ...value.labels } })),
    })),
  );
  return AggregatorRegistry.aggregate([...known, ...labelled] as object[]).metrics();
}
