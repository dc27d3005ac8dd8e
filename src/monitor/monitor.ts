/**
 * How all clients stand, from the audit that all processes write: kept up while it is open, by following the audit.
 */
import { setImmediate } from 'node:timers/promises';
import { commonName, protectionOf } from '../config/repositories.ts';
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import { asGatewayError, isGatewayError } from '../core/errors.ts';
import { keptByCost } from '../core/kept-by-cost.ts';
import { createUsedBytes, patientUntil } from '../limits/counted-repository.ts';
import type { Log } from '../ports/log.ts';
import { readLiveSessions, type LiveSession } from '../state/live-sessions.ts';
import { assess, openAnomalies, unreported } from './assess.ts';
import { checkpointTime, readCheckpoint, writeCheckpoint } from './checkpoint.ts';
import { openFollower, type Follower } from '../audit/follow.ts';
import { emptyClient, emptyModel, repositoryKey, type ClientRecord, type Model } from './model.ts';
import { addLine } from './reduce.ts';
import { createRepositoryFacts } from './repository-facts.ts';
import type { Anomaly, ClientStatus } from './client-status.ts';
import { acknowledgeAnomalies, reportAnomalies, type Found } from './report.ts';

/** What is known of the clients. */
export interface Monitor {
  /** One client as it stands now; undefined when the config has none of that name. @throws GatewayError `audit-unavailable` */
  status(client: string): Promise<ClientStatus | undefined>;
  /**
   * All clients of the config, in its order. What has come to the audit since is read, and nothing twice. Where there are so many that it
   * takes long, it may be what others were told up to half a minute ago. @throws as `status`
   */
  statuses(): Promise<readonly ClientStatus[]>;
  /** How much of a long audit that is being read has been, from 0 to 1; undefined while none is. */
  reading(): number | undefined;
  /** The id of the client who last added a snapshot to a repository, or made it; undefined when the audit does not tell. @throws as `status` */
  lastClientOf(repository: ClientConfig['repository']): Promise<string | undefined>;
  /**
   * Writes the anomalies into the audit that are not there yet.
   * @returns how many
   * @throws GatewayError `audit-unavailable`, `state-unavailable`
   */
  report(): Promise<number>;
  /**
   * Writes into the audit that the admin has seen the open anomalies, of one client or of all; `late` ends by a snapshot alone.
   * @returns how many
   * @throws GatewayError `audit-unavailable`
   */
  acknowledge(client: string | undefined): Promise<number>;
  /** Takes up another config. */
  reconfigure(config: GatewayConfig): void;
  /** Keeps what it knows for the next one, and lets go. Never rejects. */
  close(): Promise<void>;
}

/** How often a watching monitor looks at the audit, in ms. */
const LOOK_MS = 5000;
/** How often it keeps what it knows. */
const KEEP_MS = 30 * 60 * 1000;
/** For who asks for one client, a checkpoint of this age is new enough not to be made anew, in ms: `serve` makes one more often. */
const PARTLY_MS = 2 * KEEP_MS;
/** Rest after each 256 KiB: a first reading of a long audit leaves most of the time to the sessions. */
const PAUSE_MS = 10;

/** How many clients are assessed at once. */
const AT_ONCE = 16;
/** From so many on, what one is told of all is told to others too. */
const MANY_CLIENTS = 500;

/** One audit as it is followed. */
interface Following {
  readonly follower: Follower;
  readonly model: Model;
  /** It is right of the one client alone that is asked for. */
  readonly isPart: boolean;
}

/**
 * Opens a monitor. The first answer waits until the audit has been read; a checkpoint in the config's `state` shortens that.
 * @param options.saw - hears of each line of the audit that is read
 * @param options.only - nobody asks for another client than this one
 * @param options.watch - follow the audit all the time, and tell anomalies in the log and the audit: for `serve`'s primary
 */
export function openMonitor(options: {
  readonly config: GatewayConfig;
  readonly log: Log;
  readonly watch: boolean;
  readonly saw?: () => void;
  readonly only?: ClientConfig | undefined;
}): Monitor {
  const { log, watch, saw, only } = options;
  let { config } = options;
  let closed = false;
  /** What was last told to be wrong; said once. */
  let trouble: string | undefined;

  const warnOnce = (error: unknown, message: string): void => {
    const words = `${message}: ${asGatewayError(error).message}`;
    if (words !== trouble) log.warn({ err: error }, message);
    trouble = words;
  };

  const audit = followAudit({
    ...{ config: () => config, saw, only },
    pauseMs: watch ? PAUSE_MS : 0,
    notKept: (error) => {
      // The next one reads more.
      if (watch && (error as NodeJS.ErrnoException).code !== 'ENOENT')
        warnOnce(error, `what the audit adds up to cannot be kept below ${config.state}`);
    },
  });

  const statusesFrom = createStatuses(watch);
  const statusesOf = async (clients: readonly ClientConfig[]): Promise<readonly ClientStatus[]> =>
    statusesFrom(await audit.catchUp(), config, clients);
  const all = keptByCost(() => statusesOf(Object.values(config.clients)));

  /** What `pick` finds of each client that the audit knows. */
  const found = async (
    pick: (client: ClientConfig, record: ClientRecord, now: Date) => readonly Anomaly[],
  ): Promise<readonly Found[]> => {
    const model = await audit.catchUp();
    const now = new Date();
    const lists = await fewAtOnce(Object.values(config.clients), (client) => {
      const record = model.clients.get(client.id);
      return record === undefined ? [] : pick(client, record, now).map((anomaly) => ({ client, anomaly }));
    });
    return lists.flat();
  };

  const report = async (): Promise<number> => {
    const fresh = await found(unreported);
    if (fresh.length === 0) return 0;
    const reported = await reportAnomalies(config, fresh);
    for (const { client, anomaly } of reported) {
      const { rule, id, session, what, advice, note } = anomaly;
      log[note === true ? 'info' : 'warn'](
        { client: client.name, rule, anomaly: id, ...(session !== undefined && { session }) },
        `client ${client.name}: ${what} ${advice}`,
      );
    }
    return reported.length;
  };

  const look = async (): Promise<void> => {
    try {
      await report();
      trouble = undefined;
    } catch (error) {
      if (!closed && !isGatewayError(error, 'shutting-down'))
        warnOnce(error, 'the audit log cannot be checked for anomalies');
    }
    await audit.keepSometimes();
  };

  let looking: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  const lookAgain = (): void => {
    looking = look();
    void looking.then(() => {
      if (closed) return;
      timer = setTimeout(lookAgain, LOOK_MS);
      timer.unref();
    });
  };
  if (watch) lookAgain();

  return {
    status: async (name) => {
      const client = config.clients[name];
      return client === undefined ? undefined : (await statusesOf([client]))[0];
    },
    statuses: () => {
      const clients = Object.values(config.clients);
      return watch && clients.length >= MANY_CLIENTS ? all.get() : statusesOf(clients);
    },
    reading: () => audit.reading(),
    lastClientOf: async (repository) => (await audit.catchUp()).repositories.get(repositoryKey(repository))?.by,
    report,
    acknowledge: async (name) => {
      const open = await found((client, record, now) =>
        name === undefined || name === client.name ? openAnomalies(client, record, now) : [],
      );
      if (open.length > 0) await acknowledgeAnomalies(config, open);
      return open.length;
    },
    reconfigure: (next) => {
      const before = config;
      config = next;
      all.drop();
      if (next.audit.file === before.audit.file && next.state === before.state) return;
      audit.restart();
    },
    close: async () => {
      closed = true;
      clearTimeout(timer);
      await audit.stop();
      await looking;
      await audit.keep();
    },
  };
}

/** Of hundreds, all at once would keep the sessions of this process waiting. */
async function fewAtOnce<A, B>(all: readonly A[], work: (one: A) => B | Promise<B>): Promise<readonly B[]> {
  const done: B[] = [];
  for (let from = 0; from < all.length; from += AT_ONCE) {
    done.push(...(await Promise.all(all.slice(from, from + AT_ONCE).map(work))));
    // Where nothing had to be read, there was no turn for anybody else.
    if (from + AT_ONCE < all.length) await setImmediate();
  }
  return done;
}

/** The audit of the config as it is followed, with a checkpoint of what it adds up to. */
interface FollowedAudit {
  /** Reads what has come to the audit. @throws as `Follower.catchUp` */
  catchUp(): Promise<Model>;
  /** As `Follower.reading`. */
  reading(): number | undefined;
  /** Keeps what it adds up to. Never rejects. */
  keep(): Promise<void>;
  /** The same if it was not done for a while. */
  keepSometimes(): Promise<void>;
  /** Goes on with another audit, as of now in the config. */
  restart(): void;
  /** Ends reading; what was read may still be kept. */
  stop(): Promise<void>;
}

function followAudit({
  config,
  saw,
  only,
  pauseMs,
  notKept,
}: {
  readonly config: () => GatewayConfig;
  readonly saw: (() => void) | undefined;
  readonly only: ClientConfig | undefined;
  readonly pauseMs: number;
  readonly notKept: (error: unknown) => void;
}): FollowedAudit {
  let following: Promise<Following> | undefined;
  /** The follower of it, once it is open. */
  let opened: Follower | undefined;
  let catching: Promise<unknown> = Promise.resolve();
  let keptAt = performance.now();
  /** Up to where the checkpoint reaches that was read or written last. */
  let kept: string | undefined;

  const begin = async (fresh: boolean): Promise<Following> => {
    const { state, audit } = config();
    // An old one is replaced by a newer one, so that whoever looks at one client each day does not read on from the same place for ever.
    const age = Date.now() - ((await checkpointTime(state)) ?? 0);
    const wanted =
      only === undefined || Math.abs(age) >= PARTLY_MS
        ? undefined
        : { client: only.id, repository: repositoryKey(only.repository) };
    const checkpoint = fresh ? undefined : await readCheckpoint(state, audit.file, wanted);
    const model = checkpoint?.model ?? emptyModel();
    const isPart = checkpoint !== undefined && wanted !== undefined;
    kept = checkpoint && JSON.stringify(checkpoint.position);
    const follower = openFollower({
      ...{ file: audit.file, from: checkpoint?.position, pauseMs },
      take: (line) => {
        addLine(model, line);
        saw?.();
      },
    });
    opened = follower;
    return { follower, model, isPart };
  };

  /** Reads what has come to the audit. One at a time: another one must not go on with what is being given up. */
  const catchUp = async (): Promise<Model> => {
    const caught = catching.then(readOn);
    catching = caught.catch(() => undefined);
    return (await caught).model;
  };

  const readOn = async (): Promise<Following> => {
    for (;;) {
      following ??= begin(false);
      const now = following;
      const { follower } = await now;
      if (await follower.catchUp()) return now;
      // Not what it was: all anew.
      await follower.close();
      if (following === now) following = begin(true);
    }
  };

  /** As `catchUp`, one at a time with it: what is being written must not be added to. */
  const keep = (): Promise<void> => {
    const done = catching.then(keepNow);
    catching = done;
    return done;
  };

  const keepNow = async (): Promise<void> => {
    // What cannot be followed has been reported.
    const open = await following?.catch(() => undefined);
    const position = open?.follower.position();
    keptAt = performance.now();
    if (open === undefined || open.isPart || position === undefined || JSON.stringify(position) === kept) return;
    try {
      kept = JSON.stringify(position);
      const { state, audit } = config();
      await writeCheckpoint(state, audit.file, { model: open.model, position });
    } catch (error) {
      notKept(error);
    }
  };

  return {
    catchUp,
    reading: () => opened?.reading(),
    keep,
    keepSometimes: async () => {
      if (performance.now() - keptAt >= KEEP_MS) await keep();
    },
    restart: () => {
      const old = following;
      following = undefined;
      old?.then(({ follower }) => follower.close()).catch(() => undefined);
    },
    stop: async () => {
      const open = await following?.catch(() => undefined);
      await open?.follower.close();
    },
  };
}

/**
 * What makes the statuses of clients by what the audit, the quota's ledgers, the state directory and the live sessions say.
 * @param impatient - not to wait for ledgers that take long to read
 */
function createStatuses(
  impatient: boolean,
): (model: Model, config: GatewayConfig, clients: readonly ClientConfig[]) => Promise<readonly ClientStatus[]> {
  const usedBytes = createUsedBytes();
  const factsOf = createRepositoryFacts();
  return async (model, config, clients) => {
    const { state } = config;
    const many = clients.length > AT_ONCE;
    const [live, lookAt] = await Promise.all([readLiveSessions(state).catch(() => undefined), factsOf(state, many)]);
    const byClient = live && groupByClient(live);
    const until = impatient ? patientUntil() : undefined;
    return fewAtOnce(clients, async (client) => {
      const [used, facts] = await Promise.all([
        usedBytes.of(config, client.repository, until),
        lookAt(commonName(config, client.repository)),
      ]);
      const { trashMs } = protectionOf(config, client.repository);
      const knowledge = {
        record: model.clients.get(client.id) ?? emptyClient(),
        repository: model.repositories.get(repositoryKey(client.repository)),
        live: live === undefined ? undefined : (byClient?.get(client.name) ?? []),
        ...{ used, ...facts },
      };
      return assess({ ...client, ...(trashMs !== undefined && { trashMs }) }, knowledge, new Date());
    });
  };
}

function groupByClient(live: readonly LiveSession[]): ReadonlyMap<string, readonly LiveSession[]> {
  const groups = new Map<string, LiveSession[]>();
  for (const one of live) groups.set(one.client, [...(groups.get(one.client) ?? []), one]);
  return groups;
}
