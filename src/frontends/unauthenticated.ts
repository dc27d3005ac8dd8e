/**
 * Connections that have not authenticated yet: how many there may be, for how long, and how long an address that keeps failing waits.
 *
 * After OpenSSH's MaxStartups, LoginGraceTime and PerSourcePenalties, with differences that let newcomers in while others flood:
 * - Not the newcomer is dropped but one of whoever holds most, by address and by network (see fair-pool.ts); early, from half of the
 *   places on, those who had a fair time to go on, so that there is room for many who come at once.
 * - Each step of the login has places of its own, so that who is silent takes none from those who have spoken, nor the other way about. As long
 *   as there are places, a step may have more than its own: a site whose clients all come at the same minute is in one step.
 * - What costs thread time is done in turns (see login-turns.ts). Who waits for its turn does nothing wrong: its time does not run, and it is
 *   the last to go.
 * - A failing address is made to wait some seconds and is not refused, and one session ends its penalty: a neighbour behind the same NAT
 *   address may be the one who fails. A key that opens no session, such as a disabled one, ends nothing.
 */
import type { Socket } from 'node:net';
import { getOrMake } from '../core/get-or-make.ts';
import { createFairPool, networksOf, type FairPool } from '../core/fair-pool.ts';
import { NO_SIBLINGS, type Siblings } from '../ports/siblings.ts';
import { exchangeIdentifications } from './identification.ts';
import type { SshLimits } from './limits.ts';
import { createLoginTurns, type LoginTurns } from './login-turns.ts';
import { createPenalties } from './penalties.ts';
import type { Origin } from './proxy-header.ts';

/** The steps of a login that have places of their own. */
const STEPS = ['silent', 'exchanging', 'authenticating'] as const;
type Step = (typeof STEPS)[number];

/**
 * The share of all places that each step has to itself, how long it may take at most, and what it is given before it may go early, both in ms. To
 * authenticate may take as long as it takes to type a passphrase: no more than the whole login.
 */
const RULES: Readonly<Record<Step, { readonly share: number; readonly most: number; readonly fair: number }>> = {
  silent: { share: 0.25, most: 10_000, fair: 1000 },
  exchanging: { share: 0.5, most: 20_000, fair: 2000 },
  authenticating: { share: 0.25, most: Infinity, fair: 5000 },
};

/** A connection that has not authenticated. */
export interface Unauthenticated {
  /** It has finished the first key exchange. */
  exchanged(): void;
  /** It has authenticated, and counts here no more. */
  authenticated(): void;
  /** It has authenticated, and keeps its place here until it has been told that there is none elsewhere. */
  crowdedOut(): void;
  /** It has a session: its address starts anew. */
  welcomed(): void;
  /** Does work of its login in its turn, or that of a later key exchange; one that hangs up while it waits has it dropped. */
  takeTurn(work: () => void): void;
}

/** What a connection is told. */
interface Outcomes {
  /** It has identified itself and may be served: at once or after its address's penalty. All that it sent is there to be read. */
  readonly serve: () => void;
  /** It makes place for others, and is closed after this: the last moment to say so. */
  readonly cut?: () => void;
  /** It is cut before that, and why. */
  refuse(why: string): void;
}

/** All of them. */
export interface UnauthenticatedConnections {
  size(): number;
  /** Takes a connection in. @param origin - what a balancer has said of it */
  register(socket: Socket, reception: Outcomes, origin?: Pick<Origin, 'length' | 'isOwn'>): Unauthenticated;
  /** Cuts some, to free descriptors. */
  shrink(): void;
}

/** How often those cut for want of places are told of, in ms. */
const REPORT_MS = 10_000;
/** From this part of all places on, some go early. */
const EARLY = 1 / 2;
/** Of how many of one address the oldest goes. */
const DRAWN = 4;
/** How many are cut at once when descriptors are short. */
const SHRUNK = 32;
/** Later than any moment, and before the end of time. */
const QUEUED = Number.MAX_VALUE;

interface Present {
  readonly socket: Socket;
  readonly reception: Outcomes;
  readonly networks: readonly string[];
  readonly address: string;
  readonly origin: Pick<Origin, 'length' | 'isOwn'>;
  /** When it came to its step, in ms, as it counts for who goes first; `QUEUED` while it waits for its turn. */
  since: number;
  step: Step;
  /** For the end of a penalty, or for its turn. */
  waits: boolean;
  /** Cut for others. */
  cut: boolean;
}

/**
 * Whether one that has gone had its chance to log in. One that never sent a byte is a load balancer's look at the port, as is whatever a
 * balancer sends by itself, and one that still had to wait has failed at nothing.
 */
function hasFailed({ step, waits, cut, socket, origin }: Present): boolean {
  if (origin.isOwn) return false;
  return step === 'silent' ? socket.bytesRead > origin.length && !cut : !waits;
}

/** What the room needs of what is around it. */
interface Surroundings {
  /** What fails there counts here. */
  readonly siblings?: Siblings;
  /** A clock that only goes forward, in ms. */
  readonly now?: () => number;
  /** From 0 up to 1. */
  readonly random?: () => number;
  readonly turns?: LoginTurns;
}

/** What each is at first. */
const NEW = { step: 'silent', waits: false, cut: false } as const;

/**
 * @param onDropped - how many were cut for want of places since the last time
 */
export function createUnauthenticatedConnections(
  limits: SshLimits,
  onDropped: (cut: number) => void = () => undefined,
  surroundings: Surroundings = {},
): UnauthenticatedConnections {
  const { siblings = NO_SIBLINGS, now = () => performance.now(), random = Math.random } = surroundings;
  const { turns = createLoginTurns() } = surroundings;
  const pools = createPools(random);
  const ofAddresses = createAddresses(random);
  const penalties = createPenalties(limits.maxDelaySeconds * 1000, now, siblings);
  const reportCut = seldom(onDropped, now);

  const remove = (one: Present): void => {
    pools[one.step].remove(one);
    ofAddresses.remove(one);
  };

  const cut = (one: Present | undefined): void => {
    if (one === undefined) return;
    one.cut = true;
    remove(one);
    one.reception.cut?.();
    // Who is silent costs next to nothing, a key exchange much: an address that floods with those has to wait longer and longer.
    one.socket.destroy();
    reportCut();
  };

  const size = (): number => STEPS.reduce((sum, step) => sum + pools[step].size, 0);
  /** Has the places suffice. */
  const makeRoom = (): void => {
    const most = limits.unauthenticated;
    // Two for each that comes, so that it comes down to half in a flood too.
    for (let early = 0; early < 2 && size() > most * EARLY; early++)
      cut(worstOf(pools, most, (step) => now() - RULES[step].fair));
    // A step with more than its share has somebody in it, and that one came before the end of time.
    while (size() > most) cut(worstOf(pools, most, () => Infinity));
  };

  return {
    size,
    register: (socket, reception, origin = { length: 0, isOwn: false }) => {
      const networks = networksOf(socket.remoteAddress ?? '');
      const address = networks.at(-1) ?? '';
      const delay = penalties.of(address);
      const pending: Present = { ...{ socket, reception, networks, address, origin }, since: now(), ...NEW };
      ofAddresses.add(pending);
      pools.silent.add(pending);

      const time = createLoginTime(limits.loginSeconds * 1000, delay, () => {
        socket.destroy();
      });
      /** @param held - for how long it may not go on yet, in ms */
      const step = (next: Step, held = 0): void => {
        if (over || pending.cut) return;
        time.stepTakes(held + RULES[next].most);
        if (next === pending.step) return;
        pools[pending.step].remove(pending);
        // Those who wait for the end of a penalty grow old in no order, else in a flood none would live to see it.
        Object.assign(pending, { step: next, since: now() + random() * held });
        pools[next].add(pending);
      };
      const turn = turnOf(pending, turns, now, {
        waits: () => {
          ofAddresses.remove(pending);
          time.stop();
        },
        goesOn: () => {
          if (over || pending.cut) return;
          time.goesOn();
          ofAddresses.add(pending);
        },
      });
      const serve = (): void => {
        turn.take(reception.serve);
      };
      let waiting: NodeJS.Timeout | undefined;
      let over = false;
      const leave = (): void => {
        over = true;
        remove(pending);
        time.stop();
        clearTimeout(waiting);
      };
      socket.once('close', () => {
        turn.takeBack();
        if (over) return;
        leave();
        if (hasFailed(pending)) penalties.failed(address);
      });
      step('silent');
      // Its line is read before its address's penalty is over: who waits for that stands among those who have spoken, not among the silent.
      exchangeIdentifications(socket, (wrong) => {
        if (wrong !== undefined) {
          reception.refuse(wrong);
          socket.destroy();
          return;
        }
        const held = Math.max(0, pending.since + delay - now());
        step('exchanging', held);
        pending.waits = held > 0;
        if (held > 0) waiting = setTimeout(serve, held);
        else serve();
      });
      cut(ofAddresses.beyond(address, limits.unauthenticatedPerAddress, now()));
      makeRoom();
      return {
        exchanged: () => {
          step('authenticating');
        },
        authenticated: leave,
        crowdedOut: () => {
          pending.waits = true;
        },
        welcomed: () => {
          penalties.end(address);
        },
        takeTurn: turn.take,
      };
    },
    shrink: () => {
      for (let freed = 0; freed < SHRUNK; freed++) {
        const one = STEPS.map((step) => pools[step].worst()).find((worst) => worst !== undefined);
        if (one === undefined) return;
        cut(one);
      }
    },
  };
}

/**
 * The worst of those who came before a moment, of the step that is furthest beyond its share; of none that has less than half of it.
 * @param most - places of all steps
 * @param before - of each step, in ms
 */
function worstOf(pools: Pools, most: number, before: (step: Step) => number): Present | undefined {
  const crowded = [...STEPS].sort((a, b) => pools[b].size / RULES[b].share - pools[a].size / RULES[a].share);
  for (const step of crowded) {
    if (pools[step].size <= most * RULES[step].share * EARLY) return undefined;
    const found = pools[step].worst(before(step));
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The turns of one connection. @param told - each time that it begins to wait for one, and that it has one */
function turnOf(
  one: Present,
  turns: LoginTurns,
  now: () => number,
  told: { readonly waits: () => void; readonly goesOn: () => void },
): { readonly take: (work: () => void) => void; readonly takeBack: () => void } {
  let takeBack = (): void => undefined;
  return {
    take: (work) => {
      // Who waits for others grows no older.
      Object.assign(one, { waits: true, since: QUEUED });
      told.waits();
      takeBack = turns.take(one.networks, () => {
        Object.assign(one, { waits: false, since: now() });
        told.goesOn();
        // It may have had to make place itself, or has said that it is going.
        if (!one.socket.destroyed && !one.socket.readableEnded) work();
      });
    },
    takeBack: () => {
      takeBack();
    },
  };
}

/** How long a login may take, in all and for its step. Time that it waits for its turn is not its own: there may be more before it than the limit. */
interface LoginTime {
  /** It is at another step, which may take so long, in ms. */
  stepTakes(ms: number): void;
  /** Stands still from now on. */
  stop(): void;
  goesOn(): void;
}

/** @param whole - what the login may take, in ms, after its address's `delay` */
function createLoginTime(whole: number, delay: number, end: () => void): LoginTime {
  let from = performance.now();
  let timer: NodeJS.Timeout | undefined;
  const left = { login: delay + whole, step: Infinity };
  const stop = (): void => {
    clearTimeout(timer);
    if (timer === undefined) return;
    timer = undefined;
    const spent = performance.now() - from;
    Object.assign(left, { login: left.login - spent, step: left.step - spent });
  };
  const goesOn = (): void => {
    stop();
    from = performance.now();
    timer = setTimeout(end, Math.max(0, Math.min(left.login, left.step)));
  };
  return {
    stepTakes: (ms) => {
      stop();
      left.step = ms;
      goesOn();
    },
    stop,
    goesOn,
  };
}

/** The connections of each address, but for those that wait for their turn: for how long they do is not of the address's making. */
interface Addresses {
  add(one: Present): void;
  remove(one: Present): void;
  /** Which one has to go where an address has more than `most`, as of a moment in ms. */
  beyond(address: string, most: number, now: number): Present | undefined;
}

function createAddresses(random: () => number): Addresses {
  const all = new Map<string, Set<Present>>();
  return {
    add: (one) => {
      getOrMake(all, one.address, () => new Set<Present>()).add(one);
    },
    remove: (one) => {
      const own = all.get(one.address);
      own?.delete(one);
      if (own?.size === 0) all.delete(one.address);
    },
    beyond: (address, most, now) => {
      const own = all.get(address);
      return own === undefined || own.size <= most ? undefined : drawFrom([...own], now, random);
    },
  };
}

/**
 * One of an address's connections: of those that had a fair time to go on, if there are any; and of the step that is furthest beyond its share, so
 * that who floods one step leaves the others to its neighbours.
 */
function drawFrom(own: readonly Present[], now: number, random: () => number): Present | undefined {
  const stuck = own.filter((one) => one.since < now - RULES[one.step].fair);
  const from = stuck.length > 0 ? stuck : own;
  const [candidates = []] = STEPS.map((step) => {
    const all = from.filter((one) => one.step === step);
    return { all, weight: all.length / RULES[step].share };
  })
    .sort((a, b) => b.weight - a.weight)
    .map(({ all }) => all);
  const drawn = Array.from({ length: DRAWN }, () => candidates[Math.floor(random() * candidates.length)]);
  return drawn.sort((a, b) => (a?.since ?? Infinity) - (b?.since ?? Infinity))[0];
}

type Pools = Readonly<Record<Step, FairPool<Present>>>;

function createPools(random: () => number): Pools {
  return Object.fromEntries(STEPS.map((step) => [step, createFairPool<Present>(random)])) as unknown as Pools;
}

/** Reports a count once in a while: at the first, and then what has come together. */
function seldom(report: (count: number) => void, now: () => number): () => void {
  let count = 0;
  let reportedAt = -Infinity;
  return () => {
    count++;
    if (now() - reportedAt < REPORT_MS) return;
    reportedAt = now();
    report(count);
    count = 0;
  };
}
