/**
 * What is out of the ordinary: the rules, and their words. docs/monitoring.md explains each. Pure.
 *
 * All but `late` are looked at when an event of the audit is added up, so that every process that reads the same audit finds the same
 * ones under the same ids. `late` depends on the clock, and its id on the snapshot that nothing came after.
 */
import { formatBytes, formatDuration } from '../core/quantities.ts';
import {
  ANOMALY_KEPT_MS,
  DAY_MS,
  earlierDays,
  estimatedSize,
  MOST,
  type AnomalyRecord,
  type ClientRecord,
  type DayRecord,
  type RepositoryRecord,
} from './model.ts';
import { lossesOf, MEASURES } from './removals.ts';
import type { AnomalyRule } from '../ports/audit-sink.ts';

/** What is new about a client says something only once it has been known for a while. */
const KNOWN_MS = 7 * DAY_MS;
const KNOWN_SESSIONS = 5;
/** A client that came from more networks than this roams. */
const MOST_NETWORKS = 3;
const BURST_HOUR = 30;
const BURST_DAY = 100;
const BURST_FACTOR = 3;
/** Half of a repository, or nearly all of one so small that half of it is a pack or three. */
const READ_HALF = { share: 0.5, least: 50 * 2 ** 20 };
const READ_ALL = { share: 0.9, least: 5 * 2 ** 20 };
const READ_FACTOR = 3;
/** Where nobody knows what the repository holds. */
const READ_LEAST_UNSIZED = 10 * 2 ** 30;
const READ_FACTOR_UNSIZED = 10;
/** What is removed within each of these, in days. */
const SPANS = [
  ['day', 1],
  ['week', 7],
] as const;
/** The least share that the config can call too much. */
const LEAST_SHARE = 0.05;
/** Of a week, twice as much as of a day is too much, but never more than this. */
const MOST_OF_WEEK = 0.9;
/** What is seen again within this belongs to the anomaly that is there. */
const SAME_MS = DAY_MS;
const LATE_FACTOR = 4;
const LATE_LEAST_MS = DAY_MS;

/** Where and when something was seen. */
interface Sighting {
  readonly at: number;
  readonly session: string | undefined;
}

/** A snapshot has arrived and is in the client's figures. */
export function afterSnapshot(client: ClientRecord, day: DayRecord, sighting: Sighting): void {
  const earlier = earlierDays(client, sighting.at);
  const isBurst = (snapshots: number, least: number, busiest: number): boolean =>
    snapshots > least && snapshots > BURST_FACTOR * busiest;
  const [hour, busiestHour] = [client.hour.snapshots, Math.max(0, ...earlier.map((one) => one.busiestHour))];
  const busiestDay = Math.max(0, ...earlier.map((one) => one.snapshots));
  if (isBurst(hour, BURST_HOUR, busiestHour))
    raise(client, 'snapshot-burst', sighting, { snapshots: hour, busiest: busiestHour, span: 'hour' }, 1);
  else if (isKnown(client, sighting.at) && isBurst(day.snapshots, BURST_DAY, busiestDay))
    raise(client, 'snapshot-burst', sighting, { snapshots: day.snapshots, busiest: busiestDay, span: 'day' }, 1);
}

/**
 * A session has ended, and what it read is in the day's figures.
 * @param bytes - what it read
 */
export function afterReads(
  client: ClientRecord,
  repository: RepositoryRecord | undefined,
  day: DayRecord,
  bytes: number,
  sighting: Sighting,
): void {
  const known = isKnown(client, sighting.at);
  // restic without a cache reads its indexes in each run: of a client that is new, nobody knows yet that many small readings are usual.
  const read = known ? day.read : bytes;
  const usual = Math.max(0, ...earlierDays(client, sighting.at).map((one) => one.read));
  const size = estimatedSize(repository);
  const much =
    size === undefined
      ? known && read >= READ_LEAST_UNSIZED && read > READ_FACTOR_UNSIZED * usual
      : [READ_HALF, READ_ALL].some(({ share, least }) => read >= Math.max(least, share * size)) &&
        read > READ_FACTOR * usual;
  if (!much) return;
  const isNew = repository?.begun === true && sighting.at - repository.first < KNOWN_MS;
  const facts = { read, usual, ...(size !== undefined && { size }), ...(isNew && { new: 1 }) };
  raise(client, 'read-spike', sighting, facts, 1);
}

/** Whether it is only worth a word: whoever sets up backups tries a restore, and nothing was there before. */
export function isNote({ rule, facts }: AnomalyRecord): boolean {
  return rule === 'read-spike' && facts['new'] === 1;
}

/** A session comes from an address, or with a key, that is not among those seen so far. */
export function beforeNewAddress(client: ClientRecord, address: string, sighting: Sighting): void {
  const seen = client.addresses.length;
  if (isKnown(client, sighting.at) && seen > 0 && seen <= MOST_NETWORKS)
    raise(client, 'new-address', sighting, { value: address, refused: 0 }, 1);
}

/**
 * A key of the client was used from addresses that the config does not allow it: one anomaly, however many they are.
 * @param address - the newest of them; undefined where they were only counted
 */
export function afterRefusedAddress(
  client: ClientRecord,
  address: string | undefined,
  count: number,
  sighting: Sighting,
): void {
  raise(client, 'new-address', sighting, { ...(address !== undefined && { newest: address }), refused: 1 }, count);
}

/** As `beforeNewAddress`. */
export function beforeNewKey(client: ClientRecord, key: string, sighting: Sighting): void {
  if (isKnown(client, sighting.at) && client.keys.length > 0) raise(client, 'new-key', sighting, { value: key }, 1);
}

/** Something was refused, `count` times. @param object - the object's name, where it is known */
export function afterDenial(
  client: ClientRecord,
  denial: {
    readonly operation: string | undefined;
    readonly object: string | undefined;
    readonly reason: string;
    readonly count: number;
  },
  sighting: Sighting,
): void {
  const { operation, object = '', reason, count } = denial;
  // For locks the reason is another one: that of another client is refused in the course of ordinary backups.
  const removal = reason === 'append-only' || (reason === 'read-only' && operation === 'remove');
  if (removal && !object.startsWith('locks/')) raise(client, 'denied-delete', sighting, {}, count);
  else if (reason === 'overwrite') raise(client, 'overwrite', sighting, { object }, count);
  else if (reason === 'key-added') raise(client, 'key-upload', sighting, { refused: 1 }, count);
}

/** A client has added a key file, and not with `init`. */
export function afterKeyUpload(client: ClientRecord, count: number, sighting: Sighting): void {
  raise(client, 'key-upload', sighting, { refused: 0 }, count);
}

/**
 * A client has removed something, and it is in the figures. What is less than `massRemoval` of the config is not shown; it is raised all the
 * same, so that everybody finds the same.
 */
export function afterRemoval(client: ClientRecord, repository: RepositoryRecord, sighting: Sighting): void {
  const facts: Record<string, number> = {};
  for (const [span, days] of SPANS) {
    const losses = lossesOf(repository, sighting.at, days).filter(({ share }) => share >= LEAST_SHARE);
    for (const { measure, removed, of, share } of losses) {
      facts[`${span}-${measure}`] = removed;
      facts[`${span}-${measure}-of`] = of;
      facts[span] = Math.max(facts[span] ?? 0, share);
    }
  }
  if (Object.keys(facts).length > 0) raise(client, 'mass-removal', sighting, facts, 1);
}

/** Whether what was removed is as much as the config calls too much. @param most - the share of a day; undefined: nothing is too much */
export function isMassRemoval({ facts }: AnomalyRecord, most: number | undefined): boolean {
  if (most === undefined) return false;
  const limits = { day: most, week: Math.min(2 * most, Math.max(most, MOST_OF_WEEK)) };
  return SPANS.some(([span]) => Number(facts[span] ?? 0) > limits[span]);
}

/** `forget` has found a snapshot, not told of before, that claims another time than it arrived at. */
export function afterForgedTime(client: ClientRecord, object: string, sighting: Sighting): void {
  raise(client, 'forged-time', sighting, { object }, 1);
}

/** A probe says that something does not hold. @param result.checks - the first of them, in words */
export function afterProbe(
  client: ClientRecord,
  { failed, checks }: { readonly failed: number; readonly checks: string },
  sighting: Sighting,
): void {
  raise(client, 'probe-failed', sighting, { failed, checks }, 1);
}

/** When a client counts as late; undefined when nobody can say. @param last - its newest snapshot */
export function lateAt(
  last: number,
  expectEvery: number | undefined,
  usualGap: number | undefined,
): number | undefined {
  if (expectEvery !== undefined) return last + expectEvery;
  return usualGap === undefined ? undefined : last + Math.max(LATE_LEAST_MS, LATE_FACTOR * usualGap);
}

/** The id of the anomaly that nothing came after this snapshot. */
export function lateId(last: number): string {
  return anomalyId('late', last);
}

/** What happened and what to do about it: a sentence each. */
export function describeAnomaly(
  rule: AnomalyRule,
  count: number,
  facts: Readonly<Record<string, string | number>>,
): { readonly what: string; readonly advice: string } {
  const number = (name: string): number => Number(facts[name] ?? 0);
  const text = (name: string): string => `${facts[name] ?? ''}`;
  const breakIn = 'treat the machine as broken into (docs/recovery.md)';
  switch (rule) {
    case 'probe-failed':
      return {
        what: `The probe found ${number('failed')} that ${number('failed') === 1 ? 'does' : 'do'} not hold: ${text('checks')}.`,
        advice: 'Run restic-gateway probe by hand, and let no client in before it holds.',
      };
    case 'late':
      if (facts['probe'] !== undefined)
        return {
          what: `No probe for ${formatDuration(number('since'))}; ${text('expected')}.`,
          advice: 'See whether its timer runs, and what restic-gateway probe says there.',
        };
      return {
        what: `No snapshot for ${formatDuration(number('since'))}; ${text('expected')}.`,
        advice: 'See whether its backup runs; disable the client if it is not meant to any more.',
      };
    case 'snapshot-burst':
      return {
        what: `${number('snapshots')} snapshots in one ${text('span')}; at most ${number('busiest')} in the six weeks before.`,
        advice:
          'Look at what made them before the next forget, which may drop good ones for these; undo takes them back.',
      };
    case 'read-spike': {
      const of = facts['size'] === undefined ? '' : ` of a repository of ${formatBytes(number('size'))}`;
      return {
        what: `${formatBytes(number('read'))} were read in one day${of}; at most ${formatBytes(number('usual'))} in the six weeks before.`,
        advice:
          number('new') === 1
            ? 'The repository is not a week old: somebody has tried a restore, if all is well.'
            : `If nobody restored or checked all of it, someone may be taking a copy: disable the client, and ${breakIn}.`,
      };
    }
    case 'new-address':
      return number('refused') === 1
        ? {
            what: `${times(count)} it came from where \`from\` does not allow it, ${count === 1 ? '' : 'last '}from ${text('newest') || 'addresses that were only counted'}, and was refused.`,
            advice: `If the machine has not moved, its key has: replace the key, and ${breakIn}.`,
          }
        : {
            what: `It came from ${text('value')} for the first time.`,
            advice: `If the machine has not moved, its key has: replace the key, say \`from\` in the config, and ${breakIn}.`,
          };
    case 'new-key':
      return {
        what: `It came with the key ${text('value')} for the first time.`,
        advice: 'If nobody has just added this key to the config, find out who did.',
      };
    case 'denied-delete':
      return {
        what: `${count === 1 ? 'Once' : `In ${count} sessions`} it tried to remove backups, and was refused.`,
        advice: `If nobody ran forget or prune there by mistake, ${breakIn}.`,
      };
    case 'overwrite':
      return {
        what: `${times(count)} it tried to overwrite ${text('object') || 'an object'} with other content, and was refused.`,
        advice: `restic does not do that in a repository that is whole: run scrub, and if it finds nothing, ${breakIn}.`,
      };
    case 'key-upload':
      return number('refused') === 1
        ? {
            what: `${times(count)} it tried to add a repository password, and was refused.`,
            advice: `If nobody ran \`restic key\` there, ${breakIn}.`,
          }
        : {
            what: `${times(count)} it added a repository password.`,
            advice: 'If nobody ran `restic key` there, take it back with undo, and look who had the old one.',
          };
    case 'mass-removal':
      return {
        what: `Much was removed: ${SPANS.flatMap(([span]) => lossWords(facts, span)).join('; ')}.`,
        advice: `If nobody thinned out its backups there, disable the client, ${breakIn}, and bring back what was removed.`,
      };
    case 'forged-time':
      return {
        what: `${count === 1 ? 'A snapshot claims' : `${count} snapshots claim`} to be from another day than ${count === 1 ? 'it' : 'they'} arrived on, ${count === 1 ? '' : 'last '}${text('object')}.`,
        advice: `If nobody backed up there with \`--time\`, ${breakIn}; if somebody did, \`restic-gateway forget\` accepts it.`,
      };
  }
}

/** What was removed within a time, of each kind of which it was much. */
function lossWords(facts: AnomalyRecord['facts'], span: string): string[] {
  const parts = MEASURES.flatMap((measure) => {
    const [removed, of] = [facts[`${span}-${measure}`], facts[`${span}-${measure}-of`]].map(Number);
    if (removed === undefined || of === undefined || Number.isNaN(removed) || Number.isNaN(of)) return [];
    // All of it in a day of that week.
    if (span === 'week' && removed === facts[`day-${measure}`]) return [];
    if (measure === 'bytes') return [`${formatBytes(removed)} of ${formatBytes(of)}`];
    return [`${removed} of ${of} snapshots${measure === 'old' ? ' that were older than three weeks' : ''}`];
  });
  return parts.length === 0 ? [] : [`within a ${span}, ${parts.join(', ')}`];
}

function times(count: number): string {
  return count === 1 ? 'Once' : `${count} times`;
}

function isKnown(client: ClientRecord, at: number): boolean {
  return client.sessions >= KNOWN_SESSIONS && at - client.first >= KNOWN_MS;
}

function anomalyId(rule: AnomalyRule, at: number): string {
  return `${rule}-${new Date(at).toISOString().replace(/[-:.]/g, '')}`;
}

/** Adds to the anomaly that is open for the same thing, or to a new one. */
function raise(
  client: ClientRecord,
  rule: AnomalyRecord['rule'],
  { at, session }: Sighting,
  facts: AnomalyRecord['facts'],
  count: number,
): void {
  const same = client.anomalies.find(
    (one) =>
      one.rule === rule &&
      one.acknowledged !== true &&
      at - one.at < SAME_MS &&
      one.facts['value'] === facts['value'] &&
      one.facts['span'] === facts['span'] &&
      one.facts['new'] === facts['new'] &&
      one.facts['refused'] === facts['refused'],
  );
  // One `forget` is refused once for each snapshot.
  const bySession = rule === 'denied-delete' && session !== undefined;
  if (same !== undefined) {
    same.last = at;
    if (!bySession) same.count += count;
    else if (same.counted !== session) same.count += 1;
    if (bySession) same.counted = session;
    same.facts = merged(same.facts, facts);
    return;
  }
  const first = anomalyId(rule, at);
  let id = first;
  for (let more = 2; client.anomalies.some((one) => one.id === id); more++) id = `${first}-${more}`;
  // What nobody has acknowledged may hold back a purge for as long.
  client.anomalies = client.anomalies.filter((one) => one.acknowledged !== true || at - one.last < ANOMALY_KEPT_MS);
  // No rule drops what another one has found, and those that nobody has acknowledged stay longest.
  const alike = client.anomalies.filter((one) => one.rule === rule);
  const dropped = alike.find((one) => one.acknowledged === true) ?? alike[0];
  if (alike.length >= MOST.anomalies) client.anomalies = client.anomalies.filter((one) => one !== dropped);
  const counted = bySession ? { count: 1, counted: session } : { count };
  client.anomalies.push({ id, rule, at, last: at, ...counted, ...(session !== undefined && { session }), facts });
}

/** The newer facts, but of numbers the larger one. */
function merged(before: AnomalyRecord['facts'], after: AnomalyRecord['facts']): AnomalyRecord['facts'] {
  const all: Record<string, string | number> = { ...before, ...after };
  for (const [name, value] of Object.entries(before))
    if (typeof value === 'number') all[name] = Math.max(value, Number(after[name] ?? value));
  return all;
}
