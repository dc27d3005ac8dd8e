/**
 * This gateway among those that share a database: the config as it holds here, without whom any of them keeps out.
 *
 * One process of a machine asks the database and keeps `database.json` in `state`: `serve`, or else one of the forced commands. The others
 * follow that file. What was heard last holds for as long as the database is away.
 */
import { randomUUID } from 'node:crypto';
import { loadConfig } from '../config/load.ts';
import type { GatewayConfig } from '../config/types.ts';
import { messageOf } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import type { Log } from '../ports/log.ts';
import type { Away, Connection, DatabaseConfig } from './connection.ts';
import { gatewayName } from './gateway-name.ts';
import { isFresh, keptState, keptTime, readKept, touchKept, writeKept } from './kept.ts';
import type { Beat, Said } from './membership.ts';
import type { SessionKeeper } from './sessions.ts';
import { commonDigest, digestOf, subjectsOf, withoutRefused, type Revocation } from './subjects.ts';

/** How often the sessions that the database has are compared with those of this machine, in ms. */
const SESSIONS_MS = 2000;
/** How often the database is asked, and how often the file is looked at by those who follow it, in ms. */
const BEAT_MS = 1000;
const LOOK_MS = 400;
/** A forced command does not wait for a database that was found away within this, in ms, but tries it while it serves. */
const AWAY_KNOWN_MS = 60_000;
/** So often in a row another one must have said that it is this gateway. */
const TWINS = 5;
/** The most names in one line of the log. */
const MOST_NAMES = 10;

/** A gateway's part in what is shared. */
export interface Fleet {
  /** The config as it holds here now. */
  effective(): GatewayConfig;
  /** Takes up another config of this gateway. @throws what `apply` throws; the one from before holds then */
  readonly reconfigure: (next: GatewayConfig) => Promise<void>;
  /** Begins to call `apply`. */
  follow(apply: (effective: GatewayConfig) => Promise<void>): void;
  close(): Promise<void>;
}

/** The part that speaks with the database. */
interface Speaker {
  /** Takes up another config of this gateway. */
  setConfig(config: GatewayConfig): void;
  /** Says that the gateway runs and what its config refuses. @returns all revocations, where they have changed @throws DatabaseAway */
  speak(): Promise<readonly Revocation[] | undefined>;
  /** Lets go of its connection. */
  leave(): Promise<void>;
}

interface FleetOptions {
  readonly config: GatewayConfig;
  readonly database: DatabaseConfig;
  readonly version: string;
  /** Whether it is to be the one that asks; a forced command does so only while no other does. */
  readonly isServe: boolean;
  readonly log: Log;
}

/** @param heard - called when another gateway has changed something */
function createSpeaker({ config, database, version, isServe, log }: FleetOptions, heard: () => void): Speaker {
  const name = gatewayName(database);
  const self = { name, run: randomUUID(), version, started: new Date() };
  let base = config;
  /** What this config says, and when the passing of time will change it. */
  let own = saidBy(base);
  /** Whether what the config leaves out was looked at. */
  let trusted = false;
  /** What was found not fit to be told, by its digest. */
  let held = '';
  let twins = 0;
  let client: Connection | undefined;
  let revision = '';
  let clockMs = 0;
  let compared = -Infinity;
  let sessions: SessionKeeper | undefined;

  const connect = async (): Promise<Connection> => {
    // Loaded by who asks alone.
    const [{ connectOnce, ask, prepare, unref }, { CHANNEL }] = await load();
    const opened = await connectOnce(database, `restic-gateway ${name}`);
    client = opened;
    opened.on('notification', heard);
    await prepare(opened);
    await ask(opened, `listen ${CHANNEL}`);
    unref(opened);
    return opened;
  };
  const tellTwin = ({ twin }: Beat): void => {
    // The first is the run before, and a forced command that has kept the file goes on for a moment.
    twins = twin ? twins + 1 : 0;
    if (!isServe || twins !== TWINS) return;
    log.warn(
      { gateway: name },
      `another process calls itself gateway ${name}, too; if it is on another machine, give each a name of its own (database.gateway)`,
    );
  };
  return {
    setConfig: (next) => {
      const said = saidBy(next);
      // What a reload takes away has been confirmed where it was much; what is held back from the start, when it is said once more.
      trusted = held === '' || said.digest === own.digest;
      base = next;
      own = said;
      held = '';
    },
    speak: async () => {
      const open = client ?? (await connect());
      const [, members, { keepSessions }] = await load();
      sessions ??= keepSessions(config.state, name);
      const found = await members.beat(open, { ...self, config: commonDigest(base) }, clockMs);
      clockMs = found.clockMs;
      tellTwin(found);
      if (Date.now() >= own.until) own = saidBy(base);
      if (found.known !== own.digest && own.digest !== held) {
        const mine = own;
        // A forced command may have read its config a while ago.
        const said = isServe ? mine : saidBy(loadConfig(base.file));
        const outcome = await members.say(open, name, said.subjects, trusted);
        if (own === mine) held = outcome.held.length > 0 || said !== mine ? mine.digest : '';
        tellSaid(log, outcome);
      }
      if (performance.now() - compared > SESSIONS_MS) {
        compared = performance.now();
        await sessions.compare(open, (client) => base.clients[client]?.id ?? client);
      }
      if (found.revision === revision) return undefined;
      const all = await members.readRevocations(open);
      revision = found.revision;
      return all;
    },
    leave: async () => {
      const lost = client;
      client = undefined;
      revision = '';
      if (lost !== undefined) (await load())[0].drop(lost);
    },
  };
}

function load() {
  return Promise.all([import('./connection.ts'), import('./membership.ts'), import('./sessions.ts')]);
}

/** Resolves when the revocations are known, or when the database has had its short time to tell them. */
export async function openFleet(options: FleetOptions): Promise<Fleet> {
  const { database, isServe, log } = options;
  const { state } = options.config;
  const name = gatewayName(database);
  const kept = readKept(state);
  let base = options.config;
  let revocations: readonly Revocation[] = kept?.revocations ?? [];
  let away: Away | undefined = kept?.away;
  /** The file as it was last read or written here. */
  let seen = keptState(state);
  let keeps = isServe;
  /** Why the file could not be written the last time. */
  let unwritable = '';
  /** Whether somebody is to keep the file, as nobody does. */
  let isNext = false;
  let apply: ((effective: GatewayConfig) => Promise<void>) | undefined;
  let changes = Promise.resolve();

  /** One after the other, so that the newest is what stays. */
  const inOrder = (work: () => Promise<void>): Promise<void> => {
    const done = changes.then(work);
    changes = done.catch(() => undefined);
    return done;
  };
  const heard = (next: readonly Revocation[]): void => {
    const before = revocations;
    revocations = next;
    if (apply === undefined || !tellRevocations(log, before, next, name)) return;
    inOrder(async () => apply?.(withoutRefused(base, revocations, name))).catch((error: unknown) => {
      log.error({ err: error }, `what other gateways refuse could not be taken up: ${messageOf(error)}`);
    });
  };

  /** Asks, and leaves for the other processes what has come of it. */
  const keep = async (): Promise<void> => {
    const before = { revocations, away };
    try {
      const all = await speaker.speak();
      if (all !== undefined) heard(all);
      if (away !== undefined)
        log.warn({ since: away.since }, `the database answers again; it was away since ${away.since.toISOString()}`);
      away = undefined;
    } catch (error) {
      await speaker.leave();
      const why = printable(messageOf(error));
      if (away === undefined)
        log.error({ err: error }, `the database is away (${why}): clients are served by what was known last`);
      away ??= { since: new Date(), why };
    }
    try {
      // Written by another one meanwhile, or never: the newest one to begin keeps it.
      if (before.revocations === revocations && before.away === away && keptState(state) === seen) touchKept(state);
      else {
        await writeKept(state, { revocations, away });
        seen = keptState(state);
      }
      unwritable = '';
    } catch (error) {
      const why = messageOf(error);
      if (why !== unwritable) log.error({ err: error }, `other processes cannot learn what the database says: ${why}`);
      unwritable = why;
    }
  };
  const look = async (): Promise<void> => {
    if (keeps) {
      if (isServe || keptState(state) === seen || !isFresh(state)) {
        await keep();
        return;
      }
      // Another one has begun to keep it.
      keeps = false;
      await speaker.leave();
    }
    if (keptState(state) !== seen) {
      seen = keptState(state);
      const known = readKept(state);
      away = known?.away;
      if (known !== undefined) heard(known.revocations);
    }
    if (isFresh(state)) isNext = false;
    else if (isNext) {
      isNext = false;
      keeps = true;
      await keep();
    } else isNext = true;
  };
  const looking = repeatedly(
    () =>
      look().catch((error: unknown) => {
        log.error({ err: error }, `what is shared with other gateways could not be looked at: ${messageOf(error)}`);
      }),
    // Of many who see that nobody keeps the file, not all at once.
    () => (isNext ? Math.random() * BEAT_MS : keeps ? BEAT_MS : LOOK_MS),
  );
  const speaker = createSpeaker(options, looking.soon);

  const isKnownAway = away !== undefined && Date.now() - keptTime(state) < AWAY_KNOWN_MS;
  keeps ||= !isFresh(state);
  if (isServe || (keeps && !isKnownAway)) await looking.now();
  else looking.soon();

  return {
    effective: () => withoutRefused(base, revocations, name),
    reconfigure: (next) =>
      inOrder(async () => {
        await apply?.(withoutRefused(next, revocations, name));
        base = next;
        speaker.setConfig(next);
        if (keeps) looking.soon();
      }),
    follow: (given) => {
      apply = given;
    },
    close: async () => {
      await looking.stop();
      await changes;
      await speaker.leave();
    },
  };
}

/** Does work again and again, never twice at once, and keeps no process running. @param waitMs - asked after each time */
function repeatedly(work: () => Promise<void>, waitMs: () => number) {
  let working: Promise<void> | undefined;
  let again = false;
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  const inMs = (ms: number): void => {
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(() => void now(), ms).unref();
  };
  const now = (): Promise<void> =>
    (working ??= work().finally(() => {
      working = undefined;
      inMs(again ? 0 : waitMs());
      again = false;
    }));
  return {
    now,
    /** Once more as soon as may be. */
    soon: (): void => {
      if (working === undefined) inMs(0);
      else again = true;
    },
    stop: async (): Promise<void> => {
      stopped = true;
      clearTimeout(timer);
      await working;
    },
  };
}

/** What a config says, and until when, in ms since 1970. */
function saidBy(config: GatewayConfig) {
  const now = Date.now();
  const subjects = subjectsOf(config, new Date(now));
  const ends = Object.values(config.clients).flatMap(({ expires }) =>
    expires === undefined || expires.getTime() < now ? [] : expires.getTime() + 1,
  );
  return { subjects, digest: digestOf(subjects), until: ends.reduce((least, end) => Math.min(least, end), Infinity) };
}

function tellSaid(log: Log, { refused, allowed, held }: Said): void {
  if (refused.length > 0) log.info({ refused }, `the other gateways are told to refuse ${listed(refused)}`);
  if (allowed.length > 0) log.info({ allowed }, `the other gateways are told to let in ${listed(allowed)}`);
  if (held.length > 0)
    log.error(
      { held },
      `the config leaves out ${held.length} clients that it had before (${listed(held)}); the other gateways are not told. If that is meant, run: restic-gateway reload --force`,
    );
}

/** @returns whether anything of other gateways has changed */
function tellRevocations(log: Log, before: readonly Revocation[], now: readonly Revocation[], name: string): boolean {
  const keys = (all: readonly Revocation[]): ReadonlySet<string> =>
    new Set(all.flatMap(({ subject, gateway }) => (gateway === name ? [] : `${subject} by ${gateway}`)));
  const [had, has] = [keys(before), keys(now)];
  const added = [...has].filter((one) => !had.has(one));
  const gone = [...had].filter((one) => !has.has(one));
  if (added.length > 0) log.warn({ refused: added }, `refused from now on: ${listed(added)}`);
  if (gone.length > 0) log.warn({ allowed: gone }, `no longer refused: ${listed(gone)}`);
  return added.length > 0 || gone.length > 0;
}

function listed(names: readonly string[]): string {
  const first = names
    .slice(0, MOST_NAMES)
    .map((one) => printable(one))
    .join(', ');
  return names.length > MOST_NAMES ? `${first} and ${names.length - MOST_NAMES} more` : first;
}
