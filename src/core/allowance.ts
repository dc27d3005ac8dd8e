/** How often something may happen: a bucket of tokens that refills with time. */

/** What may happen now, and what may not. */
export interface Allowance {
  /** Takes one; false when there is none left. */
  take(): boolean;
}

/**
 * @param burst - how many at once, from the start
 * @param perSecond - how many more each second, up to `burst`
 * @param now - a clock that only goes forward, in ms
 */
export function createAllowance(burst: number, perSecond: number, now: () => number): Allowance {
  let left = burst;
  let at = now();
  return {
    take: () => {
      const time = now();
      left = Math.min(burst, left + ((time - at) / 1000) * perSecond);
      at = time;
      if (left < 1) return false;
      left--;
      return true;
    },
  };
}
