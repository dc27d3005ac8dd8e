/**
 * When the next of something may happen, so that over time no more of it happens than a rate allows, and when it is idle for a while,
 * some at once: the generic cell rate algorithm (ITU-T I.371), whose whole memory is one moment.
 */

/** A moment, in ms of the clock of those who share it, that they read and move on. */
export interface SharedTime {
  /** 0 when nobody has moved it yet. */
  read(): number;
  move(to: number): void;
}

/** What one thing takes of a schedule. */
interface Step {
  /** How long it takes at the rate, in ms. */
  readonly costMs: number;
  /** How much of the schedule may be used ahead of time, in ms. */
  readonly burstMs: number;
  /** The longest that one waits, in ms. */
  readonly longestMs: number;
}

/**
 * Takes one thing's time on the schedule that `moment` keeps.
 * @returns how long to wait for it, in ms; undefined when that would be longer than one waits, and then nothing is taken
 */
export function takeTurn(scheduled: SharedTime, now: number, { costMs, burstMs, longestMs }: Step): number | undefined {
  const kept = scheduled.read();
  // No honest schedule reaches so far ahead: the rate was lower.
  const taken = kept > now + burstMs + longestMs + costMs ? now + burstMs : Math.max(kept, now);
  const waitMs = taken + costMs - burstMs - now;
  if (waitMs > longestMs) return undefined;
  scheduled.move(taken + costMs);
  return Math.max(0, waitMs);
}
