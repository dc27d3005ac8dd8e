/** The figures of several processes as one: what goes from worker to primary, and how it adds up. */
import { AggregatorRegistry } from 'prom-client';
import { getOrMake } from '../core/get-or-make.ts';
import { sampleName, type Labels, type TextWriter } from './text-format.ts';

/** After how many samples others have their turn: some ms. */
const REST_EACH = 2000;

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

/** A sample that is a sum. */
interface Sample {
  readonly name: string;
  readonly labels: Labels;
  value: number;
}

/** A metric as it is added up over processes: its samples by the name and labels that they are known by. */
interface Sum {
  readonly help: string;
  readonly type: string;
  readonly samples: Map<string, Sample>;
}

/**
 * Writes the sums of what processes have counted.
 * @param all - of all processes, the ended ones included; each sample is a sum
 * @param everyClient - whether each client has series of its own; else they add up to one
 * @param knownClient - whether a client is in the config; figures of others are left out
 */
export async function writeCounted(
  writer: TextWriter,
  all: readonly Figures['counted'][],
  everyClient: boolean,
  knownClient: (name: string) => boolean,
): Promise<void> {
  const sums = new Map<string, Sum>();
  let count = 0;
  for (const { name, help, type, values } of all.flat()) {
    const { samples } = getOrMake(sums, name, (): Sum => ({
      help,
      type: String(type),
      samples: new Map<string, Sample>(),
    }));
    for (const { labels, value, metricName = name } of values) {
      if (++count % REST_EACH === 0) await writer.rest();
      const { client, ...rest } = labels;
      if (client !== undefined && !knownClient(String(client))) continue;
      const kept = client === undefined || everyClient ? labels : rest;
      const found = getOrMake(samples, sampleName(metricName, sorted(kept)), (): Sample => ({
        ...{ name: metricName, labels: kept, value: 0 },
      }));
      found.value += value;
    }
  }
  for (const [name, { help, type, samples }] of sums) {
    writer.family(name, help, type);
    for (const one of samples.values()) {
      writer.sample(one.name, one.labels, one.value);
      if (writer.isLong()) await writer.rest();
    }
  }
}

/** Two processes may have begun with another label. */
function sorted(labels: Labels): Labels {
  const names = Object.keys(labels);
  if (names.length < 2) return labels;
  return Object.fromEntries(names.sort().map((name) => [name, labels[name] ?? '']));
}

/**
 * What processes take of the machine, in Prometheus' text format.
 * @param own - by the name of the process
 */
export function formatOwn(own: ReadonlyMap<string, Figures['own']>): Promise<string> {
  const labelled = [...own].map(([process, metrics]) =>
    metrics.map((metric) => ({
      ...metric,
      // Each is exported by itself, so that none is a mean of several or left out.
      aggregator: 'sum',
      values: metric.values.map((value) => ({ ...value, labels: { process, ...value.labels } })),
    })),
  );
  return AggregatorRegistry.aggregate(labelled).metrics();
}
