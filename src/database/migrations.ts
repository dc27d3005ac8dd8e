/** The tables, as plain SQL that is run once by whoever comes first. */

/** For the advisory lock under which tables are made: no two gateways do it at once. Any number that is this program's own. */
const LOCK = 7_265_737_469;

/** For the advisory locks of the clients whose sessions are counted. */
const SESSION_LOCKS = 7_265_737;

/**
 * What each version of the tables adds to the one before. They only ever add, so that gateways of the release before go on beside newer ones
 * (a rolling upgrade); a step that is released is never changed.
 *
 * `subject` is `client/ID`, `key/SHA256:…` or `principal/NAME`. `known` is what each gateway's config said last of each, so that a change is
 * told from what was always so; `revocations` are those that hold.
 */
const STEPS: readonly string[] = [
  `create table restic_gateway.changes (revision bigint not null);
   insert into restic_gateway.changes values (1);
   create table restic_gateway.gateways (
     name text primary key,
     run text not null,
     version text not null,
     config text not null,
     known text not null default '',
     clock_ms double precision not null default 0,
     started timestamptz not null,
     seen timestamptz not null
   );
   create table restic_gateway.known (
     gateway text not null references restic_gateway.gateways on delete cascade,
     subject text not null,
     refused boolean not null,
     primary key (gateway, subject)
   );
   create table restic_gateway.revocations (
     subject text not null,
     gateway text not null references restic_gateway.gateways on delete cascade,
     reason text not null,
     since timestamptz not null default now(),
     primary key (subject, gateway)
   );`,
  `create table restic_gateway.ledgers (
     id text primary key,
     used bigint not null,
     due bigint not null,
     counts bigint not null default 0,
     removals bigint not null default 0
   );
   create table restic_gateway.processes (id text primary key, beat timestamptz not null);
   create table restic_gateway.uploads (
     token text primary key,
     ledger text not null,
     size bigint not null,
     key text not null,
     process text not null,
     done timestamptz,
     failed boolean not null default false
   );
   create index uploads_of_ledger on restic_gateway.uploads (ledger);
   create index uploads_of_process on restic_gateway.uploads (process);
   create table restic_gateway.watches (id text primary key, ledger text not null, until timestamptz not null);
   create index watches_of_ledger on restic_gateway.watches (ledger);
   create table restic_gateway.applied (id text primary key, at timestamptz not null default now());`,
  // In a function each statement sees what was done before it, so that the count is made under the lock.
  `create table restic_gateway.sessions (
     id text primary key,
     client text not null,
     gateway text not null,
     since timestamptz not null default now()
   );
   create index sessions_of_client on restic_gateway.sessions (client);
   create function restic_gateway.enter_session(session text, who text, at text, most integer) returns integer
   language plpgsql as $$
   declare others integer;
   begin
     perform pg_advisory_xact_lock(${SESSION_LOCKS}, hashtext(who));
     select count(*) into others from restic_gateway.sessions s
       left join restic_gateway.gateways g on g.name = s.gateway
       where s.client = who and s.id <> session and (s.gateway = at or g.seen > now() - interval '10 seconds');
     if others >= most then
       return others;
     end if;
     insert into restic_gateway.sessions (id, client, gateway) values (session, who, at) on conflict do nothing;
     return -1;
   end $$;`,
];

/** Runs a statement; the time that it may take is in ms. */
type Run = (
  text: string,
  values?: readonly unknown[],
  ms?: number,
) => Promise<readonly Readonly<Record<string, unknown>>[]>;

/** Making tables waits for whoever makes them just now, in ms. */
const LONG_MS = 15_000;

/**
 * Makes the tables, or brings them to this release's version; mostly it finds that there is nothing to do.
 * @throws what `run` throws
 */
export async function createTables(run: Run): Promise<void> {
  if ((await versionOf(run)) >= STEPS.length) return;
  await run('begin');
  await run(`set local statement_timeout = ${LONG_MS}`);
  await run('select pg_advisory_xact_lock($1)', [LOCK], LONG_MS);
  const version = await versionOf(run);
  if (version === 0) {
    await run('create schema if not exists restic_gateway');
    await run('create table if not exists restic_gateway.version (version integer not null)');
    await run('insert into restic_gateway.version values (0)');
  }
  for (const step of STEPS.slice(version)) await run(step, undefined, LONG_MS);
  if (version < STEPS.length) await run('update restic_gateway.version set version = $1', [STEPS.length]);
  await run('commit');
}

/** 0 where there are no tables yet. */
async function versionOf(run: Run): Promise<number> {
  const [found] = await run("select to_regclass('restic_gateway.version') is not null as there");
  if (found?.['there'] !== true) return 0;
  const [row] = await run('select version from restic_gateway.version');
  return Number(row?.['version'] ?? 0);
}
