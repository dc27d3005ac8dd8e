/** The status of the clients, as metrics: from the audit of all processes and ways in, those of forced commands included. */
import { Counter, Gauge, Registry } from 'prom-client';
import type { ClientStatus, ClientState } from '../monitor/client-status.ts';
import type { Figures } from './figures.ts';

const STATES: readonly ClientState[] = ['ok', 'late', 'attention', 'never', 'disabled'];

/** @param statuses - undefined while they are not known */
export async function statusMetrics(statuses: readonly ClientStatus[] | undefined): Promise<Figures['counted']> {
  const registry = new Registry();
  const gauge = <const L extends string>(name: string, help: string, labelNames: readonly L[]): Gauge<L> =>
    new Gauge({ name: `restic_gateway_${name}`, help, labelNames, registers: [registry] });
  const counter = (name: string, help: string): Counter<'client'> =>
    new Counter({ name: `restic_gateway_${name}`, help, labelNames: ['client'], registers: [registry] });

  gauge('audit_read', 'Whether the status of clients could be read from the audit log', []).set(
    statuses === undefined ? 0 : 1,
  );
  const state = gauge('client_state', '1 for the state that the client is in, else 0', ['client', 'state']);
  const sessions = gauge('client_sessions', 'Open sessions by way in, forced commands included', ['client', 'via']);
  const snapshot = gauge('client_last_snapshot_timestamp_seconds', 'When the last snapshot arrived', ['client']);
  const late = gauge('client_late_timestamp_seconds', 'When the client counts as late', ['client']);
  const snapshots = counter('client_snapshots_total', 'Snapshots that have arrived since the audit log began');
  const added = counter('client_added_bytes_total', 'Bytes of the objects added since the audit log began');
  const size = gauge('client_repository_bytes', 'Size of the repository', ['client', 'by']);
  const quota = gauge('client_quota_limit_bytes', 'The most that the repository may hold', ['client']);
  const used = gauge('client_quota_used_bytes', 'How much of the quota is used', ['client']);
  const denials = gauge('client_denials_week', 'Requests and sessions refused in the last seven days', [
    'client',
    'reason',
  ]);
  const anomalies = gauge('client_anomalies', 'Open anomalies', ['client', 'rule']);
  const removed = {
    snapshots: gauge('client_removed_snapshots_week', 'Snapshots removed in the last seven days', ['client', 'by']),
    objects: gauge('client_removed_objects_week', 'Objects removed in the last seven days', ['client', 'by']),
    bytes: gauge('client_removed_bytes_week', 'Bytes removed in the last seven days', ['client', 'by']),
  };
  const trash = {
    objects: gauge('client_trash_objects', 'Objects that the trash of the repository held', ['client']),
    bytes: gauge('client_trash_bytes', 'Bytes that the trash of the repository held', ['client']),
  };
  const purge = gauge('client_trash_purge_timestamp_seconds', 'From when on the oldest in the trash is purged', [
    'client',
  ]);
  const held = gauge('client_trash_held', 'Whether open anomalies hold back the purge of its removals', ['client']);
  const scrub = gauge('client_scrub_timestamp_seconds', 'When the last complete scrub ended', ['client']);
  const findings = gauge('client_scrub_findings', 'How many problems the last complete scrub found', ['client']);

  const extended = gauge('client_retention_extended_timestamp_seconds', 'When retention was last looked at', [
    'client',
  ]);
  const unextended = gauge('client_retention_extend_failed', 'Whether or how many objects were not renewed', [
    'client',
  ]);

  for (const one of statuses ?? []) {
    const { client } = one;
    for (const each of STATES) state.set({ client, state: each }, one.state === each ? 1 : 0);
    for (const via of ['ssh', 'stdio', 'admin'])
      sessions.set({ client, via }, one.running.filter((session) => session.via === via).length);
    if (one.lastSnapshot !== undefined) snapshot.set({ client }, seconds(one.lastSnapshot.at));
    if (one.lateAt !== undefined) late.set({ client }, seconds(one.lateAt));
    snapshots.inc({ client }, one.snapshots);
    added.inc({ client }, one.arrived);
    if (one.size !== undefined) size.set({ client, by: one.size.by }, one.size.bytes);
    if (one.quota !== undefined) quota.set({ client }, one.quota.limit);
    if (one.quota?.used !== undefined) used.set({ client }, one.quota.used);
    for (const [reason, count] of Object.entries(one.denials.byReason)) denials.set({ client, reason }, count);
    for (const { rule, note } of one.anomalies) if (note !== true) anomalies.inc({ client, rule });
    for (const figure of ['snapshots', 'objects', 'bytes'] as const) {
      removed[figure].set({ client, by: 'client' }, one.removedLately.byClient[figure]);
      removed[figure].set({ client, by: 'admin' }, one.removedLately.byAdmin[figure]);
    }
    held.set({ client }, one.purgeHeld ? 1 : 0);
    if (one.trash !== undefined) {
      trash.objects.set({ client }, one.trash.objects);
      trash.bytes.set({ client }, one.trash.bytes);
      if (one.trash.purgeAt !== undefined) purge.set({ client }, seconds(one.trash.purgeAt));
    }
    if (one.extended !== undefined) {
      extended.set({ client }, seconds(one.extended.at));
      unextended.set({ client }, one.extended.complete ? one.extended.failed : 1);
    }
    if (one.scrub !== undefined) {
      scrub.set({ client }, seconds(one.scrub.finished));
      findings.set({ client }, one.scrub.findings);
    }
  }
  return (await registry.getMetricsAsJSON()) as unknown as Figures['counted'];
}

function seconds(time: Date): number {
  return time.getTime() / 1000;
}
