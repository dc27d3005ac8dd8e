/** A gateway as one of those that share a database: it says what its config refuses, and hears what the others do. Plain statements, each bounded in time. */
import { ask, type Connection, type Row } from './connection.ts';
import { digestOf, type Reason, type Revocation } from './subjects.ts';

/** The channel of LISTEN on which a change is told at once. */
export const CHANNEL = 'restic_gateway';

/** A config that takes out more clients than this part at once, as it is found at a start, is not believed: see `say`. */
const MANY = 1 / 10;

/** What concerns thousands of clients at once may take so long, in ms; no session waits for it. */
const LONG_MS = 15_000;

/** What a gateway says of itself. */
interface Member {
  readonly name: string;
  /** Of this run of this machine, so that two that call themselves the same are told apart. */
  readonly run: string;
  readonly version: string;
  /** As `commonDigest`. */
  readonly config: string;
  readonly started: Date;
}

/** What comes back of a beat. */
export interface Beat {
  /** Grows with each change of the revocations. */
  readonly revision: string;
  /** How far this machine's clock is ahead of the database's, in ms. */
  readonly clockMs: number;
  /** What was said of this gateway's clients last, as `digestOf`; empty for nothing. */
  readonly known: string;
  /** Another process calls itself the same, and was the last to do so, just now. */
  readonly twin: boolean;
}

/** Says that the gateway runs. @throws DatabaseAway */
export async function beat(client: Connection, member: Member, clockMs: number): Promise<Beat> {
  const { name, run, version, config, started } = member;
  const before = Date.now();
  const [row = {}] = await ask(
    client,
    `with last as (select run, known, seen from restic_gateway.gateways where name = $1),
     said as (
       insert into restic_gateway.gateways (name, run, version, config, started, seen, clock_ms)
       values ($1, $2, $3, $4, $5, now(), $6)
       on conflict (name) do update set run = excluded.run, version = excluded.version, config = excluded.config,
         started = excluded.started, seen = excluded.seen, clock_ms = excluded.clock_ms
     )
     select (select revision from restic_gateway.changes)::text as revision,
       extract(epoch from clock_timestamp()) * 1000 as clock,
       (select known from last) as known,
       coalesce((select run <> $2 and seen > now() - interval '4 seconds' from last), false) as twin`,
    [name, run, version, config, started, clockMs],
  );
  const middle = (before + Date.now()) / 2;
  return {
    revision: String(row['revision']),
    clockMs: Math.round(middle - Number(row['clock'])),
    known: typeof row['known'] === 'string' ? row['known'] : '',
    twin: row['twin'] === true,
  };
}

/** What the gateways refuse, all of them. @throws DatabaseAway */
export async function readRevocations(client: Connection): Promise<readonly Revocation[]> {
  const rows = await ask(
    client,
    'select subject, gateway, reason, since from restic_gateway.revocations order by subject, gateway',
  );
  return rows.map((row) => ({
    subject: String(row['subject']),
    gateway: String(row['gateway']),
    reason: reasonOf(row['reason']),
    since: row['since'] instanceof Date ? row['since'] : new Date(0),
  }));
}

/** What a newer release may say is as good as disabled. */
function reasonOf(value: unknown): Reason {
  return value === 'expired' || value === 'removed' || value === 'revoked' ? value : 'disabled';
}

/** How `say` went. */
export interface Said {
  /** Those that are refused from now on, and those that no longer are. */
  readonly refused: readonly string[];
  readonly allowed: readonly string[];
  /** Clients that are gone from the config, which nobody was told of since they are so many. */
  readonly held: readonly string[];
}

/**
 * Tells the others what has changed in this gateway's config since it last told them: only a change counts. A config that is older than the
 * last word of another gateway so takes nothing back, and one that was cut off at a start takes nobody out.
 * @param trusted - whether somebody has looked at what is gone: `reload` asks for that when it is much
 * @throws DatabaseAway; nothing was told then
 */
export async function say(
  client: Connection,
  gateway: string,
  subjects: ReadonlyMap<string, Reason | undefined>,
  trusted: boolean,
): Promise<Said> {
  await ask(client, 'begin');
  await ask(client, `set local statement_timeout = ${LONG_MS}`);
  await ask(client, 'select pg_advisory_xact_lock(hashtext($1))', [`restic-gateway ${gateway}`]);
  // One where no process has run yet.
  await ask(
    client,
    `insert into restic_gateway.gateways (name, run, version, config, started, seen)
     values ($1, '', '', '', now(), 'epoch') on conflict do nothing`,
    [gateway],
  );
  const rows = await ask(
    client,
    `select k.subject, k.refused, r.reason from restic_gateway.known k
     left join restic_gateway.revocations r on r.subject = k.subject and r.gateway = k.gateway where k.gateway = $1`,
    [gateway],
    LONG_MS,
  );
  const known = new Map(rows.map((row) => [String(row['subject']), row]));
  const change = differences(known, subjects);
  const clients = [...known].filter(([subject, row]) => subject.startsWith('client/') && row['refused'] !== true);
  const gone = change.gone.filter((subject) => subject.startsWith('client/'));
  const held = !trusted && gone.length > 1 && gone.length > clients.length * MANY ? gone : [];
  // With the clients their keys wait.
  const removed = held.length > 0 ? [] : change.gone;
  const refused = [...change.refused, ...removed.map((subject) => [subject, 'removed'] as const)];
  await write(client, gateway, { ...change, refused });
  if (held.length === 0)
    await ask(client, 'update restic_gateway.gateways set known = $2 where name = $1', [gateway, digestOf(subjects)]);
  if (refused.length > 0 || change.allowed.length > 0) await told(client);
  await ask(client, 'commit');
  return { refused: refused.map(([subject]) => subject), allowed: change.allowed, held };
}

interface Change {
  readonly refused: readonly (readonly [subject: string, reason: Reason])[];
  readonly allowed: readonly string[];
  readonly added: readonly string[];
  /** Refused before by a list that they are no longer on. */
  readonly forgotten: readonly string[];
}

function differences(
  known: ReadonlyMap<string, Row>,
  subjects: ReadonlyMap<string, Reason | undefined>,
): Change & { readonly gone: readonly string[] } {
  const refused: (readonly [string, Reason])[] = [];
  const allowed: string[] = [];
  const added: string[] = [];
  for (const [subject, reason] of subjects) {
    const before = known.get(subject);
    if (reason !== undefined && before?.['refused'] !== true) refused.push([subject, reason]);
    if (reason === undefined && before?.['refused'] === true) allowed.push(subject);
    if (reason === undefined && before === undefined) added.push(subject);
  }
  const absent = [...known].filter(([subject]) => !subjects.has(subject));
  return {
    ...{ refused, allowed, added },
    gone: absent.flatMap(([subject, row]) => (row['refused'] === true ? [] : [subject])),
    forgotten: absent.flatMap(([subject, row]) => (row['reason'] === 'revoked' ? [subject] : [])),
  };
}

async function write(
  client: Connection,
  gateway: string,
  { refused, allowed, added, forgotten }: Change,
): Promise<void> {
  const subjects = refused.map(([subject]) => subject);
  if (refused.length > 0)
    await ask(
      client,
      `insert into restic_gateway.revocations (subject, gateway, reason)
       select subject, $1::text, reason from unnest($2::text[], $3::text[]) as said (subject, reason) on conflict do nothing`,
      [gateway, subjects, refused.map(([, reason]) => reason)],
      LONG_MS,
    );
  const over = [...allowed, ...forgotten];
  if (over.length > 0)
    await ask(
      client,
      'delete from restic_gateway.revocations where gateway = $1 and subject = any($2)',
      [gateway, over],
      LONG_MS,
    );
  const now = [
    ...subjects.map((subject) => [subject, true] as const),
    ...[...allowed, ...added].map((subject) => [subject, false] as const),
  ];
  if (now.length > 0)
    await ask(
      client,
      `insert into restic_gateway.known (gateway, subject, refused)
       select $1::text, subject, refused from unnest($2::text[], $3::boolean[]) as said (subject, refused)
       on conflict (gateway, subject) do update set refused = excluded.refused`,
      [gateway, now.map(([subject]) => subject), now.map(([, is]) => is)],
      LONG_MS,
    );
  if (forgotten.length > 0)
    await ask(client, 'delete from restic_gateway.known where gateway = $1 and subject = any($2)', [
      gateway,
      forgotten,
    ]);
}

/** Has the others look at once. */
async function told(client: Connection): Promise<void> {
  await ask(client, 'update restic_gateway.changes set revision = revision + 1');
  await ask(client, `select pg_notify('${CHANNEL}', '')`);
}

/**
 * Takes back, whoever has said it, that a client is refused, with its keys and principals. What a gateway's own config refuses stays refused there.
 * @returns what was taken back
 * @throws DatabaseAway
 */
export async function lift(client: Connection, subjects: readonly string[]): Promise<readonly Revocation[]> {
  await ask(client, 'begin');
  const found = (await readRevocations(client)).filter(({ subject }) => subjects.includes(subject));
  await ask(client, 'delete from restic_gateway.revocations where subject = any($1)', [subjects]);
  await told(client);
  await ask(client, 'commit');
  return found;
}

/** Forgets a gateway that is gone for good, and all that it has refused. @returns whether there was one @throws DatabaseAway */
export async function forget(client: Connection, gateway: string): Promise<boolean> {
  await ask(client, 'begin');
  const rows = await ask(client, 'delete from restic_gateway.gateways where name = $1 returning name', [gateway]);
  await ask(client, 'delete from restic_gateway.sessions where gateway = $1', [gateway]);
  await told(client);
  await ask(client, 'commit');
  return rows.length > 0;
}

/** A gateway as the database has it. */
export interface Gateway extends Omit<Member, 'run'> {
  readonly clockMs: number;
  /** When it was last heard of, and how long ago by the database's clock, in ms. */
  readonly seen: Date;
  readonly agoMs: number;
}

/** All gateways, by name. @throws DatabaseAway */
export async function readGateways(client: Connection): Promise<readonly Gateway[]> {
  const rows = await ask(
    client,
    `select name, version, config, started, seen, clock_ms, extract(epoch from now() - seen) * 1000 as ago
     from restic_gateway.gateways order by name`,
  );
  return rows.map((row) => ({
    name: String(row['name']),
    version: String(row['version']),
    config: String(row['config']),
    started: row['started'] instanceof Date ? row['started'] : new Date(0),
    seen: row['seen'] instanceof Date ? row['seen'] : new Date(0),
    clockMs: Math.round(Number(row['clock_ms'])),
    agoMs: Math.round(Number(row['ago'])),
  }));
}
