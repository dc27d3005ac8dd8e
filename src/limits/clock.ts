/** Time as the limits need it, so that tests have one of their own. */

/** A clock and its timers. */
export interface Clock {
  /** Now, in ms since the epoch, the same in all processes of a machine. */
  now(): number;
  /** Calls `then` once, in so many ms. @returns a function that calls it off */
  after(ms: number, then: () => void): () => void;
}

/** The machine's. */
export const CLOCK: Clock = {
  now: () => Date.now(),
  after: (ms, then) => {
    const timer = setTimeout(then, ms);
    return () => {
      clearTimeout(timer);
    };
  },
};
