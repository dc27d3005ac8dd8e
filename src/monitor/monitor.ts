/**
 * How all clients stand, from the audit that all processes write: kept up while it is open, by following the audit.
 */
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import { asGatewayError, isGatewayError } from '../core/errors.ts';
import { usedBytes } from '../limits/counted-repository.ts';
import type { Log } from '../ports/log.ts';
import { readLiveSessions, type LiveSession } from '../state/live-sessions.ts';
import { scrubState, type ScrubProgress } from '../maintenance/scrub-state.ts';
import { assess, openAnomalies, unreported } from './assess.ts';
import { readCheckpoint, writeCheckpoint } from './checkpoint.ts';
import { openFollower, type Follower } from '../audit/follow.ts';
import { emptyClient, emptyModel, repositoryKey, type Model } from './model.ts';
import { addLine } from './reduce.ts';
import type { ClientStatus } from './client-status.ts';
import { acknowledgeAnomalies, reportAnomalies, type Found } from './report.ts';

/** What is known of the clients. */
export interface Monitor {
  /** One client as it stands now; undefined when the config has none of that name. @throws GatewayError `audit-unavailable` */
  status(client: string): Promise<ClientStatus | undefined>;
  /** All clients of the config, in its order. What has come to the audit since is read, and nothing twice. @throws as `status` */
  statuses(): Promise<readonly ClientStatus[]>;
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
/** Rest after each 256 KiB: a first reading of a long audit leaves most of the time to the sessions. */
const PAUSE_MS = 10;

/** How many clients are assessed at once. */
const AT_ONCE = 16;
/** How many findings of a scrub are told one by one. */
const FOUND_SHOWN = 20;

/** One audit as it is followed. */
interface Following {
  readonly follower: Follower;
  readonly model: Model;
}

/**
 * Opens a monitor. The first answer waits until the audit has been read; a checkpoint in the config's `state` shortens that.
 * @param options.watch - follow the audit all the time, and tell anomalies in the log and the audit: for `serve`'s primary
 */
export function openMonitor(options: {
  readonly config: GatewayConfig;
  readonly log: Log;
  readonly watch: boolean;
}): Monitor {
  const { log, watch } = options;
  let { config } = options;
  let following: Promise<Following> | undefined;
  let catching: Promise<unknown> = Promise.resolve();
  let keptAt = performance.now();
  /** Up to where the checkpoint reaches that was read or written last. */
  let kept: string | undefined;
  let closed = false;
  /** What was last told to be wrong; said once. */
  let trouble: string | undefined;

  const begin = async (fresh: boolean): Promise<Following> => {
    const { state, audit } = config;
    const checkpoint = fresh ? undefined : await readCheckpoint(state, audit.file);
    const model = checkpoint?.model ?? emptyModel();
    kept = checkpoint && JSON.stringify(checkpoint.position);
    const follower = openFollower({
      ...{ file: audit.file, from: checkpoint?.position, pauseMs: watch ? PAUSE_MS : 0 },
      take: (line) => {
        addLine(model, line);
      },
    });
    return { follower, model };
  };

  /** Reads what has come to the audit. One at a time: another one must not go on with what is being given up. */
  const catchUp = (): Promise<Following> => {
    const caught = catching.then(readOn);
    catching = caught.catch(() => undefined);
    return caught;
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

  const keep = async ({ follower, model }: Following): Promise<void> => {
    const position = follower.position();
    keptAt = performance.now();
    if (position === undefined || JSON.stringify(position) === kept) return;
    try {
      kept = JSON.stringify(position);
      await writeCheckpoint(config.state, config.audit.file, { model, position });
    } catch (error) {
      // The next one reads more.
      if (watch && (error as NodeJS.ErrnoException).code !== 'ENOENT')
        warnOnce(error, `what the audit adds up to cannot be kept below ${config.state}`);
    }
  };

  const warnOnce = (error: unknown, message: string): void => {
    const words = `${message}: ${asGatewayError(error).message}`;
    if (words !== trouble) log.warn({ err: error }, message);
    trouble = words;
  };

  const statusesOf = async (clients: readonly ClientConfig[]): Promise<readonly ClientStatus[]> => {
    const { model } = await catchUp();
    const now = config;
    const live = await readLiveSessions(now.state).catch(() => undefined);
    const byClient = live === undefined ? undefined : groupByClient(live);
    const statusOf = async (client: ClientConfig): Promise<ClientStatus> => {
      const scrubs = scrubState(now.state, client.repository);
      const [used, result, progress] = await Promise.all([
        usedBytes(now, client.repository),
        scrubs.readResult(),
        scrubs.readProgress(),
      ]);
      const knowledge = {
        record: model.clients.get(client.name) ?? emptyClient(),
        repository: model.repositories.get(repositoryKey(client.repository)),
        live: byClient === undefined ? undefined : (byClient.get(client.name) ?? []),
        used,
        scrub: result && {
          ...{ finished: new Date(result.finished), quick: result.quick, objects: result.objects },
          ...{ bytes: result.bytes, findings: result.findings.length + (result.unlisted ?? 0) },
          found: result.findings.slice(0, FOUND_SHOWN),
        },
        unfinishedScrub: progress && unfinished(progress),
      };
      return assess(client, knowledge, new Date());
    };
    const statuses: ClientStatus[] = [];
    // A few at once: of hundreds, all at once would keep the sessions of this process waiting.
    for (let from = 0; from < clients.length; from += AT_ONCE)
      statuses.push(...(await Promise.all(clients.slice(from, from + AT_ONCE).map(statusOf))));
    return statuses;
  };

  const allUnreported = async (): Promise<readonly Found[]> => {
    const { model } = await catchUp();
    const now = new Date();
    return Object.values(config.clients).flatMap((client) => {
      const record = model.clients.get(client.name);
      return record === undefined ? [] : unreported(client, record, now).map((anomaly) => ({ client, anomaly }));
    });
  };

  const report = async (): Promise<number> => {
    const found = await allUnreported();
    if (found.length === 0) return 0;
    const reported = await reportAnomalies(config, found);
    for (const { client, anomaly } of reported) {
      const { rule, id, session, what, advice } = anomaly;
      log.warn(
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
        warnOnce(error, 'the audit cannot be watched for what is out of the ordinary');
    }
    // What cannot be followed has been told.
    const open = await following?.catch(() => undefined);
    if (performance.now() - keptAt >= KEEP_MS && open !== undefined) await keep(open);
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
    statuses: () => statusesOf(Object.values(config.clients)),
    report,
    acknowledge: async (name) => {
      const { model } = await catchUp();
      const now = new Date();
      const found = Object.values(config.clients).flatMap((client) => {
        const record = model.clients.get(client.name);
        if (record === undefined || (name !== undefined && name !== client.name)) return [];
        return openAnomalies(record, now).map((anomaly) => ({ client, anomaly }));
      });
      if (found.length > 0) await acknowledgeAnomalies(config, found);
      return found.length;
    },
    reconfigure: (next) => {
      const before = config;
      config = next;
      if (next.audit.file === before.audit.file && next.state === before.state) return;
      const old = following;
      following = undefined;
      old?.then(({ follower }) => follower.close()).catch(() => undefined);
    },
    close: async () => {
      closed = true;
      clearTimeout(timer);
      const open = await following?.catch(() => undefined);
      await open?.follower.close();
      await looking;
      if (open !== undefined) await keep(open);
    },
  };
}

function unfinished({ started, quick, parts }: ScrubProgress): NonNullable<ClientStatus['unfinishedScrub']> {
  const all = Object.values(parts);
  const sum = (of: (part: (typeof all)[number]) => number): number => all.reduce((total, part) => total + of(part), 0);
  return {
    ...{ started: new Date(started), quick },
    ...{ objects: sum(({ objects }) => objects), bytes: sum(({ bytes }) => bytes) },
    findings: sum(({ findings }) => findings.length),
  };
}

function groupByClient(live: readonly LiveSession[]): ReadonlyMap<string, readonly LiveSession[]> {
  const groups = new Map<string, LiveSession[]>();
  for (const one of live) groups.set(one.client, [...(groups.get(one.client) ?? []), one]);
  return groups;
}
