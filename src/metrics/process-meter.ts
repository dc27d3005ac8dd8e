/** What one process counts, by prom-client. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { ErrorCode } from '../core/errors.ts';
import type { Memory } from '../ports/memory.ts';
import type { Meter, StoreOperation } from '../ports/meter.ts';
import type { Figures } from './figures.ts';

/** A meter that can be read. */
export interface ProcessMeter extends Meter {
  figures(): Promise<Figures>;
}

/** From a directory on a fast disk to an S3 that is out of breath. */
const STORE_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

const STORE_OPERATIONS: readonly StoreOperation[] = ['create', 'load', 'stat', 'remove', 'list'];
const STORE_FAILURES: readonly ErrorCode[] = [
  'store-failed',
  'store-unavailable',
  'store-misconfigured',
  'store-timeout',
  'store-full',
  'store-unsafe',
];

/**
 * Begins to count, and to watch what this process takes.
 * @param config - the names of its clients and stores: theirs begin at 0, so that a first increase is seen as one
 * @param memory - what this process holds for its clients; asked at each scrape
 */
export function createProcessMeter(
  config: { readonly clients: readonly string[]; readonly stores: readonly string[] },
  memory: () => Pick<Memory, 'used' | 'total'>,
): ProcessMeter {
  const counted = new Registry();
  const own = new Registry();
  collectDefaultMetrics({ register: own });
  const gauge = (name: string, help: string): Gauge =>
    new Gauge({ name: `restic_gateway_${name}`, help, registers: [own] });
  const buffered = gauge('buffered_bytes', 'Memory in use for bytes on their way between clients and stores');
  const limit = gauge('buffered_limit_bytes', 'The most memory for bytes on their way between clients and stores');
  const counter = <const L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> =>
    new Counter({ name: `restic_gateway_${name}`, help, labelNames, registers: [counted] });

  const ended = counter('sessions_total', 'Sessions over SSH that have ended, by how they ended', ['client', 'reason']);
  const refusals = counter('sessions_refused_total', 'Sessions over SSH that were refused', ['client', 'reason']);
  const received = counter('received_bytes_total', 'Content bytes that came from the client', ['client']);
  const sent = counter('sent_bytes_total', 'Content bytes that were sent to the client', ['client']);
  const operations = counter('operations_total', 'Requests that have been answered', ['client', 'operation', 'result']);
  const denials = counter('denials_total', 'Refused requests, by the reason in the audit log', ['client', 'reason']);
  const storeErrors = counter('store_errors_total', 'Calls to a store that failed', ['store', 'operation', 'code']);
  const storeSeconds = new Histogram({
    name: 'restic_gateway_store_duration_seconds',
    help: 'How long a store takes to answer a call',
    labelNames: ['store', 'operation'],
    buckets: STORE_SECONDS,
    registers: [counted],
  });

  for (const client of config.clients) for (const moved of [received, sent]) moved.inc({ client }, 0);
  for (const store of config.stores)
    for (const operation of STORE_OPERATIONS)
      for (const code of STORE_FAILURES) storeErrors.inc({ store, operation, code }, 0);

  /** Sessions under way, with what has been added of each already. */
  const moving = new Set<() => void>();

  return {
    session: (client) => {
      let add = (): void => undefined;
      return {
        begin: (counts) => {
          let [bytesIn, bytesOut] = [0, 0];
          add = () => {
            received.inc({ client }, counts.bytesIn - bytesIn);
            sent.inc({ client }, counts.bytesOut - bytesOut);
            ({ bytesIn, bytesOut } = counts);
          };
          moving.add(add);
        },
        operation: (operation, result) => {
          operations.inc({ client, operation, result });
        },
        denied: (reason) => {
          denials.inc({ client, reason });
        },
        end: (reason) => {
          add();
          moving.delete(add);
          ended.inc({ client, reason });
        },
      };
    },
    refused: (client, reason) => {
      refusals.inc({ client, reason });
    },
    store: (store) => ({
      answered: (operation, seconds) => {
        storeSeconds.observe({ store, operation }, seconds);
      },
      failed: (operation, code) => {
        storeErrors.inc({ store, operation, code });
      },
    }),
    figures: async () => {
      for (const add of moving) add();
      const { used, total } = memory();
      buffered.set(used);
      limit.set(total);
      const [all, process] = await Promise.all([counted.getMetricsAsJSON(), own.getMetricsAsJSON()]);
      return { counted: all, own: process } as unknown as Figures;
    },
  };
}
