/** The status of the clients, as metrics: from the audit of all processes and ways in, those of forced commands included. */
import type { ClientStatus, ClientState } from '../monitor/client-status.ts';
import type { Labels, TextWriter } from './text-format.ts';

const STATES: readonly ClientState[] = ['ok', 'late', 'attention', 'never', 'disabled'];
const WAYS_IN = ['ssh', 'stdio', 'admin'] as const;
/** From here on a quota is worth a series of its own, where only those who need a look have one; the alert rule is above it. */
const QUOTA_SHARE = 0.8;

/** Takes one sample of the metric that is being written. */
type Put = (labels: Labels, value: number) => void;

/** A metric that each client has samples of. */
interface ClientMetric {
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter';
  readonly of: (one: ClientStatus, put: Put) => void;
}

const gauge = (name: string, help: string, of: ClientMetric['of']): ClientMetric => ({ name, help, type: 'gauge', of });
const counter = (name: string, help: string, of: ClientMetric['of']): ClientMetric => ({
  ...gauge(name, help, of),
  type: 'counter',
});
/** Of a value that not every client has. */
const single =
  (value: (one: ClientStatus) => number | Date | undefined): ClientMetric['of'] =>
  (one, put) => {
    const known = value(one);
    if (known !== undefined) put({ client: one.client }, known instanceof Date ? known.getTime() / 1000 : known);
  };
const removed =
  (figure: 'snapshots' | 'objects' | 'bytes'): ClientMetric['of'] =>
  ({ client, removedLately: { byClient, byAdmin } }, put) => {
    put({ client, by: 'client' }, byClient[figure]);
    put({ client, by: 'admin' }, byAdmin[figure]);
  };

const METRICS: readonly ClientMetric[] = [
  gauge('state', '1 for the state that the client is in, else 0', ({ client, state }, put) => {
    for (const each of STATES) put({ client, state: each }, state === each ? 1 : 0);
  }),
  gauge('sessions', 'Open sessions by way in, forced commands included', ({ client, running }, put) => {
    for (const via of WAYS_IN) put({ client, via }, running.filter((session) => session.via === via).length);
  }),
  gauge(
    'last_snapshot_timestamp_seconds',
    'When the last snapshot arrived',
    single(({ lastSnapshot }) => lastSnapshot?.at),
  ),
  gauge(
    'late_timestamp_seconds',
    'When the client counts as late',
    single(({ lateAt }) => lateAt),
  ),
  counter(
    'snapshots_total',
    'Snapshots that have arrived since the audit log began',
    single(({ snapshots }) => snapshots),
  ),
  counter(
    'added_bytes_total',
    'Bytes of the objects added since the audit log began',
    single(({ arrived }) => arrived),
  ),
  gauge('repository_bytes', 'Size of the repository', ({ client, size }, put) => {
    if (size !== undefined) put({ client, by: size.by }, size.bytes);
  }),
  gauge(
    'quota_limit_bytes',
    'The most that the repository may hold',
    single(({ quota }) => quota?.limit),
  ),
  gauge(
    'quota_used_bytes',
    'How much of the quota is used',
    single(({ quota }) => quota?.used),
  ),
  gauge('denials_week', 'Requests and sessions refused in the last seven days', ({ client, denials }, put) => {
    for (const [reason, count] of Object.entries(denials.byReason)) put({ client, reason }, count);
  }),
  gauge('anomalies', 'Open anomalies', ({ client, anomalies }, put) => {
    const counts = new Map<string, number>();
    for (const { rule, note } of anomalies) if (note !== true) counts.set(rule, (counts.get(rule) ?? 0) + 1);
    for (const [rule, count] of counts) put({ client, rule }, count);
  }),
  gauge('removed_snapshots_week', 'Snapshots removed in the last seven days', removed('snapshots')),
  gauge('removed_objects_week', 'Objects removed in the last seven days', removed('objects')),
  gauge('removed_bytes_week', 'Bytes removed in the last seven days', removed('bytes')),
  gauge(
    'trash_objects',
    'Objects that the trash of the repository held',
    single(({ trash }) => trash?.objects),
  ),
  gauge(
    'trash_bytes',
    'Bytes that the trash of the repository held',
    single(({ trash }) => trash?.bytes),
  ),
  gauge(
    'trash_purge_timestamp_seconds',
    'From when on the oldest in the trash is purged',
    single(({ trash }) => trash?.purgeAt),
  ),
  gauge(
    'trash_held',
    'Whether open anomalies hold back the purge of its removals',
    single(({ purgeHeld }) => (purgeHeld ? 1 : 0)),
  ),
  gauge(
    'scrub_timestamp_seconds',
    'When the last complete scrub ended',
    single(({ scrub }) => scrub?.finished),
  ),
  gauge(
    'scrub_findings',
    'How many problems the last complete scrub found',
    single(({ scrub }) => scrub?.findings),
  ),
  gauge(
    'retention_extended_timestamp_seconds',
    'When retention was last looked at',
    single(({ extended }) => extended?.at),
  ),
  gauge(
    'retention_extend_failed',
    'Whether or how many objects were not renewed',
    single(({ extended }) => extended && (extended.complete ? extended.failed : 1)),
  ),
];

/**
 * @param statuses - undefined while they are not known
 * @param everyClient - whether each client has series of its own; else those alone who need a look
 */
export async function writeStatusMetrics(
  writer: TextWriter,
  statuses: readonly ClientStatus[] | undefined,
  everyClient: boolean,
): Promise<void> {
  const name = 'restic_gateway_audit_read';
  writer.family(name, 'Whether the status of clients could be read from the audit log', 'gauge');
  writer.sample(name, {}, statuses === undefined ? 0 : 1);
  const counts = 'restic_gateway_clients';
  writer.family(counts, 'Clients by state', 'gauge');
  if (statuses !== undefined)
    for (const state of STATES) {
      writer.sample(counts, { state }, statuses.filter((one) => one.state === state).length);
    }
  const shown = everyClient ? statuses : statuses?.filter(needsSeries);
  for (const { name: short, help, type, of } of METRICS) {
    const metric = `restic_gateway_client_${short}`;
    writer.family(metric, help, type);
    const put: Put = (labels, value) => {
      writer.sample(metric, labels, value);
    };
    for (const one of shown ?? []) {
      of(one, put);
      if (writer.isLong()) await writer.rest();
    }
  }
}

/** Whether an alert may be about it. */
function needsSeries({ state, quota }: ClientStatus): boolean {
  if (state !== 'ok' && state !== 'disabled') return true;
  return quota?.used !== undefined && quota.used >= QUOTA_SHARE * quota.limit;
}
