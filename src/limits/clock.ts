/** Time as the limits need it, so that tests have one of their own. */

/** A clock and its timers. */
export interface Clock {
  /** Now, in ms since some moment, the same in all processes of a machine. It only goes forward, whatever the time of day is set to. */
  now(): number;
  /** Calls `then` once, in so many ms. @returns a function that calls it off */
  after(ms: number, then: () => void): () => void;
}

/** The machine's. */
export const CLOCK: Clock = {
  // The system's monotonic clock, not that of performance.now(), which begins with the process.
  now: () => {
    const [seconds, nanoseconds] = process.hrtime();
    return seconds * 1000 + nanoseconds / 1e6;
  },
  after: (ms, then) => {
    const timer = setTimeout(then, ms);
    return () => {
      clearTimeout(timer);
    };
  },
};
