/**
 * Connections that have not authenticated yet: how many there may be, for how long, and how long an address that keeps failing waits.
 *
 * After OpenSSH's MaxStartups, LoginGraceTime and PerSourcePenalties, with differences that let newcomers in while others flood:
 * - Not the newcomer is dropped but one of whoever holds most, by address and by network (see fair-pool.ts); early, from half of the
 *   places on, those who had a fair time to go on, so that there is room for many who come at once.
 * - Each step of the login has places of its own, so that who is silent takes none from those who have spoken, nor the other way about.
 * - What costs thread time is done in turns (see login-turns.ts).
 * - A failing address is made to wait some seconds and is not refused, and one session ends its penalty: a neighbour behind the same NAT
 *   address may be the one who fails. A key that opens no session, such as a disabled one, ends nothing.
 */
import type { Socket } from 'node:net';
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
 * The share of all places that each step has, how long it may take at most, and what it is given before it may go early, both in ms. To
 * authenticate may take as long as it takes to type a passphrase: no more than the whole login.
 */
const RULES: Readonly<Record<Step, { readonly share: number; readonly most: number; readonly fair: number }>> = {
  silent: { share: 0.5, most: 10_000, fair: 1000 },
  exchanging: { share: 0.25, most: 20_000, fair: 2000 },
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
/** Of how many of one address the oldest goes. */
const DRAWN = 4;
/** How many are cut at once when descriptors are short. */
const SHRUNK = 32;

interface Present {
  readonly socket: Socket;
  readonly reception: Outcomes;
  readonly networks: readonly string[];
  readonly address: string;
  readonly origin: Pick<Origin, 'length' | 'isOwn'>;
  /** When it came to its step, in ms, as it counts for who goes first. */
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
  /** By address, in the order of their coming. */
  const present = new Map<string, Set<Present>>();
  const penalties = createPenalties(limits.maxDelaySeconds * 1000, now, siblings);
  const reportCut = seldom(onDropped, now);

  const remove = (one: Present): void => {
    pools[one.step].remove(one);
    const others = present.get(one.address);
    others?.delete(one);
    if (others?.size === 0) present.delete(one.address);
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

  /** Has the places of a step suffice. */
  const makeRoom = (step: Step): void => {
    const pool = pools[step];
    const { share, fair } = RULES[step];
    const most = Math.max(1, Math.floor(limits.unauthenticated * share));
    // Two for each that comes, so that it comes down to half in a flood too.
    for (let early = 0; early < 2 && pool.size > most / 2; early++) cut(pool.worst(now() - fair));
    // A pool with somebody in it has a worst.
    while (pool.size > most) cut(pool.worst());
  };

  const makeRoomOf = (address: string): void => {
    const own = present.get(address);
    if (own === undefined || own.size <= limits.unauthenticatedPerAddress) return;
    cut(drawFrom([...own], random));
  };

  return {
    size: () => STEPS.reduce((sum, step) => sum + pools[step].size, 0),
    register: (socket, reception, origin = { length: 0, isOwn: false }) => {
      const networks = networksOf(socket.remoteAddress ?? '');
      const address = networks.at(-1) ?? '';
      const delay = penalties.of(address);
      const pending: Present = { ...{ socket, reception, networks, address, origin }, since: now(), ...NEW };
      present.set(address, (present.get(address) ?? new Set()).add(pending));
      pools.silent.add(pending);

      const whole = limits.loginSeconds * 1000;
      const end = (): void => {
        socket.destroy();
      };
      const grace = setTimeout(end, delay + whole);
      let stepGrace: NodeJS.Timeout | undefined;
      /** @param held - for how long it may not go on yet, in ms */
      const step = (next: Step, held = 0): void => {
        clearTimeout(stepGrace);
        if (over || pending.cut) return;
        if (next !== pending.step) {
          pools[pending.step].remove(pending);
          // Those who wait for the end of a penalty grow old in no order, else in a flood none would live to see it.
          Object.assign(pending, { step: next, since: now() + random() * held });
          pools[next].add(pending);
          makeRoom(next);
        }
        const { most } = RULES[next];
        if (most < whole) stepGrace = setTimeout(end, held + most);
      };
      const turn = turnOf(pending, turns, now);
      const serve = (): void => {
        turn.take(reception.serve);
      };
      let waiting: NodeJS.Timeout | undefined;
      let over = false;
      const leave = (): void => {
        over = true;
        remove(pending);
        for (const timer of [grace, stepGrace, waiting]) clearTimeout(timer);
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
      makeRoomOf(address);
      makeRoom('silent');
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

/** The turns of one connection. */
function turnOf(
  one: Present,
  turns: LoginTurns,
  now: () => number,
): { readonly take: (work: () => void) => void; readonly takeBack: () => void } {
  let takeBack = (): void => undefined;
  return {
    take: (work) => {
      // Who waits for others grows no older.
      Object.assign(one, { waits: true, since: Number.MAX_VALUE });
      takeBack = turns.take(one.networks, () => {
        Object.assign(one, { waits: false, since: now() });
        // It may have had to make place itself, or has said that it is going.
        if (!one.socket.destroyed && !one.socket.readableEnded) work();
      });
    },
    takeBack: () => {
      takeBack();
    },
  };
}

/** One of an address's connections: of the step in which it holds most, so that who floods one step leaves the others to its neighbours. */
function drawFrom(own: readonly Present[], random: () => number): Present | undefined {
  const [candidates = []] = STEPS.map((step) => {
    const all = own.filter((one) => one.step === step);
    return { all, weight: all.length / RULES[step].share };
  })
    .sort((a, b) => b.weight - a.weight)
    .map(({ all }) => all);
  const drawn = Array.from({ length: DRAWN }, () => candidates[Math.floor(random() * candidates.length)]);
  return drawn.sort((a, b) => (a?.since ?? Infinity) - (b?.since ?? Infinity))[0];
}

function createPools(random: () => number): Record<Step, FairPool<Present>> {
  const pools = STEPS.map((step) => [step, createFairPool<Present>(random)]);
  return Object.fromEntries(pools) as Record<Step, FairPool<Present>>;
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
