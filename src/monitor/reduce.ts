/** Adds up the audit, line by line. Pure: the same lines in the same order come to the same model in every process. */
import {
  afterDenial,
  afterForgedTime,
  afterKeyUpload,
  afterProbe,
  afterReads,
  afterRefusedAddress,
  afterRemoval,
  afterSnapshot,
  beforeNewAddress,
  beforeNewKey,
} from './anomalies.ts';
import {
  DAY_MS,
  dayOf,
  emptyClient,
  emptyRepository,
  estimatedSize,
  KEPT_DAYS,
  LONGEST_WORD,
  LOOK_BACK_DAYS,
  MOST,
  repositoryKey,
  type Arrival,
  type ClientRecord,
  type DayRecord,
  type EndedRecord,
  type Model,
  type ObjectCounts,
  type OpenRecord,
  type RemovalRecord,
  type RemovedCounts,
  type RepositoryRecord,
  type SeenRecord,
} from './model.ts';
import { readProbeReport } from '../core/probe-report.ts';
import { networkOf } from './network.ts';
import { bringRepositoryBack, countArrival, countRemoval, countTakenOut, settleRemovals } from './removals.ts';

const HOUR_MS = 3_600_000;
/** Lines of several processes are out of order by less; what is earlier by more tells that the clock was set back. */
const SET_BACK_MS = 60_000;
/** Gaps between snapshots are usual once there were snapshots on so many days, over so long. */
const USUAL_DAYS = 4;
const USUAL_SPAN_MS = 7 * DAY_MS;
/** Removals longer ago are the first to be forgotten, when there are too many. */
const REMOVALS_KEPT_MS = 30 * DAY_MS;
/** From then on one long absence does not make long absences usual. */
const FORGIVING_MS = 14 * DAY_MS;

/** A line of the audit, as an object. */
type Line = Readonly<Record<string, unknown>>;

/** An event on its way into the figures of its client and its repository. */
interface Event {
  readonly line: Line;
  /** Of its client. */
  readonly id: string;
  readonly at: number;
  readonly session: string | undefined;
  /** By the admin on the gateway host. */
  readonly admin: boolean;
  /** `data/…`, `config` and so on. */
  readonly object: string | undefined;
  readonly client: ClientRecord;
  readonly repository: RepositoryRecord;
}

/** Adds one line. One that is no event of a client changes nothing. */
export function addLine(model: Model, line: Line): void {
  const [name, kind, at] = [
    text(line['id'] ?? line['client']),
    text(line['event']),
    Date.parse(text(line['time']) ?? ''),
  ];
  if (name === undefined || kind === undefined || Number.isNaN(at)) return;
  const add = ADDERS.get(kind);
  if (add === undefined) return;
  if (at < model.latest - SET_BACK_MS) {
    for (const record of model.clients.values()) bringBack(record, at);
    for (const record of model.repositories.values()) bringRepositoryBack(record, at);
    model.latest = at;
  } else model.latest = Math.max(model.latest, at);
  const position = repositoryKey({ store: text(line['store']) ?? '', prefix: text(line['prefix']) ?? '' });
  add({
    ...{
      line,
      id: name,
      at,
      session: text(line['session']),
      admin: line['via'] === 'admin',
      object: text(line['object']),
    },
    client: entry(model.clients, name, emptyClient),
    repository: entry(model.repositories, position, emptyRepository),
  });
}

/** By the kind of event. What is not here adds nothing. */
const ADDERS: ReadonlyMap<string, (event: Event) => void> = new Map(
  Object.entries({
    'session-start': addStart,
    'session-end': addEnd,
    'session-refused': addRefused,
    'more-refused': addMoreRefused,
    create: addCreate,
    'create-failed': addCreateFailed,
    remove: addRemove,
    'remove-failed': addRemoveFailed,
    quarantine: (event) => {
      addMove(event, true);
    },
    'quarantine-failed': takeMoveBack,
    restore: (event) => {
      addMove(event, false);
    },
    'restore-failed': takeMoveBack,
    denied: addDenied,
    'more-denied': addMoreDenied,
    failed: (event) => {
      const open = openOf(event);
      if (open !== undefined) open.failed += 1;
    },
    anomaly: addReported,
    'anomaly-acknowledged': ({ client, line, repository }) => {
      const found = client.anomalies.find(({ id }) => id === line['anomaly']);
      if (found === undefined) return;
      found.acknowledged = true;
      if (found.rule === 'mass-removal') settleRemovals(repository);
    },
    purged: addPurged,
    'forged-time': addForged,
    'time-accepted': addAccepted,
  } satisfies Record<string, (event: Event) => void>),
);

function addStart(event: Event): void {
  const { client, line, at, session, admin } = event;
  if (session === undefined) return;
  const [from, key] = [text(line['from']), text(line['key'])];
  // A certificate is often for a new key each time: what one knows of it is its CA.
  const known = text(line['ca']) ?? key;
  if (!admin) {
    if (from !== undefined) see(client.addresses, networkOf(from), event, beforeNewAddress);
    if (known !== undefined) see(client.keys, known, event, beforeNewKey);
    if (client.sessions === 0) client.first = at;
    client.sessions += 1;
  }
  if (!admin) addProbe(event, session);
  const [lost] = client.open.length >= MOST.open ? client.open.splice(0, 1) : [];
  if (lost !== undefined) end(client, lost, { at, outcome: 'lost', bytesIn: 0, bytesOut: 0 });
  client.open.push({
    ...{ session, via: text(line['via']) ?? '', start: at },
    ...(from !== undefined && { from }),
    ...(key !== undefined && { key }),
    ...{ added: 0, objects: 0, snapshots: 0, removed: 0, denied: 0, failed: 0, earlyKeys: 0 },
    ...{ pending: [], removing: [] },
  });
}

/** A probe tells what came of it in the command of its last session. */
function addProbe(event: Event, session: string): void {
  const { client, at, line } = event;
  const result = readProbeReport(text(line['command']) ?? '');
  if (result === undefined) return;
  client.probe = { at, session, failed: result.failed };
  if (result.failed > 0) afterProbe(client, result, event);
}

function addRefused(event: Event): void {
  const { line, client } = event;
  const [reason, from] = [text(line['reason']) ?? 'refused', text(line['from'])];
  addDenials(event, reason, 1);
  addRefusal(event, { operation: 'session', object: from, reason, count: 1 });
  if (reason === 'address') afterRefusedAddress(client, from === undefined ? undefined : networkOf(from), 1, event);
}

function addMoreRefused(event: Event): void {
  for (const [reason, many] of reasonsOf(event)) {
    addDenials(event, reason, many);
    addRefusal(event, { operation: 'session', object: undefined, reason, count: many });
    if (reason === 'address') afterRefusedAddress(event.client, undefined, many, event);
  }
}

function addEnd(event: Event): void {
  const { client, line, at, repository, admin, session } = event;
  const index = client.open.findIndex((one) => one.session === session);
  const [open] = index < 0 ? [] : client.open.splice(index, 1);
  const [bytesIn, bytesOut] = [count(line['bytesIn']), count(line['bytesOut'])];
  if (!admin) {
    const day = today(client, at);
    day.read += bytesOut;
    afterReads(client, repository, day, bytesOut, event);
  }
  if (open === undefined) return;
  // A key file that `init` brings has the repository's config after it.
  if (open.earlyKeys > 0 && !repository.begun) afterKeyUpload(client, open.earlyKeys, event);
  end(client, open, { at, outcome: text(line['reason']) ?? '', bytesIn, bytesOut });
}

function end(
  client: ClientRecord,
  { pending: _pending, removing: _removing, earlyKeys: _earlyKeys, ...figures }: OpenRecord,
  { at, ...how }: { readonly at: number } & Pick<EndedRecord, 'outcome' | 'bytesIn' | 'bytesOut'>,
): void {
  client.latest.unshift({ ...figures, end: at, ...how });
  client.latest.length = Math.min(client.latest.length, MOST.latest);
}

function addCreate(event: Event): void {
  const { client, object, at, session, repository, admin, line } = event;
  if (object === undefined) return;
  const size = count(line['size']);
  const open = openOf(event);
  if (open !== undefined) {
    open.pending.push({ object, size });
    if (open.pending.length > MOST.pending) open.pending.shift();
  }
  if (object.startsWith('keys/') && !admin) {
    if (repository.begun || repository.packs.created > 0) afterKeyUpload(client, 1, event);
    else if (open !== undefined) open.earlyKeys += 1;
  }
  if (object === 'config') repository.begun = true;
  if (!admin && (object === 'config' || object.startsWith('snapshots/'))) repository.by = event.id;
  if (object.startsWith('snapshots/')) countArrival(repository, at, 1);
  addSize(event, object, size, 1);
  if (!object.startsWith('snapshots/') || admin || session === undefined) return;
  if (open !== undefined) open.snapshots += 1;
  addSnapshot(event, { at, session, object });
}

function addSnapshot(event: Event, arrival: ClientRecord['arrivals'][number]): void {
  const { client, at } = event;
  const day = today(client, at);
  const before = client.arrivals.findLast(({ gone }) => gone !== true);
  if (before !== undefined) {
    const gap = Math.max(0, at - before.at);
    const [longest, second] = day.gaps;
    day.gaps = gap > longest ? [gap, longest] : [longest, Math.max(gap, second)];
  }
  client.arrivals.push(arrival);
  if (client.arrivals.length > MOST.arrivals) client.arrivals.shift();
  client.snapshots += 1;
  client.firstSnapshot ??= at;
  day.snapshots += 1;
  const hour = Math.floor(at / HOUR_MS);
  client.hour = { hour, snapshots: client.hour.hour === hour ? client.hour.snapshots + 1 : 1 };
  day.busiestHour = Math.max(day.busiestHour, client.hour.snapshots);
  const gap = usualGap(client, at);
  if (gap !== undefined) client.usualGap = gap;
  afterSnapshot(client, day, event);
}

/** The second longest gap of the time that the rules look back; of a client that is new, the longest. */
function usualGap({ days, firstSnapshot = Infinity }: ClientRecord, at: number): number | undefined {
  const oldest = dayOf(at - LOOK_BACK_DAYS * DAY_MS);
  const withSnapshots = days.filter(({ day, snapshots }) => snapshots > 0 && day >= oldest);
  if (withSnapshots.length < USUAL_DAYS || at - firstSnapshot < USUAL_SPAN_MS) return undefined;
  const [longest = 0, second = 0] = withSnapshots.flatMap(({ gaps }) => gaps).sort((a, b) => b - a);
  return at - firstSnapshot < FORGIVING_MS ? longest : second;
}

function addCreateFailed(event: Event): void {
  const { client, object, session, repository } = event;
  const open = openOf(event);
  const index = open?.pending.findLastIndex((one) => one.object === object) ?? -1;
  const [taken] = index < 0 ? [] : (open?.pending.splice(index, 1) ?? []);
  if (taken === undefined || open === undefined || object === undefined) return;
  addSize(event, object, -taken.size, -1);
  if (object.startsWith('snapshots/')) countArrival(repository, event.at, -1);
  if (object.startsWith('keys/') && open.earlyKeys > 0) open.earlyKeys -= 1;
  // Whether the repository was there before or not made, nobody can say; the next `init` says it again.
  if (object === 'config' && event.line['reason'] !== 'exists') repository.begun = false;
  const arrival = client.arrivals.findLastIndex((one) => one.object === object && one.session === session);
  if (arrival < 0) return;
  client.arrivals.splice(arrival, 1);
  client.snapshots -= 1;
  open.snapshots -= 1;
  const day = today(client, event.at);
  day.snapshots = Math.max(0, day.snapshots - 1);
  client.hour.snapshots = Math.max(0, client.hour.snapshots - 1);
}

/** Adds an object to the figures, or takes it back. */
function addSize(event: Event, object: string, size: number, objects: 1 | -1): void {
  const { client, at } = event;
  const counts = countsOf(event, object);
  if (counts === undefined) return;
  counts.created += objects;
  counts.bytes += size;
  client.arrived += size;
  today(client, at).added += size;
  noteSize(event);
  const open = openOf(event);
  if (open === undefined) return;
  open.added += size;
  open.objects += objects;
}

/** What the repository holds now, after a change. */
function noteSize({ client, at, repository }: Event): void {
  const size = estimatedSize(repository);
  if (size !== undefined) today(client, at).size = size;
}

function addRemove(event: Event): void {
  const { object, line, admin, client, repository } = event;
  const counts = object === undefined ? undefined : countsOf(event, object);
  if (object === undefined || counts === undefined) return;
  const said = line['size'];
  const bytes = said === undefined ? averageSize(counts) : count(said);
  const arrived = Date.parse(text(line['arrived']) ?? '');
  const removal = { object, bytes, ...(!Number.isNaN(arrived) && { arrived }) };
  const open = openOf(event);
  if (open !== undefined) {
    open.removing.push(removal);
    if (open.removing.length > MOST.pending) open.removing.shift();
  }
  addRemoval(event, removal, 1);
  if (!admin) afterRemoval(client, repository, event);
}

function addRemoveFailed(event: Event): void {
  const { object } = event;
  const counts = object === undefined ? undefined : countsOf(event, object);
  if (object === undefined || counts === undefined) return;
  const removing = openOf(event)?.removing ?? [];
  const index = removing.findLastIndex((one) => one.object === object);
  const [known] = index < 0 ? [] : removing.splice(index, 1);
  addRemoval(event, known ?? { object, bytes: averageSize(counts) }, -1);
}

function averageSize({ bytes, created }: ObjectCounts): number {
  return created > 0 ? Math.max(0, Math.round(bytes / created)) : 0;
}

/** Adds a removal to the figures, or takes it back. */
function addRemoval(event: Event, { object, bytes, arrived }: OpenRecord['removing'][number], by: 1 | -1): void {
  const { client, at, admin, repository } = event;
  const counts = countsOf(event, object);
  if (counts === undefined) return;
  const snapshots = object.startsWith('snapshots/') ? 1 : 0;
  countRemoval(repository, { at, snapshots, arrived, bytes, admin }, by);
  counts.removed = Math.max(0, counts.removed + by);
  noteSize(event);
  const open = openOf(event);
  if (open !== undefined) open.removed += by;
  const day = today(client, at);
  const ofDay = (day[admin ? 'removedByAdmin' : 'removed'] ??= { snapshots: 0, objects: 0, bytes: 0 });
  for (const sums of [ofDay, removalOf(event)]) addTo(sums, { snapshots, objects: 1, bytes }, by);
}

function addTo(sums: RemovedCounts, { snapshots, objects, bytes }: RemovedCounts, by: 1 | -1): void {
  sums.snapshots = Math.max(0, sums.snapshots + by * snapshots);
  sums.objects = Math.max(0, sums.objects + by * objects);
  sums.bytes = Math.max(0, sums.bytes + by * bytes);
}

/** What the session of the event has removed so far. */
function removalOf({ client, at, session = '', admin, line }: Event): RemovalRecord {
  const known = client.removals.findLast((one) => one.session === session);
  if (known !== undefined) {
    known.last = at;
    return known;
  }
  const via = admin ? 'admin' : (text(line['via']) ?? '');
  const made: RemovalRecord = { session, via, at, last: at, snapshots: 0, objects: 0, bytes: 0 };
  client.removals.push(made);
  // Many sessions that remove little do not push out the one that removed much, nor a client's those of the admin.
  const alike = client.removals.filter((one) => one !== made && (one.via === 'admin') === admin);
  if (alike.length >= MOST.removals) {
    const ages = (one: RemovalRecord): boolean => at - one.last >= REMOVALS_KEPT_MS;
    const least = alike.find(ages) ?? alike.reduce((a, b) => (isLess(b, a) ? b : a));
    client.removals.splice(client.removals.indexOf(least), 1);
  }
  return made;
}

function isLess(one: RemovedCounts, other: RemovedCounts): boolean {
  return one.snapshots === other.snapshots ? one.bytes < other.bytes : one.snapshots < other.snapshots;
}

/** Of what a session removed within a minute, so much is gone for good. */
function addPurged({ client, line }: Event): void {
  const [, session, by] = (text(line['batch']) ?? '').split('_');
  const purged = client.removals.find((one) => one.session === session && (one.via === 'admin') === (by === 'admin'));
  if (purged === undefined) return;
  purged.objects = Math.max(0, purged.objects - count(line['objects']));
  purged.bytes = Math.max(0, purged.bytes - count(line['bytes']));
  if (purged.objects === 0) client.removals = client.removals.filter((one) => one !== purged);
}

function addForged(event: Event): void {
  const { client, object } = event;
  // Each `forget` may find the same again.
  if (object === undefined || client.forged.includes(object)) return;
  client.forged.push(object);
  if (client.forged.length > MOST.forged) client.forged.shift();
  afterForgedTime(client, object, event);
}

function addAccepted({ client, object }: Event): void {
  client.forged = client.forged.filter((one) => one !== object);
  if (client.forged.length > 0) return;
  for (const one of client.anomalies) if (one.rule === 'forged-time') one.acknowledged = true;
}

/** Undo takes an object out of the repository, or something brings one back. */
function addMove(event: Event, gone: boolean): void {
  const { client, object, repository, at, session } = event;
  if (object === undefined || session === undefined) return;
  const day = object.startsWith('snapshots/') ? countTakenOut(repository, at, gone ? 1 : -1) : undefined;
  const counts = countsOf(event, object);
  const before = counts?.removed ?? 0;
  if (counts !== undefined) counts.removed = Math.max(0, before + (gone ? 1 : -1));
  const arrivals = client.arrivals.filter((arrival) => arrival.object === object);
  client.moves.push({
    ...{ session, object, removed: (counts?.removed ?? 0) - before },
    ...(day !== undefined && { day }),
    ...(arrivals.some((arrival) => arrival.gone === true) && { gone: true as const }),
  });
  if (client.moves.length > MOST.pending) client.moves.shift();
  for (const arrival of arrivals) setGone(arrival, gone);
  noteSize(event);
}

/**
 * It did not happen: the object is where it was before. That is not the opposite of what was tried: what is to be brought back once more is
 * not in quarantine because it is back already, and what is to be taken out once more is gone already.
 */
function takeMoveBack(event: Event): void {
  const { client, object, repository, at, session } = event;
  const index = client.moves.findLastIndex((one) => one.object === object && one.session === session);
  const [move] = index < 0 ? [] : client.moves.splice(index, 1);
  if (move === undefined) return;
  const tried = event.line['event'] === 'quarantine-failed' ? 1 : -1;
  if (move.day !== undefined) countTakenOut(repository, at, tried === 1 ? -1 : 1, move.day);
  const counts = countsOf(event, move.object);
  if (counts !== undefined) counts.removed = Math.max(0, counts.removed - move.removed);
  for (const arrival of client.arrivals) if (arrival.object === object) setGone(arrival, move.gone === true);
  noteSize(event);
}

function setGone(arrival: Arrival, gone: boolean): void {
  if (gone) arrival.gone = true;
  else delete arrival.gone;
}

function addDenied(event: Event): void {
  const { line, client, object, admin } = event;
  const reason = text(line['reason']) ?? '';
  const operation = text(line['operation']);
  addDenials(event, reason, 1);
  addRefusal(event, { operation, object, reason, count: 1 });
  if (!admin) afterDenial(client, { operation, object, reason, count: 1 }, event);
}

function addMoreDenied(event: Event): void {
  const { client, admin } = event;
  for (const [reason, many] of reasonsOf(event)) {
    // Who had to wait was not denied anything.
    if (reason === 'throttled') continue;
    addDenials(event, reason, many);
    addRefusal(event, { operation: undefined, object: undefined, reason, count: many });
    if (!admin) afterDenial(client, { operation: undefined, object: undefined, reason, count: many }, event);
  }
}

/** How often each was counted in a summary. */
function reasonsOf({ line }: Event): readonly (readonly [string, number])[] {
  const reasons = typeof line['reasons'] === 'object' && line['reasons'] !== null ? line['reasons'] : {};
  return Object.entries(reasons).flatMap(([reason, value]) =>
    reason.length <= LONGEST_WORD && reason !== '__proto__' ? [[reason, count(value)] as const] : [],
  );
}

/** Counts what was refused. */
function addDenials(event: Event, reason: string, many: number): void {
  const { client, at } = event;
  const { denied } = today(client, at);
  if (Object.hasOwn(denied, reason) || Object.keys(denied).length < MOST.reasons)
    denied[reason] = (Object.hasOwn(denied, reason) ? (denied[reason] ?? 0) : 0) + many;
  const open = openOf(event);
  if (open !== undefined) open.denied += many;
}

/** Remembers what was refused, for who wants to know what was tried; the same in a row once. */
function addRefusal(
  { client, at, session }: Event,
  { operation, object, reason, count }: Parameters<typeof afterDenial>[1],
): void {
  // Restic's own, and nothing that anyone tried.
  if (reason === 'cleanup-after-failed-save') return;
  const last = client.refusals.at(-1);
  // Each refused session has an id of its own.
  const same = operation === 'session' ? last?.object === object : last?.session === session;
  if (last !== undefined && same && last.reason === reason && last.operation === operation) {
    last.last = at;
    last.count += count;
    return;
  }
  client.refusals.push({
    ...{ at, last: at, count, reason },
    ...(session !== undefined && { session }),
    ...(operation !== undefined && { operation }),
    ...(object !== undefined && { object }),
  });
  // Refused sessions cost nothing to come by, and leave those who look for the rest their own.
  const alike = client.refusals.filter((one) => (one.operation === 'session') === (operation === 'session'));
  const [oldest] = alike;
  if (alike.length > MOST.refusals && oldest !== undefined) client.refusals.splice(client.refusals.indexOf(oldest), 1);
}

function addReported({ client, line }: Event): void {
  const id = text(line['anomaly']);
  const found = client.anomalies.find((one) => one.id === id);
  if (found !== undefined) found.reported = true;
  else if (id !== undefined && line['rule'] === 'late' && !client.reportedLate.includes(id))
    client.reportedLate = [...client.reportedLate, id].slice(-2);
}

/** Remembers an address or a key, after `isNew` was told of one that is not known. */
function see(
  list: SeenRecord[],
  value: string,
  event: Event,
  isNew: (client: ClientRecord, value: string, event: Event) => void,
): void {
  const index = list.findIndex((one) => one.value === value);
  const [known] = index < 0 ? [] : list.splice(index, 1);
  if (known === undefined) isNew(event.client, value, event);
  list.push({ value, first: known?.first ?? event.at, last: event.at });
  if (list.length > MOST.seen) list.shift();
}

/** Undefined for locks, which come and go and are nothing that a repository holds. */
function countsOf({ repository }: Pick<Event, 'repository'>, object: string): ObjectCounts | undefined {
  if (object.startsWith('data/')) return repository.packs;
  return object.startsWith('locks/') ? undefined : repository.others;
}

function openOf({ client, session }: Event): OpenRecord | undefined {
  return client.open.findLast((one) => one.session === session);
}

/** The figures of the day; of too many days the oldest are dropped. */
function today(client: ClientRecord, at: number): DayRecord {
  const day = dayOf(at);
  const last = client.days.at(-1);
  // Lines of several processes may be out of order by a moment.
  if (last !== undefined && last.day >= day) return client.days.findLast((one) => one.day === day) ?? last;
  const made: DayRecord = { day, added: 0, read: 0, snapshots: 0, denied: {}, gaps: [0, 0], busiestHour: 0 };
  client.days.push(made);
  // By their number: a clock that is ahead for a while must not drop them all.
  if (client.days.length > KEPT_DAYS) client.days.shift();
  return made;
}

/**
 * The clock was ahead, and is at `at` now: what it said was later than this has happened by now. Else a client would not be late before the
 * clock comes there again.
 */
function bringBack(client: ClientRecord, at: number): void {
  const now = (time: number): number => Math.min(time, at);
  const newest = dayOf(at);
  const ahead = client.days.filter(({ day }) => day > newest);
  if (ahead.length > 0) client.days = client.days.filter(({ day }) => day <= newest);
  for (const { added, read, snapshots, denied, removed, removedByAdmin, size } of ahead) {
    const day = today(client, at);
    day.added += added;
    day.read += read;
    day.snapshots += snapshots;
    for (const [reason, times] of Object.entries(denied))
      day.denied[reason] = (Object.hasOwn(day.denied, reason) ? (day.denied[reason] ?? 0) : 0) + times;
    if (removed !== undefined) addTo((day.removed ??= { snapshots: 0, objects: 0, bytes: 0 }), removed, 1);
    if (removedByAdmin !== undefined)
      addTo((day.removedByAdmin ??= { snapshots: 0, objects: 0, bytes: 0 }), removedByAdmin, 1);
    if (size !== undefined) day.size = size;
  }
  client.first = now(client.first);
  if (client.firstSnapshot !== undefined) client.firstSnapshot = now(client.firstSnapshot);
  if (client.probe !== undefined) client.probe = { ...client.probe, at: now(client.probe.at) };
  client.arrivals = client.arrivals.map((one) => ({ ...one, at: now(one.at) }));
  client.open = client.open.map((one) => ({ ...one, start: now(one.start) }));
  client.latest = client.latest.map((one) => ({ ...one, start: now(one.start), end: now(one.end) }));
  const seen = (one: SeenRecord): SeenRecord => ({ ...one, first: now(one.first), last: now(one.last) });
  client.addresses = client.addresses.map(seen);
  client.keys = client.keys.map(seen);
  client.refusals = client.refusals.map((one) => ({ ...one, at: now(one.at), last: now(one.last) }));
  client.anomalies = client.anomalies.map((one) => ({ ...one, at: now(one.at), last: now(one.last) }));
  client.removals = client.removals.map((one) => ({ ...one, at: now(one.at), last: now(one.last) }));
}

function entry<T>(map: Map<string, T>, key: string, make: () => T): T {
  let found = map.get(key);
  if (found === undefined) {
    found = make();
    map.set(key, found);
  }
  return found;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value.length <= LONGEST_WORD ? value : undefined;
}

function count(value: unknown): number {
  return Number.isSafeInteger(value) && Number(value) >= 0 ? Number(value) : 0;
}
