/**
 * Which snapshots stay and which go: restic's own rules, by when each snapshot arrived instead of by the time it claims. A client chooses what
 * a snapshot claims, and could put snapshots beside or before good ones, which the rules would then drop; nobody can arrive yesterday.
 *
 * Source of the rules: restic's manual, "Removing snapshots according to a policy", and what `restic forget --dry-run --json` of 0.14 to 0.19
 * says, with which a test compares this. Hours, days, weeks (ISO 8601), months and years are those of this machine's time zone.
 */
import type { CalendarSpan, GroupKey, RetentionPolicy } from '../config/types.ts';

/** A snapshot with what its storage knows of it. */
export interface ArrivedSnapshot {
  readonly id: string;
  /** What it claims to be from: by restic, when the backup began. */
  readonly claimed: Date;
  /** When it arrived, by the gateway's or the storage's clock. */
  readonly arrived: Date;
  /** When the session began that brought it, where that is known. */
  readonly began?: Date | undefined;
  /** When the storage last took it in, where that is later: it came back from the trash. */
  readonly stored?: Date | undefined;
  /** Whose session brought it, where that is known. */
  readonly client?: string | undefined;
  /** Whether the admin has accepted the time that it claims. */
  readonly accepted: boolean;
  readonly host: string;
  readonly paths: readonly string[];
  readonly tags: readonly string[];
}

/** Why something stays. */
export interface Kept<S> {
  readonly snapshot: S;
  /** In restic's words: `daily snapshot`, `within 30d`. At least one. */
  readonly reasons: readonly string[];
}

/** Snapshots of one kind, newest first. */
export interface SnapshotGroup<S = ArrivedSnapshot> {
  /** What they have in common: only what is grouped by. */
  readonly host?: string;
  readonly paths?: readonly string[];
  readonly tags?: readonly string[];
  readonly kept: readonly Kept<S>[];
  readonly removed: readonly S[];
}

/** What becomes of each snapshot. */
export interface Selection {
  readonly groups: readonly SnapshotGroup[];
  /** Claim another time than they arrived at, and nobody has accepted it: they stay, and count for no rule. */
  readonly apart: readonly ArrivedSnapshot[];
}

/** What the rules are applied with. */
interface SelectOptions {
  readonly policy: RetentionPolicy;
  /** What arrived less than this ago, in ms, stays. */
  readonly protectMs?: number | undefined;
  readonly now: Date;
}

/** How far what a snapshot claims may be from its arrival, in ms: clocks and time zones differ, and a backup takes a while. */
const TOLERATED_MS = 24 * 60 * 60 * 1000;
/** So many of the newest snapshots of each group stay, whatever the rules say. */
export const ALWAYS_KEPT = 3;

/**
 * Whether a snapshot claims another time than it arrived at. A backup may run for days, and claims to be from its beginning, so that what lies
 * within its session is in order. A session that is kept open for this gains nothing: what counts is the arrival.
 */
export function claimsOtherTime({
  claimed,
  arrived,
  began,
}: Pick<ArrivedSnapshot, 'claimed' | 'arrived' | 'began'>): boolean {
  const from = began !== undefined && began < arrived ? began : arrived;
  return !(claimed.getTime() >= from.getTime() - TOLERATED_MS && claimed.getTime() <= arrived.getTime() + TOLERATED_MS);
}

/** Applies the rules to each group of snapshots. */
export function selectSnapshots(snapshots: readonly ArrivedSnapshot[], options: SelectOptions): Selection {
  const apart: ArrivedSnapshot[] = [];
  const floor = floorOf(snapshots, options);
  const groups = new Map<string, { readonly key: GroupIdentity; readonly snapshots: Timed<ArrivedSnapshot>[] }>();
  for (const snapshot of snapshots) {
    const other = claimsOtherTime(snapshot);
    if (other && !snapshot.accepted) {
      apart.push(snapshot);
      continue;
    }
    const { arrived, claimed } = snapshot;
    const key = identityOf(snapshot, options.policy['group-by']);
    const group = groups.get(JSON.stringify(key)) ?? { key, snapshots: [] };
    group.snapshots.push({ snapshot, arrived, when: other && claimed < arrived ? claimed : arrived });
    groups.set(JSON.stringify(key), group);
  }
  const named = [...groups].sort(([one], [other]) => (one < other ? -1 : 1));
  return {
    groups: named.map(([, { key, snapshots: members }]) => ({ ...key, ...applyRules(members, options, floor) })),
    apart: apart.sort((one, other) => other.arrived.getTime() - one.arrived.getTime()),
  };
}

/** What is known of a snapshot without the repository's password. */
export type SealedSnapshot = Pick<ArrivedSnapshot, 'id' | 'arrived' | 'stored' | 'client'>;

/**
 * Applies the rules without knowing what the snapshots are of: to days by their arrivals. A day is kept when a rule keeps its last snapshot, and
 * then all of its snapshots are; `keep-last: 10` keeps the last ten days that have any.
 */
export function selectDays(
  snapshots: readonly SealedSnapshot[],
  options: SelectOptions,
): Pick<SnapshotGroup<SealedSnapshot>, 'kept' | 'removed'> {
  const floor = floorOf(snapshots, options);
  const days = new Map<number, SealedSnapshot[]>();
  for (const snapshot of newestFirst(
    snapshots.map((one) => ({ snapshot: one, arrived: one.arrived, when: one.arrived })),
  )) {
    const day = BUCKETS.daily(snapshot.when);
    days.set(day, [...(days.get(day) ?? []), snapshot.snapshot]);
  }
  const lasts = [...days.values()].flatMap(([last]) => (last === undefined ? [] : [last]));
  const { kept } = applyRules(
    lasts.map((snapshot) => ({ snapshot, arrived: snapshot.arrived, when: snapshot.arrived })),
    options,
    new Set(
      [...days.values()].flatMap(([last, ...more]) =>
        last && [last, ...more].some(({ id }) => floor.has(id)) ? [last.id] : [],
      ),
    ),
  );
  const reasons = new Map(kept.map((one) => [BUCKETS.daily(one.snapshot.arrived), one.reasons]));
  const all = [...days].map(([day, members]) => ({ why: reasons.get(day), members }));
  return {
    kept: all.flatMap(({ why, members }) =>
      why === undefined ? [] : members.map((snapshot) => ({ snapshot, reasons: why })),
    ),
    removed: all.flatMap(({ why, members }) => (why === undefined ? members : [])),
  };
}

/** What the gateway lets nobody remove (src/restic/floor.ts), so that a run of `forget` does not fail by it. */
function floorOf(snapshots: readonly SealedSnapshot[], { protectMs, now }: SelectOptions): ReadonlySet<string> {
  if (protectMs === undefined) return new Set();
  const since = now.getTime() - protectMs;
  const timeOf = ({ arrived, stored }: SealedSnapshot): number => Math.max(arrived.getTime(), stored?.getTime() ?? 0);
  const latest = new Map<string | undefined, SealedSnapshot[]>();
  for (const one of snapshots) {
    const own = latest.get(one.client);
    if (own === undefined) latest.set(one.client, [one]);
    else own.push(one);
  }
  const newest = [...latest.values()].flatMap((own) =>
    own.sort((one, other) => timeOf(other) - timeOf(one) || (one.id > other.id ? -1 : 1)).slice(0, ALWAYS_KEPT),
  );
  return new Set([...snapshots.filter((one) => timeOf(one) > since), ...newest].map(({ id }) => id));
}

type GroupIdentity = Pick<SnapshotGroup, 'host' | 'paths' | 'tags'>;

/** As `restic forget --group-by` takes it: in whatever order paths and tags are. */
function identityOf({ host, paths, tags }: ArrivedSnapshot, by: readonly GroupKey[]): GroupIdentity {
  return {
    ...(by.includes('host') && { host }),
    ...(by.includes('paths') && { paths: [...paths].sort() }),
    ...(by.includes('tags') && { tags: [...tags].sort() }),
  };
}

interface Timed<S> {
  readonly snapshot: S;
  readonly arrived: Date;
  /** What the rules go by. */
  readonly when: Date;
}

function newestFirst<S extends SealedSnapshot>(snapshots: readonly Timed<S>[]): readonly Timed<S>[] {
  const order = (one: Timed<S>, other: Timed<S>): number =>
    other.when.getTime() - one.when.getTime() || (one.snapshot.id < other.snapshot.id ? -1 : 1);
  return [...snapshots].sort(order);
}

/** The parts of the calendar that rules count by, each as a number of its own. */
const BUCKETS = {
  hourly: (time: Date): number => BUCKETS.daily(time) * 100 + time.getHours(),
  daily: (time: Date): number => BUCKETS.monthly(time) * 100 + time.getDate(),
  weekly: isoWeek,
  monthly: (time: Date): number => time.getFullYear() * 100 + time.getMonth() + 1,
  yearly: (time: Date): number => time.getFullYear(),
} as const;
const PERIODS = Object.keys(BUCKETS) as (keyof typeof BUCKETS)[];

/** `202653`: the week's year and number, by ISO 8601 those of its Thursday. */
function isoWeek(time: Date): number {
  const thursday = new Date(time.getFullYear(), time.getMonth(), time.getDate() + 3 - ((time.getDay() + 6) % 7));
  const first = new Date(thursday.getFullYear(), 0, 1);
  // Days may have 23 or 25 hours.
  const days = Math.round((thursday.getTime() - first.getTime()) / 86_400_000);
  return thursday.getFullYear() * 100 + Math.floor(days / 7) + 1;
}

/** A rule that counts: how many it may still keep, and of which bucket its last one was. */
interface Rule {
  readonly name: string;
  readonly bucket: (time: Date, index: number) => number;
  left: number;
  /** In ms: it takes only what is newer; else all. */
  readonly after: number;
  last: number | undefined;
}

function applyRules<S extends SealedSnapshot>(
  snapshots: readonly Timed<S>[],
  { policy, now }: SelectOptions,
  floor: ReadonlySet<string>,
): { readonly kept: readonly Kept<S>[]; readonly removed: readonly S[] } {
  const ordered = newestFirst(snapshots);
  const newest = ordered.find(({ when }) => when < now)?.when;
  const within = policy['keep-within'];
  const rules = rulesOf(policy, newest);
  const byArrival = [...ordered].sort((one, other) => other.arrived.getTime() - one.arrived.getTime());
  const lastArrived = new Set(byArrival.slice(0, ALWAYS_KEPT));

  const kept: Kept<S>[] = [];
  const removed: S[] = [];
  for (const [index, timed] of ordered.entries()) {
    const { snapshot, when } = timed;
    const reasons: string[] = [];
    if (within !== undefined && when.getTime() > before(newest, within)) reasons.push(`within ${formatSpan(within)}`);
    for (const rule of rules) {
      if (rule.left <= 0 || when.getTime() <= rule.after) continue;
      const bucket = rule.bucket(when, index);
      const again = bucket === rule.last;
      // While a rule has some left, the oldest of all stays too, as restic has it: so that history is as long as it can be.
      if (again && index < ordered.length - 1) continue;
      rule.last = bucket;
      rule.left -= 1;
      reasons.push(again ? `oldest ${rule.name}` : rule.name);
    }
    if (floor.has(snapshot.id)) reasons.push('protected');
    if (index < ALWAYS_KEPT || lastArrived.has(timed)) reasons.push(`one of the newest ${ALWAYS_KEPT}`);
    if (reasons.length > 0) kept.push({ snapshot, reasons });
    else removed.push(snapshot);
  }
  return { kept, removed };
}

function rulesOf(policy: RetentionPolicy, newest: Date | undefined): readonly Rule[] {
  const always = (_time: Date, index: number): number => index;
  const counting = (name: string, count: number | 'unlimited' | undefined, bucket: Rule['bucket']): readonly Rule[] => {
    const left = count === 'unlimited' ? Infinity : (count ?? 0);
    return left > 0 ? [{ name, bucket, left, after: -Infinity, last: undefined }] : [];
  };
  const timed = PERIODS.flatMap((period): readonly Rule[] => {
    const span = policy[`keep-within-${period}`];
    if (span === undefined) return [];
    const name = `${period} within ${formatSpan(span)}`;
    return [{ name, bucket: BUCKETS[period], left: Infinity, after: before(newest, span), last: undefined }];
  });
  return [
    ...counting('last snapshot', policy['keep-last'], always),
    ...PERIODS.flatMap((period) => counting(`${period} snapshot`, policy[`keep-${period}`], BUCKETS[period])),
    ...timed,
  ];
}

/** So long before a time, by the calendar, in ms; before all time where there is none. */
function before(time: Date | undefined, { years, months, days, hours }: CalendarSpan): number {
  if (time === undefined) return -Infinity;
  const moved = new Date(time);
  moved.setFullYear(time.getFullYear() - years, time.getMonth() - months, time.getDate() - days);
  return moved.getTime() - hours * 3_600_000;
}

function formatSpan({ years, months, days, hours }: CalendarSpan): string {
  const parts = [years && `${years}y`, months && `${months}m`, days && `${days}d`, hours && `${hours}h`];
  return parts.filter((part) => part !== 0).join('');
}
