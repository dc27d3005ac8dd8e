/**
 * Which pings a dead man's switch gets. Pure.
 *
 * A ping says that something went as it should; what looks after it raises the alarm when none comes. So a client's check is pinged when a
 * snapshot has arrived, and the gateway's own at an interval: then somebody notices even when this host is gone.
 */
import { CLIENT_PLACE, type NotifyTarget } from '../config/notify.ts';
import { printable } from '../core/printable.ts';
import type { ClientStatus } from '../monitor/client-status.ts';
import type { Condition } from './conditions.ts';
import { isWanted, matches, takeMessage } from './plan.ts';
import type { PingTold, Told } from './told.ts';

/** `log` changes nothing: it is a test. */
export type PingKind = 'success' | 'fail' | 'start' | 'log';

/** One ping. */
export interface Ping {
  /** In `Told.pings`. */
  readonly key: string;
  /** The client's name; undefined: the gateway's own check. */
  readonly client?: string;
  readonly kind: Exclude<PingKind, 'log'>;
  /** Why. */
  readonly body: string;
  /** What is known once it has arrived. */
  readonly told: PingTold;
  /** What it uses of the messages about its client: an entry of `Told.spent`. */
  readonly spent?: readonly [string, number];
}

/** Two pings about one client are at least so far apart, in ms. */
const LEAST_MS = 10_000;
/** The starts of backups are, too. */
const LEAST_START_MS = 10 * 60_000;
/** The gateway's own check. */
const GATEWAY = '@';
const LONGEST_BODY = 2000;

/** No name of a member that objects have by themselves. */
function keyOf(id: string): string {
  return `client/${id}`;
}

/** What a URL is the check of. */
function scopeOf({ clients }: NotifyTarget, url: string): 'clients' | 'gateway' {
  return url.includes(CLIENT_PLACE) || clients !== undefined ? 'clients' : 'gateway';
}

/** Of these clients, those that a target pings for; none where its check is the gateway's own. @param url - as in the config */
export function coveredClients(target: NotifyTarget, url: string, clients: readonly string[]): readonly string[] {
  if (scopeOf(target, url) === 'gateway') return [];
  const { clients: patterns } = target;
  return clients.filter((name) => patterns === undefined || patterns.some((pattern) => matches(pattern, name)));
}

/** @param url - as in the config; of the clients, those whose ids `idOf` knows */
export function planPings(
  target: NotifyTarget,
  url: string,
  told: Told,
  {
    statuses,
    idOf,
    conditions,
  }: {
    readonly statuses: readonly ClientStatus[];
    readonly idOf: (client: string) => string;
    readonly conditions: readonly Condition[];
  },
  now: number,
): readonly Ping[] {
  const wrong = new Map<string, string[]>();
  for (const one of conditions) {
    const key = one.client === undefined ? GATEWAY : keyOf(one.client.id);
    if (!isWanted(target, one) || (one.afterMs !== undefined && now - (told.waiting[one.key] ?? now) < one.afterMs))
      continue;
    wrong.set(key, [...(wrong.get(key) ?? []), one.what]);
  }
  const bodyOf = (key: string): string => printable((wrong.get(key) ?? []).join(' '), LONGEST_BODY);
  if (scopeOf(target, url) === 'gateway') {
    const down = wrong.has(GATEWAY);
    const before = told.pings[GATEWAY];
    const every = target.channel.type === 'ping' ? target.channel.every : 0;
    if (before !== undefined && before.down === down && now - before.at < every) return [];
    return [{ key: GATEWAY, kind: down ? 'fail' : 'success', body: bodyOf(GATEWAY), told: { down, at: now } }];
  }
  const covered = new Set(
    coveredClients(
      target,
      url,
      statuses.map(({ client }) => client),
    ),
  );
  const those = statuses.filter(({ client }) => covered.has(client));
  return those.flatMap((one) => clientPing(one, keyOf(idOf(one.client)), told, wrong, bodyOf, now) ?? []);
}

function clientPing(
  one: ClientStatus,
  key: string,
  { pings, spent: before }: Told,
  wrong: ReadonlyMap<string, unknown>,
  bodyOf: (key: string) => string,
  now: number,
): Ping | undefined {
  const last = pings[key];
  const down = wrong.has(key);
  const snapshot = one.lastSnapshot?.at.getTime();
  const known = {
    ...(snapshot !== undefined && { snapshot }),
    ...(last?.started !== undefined && { started: last.started }),
  };
  const base = { key, client: one.client };
  const turned = down !== (last?.down ?? false);
  if (last !== undefined && now - last.at < LEAST_MS) return undefined;
  if (turned) {
    const whose = `${key}/ping`;
    const spent = new Map([[whose, before[whose] ?? 0]]);
    // Whose state goes to and fro must not have alarms sent as often.
    if (!takeMessage(spent, whose, now)) return undefined;
    const told = { ...known, down, at: now };
    return { ...base, kind: down ? 'fail' : 'success', body: bodyOf(key), told, spent: [whose, spent.get(whose) ?? 0] };
  }
  if (down) return undefined;
  // What came before the check was set up is no news.
  if (snapshot !== undefined && last?.snapshot !== undefined && snapshot > last.snapshot)
    return {
      ...base,
      kind: 'success',
      body: `A snapshot arrived at ${new Date(snapshot).toISOString()}.`,
      told: { ...known, down, at: now },
    };
  const running = one.running.find(({ added, via, snapshots }) => added > 0 && snapshots === 0 && via !== 'admin');
  if (running === undefined || running.session === last?.started) return undefined;
  if (last !== undefined && now - last.at < LEAST_START_MS) return undefined;
  const told = { ...known, down, at: now, started: running.session.slice(0, 100) };
  return { ...base, kind: 'start', body: '', told };
}

/** What is known of a client that no ping was sent for yet, so that its next snapshot is news. */
export function firstPings(
  told: Told,
  statuses: readonly ClientStatus[],
  idOf: (client: string) => string,
): Told['pings'] {
  const pings: Record<string, PingTold> = {};
  for (const { client, lastSnapshot } of statuses) {
    const key = keyOf(idOf(client));
    // 0: its very first snapshot is news, too.
    pings[key] = told.pings[key] ?? { down: false, at: 0, snapshot: lastSnapshot?.at.getTime() ?? 0 };
  }
  const own = told.pings[GATEWAY];
  return { ...pings, ...(own !== undefined && { [GATEWAY]: own }) };
}

/** Source: https://healthchecks.io/docs/http_api/ @param url - as in the config */
export function pingUrl(url: string, client: string | undefined, kind: PingKind): string {
  const filled = client === undefined ? url : url.replaceAll(CLIENT_PLACE, encodeURIComponent(client));
  const place = new URL(filled);
  const base = place.pathname.replace(/\/+$/, '');
  if (kind !== 'success') place.pathname = `${base}/${kind}`;
  return place.href;
}
