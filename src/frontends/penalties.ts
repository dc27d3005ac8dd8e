/** How long an address waits for its failed logins, after OpenSSH's PerSourcePenalties. */

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
export function createPenalties(longestMs: number, now: () => number): Penalties {
  const failures = new Map<string, { readonly count: number; readonly at: number }>();
  const countOf = (address: string): number => {
    const record = failures.get(address);
    return record === undefined || now() - record.at > FORGIVEN_MS ? 0 : record.count;
  };
  return {
    of: (address) => {
      const beyond = countOf(address) - FREE_FAILURES;
      return beyond <= 0 ? 0 : Math.min(longestMs, 2 ** (beyond - 1) * 1000);
    },
    failed: (address) => {
      const before = countOf(address);
      failures.delete(address);
      failures.set(address, { count: Math.min(before + 1, 32), at: now() });
      const [oldest] = failures.keys();
      if (failures.size > REMEMBERED && oldest !== undefined) failures.delete(oldest);
    },
    end: (address) => {
      failures.delete(address);
    },
  };
}
