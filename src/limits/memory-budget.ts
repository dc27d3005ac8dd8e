/**
 * The one budget of bytes that a process holds for its clients, with a share that no client can exceed.
 *
 * A part of it is kept for small needs, so that a lock can be refreshed and a newcomer can begin while large uploads hold all the rest; and
 * what only makes things faster is given from the first half alone, so that it never takes what others need to move at all.
 */
import { getOrMake } from '../core/get-or-make.ts';
import type { ClientMemory, Lease, Memory, MemoryUse } from '../ports/memory.ts';

/** The bounds, in bytes. */
export interface MemoryLimits {
  readonly total: number;
  readonly perClient: number;
}

/** Up to so many bytes a need is small: those of a session, and of a lock. */
const SMALL = 192 * 1024;
/** What large needs leave of the total and of a client's share. */
const KEPT_FOR_SMALL = 1 / 16;
/** How much of the total may be taken when more is given for speed, and how much of a client's share. */
const FOR_SPEED = 1 / 2;
const OWN_FOR_SPEED = 7 / 8;
/** From here on speed is no longer worth it. */
const SCARCE = 5 / 8;

interface Waiting {
  readonly bytes: number;
  readonly granted: (lease: Lease) => void;
}

interface Account {
  used: number;
  readonly waiting: Waiting[];
}

/** A budget whose bounds may change. */
interface MemoryBudget extends Memory {
  /** From now on; what is taken stays taken. */
  resize(limits: MemoryLimits): void;
}

/** Makes a budget of which nothing is taken. */
export function createMemoryBudget(first: MemoryLimits): MemoryBudget {
  let limits = first;
  let used = 0;
  let waiters = 0;
  /** Of clients that hold something or wait for it, and of no others. */
  const accounts = new Map<string, Account>();

  const fits = (account: Account | undefined, bytes: number, use: MemoryUse): boolean => {
    const part = bytes <= SMALL ? 1 : 1 - KEPT_FOR_SMALL;
    const own = account?.used ?? 0;
    return (
      own + bytes <= limits.perClient * (use === 'faster' ? Math.min(part, OWN_FOR_SPEED) : part) &&
      used + bytes <= limits.total * (use === 'faster' ? Math.min(part, speedPart()) : part)
    );
  };
  // A process that serves one client alone has nobody to keep it for.
  const speedPart = (): number => (limits.perClient * 2 > limits.total ? 1 : FOR_SPEED);

  const accountOf = (client: string): Account => getOrMake(accounts, client, () => ({ used: 0, waiting: [] }));

  const remove = (client: string, account: Account): void => {
    if (account.used === 0 && account.waiting.length === 0 && accounts.get(client) === account) accounts.delete(client);
  };

  const move = (client: string, bytes: number): void => {
    const account = accountOf(client);
    account.used += bytes;
    used += bytes;
    remove(client, account);
  };

  const lease = (client: string, bytes: number): Lease => {
    let held = bytes;
    let over = false;
    move(client, bytes);
    return {
      grow: (more) => {
        if (over || !fits(accounts.get(client), more, 'faster')) return false;
        held += more;
        move(client, more);
        return true;
      },
      release: () => {
        if (over) return;
        over = true;
        move(client, -held);
        serveWaiting();
      },
    };
  };

  /** Gives to those who wait, a client after the other, each in the order in which it asked. */
  const serveWaiting = (): void => {
    for (let given = waiters > 0; given;) {
      given = false;
      for (const [client, account] of [...accounts]) {
        const [next] = account.waiting;
        if (next === undefined || !fits(account, next.bytes, 'needed')) continue;
        account.waiting.shift();
        waiters--;
        // Behind the others, for the next time.
        accounts.delete(client);
        accounts.set(client, account);
        next.granted(lease(client, next.bytes));
        given = true;
      }
    }
  };

  const memoryOf = (client: string): ClientMemory => ({
    take: (bytes, use = 'needed') => (fits(accounts.get(client), bytes, use) ? lease(client, bytes) : undefined),
    wait: (bytes, signal) => {
      if (signal.aborted) return undefined;
      if ((accounts.get(client)?.waiting.length ?? 0) === 0 && fits(accounts.get(client), bytes, 'needed'))
        return lease(client, bytes);
      return new Promise((resolve) => {
        const account = accountOf(client);
        const leave = (): void => {
          account.waiting.splice(account.waiting.indexOf(waiting), 1);
          waiters--;
          remove(client, account);
          resolve(undefined);
          // The next one may need less.
          serveWaiting();
        };
        const waiting: Waiting = {
          bytes,
          granted: (granted) => {
            signal.removeEventListener('abort', leave);
            resolve(granted);
          },
        };
        account.waiting.push(waiting);
        waiters++;
        signal.addEventListener('abort', leave, { once: true });
      });
    },
    get scarce() {
      return used > limits.total * Math.max(SCARCE, speedPart());
    },
  });

  return {
    of: memoryOf,
    get used() {
      return used;
    },
    get total() {
      return limits.total;
    },
    resize: (next) => {
      limits = next;
      serveWaiting();
    },
  };
}
