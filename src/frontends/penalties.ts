/** How long an address waits for its failed logins, at whichever process, after OpenSSH's PerSourcePenalties. */
import { NO_SIBLINGS, type Siblings } from '../ports/siblings.ts';

/** Failures of an address that cost nothing: the port scan of a monitor, a mistyped key. */
const FREE_FAILURES = 3;
/** After this time without a failure, an address starts anew, in ms. */
const FORGIVEN_MS = 60_000;
/** How many addresses are remembered; the longest unheard of is forgotten first. */
const REMEMBERED = 10_000;

/** The penalties of all addresses. */
interface Penalties {
  /** How long an address has to wait now, in ms. */
  of(address: string): number;
  failed(address: string): void;
  end(address: string): void;
}

/**
 * @param longestMs - no address waits longer
 * @param now - a clock that only goes forward, in ms
 */
export function createPenalties(longestMs: number, now: () => number, siblings: Siblings = NO_SIBLINGS): Penalties {
  const failures = new Map<string, { readonly count: number; readonly at: number }>();
  const countOf = (address: string): number => {
    const record = failures.get(address);
    return record === undefined || now() - record.at > FORGIVEN_MS ? 0 : record.count;
  };
  const failed = (address: string): void => {
    const before = countOf(address);
    failures.delete(address);
    failures.set(address, { count: Math.min(before + 1, 32), at: now() });
    const [oldest] = failures.keys();
    if (failures.size > REMEMBERED && oldest !== undefined) failures.delete(oldest);
  };
  siblings.listen({
    heard: (_from, news) => {
      if (news.kind === 'login-failed') failed(news.address);
      else if (news.kind === 'login-succeeded') failures.delete(news.address);
    },
    // Who comes anew forgives what was before.
    came: () => undefined,
    gone: () => undefined,
    makeRoom: () => Promise.resolve(false),
  });
  return {
    of: (address) => {
      const beyond = countOf(address) - FREE_FAILURES;
      return beyond <= 0 ? 0 : Math.min(longestMs, 2 ** (beyond - 1) * 1000);
    },
    failed: (address) => {
      failed(address);
      siblings.tell({ kind: 'login-failed', address });
    },
    end: (address) => {
      // Whoever never fails costs no message.
      if (failures.delete(address)) siblings.tell({ kind: 'login-succeeded', address });
    },
  };
}
