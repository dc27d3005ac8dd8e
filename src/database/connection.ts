/** Connections to PostgreSQL, in which each statement has a short time: a database that hangs holds nobody up. */
import pg from 'pg';
import { readCaFile } from '../config/certificates.ts';
import { readSecret } from '../config/secrets.ts';
import type { GatewayConfig } from '../config/types.ts';
import { isLoopback } from '../config/values.ts';
import { messageOf } from '../core/errors.ts';
import { createTables } from './migrations.ts';

/** The config's part. */
export type DatabaseConfig = NonNullable<GatewayConfig['database']>;

/** In ms. The server ends a statement before this process gives it up, so that what was given up has mostly not been done. */
const CONNECT_MS = 1000;
const STATEMENT_MS = 900;
const ANSWER_MS = 1200;

/** The database gives no answer, or none that can be used; the message says why, for the admin. */
class DatabaseAway extends Error {
  override readonly name = 'DatabaseAway';
}

/** A connection that is open. */
export type Connection = pg.Client;

/** A row, by its columns. */
export type Row = Readonly<Record<string, unknown>>;

/** That the database is away. */
export interface Away {
  readonly since: Date;
  readonly why: string;
}

/** A connection of one's own, for what is heard and not asked. @throws DatabaseAway */
export async function connectOnce(config: DatabaseConfig, about: string): Promise<pg.Client> {
  const client = new pg.Client(optionsOf(config, about));
  // A connection that breaks while nobody uses it must not end the process.
  client.on('error', () => undefined);
  try {
    await inTime(client.connect(), CONNECT_MS + 200, 'it does not answer');
    return client;
  } catch (error) {
    drop(client);
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
    throw new DatabaseAway(whyOf(error), { cause: error });
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

/** For the admin, who finds out what to do by it. Never holds the password. */
function whyOf(error: unknown): string {
  const { errors } = error as { readonly errors?: readonly unknown[] };
  // One for each address that was tried.
  return messageOf(errors?.[0] ?? error) || 'it does not answer';
}
