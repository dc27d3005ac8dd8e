/**
 * Lets the admin's restic have a repository for itself, whatever its clients do.
 *
 * restic takes its exclusive lock only when there is no other, so that a client could keep it away for ever by putting a lock back each time.
 * While an admin's session holds the repository, the gateway makes no new locks for clients. Runs that hold one already are waited for, and
 * may refresh it meanwhile; after a time the admin gets a message that names them, or they are ended, as the admin has said.
 */
import { GatewayError } from '../core/errors.ts';
import type { ObjectName } from '../core/object.ts';
import { STALE_LOCK_MS } from '../core/policy.ts';
import type { CallOptions, RepositoryStore } from '../ports/repository-store.ts';
import type { HoldRequest } from '../ports/sessions.ts';
import type { Hold, Holds } from './lock-hold.ts';
import { removeLock, type LockLimits } from './lock-limit.ts';

/** What an admin's hold needs to know and to do. */
interface HoldContext {
  readonly holds: Holds;
  readonly record: LockLimits['record'];
  /** Says one plain line to the admin. */
  readonly notify: (line: string) => void;
  /** Ids of the sessions that are open on this machine. */
  readonly liveSessions: () => Promise<ReadonlySet<string>>;
  /** Which of these locks came through a gateway of this machine, by session. */
  readonly madeHere: (locks: ReadonlyMap<ObjectName, string>) => Promise<ReadonlySet<ObjectName>>;
}

/** A lock of a client's. */
interface ClientLock {
  readonly name: ObjectName;
  readonly client: string;
  readonly session: string;
}

const POLL_MS = 500;
const LOOK_UPS = 16;
/** How long sessions may take to end after the request to end, and locks on their way to arrive, in ms. */
const ENDING_MS = 30_000;

/** An admin's hold on a repository. */
export interface AdminHold {
  /**
   * To be awaited before the locks are listed, as restic does before it makes one: resolves once there is none of a client's, or the time to
   * wait is over.
   * @throws GatewayError of the store, the audit and the state; `client-gone` on the signal
   */
  ready(signal: AbortSignal): Promise<void>;
  /** Lets the clients make locks again. */
  release(): void;
}

/** @param store - of the admin's session */
export function holdForAdmin(store: RepositoryStore, request: HoldRequest, context: HoldContext): AdminHold {
  let hold: Hold | undefined;
  let taking: Promise<void> | undefined;
  const release = (): void => {
    hold?.release();
    hold = undefined;
  };
  const take = async (signal: AbortSignal): Promise<void> => {
    try {
      const taken = (hold = context.holds.hold());
      if (await clear(store, request, context, taken, { signal })) return;
    } catch (error) {
      release();
      // Whoever comes again, tries again.
      taking = undefined;
      throw error;
    }
    release();
  };
  return { ready: (signal) => (taking ??= take(signal)), release };
}

/** Waits until the repository has no lock of a client's, and keeps it so. @returns false when that did not come about in time */
async function clear(
  store: RepositoryStore,
  { waitMs, endSessions }: HoldRequest,
  context: HoldContext,
  hold: Hold,
  options: CallOptions,
): Promise<boolean> {
  const { notify } = context;
  const began = performance.now();
  const late = (): boolean => performance.now() - began >= waitMs;
  const settled = (): Promise<void> => hold.settled(AbortSignal.any([options.signal, AbortSignal.timeout(ENDING_MS)]));
  const look = (): Promise<readonly ClientLock[]> => clearDead(store, context, options);
  for (let reported = false; ;) {
    hold.set('waiting');
    await settled();
    let locks = await look();
    while (locks.length > 0 && !late()) {
      if (!reported) notify(`waiting for ${holders(locks)} to give up the lock; new runs are held back meanwhile.`);
      reported = true;
      await pause(options.signal);
      locks = await look();
    }
    if (locks.length > 0 && endSessions) locks = await end(locks, look, context, hold, options);
    if (locks.length > 0) {
      notify(
        endSessions
          ? `${holders(locks)} cannot be ended from here, as it is not open on this machine; its lock stays.`
          : `${holders(locks)} still has a lock; wait longer with --hold-client DURATION, or end it with --end-sessions.`,
      );
      return false;
    }
    // Who had a lock until now may have made another one meanwhile.
    hold.set('closed');
    await settled();
    if ((await look()).length === 0) return true;
  }
}

/** Ends the sessions that the locks belong to. @returns what is left after a while */
async function end(
  locks: readonly ClientLock[],
  look: () => Promise<readonly ClientLock[]>,
  { notify }: HoldContext,
  hold: Hold,
  { signal }: CallOptions,
): Promise<readonly ClientLock[]> {
  notify(`ending ${holders(locks)}.`);
  const began = performance.now();
  let left = locks;
  do {
    // No session without a lock gets one now, so that these are all.
    hold.set('closed', [...new Set(left.map(({ session }) => session))]);
    await pause(signal);
    left = await look();
  } while (left.length > 0 && performance.now() - began < ENDING_MS);
  return left;
}

/** Removes the clients' locks that nobody holds any more. @returns those that somebody may hold */
async function clearDead(
  store: RepositoryStore,
  { record, liveSessions, madeHere }: HoldContext,
  options: CallOptions,
): Promise<readonly ClientLock[]> {
  const names: ObjectName[] = [];
  for await (const page of store.list('locks', options)) names.push(...page.map(({ name }) => name));
  const locks: (ClientLock & { readonly stale: boolean })[] = [];
  const eachOf = async <T>(all: T[], work: (one: T) => Promise<void>): Promise<void> => {
    const worker = async (): Promise<void> => {
      for (let one = all.pop(); one !== undefined; one = all.pop()) await work(one);
    };
    await Promise.all(Array.from({ length: LOOK_UPS }, worker));
  };
  await eachOf(names, async (name) => {
    const stat = await store.stat({ type: 'locks', name }, options);
    // An admin's, or one that came by no gateway, is restic's to judge.
    if (stat?.uploader === undefined || stat.uploader.via === 'admin') return;
    const { client, session } = stat.uploader;
    locks.push({ name, client, session, stale: stat.ageMs > STALE_LOCK_MS });
  });
  const live = await liveSessions();
  const unheld = locks.filter(({ session }) => !live.has(session));
  const fresh = unheld.filter(({ stale }) => !stale);
  // The session of a lock that is not known here may be open on another gateway.
  const here =
    fresh.length === 0
      ? new Set<ObjectName>()
      : await madeHere(new Map(fresh.map(({ name, session }) => [name, session])));
  const dead = new Set(unheld.filter(({ name, stale }) => stale || here.has(name)).map(({ name }) => name));
  await eachOf([...dead], (name) => removeLock(store, name, record, options));
  return locks.filter(({ name }) => !dead.has(name));
}

/** Whose they are, in words for the admin: `session ID of appsrv`. */
function holders(locks: readonly ClientLock[]): string {
  const sessions = new Map(locks.map(({ session, client }) => [session, client]));
  const [first] = [...sessions].map(([session, client]) => `session ${session} of ${client}`);
  return `${first ?? ''}${sessions.size > 1 ? ` (and ${sessions.size - 1} more)` : ''}`;
}

/** @throws GatewayError `client-gone` when the admin's restic has ended */
async function pause(signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  if (signal.aborted) throw new GatewayError('client-gone');
}
