/**
 * What a target is to be told: the difference between what is wrong and what it was told of. Pure.
 *
 * Nothing counts as told before it has arrived. So nothing is lost while a target is down, nothing is told again after a restart, and a client
 * whose state goes to and fro costs no more than the messages that it is allowed: what changed meanwhile is told as it stands then.
 */
import type { NotifySeverity, NotifyTarget } from '../config/notify.ts';
import { takeTurn } from '../core/schedule.ts';
import type { ClientState } from '../monitor/client-status.ts';
import type { Condition } from './conditions.ts';
import { isWithin, latestMoment } from './local-time.ts';
import type { Told, ToldCondition } from './told.ts';

/** One line of a message. */
export interface Item extends Pick<ToldCondition, 'event' | 'rule' | 'severity' | 'since' | 'what'> {
  readonly key: string;
  /**
   * `new`; `worse` than it was when it was told; `over`; `still` there, in a reminder or digest; `missed`: it began and ended while the target could
   * not be reached.
   */
  readonly state: 'new' | 'worse' | 'over' | 'still' | 'missed';
  readonly client?: string;
  /** Empty where there is none. */
  readonly advice: string;
}

/** What is to be sent. */
export interface Draft {
  readonly kind: 'change' | 'reminder' | 'digest';
  /** How many the target was sent before. */
  readonly number: number;
  /** In ms since 1970. */
  readonly at: number;
  /** The worst of what is new, worse or still there; `ok` when there is nothing but ends. */
  readonly severity: NotifySeverity | 'ok';
  /** The worst first. */
  readonly items: readonly Item[];
  /** How many clients are in each state, in a digest. */
  readonly census?: Census;
}

/** How many clients are in each state. */
export type Census = Readonly<Partial<Record<ClientState, number>>>;

/** What comes of a plan. */
export interface Planned {
  /** Undefined: there is nothing to tell now. */
  readonly draft: Draft | undefined;
  /** What is to be kept when there is nothing to tell, when the draft has arrived, and when it could not be sent. */
  readonly kept: Told;
  readonly arrived: Told;
  readonly failed: Told;
}

/** Of each client and severity, a target gets so many messages at once, and then one each so many ms. */
const BURST = 5;
const COST_MS = 20 * 60_000;
/** Reminders that would come within this, in ms, come along with one that is due. */
const TOGETHER_MS = 6 * 3_600_000;
/** When the digest comes, in minutes since midnight. */
const DIGEST_MINUTES = 8 * 60;
/** A digest that is not older than this before its time was that of this week: clocks are set forward and back. */
const SLACK_MS = 2 * 3_600_000;
/** How many that began and ended meanwhile are kept. */
const MOST_MISSED = 200;

const RANK = { critical: 2, warning: 1, ok: 0 } as const;

/** Whether a target is to hear of something. */
export function isWanted(
  { name, events, severity, clients }: NotifyTarget,
  one: Pick<Condition, 'event' | 'severity' | 'client' | 'target'>,
): boolean {
  if (!events.includes(one.event) || RANK[one.severity] < RANK[severity] || one.target === name) return false;
  const { client } = one;
  return client === undefined || clients === undefined || clients.some((pattern) => matches(pattern, client.name));
}

/** Whether a name is that of a pattern with `*`. */
export function matches(pattern: string, name: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  if (rest.length === 0) return pattern === name;
  const last = rest.pop() ?? '';
  if (!name.startsWith(first) || name.length < first.length + last.length || !name.endsWith(last)) return false;
  let at = first.length;
  const end = name.length - last.length;
  for (const part of rest) {
    const found = name.indexOf(part, at);
    if (found < 0 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}

/**
 * Plans the next message of a target.
 * @param census - undefined while nobody knows
 * @param now - in ms since 1970, as all times here
 */
export function plan(
  target: NotifyTarget,
  told: Told,
  conditions: readonly Condition[],
  census: Census | undefined,
  now: number,
): Planned {
  const wanted = new Map(conditions.filter((one) => isWanted(target, one)).map((one) => [one.key, one]));
  const quiet = target.quietHours !== undefined && isWithin(now, target.quietHours, target.timeZone);
  const waiting = Object.fromEntries(
    [...wanted].filter(([key]) => told.open[key] === undefined).map(([key]) => [key, told.waiting[key] ?? now]),
  );
  const missed = stillMissed(target, told, wanted, now);
  const open = Object.fromEntries(
    // What the config does not have it told of any more is nobody's business: no end is told.
    Object.entries(told.open).filter(([key, one]) => wanted.has(key) || isWanted(target, one)),
  );
  const spent = Object.fromEntries(Object.entries(told.spent).filter(([, at]) => at > now));
  const kept: Told = { ...told, waiting, missed, open, spent };
  const { sent } = told;

  const changes = withinBudget(changesOf({ kept, wanted, quiet, now }), spent, now);
  const reminders = quiet ? [] : remindersOf(target, kept, wanted, now);
  if (changes.items.length > 0 || reminders.length > 0) {
    const items = [...changes.items, ...reminders];
    const kind = changes.items.length > 0 ? 'change' : 'reminder';
    return {
      draft: draftOf(kind, sent, items, now),
      kept,
      arrived: afterArrival({ ...kept, spent: changes.spent }, items, wanted, now),
      failed: { ...kept, missed: withMissed(missed, items, wanted, now) },
    };
  }
  if (!quiet && census !== undefined && isDigestDue(target, told, now)) {
    const items = Object.entries(open).flatMap(([key, one]) => {
      const condition = wanted.get(key);
      return condition === undefined ? [] : [itemOf(key, 'still', { ...one, what: condition.what }, condition.advice)];
    });
    return {
      draft: { ...draftOf('digest', sent, items, now), census },
      kept,
      arrived: { ...kept, sent: sent + 1, digest: now },
      failed: kept,
    };
  }
  return { draft: undefined, kept, arrived: kept, failed: kept };
}

/** What has changed since it was told. */
function changesOf({
  kept,
  wanted,
  quiet,
  now,
}: {
  readonly kept: Told;
  readonly wanted: ReadonlyMap<string, Condition>;
  readonly quiet: boolean;
  readonly now: number;
}): readonly Item[] {
  const items: Item[] = [];
  for (const [key, one] of wanted) {
    const before = kept.open[key];
    const since = before?.since ?? one.since ?? kept.waiting[key] ?? now;
    if (quiet && one.severity !== 'critical') continue;
    if (before !== undefined) {
      if (one.level !== undefined && one.level > (before.level ?? 0))
        items.push(itemOf(key, 'worse', { ...one, since }, one.advice));
    } else if (one.afterMs === undefined || now - (kept.waiting[key] ?? now) >= one.afterMs)
      items.push(itemOf(key, 'new', { ...one, since }, one.advice));
  }
  for (const [key, one] of Object.entries(kept.missed))
    if (!wanted.has(key) && !(quiet && one.severity !== 'critical')) items.push(itemOf(key, 'missed', one, ''));
  // An end can wait until the morning.
  if (!quiet)
    for (const [key, one] of Object.entries(kept.open)) if (!wanted.has(key)) items.push(itemOf(key, 'over', one, ''));
  return items;
}

function itemOf(
  key: string,
  state: Item['state'],
  { event, rule, severity, since, what, client }: Omit<ToldCondition, 'told' | 'reminders'>,
  advice: string,
): Item {
  return {
    key,
    state,
    event,
    rule,
    severity,
    since,
    what,
    ...(client !== undefined && { client: client.name }),
    advice,
  };
}

/** Those for which their client, or the gateway, has a message left; all that is about one client is one message. */
function withinBudget(
  items: readonly Item[],
  before: Readonly<Record<string, number>>,
  now: number,
): { readonly items: readonly Item[]; readonly spent: Readonly<Record<string, number>> } {
  const spent = new Map(Object.entries(before));
  const allowed = new Map<string, boolean>();
  const within = items.filter(({ client, severity }) => {
    // Each severity by itself: what is not critical must not use up what is.
    const whose = `${client ?? ''}/${severity}`;
    const known = allowed.get(whose) ?? takeMessage(spent, whose, now);
    allowed.set(whose, known);
    return known;
  });
  return { items: within, spent: Object.fromEntries(spent) };
}

/** Takes one of the messages that may be sent about something; false when there is none left now. */
export function takeMessage(spent: Map<string, number>, whose: string, now: number): boolean {
  const schedule = {
    read: () => spent.get(whose) ?? 0,
    move: (to: number) => {
      spent.set(whose, to);
    },
  };
  return takeTurn(schedule, now, { costMs: COST_MS, burstMs: BURST * COST_MS, longestMs: 0 }) !== undefined;
}

function remindersOf(
  { reminders }: NotifyTarget,
  { open }: Told,
  wanted: ReadonlyMap<string, Condition>,
  now: number,
): readonly Item[] {
  const due = Object.entries(open).flatMap(([key, one]) => {
    const condition = wanted.get(key);
    const distance = reminders[Math.min(one.reminders, reminders.length - 1)];
    if (condition === undefined || distance === undefined) return [];
    return [
      { at: one.told + distance, item: itemOf(key, 'still', { ...one, what: condition.what }, condition.advice) },
    ];
  });
  if (!due.some(({ at }) => at <= now)) return [];
  return due.filter(({ at }) => at <= now + TOGETHER_MS).map(({ item }) => item);
}

function draftOf(kind: Draft['kind'], number: number, items: readonly Item[], at: number): Draft {
  const order: readonly Item['state'][] = ['new', 'worse', 'missed', 'over', 'still'];
  const sorted = [...items].sort(
    (a, b) =>
      order.indexOf(a.state) - order.indexOf(b.state) || RANK[b.severity] - RANK[a.severity] || a.since - b.since,
  );
  const bad = sorted.filter(({ state }) => state !== 'over' && state !== 'missed');
  const severity = bad.some((one) => one.severity === 'critical') ? 'critical' : bad.length > 0 ? 'warning' : 'ok';
  return { kind, number, at, severity, items: sorted };
}

/** What a target knows once these have arrived. */
function afterArrival(before: Told, items: readonly Item[], wanted: ReadonlyMap<string, Condition>, now: number): Told {
  const open = new Map(Object.entries(before.open));
  const waiting = new Map(Object.entries(before.waiting));
  const missed = new Map(Object.entries(before.missed));
  for (const { key, state, since } of items) {
    waiting.delete(key);
    missed.delete(key);
    const condition = wanted.get(key);
    if (condition === undefined || state === 'over' || state === 'missed') open.delete(key);
    else {
      const reminders = state === 'still' ? (open.get(key)?.reminders ?? 0) + 1 : 0;
      open.set(key, { ...toldOf(condition, since), told: now, reminders });
    }
  }
  return {
    ...before,
    sent: before.sent + 1,
    open: Object.fromEntries(open),
    waiting: Object.fromEntries(waiting),
    missed: Object.fromEntries(missed),
  };
}

function toldOf(
  { event, rule, severity, client, what, level }: Condition,
  since: number,
): Omit<ToldCondition, 'told' | 'reminders'> {
  return { event, rule, severity, since, what, ...(client && { client }), ...(level !== undefined && { level }) };
}

/** Those that could not be told and are over, or may be by the next time. */
function stillMissed(
  target: NotifyTarget,
  { missed, open }: Told,
  wanted: ReadonlyMap<string, Condition>,
  now: number,
): Told['missed'] {
  return Object.fromEntries(
    Object.entries(missed)
      .filter(([key, one]) => open[key] === undefined && isWanted(target, one))
      // When it was over is when that was first seen.
      .map(([key, one]) => [key, wanted.has(key) || one.reminders > 0 ? one : { ...one, told: now, reminders: 1 }]),
  );
}

function withMissed(
  before: Told['missed'],
  items: readonly Item[],
  wanted: ReadonlyMap<string, Condition>,
  now: number,
): Told['missed'] {
  const all = new Map(Object.entries(before));
  for (const { key, state, since } of items) {
    const condition = wanted.get(key);
    if (state !== 'new' || condition === undefined || all.has(key) || all.size >= MOST_MISSED) continue;
    all.set(key, { ...toldOf(condition, since), told: now, reminders: 0 });
  }
  return Object.fromEntries(all);
}

function isDigestDue({ digest, timeZone }: NotifyTarget, told: Told, now: number): boolean {
  return digest !== undefined && told.digest < latestMoment(now, digest, DIGEST_MINUTES, timeZone) - SLACK_MS;
}
