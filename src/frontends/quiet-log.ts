/**
 * A log that peers cannot flood: warnings beyond a rate are counted, and the next one that is written says how many there were. Each
 * address has an allowance of its own within that of all, so that one that floods does not keep the others' warnings out.
 */
import { createAllowance, type Allowance } from '../core/allowance.ts';
import type { Log } from '../ports/log.ts';

/** Warnings at once, and each second after that: in all, and of one address. */
const ALL = { burst: 60, perSecond: 1 };
const ONE = { burst: 10, perSecond: 0.1 };
/** How many addresses have an allowance; the longest unheard of is forgotten first. */
const REMEMBERED = 1000;

/** Wraps a log; only its warnings are limited, by their field `from`. @param now - a clock that only goes forward, in ms */
export function quietLog(log: Log, now: () => number = () => performance.now()): Log {
  const all = createAllowance(ALL.burst, ALL.perSecond, now);
  const each = new Map<string, Allowance>();
  let unwritten = 0;

  const allowanceOf = (from: string): Allowance => {
    const one = each.get(from) ?? createAllowance(ONE.burst, ONE.perSecond, now);
    each.delete(from);
    each.set(from, one);
    const [oldest] = each.keys();
    if (each.size > REMEMBERED && oldest !== undefined) each.delete(oldest);
    return one;
  };

  return {
    info: (fields, message) => {
      log.info(fields, message);
    },
    warn: (fields, message) => {
      const { from } = fields;
      // One's own comes first: what is beyond it takes nothing from the others.
      if ((typeof from === 'string' && !allowanceOf(from).take()) || !all.take()) {
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
