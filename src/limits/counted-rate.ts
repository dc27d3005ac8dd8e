/** Holds how often something happens to a rate, with a number of times at once for those who were idle. */
import { GatewayError, type ErrorCode } from '../core/errors.ts';
import { takeTurn, type SharedTime } from '../core/schedule.ts';
import type { Clock } from './clock.ts';

/** The longest that one waits for its turn, in ms; beyond that, an error and a retry cost less than waiting. */
const LONGEST_MS = 60_000;
/**
 * A refusal is held for so long, in ms, and a turn asked for once more. restic before 0.17 tries ten times, at once refused within 50 s, which is
 * less than others may have to wait for their turns.
 */
const HELD_MS = 10_000;

/** Something that happens. */
interface CountedRate {
  /**
   * @returns undefined when it may happen at once, else a promise for when it may, or for when the signal aborts; it rejects with a
   * GatewayError that has the code of the rate when too many wait already
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
  const takeOne = (): number | undefined =>
    takeTurn(sharedTime, clock.now(), { costMs: costMs(), burstMs, longestMs: LONGEST_MS });
  const pause = (ms: number, signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      const done = (): void => {
        callOff();
        signal.removeEventListener('abort', done);
        resolve();
      };
      const callOff = clock.after(ms, done);
      signal.addEventListener('abort', done, { once: true });
    });
  const askAgain = async (signal: AbortSignal): Promise<void> => {
    await pause(HELD_MS, signal);
    if (signal.aborted) return;
    const waitMs = takeOne();
    if (waitMs === undefined) throw new GatewayError(code);
    await pause(waitMs, signal);
  };
  return {
    take: (signal) => {
      const waitMs = takeOne();
      if (waitMs === 0 || signal.aborted) return undefined;
      return waitMs === undefined ? askAgain(signal) : pause(waitMs, signal);
    },
  };
}
