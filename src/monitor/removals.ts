/**
 * How much of a repository was removed of late, and how much is usual: what the rule `mass-removal` goes by. Pure.
 *
 * Removals by the admin are in what a repository holds, and never in what the rule looks at. Nobody who has a client's key for a week can
 * move what is compared with: what arrived in the last week does not make a repository larger here, and what was removed in it is not usual.
 */
import {
  DAY_MS,
  dayOf,
  estimatedSize,
  KEPT_DAYS,
  LOOK_BACK_DAYS,
  type RemovedHour,
  type RepositoryDay,
  type RepositoryRecord,
} from './model.ts';

const HOUR_MS = 3_600_000;
/** Snapshots of this age count by themselves as well: where many are made each day, all old ones are but a small share of all. */
const OLD_MS = 21 * DAY_MS;
/** What happened in the last week is not usual yet, unless there was nothing before. */
const NEW_DAYS = 7;
const YOUNG_DAYS = 15;
/** Of a repository that is younger, nobody knows yet what a week usually takes: two weeks before the last one tell. */
const WEEKS_KNOWN_DAYS = 29;
/** Fewer than this say nothing: whoever keeps the last two thins out by halves. */
const LEAST_SNAPSHOTS = 5;
const LEAST_OLD = 3;
const LEAST_BYTES = 5 * 2 ** 20;
const LEAST_NEARLY_ALL_BYTES = 64 * 2 ** 10;
/** So much is removed of a repository as a whole, however little that is. */
const NEARLY_ALL = 0.9;
const USUAL_FACTOR = 1.5;

/** What counts: snapshots, those of them that are old, and bytes. */
export const MEASURES = ['snapshots', 'old', 'bytes'] as const;
type Measure = (typeof MEASURES)[number];

/** What was removed within a time that ends now. */
interface Loss {
  readonly measure: Measure;
  readonly removed: number;
  /** Of how much. */
  readonly of: number;
  /** At most 1. */
  readonly share: number;
}

/** A snapshot has arrived, or `by` is -1 and it has not after all. */
export function countArrival(repository: RepositoryRecord, at: number, by: 1 | -1): void {
  const day = dayRecord(repository, at);
  day.arrived += by;
  repository.held += by;
}

/** What is removed. */
interface Removal {
  readonly at: number;
  readonly snapshots: 0 | 1;
  /** When the snapshot arrived, where the audit says so. */
  readonly arrived: number | undefined;
  readonly bytes: number;
  /** By the admin. */
  readonly admin: boolean;
}

/** Something was removed, or `by` is -1 and it is there after all. */
export function countRemoval(repository: RepositoryRecord, removal: Removal, by: 1 | -1): void {
  const { at, snapshots, arrived, bytes, admin } = removal;
  const today = dayRecord(repository, at);
  if (snapshots === 1) {
    repository.held -= by;
    goneOf(repository, arrived, by).gone += by;
  }
  if (admin) return;
  const old = snapshots === 1 && arrived !== undefined && at - arrived >= OLD_MS ? 1 : 0;
  const hour = Math.floor(at / HOUR_MS);
  let now = repository.hours.find((one) => one.hour === hour);
  if (now === undefined) {
    now = { hour, snapshots: 0, old: 0, bytes: 0 };
    repository.hours = repository.hours.filter((one) => one.hour > hour - 24 * NEW_DAYS && one.hour <= hour);
    repository.hours.push(now);
  }
  for (const counts of [now, today.removed]) {
    counts.snapshots = Math.max(0, counts.snapshots + by * snapshots);
    counts.old = Math.max(0, counts.old + by * old);
    counts.bytes = Math.max(0, counts.bytes + by * bytes);
  }
}

/**
 * What undo took out of the repository, or anything brought back into it: the newest first.
 * @param of - the day to count it on, as an earlier call returned it: to take that back
 * @returns the day that it was counted on; empty for those that are not kept any more
 */
export function countTakenOut(repository: RepositoryRecord, at: number, by: 1 | -1, of?: string): string {
  dayRecord(repository, at);
  repository.held -= by;
  const day = repository.days.findLast((one) =>
    of === undefined ? (by === 1 ? one.arrived > one.gone : one.gone > 0) : one.day === of,
  );
  (day ?? repository.past).gone += by;
  return day?.day ?? '';
}

/** The admin has seen what was removed so far. */
export function settleRemovals(repository: RepositoryRecord): void {
  repository.hours = [];
}

/** What was removed in the last day, or the last week, that is much more than what is usual. @param span - in days */
export function lossesOf(repository: RepositoryRecord, at: number, span: 1 | 7): readonly Loss[] {
  const age = ageOf(repository, at);
  if (span === 7 && age < WEEKS_KNOWN_DAYS) return [];
  const since = Math.floor(at / HOUR_MS) - 24 * span;
  const lately = repository.hours.filter(({ hour }) => hour > since);
  return MEASURES.flatMap((measure) => {
    const removed = lately.reduce((sum, one) => sum + one[measure], 0);
    if (removed < leastOf(measure)) return [];
    const of = Math.max(heldBefore(repository, measure, { at, age, span, removed }), 1);
    const share = Math.min(1, removed / of);
    if (measure === 'bytes' && removed < LEAST_BYTES && share < NEARLY_ALL) return [];
    if (removed <= USUAL_FACTOR * usual(repository, measure, { at, age, span })) return [];
    return [{ measure, removed, of: Math.max(of, removed), share }];
  });
}

function leastOf(measure: Measure): number {
  return measure === 'bytes' ? LEAST_NEARLY_ALL_BYTES : measure === 'old' ? LEAST_OLD : LEAST_SNAPSHOTS;
}

/** A moment, how many days the repository has been known, and the time that is looked at. */
interface Span {
  readonly at: number;
  readonly age: number;
  readonly span: 1 | 7;
}

/** Of how much it was removed; 0 where that is not known. */
function heldBefore(
  repository: RepositoryRecord,
  measure: Measure,
  { at, age, span, removed }: Span & { readonly removed: number },
): number {
  if (measure === 'old') {
    const newest = dayOf(at - span * DAY_MS - OLD_MS);
    const { past, days } = repository;
    const left = days.reduce(
      (sum, { day, arrived, gone }) => (day <= newest ? sum + arrived - gone : sum),
      past.arrived - past.gone,
    );
    return Math.max(0, left) + removed;
  }
  const size = estimatedSize(repository);
  // Without its beginning in the audit, what it held is not known.
  if (measure === 'bytes' && size === undefined) return Infinity;
  const now = Math.max(0, measure === 'bytes' ? (size ?? 0) : repository.held) + removed;
  if (age <= NEW_DAYS) return now;
  const oldest = dayOf(at - NEW_DAYS * DAY_MS);
  const before = repository.days.findLast(({ day }) => day <= oldest);
  const beginnings = repository.days.filter(({ day }) => day >= (before?.day ?? oldest));
  const held = beginnings.map((one) => (measure === 'bytes' ? one.size : one.held)).filter((each) => each > 0);
  return Math.min(now, ...held);
}

/** What was removed on the second busiest day, or in the second busiest week, of the six weeks before the last one: one alone is no habit. */
function usual(repository: RepositoryRecord, measure: Measure, { at, age, span }: Span): number {
  const young = age < YOUNG_DAYS;
  const dayBack = (days: number): string => dayOf(at - days * DAY_MS);
  const [newest, oldest] = [dayBack(young ? 1 : NEW_DAYS + 1), dayBack(LOOK_BACK_DAYS)];
  const days = repository.days.filter(({ day }) => day >= oldest && day <= newest);
  const sums =
    span === 1
      ? days.map(({ removed }) => removed[measure])
      : Array.from({ length: Math.floor(LOOK_BACK_DAYS / 7) - 1 }, (_, index) => {
          const [from, to] = [dayBack(7 * index + 14), dayBack(7 * index + 8)];
          return days.reduce((sum, { day, removed }) => (day >= from && day <= to ? sum + removed[measure] : sum), 0);
        });
  const [most = 0, second = 0] = sums.sort((a, b) => b - a);
  return young ? most : second;
}

/** How many days ago it was first seen. */
function ageOf({ first }: RepositoryRecord, at: number): number {
  return (at - first) / DAY_MS;
}

/** Where a snapshot counts as gone: on the day on which it came; where nobody says which, of the oldest that are left. */
function goneOf(repository: RepositoryRecord, arrived: number | undefined, by: 1 | -1): { gone: number } {
  if (arrived !== undefined) {
    const day = dayOf(arrived);
    return repository.days.find((one) => one.day === day) ?? repository.past;
  }
  const { past, days } = repository;
  if (by === -1) return [...days].reverse().find(({ gone }) => gone > 0) ?? past;
  return past.arrived > past.gone ? past : (days.find((one) => one.arrived > one.gone) ?? past);
}

/** The figures of the day; of too many days, the oldest are only counted. */
function dayRecord(repository: RepositoryRecord, at: number): RepositoryDay {
  if (repository.first === 0) repository.first = at;
  const day = dayOf(at);
  const last = repository.days.at(-1);
  // Lines of several processes may be out of order by a moment.
  if (last !== undefined && last.day >= day) return repository.days.findLast((one) => one.day === day) ?? last;
  const made: RepositoryDay = {
    ...{ day, held: Math.max(0, repository.held), size: estimatedSize(repository) ?? 0, arrived: 0, gone: 0 },
    removed: { snapshots: 0, old: 0, bytes: 0 },
  };
  repository.days.push(made);
  const [dropped] = repository.days.length > KEPT_DAYS ? repository.days.splice(0, 1) : [];
  if (dropped !== undefined) {
    repository.past.arrived += dropped.arrived;
    repository.past.gone += dropped.gone;
  }
  return made;
}

/** The clock was ahead, and is at `at` now. */
export function bringRepositoryBack(repository: RepositoryRecord, at: number): void {
  const newest = dayOf(at);
  const ahead = repository.days.filter(({ day }) => day > newest);
  repository.first = Math.min(repository.first, at);
  const hour = Math.floor(at / HOUR_MS);
  const later: RemovedHour[] = repository.hours.filter((one) => one.hour > hour);
  repository.hours = repository.hours.filter((one) => one.hour <= hour);
  if (later.length > 0) {
    const sum = (of: (one: RemovedHour) => number): number => later.reduce((total, one) => total + of(one), 0);
    repository.hours.push({
      hour,
      ...{ snapshots: sum((one) => one.snapshots), old: sum((one) => one.old) },
      bytes: sum((one) => one.bytes),
    });
  }
  if (ahead.length === 0) return;
  repository.days = repository.days.filter(({ day }) => day <= newest);
  const today = dayRecord(repository, at);
  for (const { arrived, gone, removed } of ahead) {
    today.arrived += arrived;
    today.gone += gone;
    for (const measure of MEASURES) today.removed[measure] += removed[measure];
  }
}
