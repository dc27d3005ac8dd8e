/** From what the audit adds up to, the config and what the state directory says now to how a client stands. Pure. */
import type { ClientConfig } from '../config/types.ts';
import { formatBytes, formatDuration } from '../core/quantities.ts';
import type { AnomalyRule } from '../ports/audit-sink.ts';
import { describeAnomaly, isMassRemoval, isNote, lateAt, lateId } from './anomalies.ts';
import {
  DAY_MS,
  dayOf,
  estimatedSize,
  KEPT_DAYS,
  MOST,
  type Arrival,
  type ClientRecord,
  type EndedRecord,
  type OpenRecord,
  type RefusalRecord,
  type RemovalRecord,
  type RemovedCounts,
  type RepositoryRecord,
} from './model.ts';
import type {
  Anomaly,
  ClientStatus,
  ClientState,
  DayFigures,
  Refusal,
  RemovalFigures,
  RemovedFigures,
  SessionFigures,
} from './client-status.ts';

/** Anomalies are shown for this long after they were last seen, unless they are acknowledged before. */
const SHOWN_MS = 7 * DAY_MS;
const DAYS_LATELY = 7;
/** `massRemoval`, where the config does not say it. */
const MASS_REMOVAL = 0.33;
/** From here on the next backup may not fit. */
const QUOTA_SHARE = 0.95;
/** What a probe tries, and is refused. */
const TRIED_BY_PROBES: ReadonlySet<AnomalyRule> = new Set(['denied-delete', 'overwrite', 'key-upload']);
/** How often a probe is expected unless the config says so: once a day, with two hours to spare. */
const PROBE_EVERY_MS = 26 * 60 * 60 * 1000;
/** restic's own way to end a save that failed, and nothing that anyone tried. */
const OWN_CLEANUP = 'cleanup-after-failed-save';

/** What is known of a client beside the config. */
export interface Knowledge {
  readonly record: ClientRecord;
  readonly repository: RepositoryRecord | undefined;
  /** The sessions that really run now; undefined when that cannot be told. */
  readonly live: readonly { readonly id: string; readonly via: string; readonly started: Date }[] | undefined;
  /** By the ledger of the quota. */
  readonly used: number | undefined;
  readonly scrub: ClientStatus['scrub'];
  readonly unfinishedScrub: ClientStatus['unfinishedScrub'];
  readonly extended?: ClientStatus['extended'];
  /** What the trash was last found to hold; times in ms since 1970. */
  readonly trash?: (RemovedFigures & { readonly at: number; readonly oldest: number | undefined }) | undefined;
}

/** The status of a client at a moment. */
export function assess(config: ClientConfig, knowledge: Knowledge, now: Date): ClientStatus {
  const { record, used, scrub, unfinishedScrub, extended } = knowledge;
  const time = now.getTime();
  const last = lastSnapshot(record);
  const due = dueAt(config, record);
  const late = lateness(config, record, time);
  const anomalies = [...(late === undefined ? [] : [late]), ...openAnomalies(config, record, now)];
  const denials = denialsOf(record, time);
  const size = sizeOf(knowledge);
  const newest = config.role === 'probe' ? record.probe?.at : last?.at;
  const { state, reasons } = judge(config, { last: newest, anomalies, scrub, extended, used }, now);
  return {
    ...{ client: config.name, state, reasons, access: config.access, repository: config.repository },
    ...(last !== undefined && { lastSnapshot: { at: new Date(last.at), session: last.session } }),
    snapshots: record.snapshots,
    ...(record.usualGap !== undefined && { usualGapMs: record.usualGap }),
    ...(config.role === 'probe' && { role: config.role }),
    ...(config.role === 'probe' && record.probe !== undefined && { lastProbe: probeOf(record.probe) }),
    ...(config.expectEvery !== undefined && { expectEveryMs: config.expectEvery }),
    ...(due !== undefined && { lateAt: new Date(due) }),
    ...(size !== undefined && { size }),
    arrived: record.arrived,
    arrivedLately: arrivedLately(record, time),
    // Of thousands of clients, hardly anyone looks at these: they are made for who does.
    get days() {
      return daysOf(record, time);
    },
    ...(config.quota !== undefined && { quota: { limit: config.quota, ...(used !== undefined && { used }) } }),
    running: runningOf(knowledge),
    get latest() {
      return latestOf(knowledge);
    },
    denials,
    get refusals() {
      return record.refusals.map(refusalOf).reverse();
    },
    get addresses() {
      return record.addresses.map(seenOf);
    },
    get keys() {
      return record.keys.map(seenOf);
    },
    ...removedOf(config, knowledge, time),
    purgeHeld: anomalies.some(({ rule, note }) => note !== true && holdsPurge(config, rule)),
    ...(scrub !== undefined && { scrub }),
    ...(unfinishedScrub !== undefined && { unfinishedScrub }),
    ...(extended !== undefined && { extended }),
    anomalies,
  };
}

function judge(
  config: ClientConfig,
  known: {
    readonly last: number | undefined;
    readonly anomalies: readonly Anomaly[];
    readonly scrub: ClientStatus['scrub'];
    readonly extended: ClientStatus['extended'];
    readonly used: number | undefined;
  },
  now: Date,
): { readonly state: ClientState; readonly reasons: readonly string[] } {
  const { last, anomalies, scrub, extended, used } = known;
  const off = isOff(config, now);
  if (off !== undefined) return { state: 'disabled', reasons: [off] };
  const attention = anomalies.filter(({ rule, note }) => rule !== 'late' && note !== true).map(({ what }) => what);
  if (scrub !== undefined && scrub.findings > 0)
    attention.push(
      `The scrub of ${dayOf(scrub.finished.getTime())} found ${scrub.findings} ${scrub.findings === 1 ? 'file' : 'files'} that are not as they should be.`,
    );
  if (extended !== undefined && (extended.failed > 0 || !extended.complete))
    attention.push(
      `The retention of ${extended.complete ? `${extended.failed} ${extended.failed === 1 ? 'object' : 'objects'}` : 'what is in use'} was not renewed on ${dayOf(extended.at.getTime())}${extended.problem === undefined ? '' : `: ${extended.problem}`}`,
    );
  if (config.quota !== undefined && used !== undefined && used >= QUOTA_SHARE * config.quota)
    attention.push(`The quota is nearly used up: ${formatBytes(used)} of ${formatBytes(config.quota)}.`);
  const late = anomalies.filter(({ rule }) => rule === 'late').map(({ what }) => what);
  const never =
    config.role === 'probe'
      ? last === undefined
        ? ['No probe has come to its end since the audit began.']
        : []
      : last === undefined && config.access !== 'read-only'
        ? ['No snapshot has arrived since the audit began.']
        : [];
  const state =
    attention.length > 0 ? 'attention' : late.length > 0 ? 'late' : never.length > 0 ? 'never' : ('ok' as const);
  return { state, reasons: [...attention, ...late, ...never] };
}

/** What the audit does not tell yet. */
export function unreported(config: ClientConfig, record: ClientRecord, now: Date): readonly Anomaly[] {
  const time = now.getTime();
  const reported = new Set([
    ...record.anomalies.filter((one) => one.reported === true).map(({ id }) => id),
    ...record.reportedLate,
  ]);
  const late = isOff(config, now) === undefined ? lateness(config, record, time) : undefined;
  return [...openAnomalies(config, record, now), ...(late === undefined ? [] : [late])].filter(
    ({ id }) => !reported.has(id),
  );
}

/**
 * Whether a purge of what the client has removed waits for an anomaly, which stays open then until it is acknowledged: what nobody has seen
 * must not be forgotten. To be late tells nothing of removals, and a machine that is gone for good is late for ever. Much that was removed
 * holds it back even when the admin has meanwhile taken the right to remove away from the client.
 */
function holdsPurge({ removals }: ClientConfig, rule: AnomalyRule): boolean {
  return rule === 'mass-removal' || (removals === 'deferred' && rule !== 'late');
}

/** What events of the audit have raised, newest first: not acknowledged, and not too long ago where that is no matter of the trash. */
export function openAnomalies(config: ClientConfig, { anomalies }: ClientRecord, now: Date): readonly Anomaly[] {
  const { massRemoval = MASS_REMOVAL } = config;
  const most = massRemoval === 'none' ? undefined : massRemoval;
  return anomalies
    .filter(
      ({ rule, acknowledged, last }) =>
        acknowledged !== true && (holdsPurge(config, rule) || now.getTime() - last < SHOWN_MS),
    )
    .filter(({ rule }) => (config.role === 'probe' ? !TRIED_BY_PROBES.has(rule) : rule !== 'probe-failed'))
    .filter((one) => one.rule !== 'mass-removal' || isMassRemoval(one, most))
    .map((one) => {
      const { id, rule, at, last, count, session, facts } = one;
      return {
        ...{ id, rule, at: new Date(at), last: new Date(last), count },
        ...(session !== undefined && { session }),
        ...(isNote(one) && { note: true as const }),
        ...describeAnomaly(rule, count, facts),
      };
    })
    .reverse();
}

/** Why a client cannot come in at all, as a sentence. */
function isOff({ disabled, expires }: ClientConfig, now: Date): string | undefined {
  if (disabled) return 'It is disabled in the config.';
  if (expires !== undefined && now > expires) return `Its keys expired on ${dayOf(expires.getTime())}.`;
  return undefined;
}

function lastSnapshot({ arrivals }: ClientRecord): Arrival | undefined {
  return arrivals.findLast(({ gone }) => gone !== true);
}

function dueAt({ access, role, expectEvery }: ClientConfig, record: ClientRecord): number | undefined {
  if (role === 'probe') return record.probe && record.probe.at + (expectEvery ?? PROBE_EVERY_MS);
  const last = lastSnapshot(record);
  return last === undefined || access === 'read-only' ? undefined : lateAt(last.at, expectEvery, record.usualGap);
}

function lateness(config: ClientConfig, record: ClientRecord, now: number): Anomaly | undefined {
  const isProbe = config.role === 'probe';
  const [last, due] = [isProbe ? record.probe : lastSnapshot(record), dueAt(config, record)];
  if (last === undefined || due === undefined || now <= due) return undefined;
  const expected =
    isProbe || config.expectEvery !== undefined
      ? `one is expected every ${formatDuration(config.expectEvery ?? PROBE_EVERY_MS)}`
      : `it usually leaves ${formatDuration(record.usualGap ?? 0)} between two at most`;
  return {
    ...{ id: lateId(last.at), rule: 'late', at: new Date(due), last: new Date(now), count: 1 },
    ...describeAnomaly('late', 1, { since: now - last.at, expected, ...(isProbe && { probe: 1 }) }),
  };
}

function sizeOf({ used, repository, scrub }: Knowledge): ClientStatus['size'] {
  if (used !== undefined) return { bytes: used, by: 'counted' };
  const bytes = estimatedSize(repository);
  if (bytes !== undefined) return { bytes, by: 'estimated' };
  return scrub === undefined ? undefined : { bytes: scrub.bytes, by: 'scrub' };
}

function arrivedLately({ days }: ClientRecord, now: number): number {
  const [oldest, today] = [dayOf(now - (DAYS_LATELY - 1) * DAY_MS), dayOf(now)];
  let sum = 0;
  for (const { day, added } of days) if (day >= oldest && day <= today) sum += Math.max(0, added);
  return sum;
}

function daysOf({ days }: ClientRecord, now: number): readonly DayFigures[] {
  const found = new Map(days.map((one) => [one.day, one]));
  // Where nothing changed it stays what it was.
  let size = days.findLast((one) => one.day <= dayOf(now - KEPT_DAYS * DAY_MS) && one.size !== undefined)?.size;
  return daysUntil(dayOf(now)).map((day) => {
    const one = found.get(day);
    size = one?.size ?? size;
    const figures =
      one === undefined
        ? { day, added: 0, read: 0, snapshots: 0, denied: 0 }
        : { day, added: Math.max(0, one.added), read: one.read, snapshots: one.snapshots, denied: total(one.denied) };
    return size === undefined ? figures : Object.assign(figures, { size });
  });
}

let shownDays: readonly string[] = [];

/** The days that are shown, oldest first; the same for all clients, so not made for each. */
function daysUntil(last: string): readonly string[] {
  if (shownDays.at(-1) !== last)
    shownDays = Array.from({ length: KEPT_DAYS }, (_, index) =>
      dayOf(Date.parse(last) - (KEPT_DAYS - 1 - index) * DAY_MS),
    );
  return shownDays;
}

function denialsOf({ days }: ClientRecord, now: number): ClientStatus['denials'] {
  const oldest = dayOf(now - (DAYS_LATELY - 1) * DAY_MS);
  const byReason: Record<string, number> = {};
  for (const { day, denied } of days)
    if (day >= oldest)
      for (const [reason, count] of Object.entries(denied)) byReason[reason] = (byReason[reason] ?? 0) + count;
  return { total: total(byReason), byReason };
}

/** What was removed, and what the trash has of it. */
function removedOf(
  { trashMs }: ClientConfig,
  { record, trash }: Knowledge,
  now: number,
): Pick<ClientStatus, 'removedLately' | 'removals' | 'trash'> {
  const oldest = dayOf(now - (DAYS_LATELY - 1) * DAY_MS);
  const lately = record.days.filter(({ day }) => day >= oldest);
  const sum = (of: (day: (typeof lately)[number]) => RemovedCounts | undefined): RemovedFigures => {
    const figures = { snapshots: 0, objects: 0, bytes: 0 };
    for (const day of lately) {
      const { snapshots, objects, bytes } = of(day) ?? figures;
      if (of(day) === undefined) continue;
      figures.snapshots += snapshots;
      figures.objects += objects;
      figures.bytes += bytes;
    }
    return figures;
  };
  // What a look at the trash found gone after that has been brought back or purged.
  const isGone = ({ last }: RemovalRecord): boolean => trash?.objects === 0 && trash.at > last;
  const removals = record.removals
    .filter((one) => one.objects > 0 && now - one.last < (trashMs ?? DAYS_LATELY * DAY_MS) + DAY_MS && !isGone(one))
    .sort((a, b) => b.at - a.at)
    .map((one) => removalOf(one, trashMs));
  return {
    removedLately: { byClient: sum(({ removed }) => removed), byAdmin: sum(({ removedByAdmin }) => removedByAdmin) },
    removals,
    ...(trash !== undefined &&
      trashMs !== undefined && {
        trash: {
          ...{ at: new Date(trash.at), snapshots: trash.snapshots, objects: trash.objects, bytes: trash.bytes },
          ...(trash.oldest !== undefined && { purgeAt: new Date(trash.oldest + trashMs) }),
        },
      }),
  };
}

function removalOf(
  { session, via, at, last, snapshots, objects, bytes }: RemovalRecord,
  trashMs: number | undefined,
): RemovalFigures {
  return {
    ...{ session, by: via === 'admin' ? 'admin' : 'client', at: new Date(at), last: new Date(last) },
    ...{ snapshots, objects, bytes },
    ...(trashMs !== undefined && { keptUntil: new Date(last + trashMs) }),
  };
}

function total(denied: Readonly<Record<string, number>>): number {
  return Object.entries(denied).reduce((sum, [reason, count]) => (reason === OWN_CLEANUP ? sum : sum + count), 0);
}

function runningOf({ record, live }: Knowledge): readonly SessionFigures[] {
  const running = record.open.filter(isLiveIn(live)).map((one) => openFigures(one, 'running'));
  const known = new Set(record.open.map(({ session }) => session));
  const none = { added: 0, objects: 0, snapshots: 0, removed: 0, bytesIn: 0, bytesOut: 0, denied: 0, failed: 0 };
  // One that is just beginning has no line in the audit yet.
  for (const { id, via, started } of live ?? [])
    if (!known.has(id) && !record.latest.some(({ session }) => session === id))
      running.push({ session: id, via, start: started, outcome: 'running', ...none });
  return running;
}

function latestOf({ record, live }: Knowledge): readonly SessionFigures[] {
  const isLive = isLiveIn(live);
  const lost = record.open.filter((one) => !isLive(one)).map((one) => openFigures(one, 'lost'));
  const ended = record.latest.map(endedFigures);
  return [...lost, ...ended].sort((a, b) => b.start.getTime() - a.start.getTime()).slice(0, MOST.latest);
}

function isLiveIn(live: Knowledge['live']): (one: OpenRecord) => boolean {
  const ids = live === undefined ? undefined : new Set(live.map(({ id }) => id));
  return ({ session }) => ids?.has(session) ?? true;
}

/** For every session of every client whenever someone looks: leaving out by `...rest` would take five times as long. */
function endedFigures(one: EndedRecord): SessionFigures {
  const figures = { ...one, start: new Date(one.start), end: new Date(one.end) };
  return one.outcome === 'lost' ? withoutEnd(figures) : figures;
}

function withoutEnd({ end: _end, ...rest }: SessionFigures): SessionFigures {
  return rest;
}

function openFigures(
  { start, pending: _pending, removing: _removing, earlyKeys: _earlyKeys, ...rest }: OpenRecord,
  outcome: string,
): SessionFigures {
  return { ...rest, start: new Date(start), outcome, bytesIn: 0, bytesOut: 0 };
}

function probeOf({ at, session, failed }: NonNullable<ClientRecord['probe']>): NonNullable<ClientStatus['lastProbe']> {
  return { at: new Date(at), session, failed };
}

function refusalOf({ at, last, ...rest }: RefusalRecord): Refusal {
  return { ...rest, at: new Date(at), last: new Date(last) };
}

function seenOf({ value, first, last }: { readonly value: string; readonly first: number; readonly last: number }) {
  return { value, first: new Date(first), last: new Date(last) };
}
