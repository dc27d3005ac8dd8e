/** A log that peers cannot flood: warnings beyond a rate are counted, and the next one that is written says how many there were. */
import { createAllowance } from '../core/allowance.ts';
import type { Log } from '../ports/log.ts';

/** Warnings at once, and each second after that. */
const BURST = 60;
const PER_SECOND = 1;

/** Wraps a log; only its warnings are limited. @param now - a clock that only goes forward, in ms */
export function quietLog(log: Log, now: () => number = () => performance.now()): Log {
  const allowance = createAllowance(BURST, PER_SECOND, now);
  let unwritten = 0;
  return {
    info: (fields, message) => {
      log.info(fields, message);
    },
    warn: (fields, message) => {
      if (!allowance.take()) {
        unwritten++;
        return;
      }
      log.warn(unwritten === 0 ? fields : { ...fields, unwritten }, message);
      unwritten = 0;
    },
    error: (fields, message) => {
      log.error(fields, message);
    },
  };
}
