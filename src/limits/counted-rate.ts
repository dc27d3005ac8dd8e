/** Holds how often something happens to a rate, with a number of times at once for those who were idle. */
import { GatewayError, type ErrorCode } from '../core/errors.ts';
import { takeTurn, type SharedTime } from '../core/schedule.ts';
import type { Clock } from './clock.ts';

/** The longest that one waits, in ms; beyond that, an error and a retry cost less than waiting. */
const LONGEST_MS = 60_000;

/** Something that happens. */
interface CountedRate {
  /**
   * @returns undefined when it may happen at once, else a promise for when it may, or for when the signal aborts
   * @throws GatewayError with the code of the rate when too many wait already
   */
  take(signal: AbortSignal): Promise<void> | undefined;
}

/**
 * @param rate.costMs - how long one takes at the rate, in ms, as of now
 * @param rate.burstMs - how long it must have been idle to have all at once that it may have at once, in ms
 * @param rate.code - of the error when too many wait
 * @param sharedTime - shared by all who share the rate
 */
export function createCountedRate(
  rate: { readonly costMs: () => number; readonly burstMs: number; readonly code: ErrorCode },
  sharedTime: SharedTime,
  clock: Clock,
): CountedRate {
  const { costMs, burstMs, code } = rate;
  return {
    take: (signal) => {
      const waitMs = takeTurn(sharedTime, clock.now(), { costMs: costMs(), burstMs, longestMs: LONGEST_MS });
      if (waitMs === undefined) throw new GatewayError(code);
      if (waitMs === 0 || signal.aborted) return undefined;
      return new Promise((resolve) => {
        const done = (): void => {
          callOff();
          signal.removeEventListener('abort', done);
          resolve();
        };
        const callOff = clock.after(waitMs, done);
        signal.addEventListener('abort', done, { once: true });
      });
    },
  };
}
