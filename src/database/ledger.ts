/**
 * A repository's ledger in PostgreSQL: single statements, of which the row's lock makes an order over all gateways. The times are the database's
 * own. An upload that has ended leaves its row while somebody counts the store.
 */
import { randomBytes } from 'node:crypto';
import type { Ledger, LedgerWatch, LedgerWindow } from '../ports/ledger.ts';
import type { Database, Row } from './connection.ts';

/** After a first count: uploads that began before anyone kept a ledger may have been missed by it. In ms. */
const FIRST_DUE_MS = 60 * 60 * 1000;
/** How often a process says that it goes on while it has uploads under way, and after how long without that it is gone. */
const PROCESS_MS = 60_000;
const PROCESS_GONE = "interval '10 minutes'";
/** A count of the store takes no longer from one page to the next. */
const WATCH = "interval '1 hour'";

const NOW_MS = '(extract(epoch from clock_timestamp()) * 1000)::bigint';
/** Beyond that no sum is exact in JavaScript. */
const MOST = `${Number.MAX_SAFE_INTEGER}`;

const RESERVE = `
  with room as (
    update restic_gateway.ledgers set used = used + $2::bigint
    where id = $1 and ($3::bigint is null or greatest(used, 0) + $2::bigint <= $3::bigint)
      and greatest(used, 0) + $2::bigint <= ${MOST}
    returning used
  ), upload as (
    insert into restic_gateway.uploads (token, ledger, size, key, process)
    select $4::text, $1::text, $2::bigint, $5::text, $6::text from room
  )
  select (select used from room) as used, (select due <= ${NOW_MS} from restic_gateway.ledgers where id = $1) as due`;

const WATCHED = `watched as (
    select exists (select 1 from restic_gateway.watches where ledger = $2 and until > now()) as yes
  )`;

const STORED = `
  with ${WATCHED}, marked as (
    update restic_gateway.uploads set done = clock_timestamp()
    where token = any($1::text[]) and done is null and (select yes from watched)
  )
  delete from restic_gateway.uploads where token = any($1::text[]) and done is null and not (select yes from watched)`;

const FAILED = `
  with ${WATCHED}, marked as (
    update restic_gateway.uploads set done = clock_timestamp(), failed = true
    where token = any($1::text[]) and done is null and (select yes from watched) returning size
  ), gone as (
    delete from restic_gateway.uploads where token = any($1::text[]) and done is null and not (select yes from watched) returning size
  )
  update restic_gateway.ledgers set used = used - (select coalesce(sum(size), 0) from (select size from marked union all select size from gone) as ended)
  where id = $2`;

/** Held to once for each id, so that it may be sent again when its answer was lost. */
const CHANGED = `
  with new as (insert into restic_gateway.applied (id) values ($3) on conflict do nothing returning id)
  update restic_gateway.ledgers set used = used + $2::bigint, removals = removals + 1
  where id = $1 and exists (select 1 from new)`;

const LOOK = `
  select u.token, u.key, u.size, u.failed, u.done is null as under,
    coalesce(p.beat < now() - ${PROCESS_GONE}, true) as over, u.done < $2::timestamptz as before
  from restic_gateway.uploads u left join restic_gateway.processes p on p.id = u.process where u.ledger = $1`;

/** A process that keeps ledgers. */
interface LedgerProcess {
  readonly id: string;
  /** Says that it goes on, when that is due. @throws DatabaseAway */
  beat(): Promise<void>;
}

/** @param gateway - its name */
export function ledgerProcess(database: Database, gateway: string): LedgerProcess {
  const id = `${gateway}-${process.pid}-${randomBytes(6).toString('hex')}`;
  let last = -Infinity;
  return {
    id,
    beat: async () => {
      if (performance.now() - last < PROCESS_MS) return;
      const before = last;
      last = performance.now();
      try {
        await database.query(
          `insert into restic_gateway.processes (id, beat) values ($1, now()) on conflict (id) do update set beat = now()`,
          [id],
        );
      } catch (error) {
        last = before;
        throw error;
      }
    },
  };
}

/** What the database says of a repository besides what every ledger does. All of it throws DatabaseAway. */
interface SharedLedger extends Pick<Ledger, 'claimCount' | 'watch'> {
  /**
   * Sets room aside by a token of the caller's, so that it can be given back when the answer is lost.
   * @returns what is in use then, in bytes; undefined when it does not fit
   */
  take(token: string, size: number, limit: number | undefined, key: string): Promise<number | undefined>;
  settle(tokens: readonly string[], end: 'stored' | 'failed'): Promise<void>;
  /** Adds bytes, or takes them away, once for each id. */
  change(id: string, bytes: number): Promise<void>;
}

/**
 * Makes no statement before it is needed.
 * @param measure - counts the store, in bytes
 */
export function openSharedLedger(
  database: Database,
  id: string,
  own: LedgerProcess,
  measure: () => Promise<number>,
): SharedLedger {
  /** By the last answer. */
  let isDue = false;
  const state = async (): Promise<Row | undefined> =>
    (
      await database.query(
        `select used, counts, removals,
           (select coalesce(json_agg(token), '[]') from restic_gateway.uploads where ledger = $1 and done is null) as under
         from restic_gateway.ledgers where id = $1`,
        [id],
      )
    )[0];

  return {
    take: async (token, size, limit, key) => {
      await own.beat();
      for (;;) {
        const [row] = await database.query(RESERVE, [id, size, limit ?? null, token, key, own.id]);
        if (typeof row?.['due'] === 'boolean') {
          isDue = row['due'];
          return row['used'] === null ? undefined : Number(row['used']);
        }
        const used = await measure();
        await database.query(
          `insert into restic_gateway.ledgers (id, used, due) values ($1, $2, ${NOW_MS} + ${FIRST_DUE_MS}) on conflict do nothing`,
          [id, used],
        );
      }
    },
    settle: async (tokens, end) => {
      await database.query(end === 'stored' ? STORED : FAILED, [tokens, id]);
    },
    change: async (change, bytes) => {
      await database.query(CHANGED, [id, bytes, change]);
    },
    claimCount: async (claimMs) => {
      if (!isDue) return false;
      isDue = false;
      const rows = await database.query(
        `update restic_gateway.ledgers set due = ${NOW_MS} + $2::bigint where id = $1 and due <= ${NOW_MS} returning id`,
        [id, claimMs],
      );
      return rows.length > 0;
    },
    watch: () => watchLedger(database, id, state),
  };
}

async function watchLedger(
  database: Database,
  id: string,
  state: () => Promise<Row | undefined>,
): Promise<LedgerWatch> {
  const watch = randomBytes(9).toString('hex');
  const extend = async (): Promise<Row> => {
    const [row = {}] = await database.query(
      `insert into restic_gateway.watches (id, ledger, until) values ($1, $2, now() + ${WATCH})
       on conflict (id) do update set until = excluded.until returning clock_timestamp()::text as at`,
      [watch, id],
    );
    return row;
  };
  // What others have left; a day is longer than any count.
  await database.query(
    `with old as (delete from restic_gateway.uploads where ledger = $1 and done < now() - interval '1 day'),
       gone as (delete from restic_gateway.watches where until < now() - interval '1 day'),
       dead as (
         delete from restic_gateway.processes p where beat < now() - interval '1 day'
           and not exists (select 1 from restic_gateway.uploads u where u.process = p.id)
       )
     delete from restic_gateway.applied where at < now() - interval '30 days'`,
    [id],
  );
  const { at } = await extend();
  const first = await state();
  const [counts, removals] = [Number(first?.['counts']), Number(first?.['removals'])];
  const window: LedgerWindow = { uploads: new Map(), removals: false, broken: first === undefined };
  const over = new Set<string>();
  const refresh = async (): Promise<void> => {
    await extend();
    const rows = await database.query(LOOK, [id, at]);
    for (const row of rows) {
      const token = String(row['token']);
      // Before this watch it was over, and the store has it.
      if (row['before'] === true && !window.uploads.has(token)) continue;
      if (row['failed'] === true) window.uploads.delete(token);
      else window.uploads.set(token, { key: String(row['key']), size: Number(row['size']) });
      if (row['under'] === true && row['over'] === true) over.add(token);
    }
    const now = await state();
    window.removals ||= Number(now?.['removals']) !== removals;
    window.broken ||= now === undefined || Number(now['counts']) !== counts;
  };
  await refresh();
  return {
    window,
    refresh,
    correct: async (count, dueMs) => {
      await refresh();
      const now = await state();
      if (window.broken || now === undefined) return;
      const underWay = new Set(now['under'] as readonly string[]);
      const change = count(underWay) - Number(now['used']);
      // Void unless it is the next count. What happens between the two statements changes the sum by itself.
      await database.query(
        `with fixed as (
           update restic_gateway.ledgers set used = used + $2::bigint, counts = counts + 1, due = ${NOW_MS} + $3::bigint
           where id = $1 and counts = $4 returning id
         )
         delete from restic_gateway.uploads where ledger = $1 and done is null and token = any($5) and exists (select 1 from fixed)`,
        [id, change, dueMs, counts, [...over].filter((token) => underWay.has(token))],
      );
    },
    isOver: (token) => over.has(token),
    close: () => {
      database.query('delete from restic_gateway.watches where id = $1', [watch]).catch(() => undefined);
    },
  };
}
