/** Time that passes only when a test lets it. */
import type { Clock } from '../../src/limits/clock.ts';

/** A clock with hands that are moved. */
export interface FakeClock extends Clock {
  /** Lets time pass, timers in their order; what they set off is done before the next. */
  pass(ms: number): Promise<void>;
  /** Sets the clock as an admin would, timers undisturbed. */
  set(now: number): void;
  /** Timers that are running. */
  pending(): number;
}

/** Begins at some time of day. */
export function fakeClock(start = 1_795_000_000_000): FakeClock {
  let wall = start;
  let elapsed = 0;
  const timers = new Set<{ readonly at: number; readonly then: () => void }>();
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return {
    now: () => wall,
    after: (ms, then) => {
      const timer = { at: elapsed + ms, then };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    pass: async (ms) => {
      const end = elapsed + ms;
      await settle();
      for (;;) {
        const [next] = [...timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
        const at = next?.at ?? end;
        wall += at - elapsed;
        elapsed = at;
        if (next === undefined) return;
        timers.delete(next);
        next.then();
        await settle();
      }
    },
    set: (now) => {
      wall = now;
    },
    pending: () => timers.size,
  };
}
