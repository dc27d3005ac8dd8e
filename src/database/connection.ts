/** Connections to PostgreSQL, in which each statement has a short time: a database that hangs holds nobody up. */
import type pg from 'pg';
import { readCaFile } from '../config/certificates.ts';
import { readSecret } from '../config/secrets.ts';
import type { GatewayConfig } from '../config/types.ts';
import { isLoopback } from '../config/values.ts';
import { messageOf } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import type { Log } from '../ports/log.ts';
import { createTables } from './migrations.ts';

/** The config's part. */
export type DatabaseConfig = NonNullable<GatewayConfig['database']>;

/** In ms. The server ends a statement before this process gives it up, so that what was given up has mostly not been done. */
const CONNECT_MS = 1000;
const STATEMENT_MS = 900;
const ANSWER_MS = 1200;

/** What PostgreSQL says of a table, a schema or a function that is not there. */
const NO_TABLES = /^(?:42P01|3F000|42883)$/;

/** A connection that nobody needs is closed after this, in ms. */
const IDLE_MS = 10_000;

/** The database gives no answer, or none that can be used; the message says why, for the admin. */
export class DatabaseAway extends Error {
  override readonly name = 'DatabaseAway';
  /** Whether the statement may have been done all the same. */
  readonly mayHaveRun: boolean;

  constructor(why: string, { mayHaveRun = false, cause }: { readonly mayHaveRun?: boolean; readonly cause?: unknown }) {
    super(why, { cause });
    this.mayHaveRun = mayHaveRun;
  }
}

/** A connection that is open. */
export type Connection = pg.Client;

/** A row, by its columns. */
export type Row = Readonly<Record<string, unknown>>;

/** Runs single statements. */
export interface Database {
  /**
   * Runs a statement and gives its rows; waits for a free connection for as long as the database answers.
   * @throws DatabaseAway; at once while it is away
   */
  query(text: string, values?: readonly unknown[]): Promise<readonly Row[]>;
  /** Since when it has given no answer, and why; undefined while it answers, as far as is known. */
  away(): Away | undefined;
  /** Takes it for away, as another process of this machine has just found. */
  setAway(why: string): void;
  /** Asks whether it is back, when it is away. @throws DatabaseAway */
  probe(): Promise<void>;
  /** Resolves when the statements under way have ended. Never rejects. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

/** That the database is away. */
export interface Away {
  readonly since: Date;
  readonly why: string;
}

/** A connection of one's own, for what is heard and not asked. @throws DatabaseAway */
export async function connectOnce(config: DatabaseConfig, about: string): Promise<pg.Client> {
  let client: pg.Client | undefined;
  try {
    // A forced command that finds the database away need not load it.
    const { default: library } = await import('pg');
    client = new library.Client(optionsOf(config, about));
    // A connection that breaks while nobody uses it must not end the process.
    client.on('error', () => undefined);
    await inTime(client.connect(), CONNECT_MS + 200, 'it does not answer');
    return client;
  } catch (error) {
    if (client !== undefined) drop(client);
    throw new DatabaseAway(whyOf(error), { cause: error });
  }
}

/**
 * Runs a statement in one connection.
 * @param ms - how long it may take, where that is longer than what a session waits for
 * @throws DatabaseAway; the connection is of no use then
 */
export async function ask(
  client: pg.Client,
  text: string,
  values: readonly unknown[] = [],
  ms: number = ANSWER_MS,
): Promise<readonly Row[]> {
  try {
    const { rows } = await inTime(
      values.length === 0 ? client.query(text) : client.query(text, [...values]),
      ms,
      'it does not answer',
    );
    return rows as readonly Row[];
  } catch (error) {
    drop(client);
    throw new DatabaseAway(whyOf(error), { mayHaveRun: true, cause: error });
  }
}

/** Makes sure of the tables. @throws DatabaseAway */
export async function prepare(client: pg.Client): Promise<void> {
  try {
    // Several statements in one text take no values.
    await createTables((text, values, ms) => ask(client, text, values, ms));
  } catch (error) {
    throw new DatabaseAway(`its tables cannot be made or read: ${messageOf(error)}`, { cause: error });
  }
}

/** Keeps the process running no longer for this connection's sake. */
export function unref(client: pg.Client): void {
  (client as unknown as { unref(): void }).unref();
}

/** Closes a connection at once, whatever it is about; never waits. */
export function drop(client: pg.Client): void {
  const { connection } = client as unknown as { readonly connection?: { readonly stream?: { destroy(): void } } };
  client.end().catch(() => undefined);
  connection?.stream?.destroy();
}

/**
 * A few connections, none of which is opened before it is needed. The first statement that gets no answer says that the database is away: from
 * then on nobody waits for it, until `probe` finds it back.
 * @param most - connections at once
 * @param what - what is counted on this machine alone while it is away, for the log
 */
export function openDatabase(config: DatabaseConfig, most: number, what: string, log: Log): Database {
  const idle: { readonly client: pg.Client; readonly timer: NodeJS.Timeout }[] = [];
  const waiting: (() => void)[] = [];
  let busy = 0;
  let away: Away | undefined;
  let closed = false;

  const setAway = (why: string): void => {
    if (away === undefined)
      log.warn({ why }, `${what} are counted on this machine alone: the database is away (${printable(why)})`);
    away ??= { since: new Date(), why };
    // Nobody waits behind a database that gives no answer.
    for (const wake of waiting.splice(0)) wake();
  };
  const take = async (): Promise<pg.Client> => {
    const kept = idle.pop();
    if (kept !== undefined) {
      clearTimeout(kept.timer);
      return kept.client;
    }
    const client = await connectOnce(config, 'restic-gateway');
    unref(client);
    return client;
  };
  const giveBack = (client: pg.Client): void => {
    if (closed) {
      drop(client);
      return;
    }
    const timer = setTimeout(() => {
      const index = idle.findIndex((one) => one.client === client);
      if (index >= 0) idle.splice(index, 1);
      drop(client);
    }, IDLE_MS).unref();
    idle.push({ client, timer });
  };
  const inConnection = async (text: string, values: readonly unknown[]): Promise<readonly Row[]> => {
    let client = await take();
    let rows;
    try {
      rows = await ask(client, text, values);
    } catch (error) {
      if (!NO_TABLES.test(codeOf(error))) throw error;
      // Nobody has made them yet, or not those of this release.
      client = await connectOnce(config, 'restic-gateway');
      await prepare(client);
      unref(client);
      rows = await ask(client, text, values);
    }
    giveBack(client);
    return rows;
  };
  const running = new Set<Promise<unknown>>();
  const run = (text: string, values: readonly unknown[]): Promise<readonly Row[]> => {
    const done = runOne(text, values).finally(() => running.delete(done));
    running.add(done);
    return done;
  };
  const runOne = async (text: string, values: readonly unknown[]): Promise<readonly Row[]> => {
    busy += 1;
    try {
      return await inConnection(text, values);
    } catch (error) {
      setAway(messageOf(error));
      // Others may have been cut off with it.
      for (const { client, timer } of idle.splice(0)) {
        clearTimeout(timer);
        drop(client);
      }
      throw error;
    } finally {
      busy -= 1;
      waiting.shift()?.();
    }
  };

  return {
    query: async (text, values = []) => {
      for (;;) {
        if (closed) throw new DatabaseAway('it is closed here', {});
        if (away !== undefined) throw new DatabaseAway(away.why, {});
        if (busy < most) return run(text, values);
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
    },
    away: () => away,
    setAway,
    settled: async () => {
      await Promise.allSettled(running);
    },
    probe: async () => {
      if (away === undefined || closed) return;
      await run('select 1', []);
      away = undefined;
      log.info({}, `${what} are counted over all gateways again`);
    },
    close: () => {
      closed = true;
      for (const { client, timer } of idle.splice(0)) {
        clearTimeout(timer);
        drop(client);
      }
      for (const wake of waiting.splice(0)) wake();
      return Promise.resolve();
    },
  };
}

/** @throws GatewayError `invalid-config` of its secret or its CAs */
function optionsOf({ url, password, caFile }: DatabaseConfig, about: string): pg.ClientConfig {
  const { host, port, user, database } = url;
  const isLocal = host.startsWith('/') || isLoopback(host);
  return {
    ...{ host, port, user, database, application_name: about },
    ...(password !== undefined && { password: readSecret(password, process.env, 'database password') }),
    // Beyond this machine nothing goes in the clear, nor to a server that cannot show who it is.
    ssl:
      isLocal && caFile === undefined
        ? false
        : { rejectUnauthorized: true, ...(caFile !== undefined && { ca: [...readCaFile(caFile)] }) },
    connectionTimeoutMillis: CONNECT_MS,
    statement_timeout: STATEMENT_MS,
    // A gateway that hangs must not hold what others wait for.
    idle_in_transaction_session_timeout: 2 * STATEMENT_MS,
    keepAlive: true,
  };
}

/** What a promise comes to, or an error when it takes too long. */
async function inTime<T>(work: Promise<T>, ms: number, words: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  work.catch(() => undefined);
  try {
    return await Promise.race([
      work,
      new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => {
          reject(new Error(words));
        }, ms);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}

/** SQLSTATE of what PostgreSQL has refused; empty for anything else. */
function codeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return typeof cause === 'object' && cause !== null && 'code' in cause ? String(cause.code) : '';
}

/** For the admin, who finds out what to do by it. Never holds the password. */
function whyOf(error: unknown): string {
  const { errors } = error as { readonly errors?: readonly unknown[] };
  // One for each address that was tried.
  return messageOf(errors?.[0] ?? error) || 'it does not answer';
}
