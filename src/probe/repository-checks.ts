/**
 * What a client tries against its repository, so that nothing real is harmed even by a server that holds nothing:
 *
 * - Overwriting and half uploads are tried on one object of the probe's own, a pack in `data/` whose content, and so whose name, is
 *   always the same. No index names it, so restic never reads it; `check` calls it not critical and the next `prune` removes it.
 * - Removing is tried on that object, and for other types on random names of 256 bits, which nothing has.
 * - What might stay when a server does not check content is empty and in `locks/`: restic passes over empty locks, and a client may
 *   remove its own. A key file is offered only to a server that has proved to refuse what does not hash to its name.
 */
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ResticSession } from './connection.ts';
import { answered, notTried, row, type Row } from './rows.ts';

/** How many sessions race; with the first one that is open, within the default of `maxSessions`. */
export const RACERS = 4;
/** How long a server is given to refuse a size that nothing can have, in ms. */
const SIZE_ANSWER_MS = 3000;
/** After how long an upload is broken off, in ms. */
const BREAK_MS = 500;
/** How often the removal of one stray is tried: a server may still be writing what it was sent. */
const REMOVALS = 5;
const REMOVAL_PAUSE_MS = 200;

const CONTENT = Buffer.from(
  'This object was left by `restic-gateway probe`, which tries whether it can be overwritten or removed. restic prune removes it.\n',
);
const OTHER = Buffer.from(CONTENT);
OTHER.write('THIS');
const NAME = createHash('sha256').update(CONTENT).digest('hex');
/** The one object that may stay. */
const PROBE_OBJECT = `data/${NAME}`;
const PATH = `/${PROBE_OBJECT}`;
const EMPTY_LOCK = `/locks/${createHash('sha256').update('').digest('hex')}`;

/** What the repository's checks found. */
interface RepositoryResult {
  readonly rows: readonly Row[];
  /** Whether this key may remove what is no lock: full access, or a server that is not append-only. */
  readonly removes: boolean;
  /** Whether this key may not add anything. */
  readonly readOnly: boolean;
  /** What of the probe's is there afterwards. */
  readonly left: readonly Left[];
}

/** Something that a server keeps though it was tried to be removed. */
export interface Left {
  /** Its path in the repository. */
  readonly object: string;
  /** Whether its content is not what its name says, which `scrub` calls damage. */
  readonly damaged: boolean;
}

const randomName = (): string => randomBytes(32).toString('hex');
const good = (status: number): boolean => status >= 200 && status < 300;
/** Refused for good: not a failure of the server, which may do it another time. */
const refused = (status: number): boolean => status >= 400 && status < 500;

/** Tries everything on one session. @param race - sessions beside it; @param second - one of another client of the same repository */
export async function tryRepository(
  session: ResticSession,
  race: readonly ResticSession[],
  second: ResticSession | undefined,
): Promise<RepositoryResult> {
  const rows: Row[] = [];
  /** Where something may be that must not stay. */
  const strays: string[] = [];
  const load = async (): Promise<'absent' | 'whole' | 'other'> => {
    const { status, body } = await session.request('GET', PATH);
    if (status === 404) return 'absent';
    return good(status) && body.equals(CONTENT) ? 'whole' : 'other';
  };

  // Names that nothing has: the answer shows whether this key may remove, and nothing is lost.
  let removes = false;
  for (const type of ['data', 'index', 'keys', 'snapshots']) {
    const { status } = await session.request('DELETE', `/${type}/${randomName()}`);
    if (good(status)) removes = true;
    rows.push(row(`remove from ${type}/`, refused(status), answered(status)));
  }

  // An empty lock under a name that it does not hash to.
  const wrong = `/locks/${randomName()}`;
  const { status: wrongStatus } = await session.request('POST', wrong, { body: Buffer.alloc(0) });
  const wrongStored = (await session.request('HEAD', wrong)).status !== 404;
  if (wrongStored) {
    strays.push(wrong);
    // At once, too: the probe may be interrupted.
    await session.request('DELETE', wrong);
  }
  const hashes = refused(wrongStatus) && !wrongStored;
  rows.push(row('store what does not hash to its name', hashes, answered(wrongStatus)));

  rows.push(...(await tryUnfinished(session, strays)));

  // Different contents for one name at once, of which one is right.
  const answers = await Promise.all(
    [session, ...race].map((one, index) => one.request('POST', PATH, { body: index === 1 ? CONTENT : variant(index) })),
  );
  let state = await load();
  const wrongWinners = answers.filter(({ status }, index) => index !== 1 && good(status)).length;
  rows.push(
    row(
      `${answers.length} sessions race for one name`,
      wrongWinners === 0 && state !== 'other',
      wrongWinners > 0
        ? `${wrongWinners} wrong contents were taken`
        : state === 'other'
          ? 'wrong content is stored'
          : 'no wrong content was taken',
    ),
  );

  const readOnly = await isReadOnly(session);
  const before = state;
  if (before === 'absent') {
    const why = readOnly
      ? 'this key may not add anything'
      : `the probe's object could not be stored: ${answered(answers[1]?.status ?? 0)}`;
    rows.push(
      ...['overwrite an object', 'overwrite by half an upload', 'remove an object', 'other spellings of a path'].map(
        (check) => notTried(check, why),
      ),
    );
  } else {
    const bodyOf = async (): Promise<string> => (await session.request('GET', PATH)).body.toString('hex');
    const stored = await bodyOf();
    const over = await session.request('POST', PATH, { body: OTHER });
    rows.push(row('overwrite an object', !good(over.status) && (await bodyOf()) === stored, answered(over.status)));
    await session.request('POST', PATH, {
      body: OTHER.subarray(0, 40),
      declared: OTHER.length,
      timeoutMs: BREAK_MS,
    });
    rows.push(row('overwrite by half an upload', (await bodyOf()) === stored, 'looked at what is stored afterwards'));
    rows.push(await trySpellings(session, strays, async () => (await bodyOf()) === stored));
    const removed = await session.request('DELETE', PATH);
    state = await load();
    if (good(removed.status)) removes = true;
    rows.push(row('remove an object', refused(removed.status) && state !== 'absent', answered(removed.status)));
  }
  for (const what of ['config', 'keys', 'snapshots', 'index'])
    rows.push(notTried(`overwrite or remove the real ${what}`, 'a server that does not hold would lose it'));

  rows.push(await tryForeignPaths(session));
  rows.push(await tryMethods(session));
  rows.push(await tryKey(session, hashes, strays));
  rows.push(...(await tryLocks(session, second, readOnly)));
  return {
    rows,
    removes,
    readOnly,
    left: [...(await tidyObject(session, load, removes)), ...(await removeStrays(session, strays))],
  };
}

/** Leaves the probe's object with its right content, or, where this key may remove, not at all. */
async function tidyObject(
  session: ResticSession,
  load: () => Promise<'absent' | 'whole' | 'other'>,
  removes: boolean,
): Promise<readonly Left[]> {
  let state = await load();
  if (state !== 'absent' && (removes || state === 'other')) {
    await session.request('DELETE', PATH);
    state = await load();
  }
  // Who lets others' content in lets the right one in, too; and what cannot be read now may be whole.
  if (state === 'other') {
    await session.request('POST', PATH, { body: CONTENT });
    state = await load();
  }
  return state === 'absent' ? [] : [{ object: PROBE_OBJECT, damaged: state === 'other' }];
}

/**
 * Removes what a server took that it must not take.
 * @param paths - where it may be
 * @returns what may still be there
 */
export async function removeStrays(session: ResticSession, paths: readonly string[]): Promise<readonly Left[]> {
  const left: Left[] = [];
  for (const [index, path] of paths.entries()) {
    let state = await stateOf(session, path);
    for (let tries = REMOVALS; state === 'there' && tries > 0; tries--) {
      await session.request('DELETE', path);
      state = await stateOf(session, path);
      if (state === 'there') await sleep(REMOVAL_PAUSE_MS);
    }
    // Asked for the others, too, it would take the whole time limit for each.
    if (state === 'silent') return [...left, ...paths.slice(index).map(damaged)];
    if (state === 'there') left.push(damaged(path));
  }
  return left;
}

/** Not by HEAD: rclone answers that from what it once saw there, and goes on when it has removed a broken upload by itself. */
async function stateOf(session: ResticSession, path: string): Promise<'there' | 'gone' | 'silent'> {
  const { status } = await session.request('GET', path);
  if (status === 0) return 'silent';
  return refused(status) ? 'gone' : 'there';
}

function damaged(path: string): Left {
  return { object: path.slice(1), damaged: true };
}

/** Whether nothing may be added. A lock alone does not tell: a client may hold as many as it may. */
async function isReadOnly(session: ResticSession): Promise<boolean> {
  const { status } = await session.request('POST', EMPTY_LOCK, { body: Buffer.alloc(0) });
  if (good(status)) await session.request('DELETE', EMPTY_LOCK);
  return status === 403 && (await session.request('POST', '/?create=true')).status === 403;
}

/** As long as the right content, and another for each. */
function variant(index: number): Buffer {
  const content = Buffer.from(CONTENT);
  content.write(String(index));
  return content;
}

/** Uploads that never become whole. Nothing is sent of them, so that all that could stay is an empty lock. */
async function tryUnfinished(session: ResticSession, strays: string[]): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [check, declared] of [
    ['leave something of a broken upload', 1000],
    ['announce 900 TB', 900_000_000_000_000],
  ] as const) {
    const path = `/locks/${randomName()}`;
    const { status } = await session.request('POST', path, {
      declared,
      timeoutMs: declared === 1000 ? BREAK_MS : SIZE_ANSWER_MS,
    });
    const stored = (await session.request('HEAD', path)).status !== 404;
    // What is not there yet may come, since a server may see only later that an upload was broken off.
    strays.push(path);
    if (stored) await session.request('DELETE', path);
    const held = declared === 1000 ? !stored : !stored && refused(status);
    const waits = status === 0 ? 'it waits for the content' : answered(status);
    rows.push(row(check, held, stored ? 'it is there' : declared === 1000 ? 'nothing is there' : waits));
  }
  return rows;
}

/** Other spellings of the probe's own object, by the methods that change something. */
async function trySpellings(session: ResticSession, strays: string[], unchanged: () => Promise<boolean>): Promise<Row> {
  const check = 'other spellings of a path';
  const spellings = [
    `//data/${NAME}`,
    `/data//${NAME}`,
    `/./data/${NAME}`,
    `/data/./${NAME}`,
    `/locks/../data/${NAME}`,
    `/data/%2e/${NAME}`,
    `/locks/%2e%2e/data/${NAME}`,
    `/locks%2f..%2fdata/${NAME}`,
    `/data%2f${NAME}`,
    `/data/${NAME}/`,
    `/data/${NAME.slice(0, 2)}/${NAME}`,
    `/data/${NAME}/locks/${NAME}`,
    `/DATA/${NAME}`,
    `/data/${NAME.toUpperCase()}`,
    `/data/${NAME}%00`,
    `/data/${NAME}?x=/locks/${NAME}`,
  ];
  for (const path of spellings) {
    for (const method of ['DELETE', 'POST']) {
      const { status } = await session.request(method, path, method === 'POST' ? { body: OTHER } : {});
      if (good(status) && method === 'POST') strays.push(path);
      if (good(status)) return row(check, false, `${method} ${path.replaceAll(NAME, 'NAME')} ${answered(status)}`);
      if (!(await unchanged()))
        return row(check, false, `${method} ${path.replaceAll(NAME, 'NAME')} changed the object`);
    }
  }
  return row(check, true, `${spellings.length} spellings by two methods`);
}

/** Reading only: a path that leads out is seen by an answer that brings something. */
async function tryForeignPaths(session: ResticSession): Promise<Row> {
  const check = 'paths outside the repository';
  const paths = [
    '/../',
    '/../config',
    '/%2e%2e/config',
    '/..%2fconfig',
    '/data/../../config',
    '/data/..%2f..%2fconfig',
    '/locks/../config',
    '//config',
    '/./config',
    '/config/',
    '/config%00',
    '/etc/passwd',
    '//etc/passwd',
    '/../../../../../../etc/passwd',
    '/..%5cconfig',
    '/data/../keys/',
    '/other/config',
    '/other/data/',
    '/%2fetc%2fpasswd',
    '/..;/config',
  ];
  for (const path of paths) {
    const { status } = await session.request('GET', path);
    if (!refused(status) && status !== 0) return row(check, false, `GET ${path} ${answered(status)}`);
  }
  return row(check, true, `${paths.length} spellings`);
}

async function tryMethods(session: ResticSession): Promise<Row> {
  const methods = ['PUT', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND', 'MKCOL', 'MOVE', 'COPY', 'LOCK'];
  for (const method of methods) {
    const { status } = await session.request(method, PATH);
    if (!refused(status)) return row('other methods', false, `${method} ${answered(status)}`);
  }
  return row('other methods', true, methods.join(', '));
}

/** Content that cannot be stored shows whether the key would be taken: refused before it is looked at, or for what it is. */
async function tryKey(session: ResticSession, hashes: boolean, strays: string[]): Promise<Row> {
  const check = 'add a key file (a password)';
  if (!hashes) return notTried(check, 'this server stores what does not hash to its name: the key file would stay');
  if ((await session.request('HEAD', '/config')).status === 404)
    return notTried(check, 'there is no repository yet, and its first key must be let in');
  const path = `/keys/${randomName()}`;
  const { status } = await session.request('POST', path, { body: Buffer.from('{}') });
  if (good(status)) strays.push(path);
  return row(
    check,
    status === 403,
    status === 400 ? 'only the content was refused: the client has addKeys: true' : answered(status),
  );
}

async function tryLocks(session: ResticSession, second: ResticSession | undefined, readOnly: boolean): Promise<Row[]> {
  const own = 'make and remove a lock of its own (must work)';
  const anothers = "remove another's lock";
  if (readOnly)
    return [notTried(own, 'this key may not add anything'), notTried(anothers, 'this key may not remove anything')];
  const made = await session.request('POST', EMPTY_LOCK, { body: Buffer.alloc(0) });
  const removed = await session.request('DELETE', EMPTY_LOCK);
  const rows = [
    row(own, good(made.status) && good(removed.status), `${answered(made.status)}, then ${answered(removed.status)}`),
  ];
  if (second === undefined)
    return [
      ...rows,
      notTried(
        anothers,
        "a real one that went would let a prune run into a backup; give another client's key by --second-key",
      ),
    ];
  const theirs = await second.request('POST', EMPTY_LOCK, { body: Buffer.alloc(0) });
  const { status } = await session.request('DELETE', EMPTY_LOCK);
  const there = (await session.request('HEAD', EMPTY_LOCK)).status !== 404;
  await second.request('DELETE', EMPTY_LOCK);
  if (!good(theirs.status))
    return [...rows, notTried(anothers, `the second key could not make one: ${answered(theirs.status)}`)];
  return [...rows, row(anothers, refused(status) && there, answered(status))];
}
