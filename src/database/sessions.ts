/**
 * The sessions of all gateways, a row for each. Those of a gateway that is not heard of count no more, and the process that keeps
 * `database.json` puts right what processes have left that were killed, and what was opened while the database was away.
 */
import type { Log } from '../ports/log.ts';
import type { SharedSessions } from '../ports/shared-sessions.ts';
import { liveSessionIds } from '../state/live-sessions.ts';
import { ask, DatabaseAway, openDatabase, type Connection, type DatabaseConfig } from './connection.ts';
import { gatewayName } from './gateway-name.ts';
import { readKept } from './kept.ts';

/** Logins wait for one another, some ms each. */
const MOST_CONNECTIONS = 2;
/** How often it is tried whether the database is back, in ms. */
const RETRY_MS = 1000;

/** Opens nothing before it is needed. */
export function openSharedSessions({
  config,
  state,
  log,
}: {
  readonly config: DatabaseConfig;
  readonly state: string;
  readonly log: Log;
}): SharedSessions {
  const database = openDatabase(config, MOST_CONNECTIONS, 'sessions', log);
  const gateway = gatewayName(config);
  const known = readKept(state);
  // Another process has just found that out.
  if (known?.isFresh === true && known.away !== undefined) database.setAway(known.away.why);
  const timer = setInterval(() => {
    database.probe().catch(() => undefined);
  }, RETRY_MS).unref();
  const leave = (session: string) => (): void => {
    // What cannot be said now is put right by whoever keeps count of this machine's sessions.
    database.query('delete from restic_gateway.sessions where id = $1', [session]).catch(() => undefined);
  };
  return {
    enter: async (session, client, most) => {
      try {
        const [row] = await database.query('select restic_gateway.enter_session($1, $2, $3, $4) as others', [
          ...[session, client, gateway, most],
        ]);
        const others = Number(row?.['others'] ?? -1);
        return others < 0 ? { entered: true, leave: leave(session) } : { entered: false, others };
      } catch (error) {
        if (!(error instanceof DatabaseAway)) throw error;
        return { entered: true, leave: leave(session) };
      }
    },
    close: async () => {
      clearInterval(timer);
      await database.settled();
      await database.close();
    },
  };
}

/** Compares what the database has of this machine's sessions with those that are open. */
export interface SessionKeeper {
  /** @param idOf - a client's id, by its name @throws DatabaseAway */
  compare(client: Connection, idOf: (name: string) => string): Promise<void>;
}

export function keepSessions(state: string, gateway: string): SessionKeeper {
  /** Those that the database lacked the last time: one that is just ending is not put back. */
  let missing: ReadonlySet<string> = new Set();
  return {
    compare: async (client, idOf) => {
      // Read before, so that one that is entered meanwhile is not taken for gone.
      const rows = await ask(
        client,
        "select id, since < now() - interval '5 seconds' as settled from restic_gateway.sessions where gateway = $1",
        [gateway],
      );
      const live = new Map(
        liveSessionIds(state).flatMap(({ id, client: name, via }) => (via === 'admin' ? [] : [[id, name] as const])),
      );
      const there = new Set(rows.map((row) => String(row['id'])));
      const gone = rows.flatMap((row) =>
        row['settled'] === true && !live.has(String(row['id'])) ? [String(row['id'])] : [],
      );
      if (gone.length > 0)
        await ask(client, 'delete from restic_gateway.sessions where id = any($1) and gateway = $2', [gone, gateway]);
      const lacking = [...live].filter(([id]) => !there.has(id));
      const back = lacking.filter(([id]) => missing.has(id));
      if (back.length > 0)
        await ask(
          client,
          `insert into restic_gateway.sessions (id, client, gateway)
           select id, client, $1::text from unnest($2::text[], $3::text[]) as open (id, client) on conflict do nothing`,
          [gateway, back.map(([id]) => id), back.map(([, name]) => idOf(name))],
        );
      missing = new Set(lacking.map(([id]) => id));
    },
  };
}
