/**
 * Turns for the work of logins, which costs much thread time and is to be had without a key: who floods with it waits for himself.
 *
 * There is one thread for logins and sessions alike. Logins have a quarter of its time, and whatever the sessions leave of it; a burst
 * is free. What does not fit waits, and the networks it comes from have turns, then their addresses, so that a newcomer waits for one turn
 * of each network that floods and not for the whole flood.
 */

/** What part of the thread's time logins have however busy sessions are. */
const SHARE = 0.25;
/** How much work may be done for each ms in which the thread has nothing to do, in ms. */
const PER_IDLE = 9;
/** Work that may be done at once, in ms. */
const BURST_MS = 50;
/** How often it is looked whether the thread was idle, while some wait, in ms. */
const LOOK_MS = 4;

/** The turns of one process. */
export interface LoginTurns {
  /**
   * Does some work, at once or in its turn.
   * @param networks - the networks that it is counted by, the widest first
   * @param work - must not throw
   * @returns takes it back, where it still waits
   */
  take(networks: readonly string[], work: () => void): () => void;
}

/** The time of a thread. */
export interface ThreadClock {
  /** In ms; only goes forward. */
  now(): number;
  /** For how long the thread has had nothing to do so far, in ms. */
  idle(): number;
  /** Calls `run` after so many ms, 0 being after what else there is to do now. */
  later(ms: number, run: () => void): void;
}

const THREAD: ThreadClock = {
  now: () => performance.now(),
  idle: () => performance.eventLoopUtilization().idle,
  later: (ms, run) => {
    if (ms === 0) setImmediate(run);
    else setTimeout(run, ms);
  },
};

/** Nobody waits yet. */
export function createLoginTurns(clock: ThreadClock = THREAD): LoginTurns {
  const waiting = createNode();
  /** Thread time that may be used now, in ms; below zero, when the last work took longer. */
  let credit = BURST_MS;
  let [at, idle] = [clock.now(), clock.idle()];
  let state: 'free' | 'working' | 'waiting' = 'free';

  const refill = (): void => {
    const [time, rest] = [clock.now(), clock.idle()];
    credit = Math.min(BURST_MS, credit + (time - at) * SHARE + (rest - idle) * PER_IDLE);
    [at, idle] = [time, rest];
  };
  const perform = (work: () => void): void => {
    state = 'working';
    const began = clock.now();
    try {
      work();
    } finally {
      // After what the work has left to microtasks, which is of it.
      queueMicrotask(() => {
        credit -= clock.now() - began;
        state = 'free';
        next();
      });
    }
  };
  const next = (): void => {
    if (state !== 'free' || isEmpty(waiting)) return;
    state = 'waiting';
    refill();
    // Sessions have their turn in between even while there is credit.
    clock.later(credit > 0 ? 0 : Math.min(LOOK_MS, Math.floor(-credit / SHARE) + 1), () => {
      state = 'free';
      refill();
      const work = credit > 0 ? shift(waiting) : undefined;
      if (work === undefined) next();
      else perform(work);
    });
  };

  return {
    take: (networks, work) => {
      if (state === 'free') refill();
      if (state === 'free' && credit > 0) {
        perform(work);
        return () => undefined;
      }
      const takeBack = push(waiting, networks, work);
      next();
      return takeBack;
    },
  };
}

/** Work of one network, in the order of its coming, and of the networks within it, in the order of their turns. */
interface Node {
  readonly own: Set<{ readonly work: () => void }>;
  readonly within: Map<string, Node>;
}

const createNode = (): Node => ({ own: new Set(), within: new Map() });

const isEmpty = ({ own, within }: Node): boolean => own.size === 0 && within.size === 0;

/** @returns takes it out again */
function push(node: Node, [first, ...rest]: readonly string[], work: () => void): () => void {
  if (first === undefined) {
    // An object of its own, as the same function may wait twice.
    const entry = { work };
    node.own.add(entry);
    return () => {
      node.own.delete(entry);
    };
  }
  const child = node.within.get(first) ?? createNode();
  node.within.set(first, child);
  const takeOut = push(child, rest, work);
  return () => {
    takeOut();
    if (isEmpty(child) && node.within.get(first) === child) node.within.delete(first);
  };
}

/** Takes the work whose turn it is. */
function shift({ own, within }: Node): (() => void) | undefined {
  for (const entry of own) {
    own.delete(entry);
    return entry.work;
  }
  for (const [name, child] of within) {
    const work = shift(child);
    // The others come first now.
    within.delete(name);
    if (!isEmpty(child)) within.set(name, child);
    if (work !== undefined) return work;
  }
  return undefined;
}
