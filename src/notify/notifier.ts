/**
 * Tells the targets of the config what they are to be told: looks, compares with what each was told, sends, and writes down what has arrived. One
 * message of a target is under way at a time, and none waits for another target's.
 */
import { setImmediate } from 'node:timers/promises';
import type { NotifyTarget } from '../config/notify.ts';
import { messageOf as whatWentWrong } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import { within } from '../core/waiting.ts';
import type { ClientStatus } from '../monitor/client-status.ts';
import type { Log } from '../ports/log.ts';
import { conditionsOf, type Condition, type Knowledge } from './conditions.ts';
import { SendError } from './http.ts';
import { messageOf } from './message.ts';
import { firstPings, planPings, type Ping } from './pings.ts';
import { isWanted, plan, type Census, type Planned } from './plan.ts';
import { openSender, type Sender } from './send.ts';
import { emptyTold, LONGEST_TEXT, readReach, readTold, writeReach, writeTold, type Reach, type Told } from './told.ts';

/** What is known when it is looked; without `statuses` where they cannot be known now. */
export type Look = Omit<Knowledge, 'statuses'> & { readonly statuses: readonly ClientStatus[] | undefined };

export interface Notifier {
  /** Looks once, and begins to send what is to be sent. Never rejects. */
  round(): Promise<void>;
  /** Resolves when nothing is being sent. */
  settled(): Promise<void>;
  /** Ends what is being sent: it is sent by the next one. Never rejects. */
  close(): Promise<void>;
}

/** After so long, in ms, a target that could not be reached is tried again; the last one for all further times. */
const PAUSES_MS = [5000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000] as const;
/** How many of these there are for pings, which have to come in time. */
const SHORT_PAUSES = 3;
/** How many pings are under way at once, and how many are sent of one look: the next look finds the others. */
const PINGS_AT_ONCE = 4;
const MOST_PINGS = 200;
/** How long the end waits for what is being sent, in ms. */
const CLOSE_MS = 2000;

/** @param options.look - what is wrong now @param options.now - the time of day, in ms since 1970 @param options.gateway - this host's name */
export function openNotifier(options: {
  readonly targets: readonly NotifyTarget[];
  readonly state: string;
  readonly gateway: string;
  readonly log: Log;
  readonly now: () => number;
  readonly look: () => Promise<Look>;
}): Notifier {
  const { targets, look, log } = options;
  const closing = new AbortController();
  const each = targets.map((target) => openTarget(target, { ...options, signal: closing.signal }));
  let isBlind = false;
  return {
    round: async () => {
      let seen: Look;
      try {
        seen = await look();
        isBlind = false;
      } catch (error) {
        if (!isBlind) log.error({ err: error }, `nobody can be notified: ${whatWentWrong(error)}`);
        isBlind = true;
        return;
      }
      const conditions = conditionsOf({ ...seen, statuses: seen.statuses ?? [] }).map((one) => ({
        ...one,
        what: printable(one.what, LONGEST_TEXT),
      }));
      for (const one of each) {
        // Of many clients, each takes its time.
        await setImmediate();
        if (!closing.signal.aborted) await one.take(seen, conditions);
      }
    },
    settled: async () => {
      await Promise.all(each.map((one) => one.settled()));
    },
    close: async () => {
      closing.abort();
      await within(CLOSE_MS, Promise.all(each.map((one) => one.close())));
    },
  };
}

interface OpenTarget {
  take(seen: Look, found: readonly Condition[]): Promise<void>;
  settled(): Promise<void>;
  close(): Promise<void>;
}

function openTarget(
  target: NotifyTarget,
  { state, gateway, log, now, signal }: Parameters<typeof openNotifier>[0] & { readonly signal: AbortSignal },
): OpenTarget {
  const { name } = target;
  const sender = openSender(target, signal);
  let told: Told | undefined;
  let reach: Reach = { pending: 0 };
  let sending: Promise<void> | undefined;
  const write = openWriter(state, name, log);
  const keep = (): Promise<void> => write(told, reach);

  const reached = (): void => {
    if (reach.failing !== undefined) log.info({ target: name }, `notifications reach ${name} again`);
    reach = { pending: reach.pending, lastSuccess: now() };
  };
  const notReached = (error: unknown): void => {
    // What is cut off at the end is no failure of the target's.
    if (signal.aborted) return;
    const { since = now(), tries = 0 } = reach.failing ?? {};
    const why = printable(whatWentWrong(error), LONGEST_TEXT);
    // A ping that comes late is as good as none.
    const most = target.channel.type === 'ping' ? SHORT_PAUSES : PAUSES_MS.length;
    const pause = PAUSES_MS[Math.min(tries, most - 1)] ?? 0;
    const refused = error instanceof SendError && error.refused;
    if (tries === 0) log.warn({ err: error, target: name }, `${name} was not notified, and is tried again: ${why}`);
    reach = { ...reach, failing: { since, why, refused, tries: tries + 1, next: now() + pause } };
  };

  const sendMessage = async ({ draft, arrived, failed }: Planned): Promise<void> => {
    if (draft === undefined) return;
    try {
      await sender.send(messageOf(draft, name, gateway));
      told = arrived;
      reach = { ...reach, pending: 0 };
      reached();
    } catch (error) {
      told = failed;
      notReached(error);
    }
    await keep();
  };

  const sendPings = async (before: Told, pings: readonly Ping[]): Promise<void> => {
    const { arrived, refused, refusal, failure: broken } = await pingAll(sender, pings.slice(0, MOST_PINGS));
    if (arrived.length > 0)
      for (const { client = 'the gateway' } of refused)
        log.warn(
          { err: refusal, target: name, client },
          `${name} refuses the ping of ${client}: ${whatWentWrong(refusal)}`,
        );
    // One that others are taken beside is not tried again before its client has something new.
    const settled = arrived.length > 0 ? [...arrived, ...refused] : [];
    told = {
      ...before,
      pings: { ...before.pings, ...Object.fromEntries(settled.map((one) => [one.key, one.told])) },
      spent: { ...before.spent, ...Object.fromEntries(settled.flatMap(({ spent }) => (spent ? [spent] : []))) },
    };
    const failure = broken ?? (arrived.length === 0 ? refusal : undefined);
    if (failure === undefined) reached();
    else notReached(failure);
    await keep();
  };

  return {
    take: async (seen, found) => {
      if (sending !== undefined) return;
      const time = now();
      if (told === undefined) {
        told = (await readTold(state, name)) ?? emptyTold(time);
        reach = (await readReach(state, name)) ?? reach;
      }
      const conditions = seen.statuses === undefined ? withKnown(found, told) : found;
      const before = told;
      const waits =
        reach.failing !== undefined &&
        time < reach.failing.next &&
        reach.failing.next - time <= (PAUSES_MS.at(-1) ?? 0);
      const idOf = (client: string): string => seen.clients[client]?.id ?? client;
      if (target.channel.type === 'ping') {
        const { statuses } = seen;
        told = waitingFor(target, before, conditions, time);
        if (statuses !== undefined) told = { ...told, pings: firstPings(told, statuses, idOf) };
        const pings = waits
          ? []
          : plannedPings(target, sender, told, { statuses: statuses ?? [], idOf, conditions }, time);
        reach = { ...reach, pending: pings.length };
        if (pings.length > 0) sending = sendPings(told, pings);
      } else {
        const planned = plan(
          target,
          before,
          conditions,
          seen.statuses === undefined ? undefined : censusOf(seen.statuses),
          time,
        );
        told = planned.kept;
        reach = { ...reach, pending: planned.draft?.items.length ?? 0 };
        if (!waits && planned.draft !== undefined) sending = sendMessage(planned);
      }
      // What could not be sent is no longer to be sent.
      if (sending === undefined && !waits && reach.failing !== undefined) {
        const { pending, lastSuccess } = reach;
        reach = { pending, ...(lastSuccess !== undefined && { lastSuccess }) };
      }
      if (sending === undefined) await keep();
      else
        void sending.finally(() => {
          sending = undefined;
        });
    },
    settled: async () => {
      await sending;
    },
    close: async () => {
      await sending;
      sender.close();
    },
  };
}

/** Sends pings, some at once: those that arrived and those that were refused; one that cannot be sent at all ends it. */
async function pingAll(
  sender: Sender,
  pings: readonly Ping[],
): Promise<{
  readonly arrived: readonly Ping[];
  /** Those whose check is none that the other side has: the others have theirs. */
  readonly refused: readonly Ping[];
  readonly refusal: unknown;
  readonly failure: unknown;
}> {
  const left = [...pings];
  const arrived: Ping[] = [];
  const refused: Ping[] = [];
  let failure: unknown;
  let refusal: unknown;
  const work = async (): Promise<void> => {
    for (let one = left.shift(); one !== undefined && failure === undefined; one = left.shift())
      try {
        await sender.ping(one);
        arrived.push(one);
      } catch (error) {
        if (error instanceof SendError && error.refused) {
          refused.push(one);
          refusal = error;
        } else failure = error;
      }
  };
  await Promise.all(Array.from({ length: PINGS_AT_ONCE }, work));
  return { arrived, refused, refusal, failure };
}

/** Writes what has changed. What cannot be written is known all the same as long as this process runs. */
function openWriter(state: string, name: string, log: Log): (told: Told | undefined, reach: Reach) => Promise<void> {
  let written = { told: '', reach: '' };
  let isUnwritten = false;
  return async (told, reach) => {
    const next = { told: JSON.stringify(told), reach: JSON.stringify(reach) };
    try {
      if (told !== undefined && next.told !== written.told) await writeTold(state, name, told);
      if (next.reach !== written.reach) await writeReach(state, name, reach);
      written = next;
      isUnwritten = false;
    } catch (error) {
      if (!isUnwritten)
        log.error({ err: error, target: name }, `what ${name} was told is not kept: ${whatWentWrong(error)}`);
      isUnwritten = true;
    }
  };
}

/** While nobody knows how the clients stand, what was wrong with them still is. */
function withKnown(found: readonly Condition[], { open }: Told): readonly Condition[] {
  const known = Object.entries(open).flatMap(([key, one]) =>
    one.client === undefined ? [] : [{ ...one, key, advice: '' }],
  );
  return [...found, ...known];
}

function censusOf(statuses: readonly ClientStatus[]): Census {
  const census: Partial<Record<ClientStatus['state'], number>> = {};
  for (const { state } of statuses) census[state] = (census[state] ?? 0) + 1;
  return census;
}

/** Since when each thing is seen, of a target that has no messages planned. */
function waitingFor(target: NotifyTarget, told: Told, conditions: readonly Condition[], now: number): Told {
  const wanted = conditions.filter((one) => one.afterMs !== undefined && isWanted(target, one));
  const waiting = Object.fromEntries(wanted.map(({ key }) => [key, told.waiting[key] ?? now]));
  return { ...told, waiting, spent: Object.fromEntries(Object.entries(told.spent).filter(([, at]) => at > now)) };
}

/** A URL that cannot be read is one ping that fails. */
function plannedPings(
  target: NotifyTarget,
  sender: Sender,
  told: Told,
  known: Parameters<typeof planPings>[3],
  now: number,
): readonly Ping[] {
  let url;
  try {
    url = sender.pingUrl();
  } catch {
    return [{ key: '@', kind: 'success', body: '', told: { down: false, at: now } }];
  }
  return planPings(target, url, told, known, now);
}
