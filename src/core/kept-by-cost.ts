/** What many ask for and takes its time to make: made for one, given to all, and given again for longer the longer it takes. */

/** What is made sooner than that, in ms, is made anew for everyone. */
const QUICK_MS = 100;
/** It is given again for so many times as long as it took, so that it takes no more than a tenth of the time, … */
const TIMES = 10;
/** … and while it is made anew, what was made before is given up to this age, in ms. */
const OLDEST_MS = 30_000;

/** What is kept; `drop` has it made anew for whoever asks next. */
export interface KeptByCost<T> {
  get(): Promise<T>;
  drop(): void;
}

/**
 * @param make - not called while it is under way, unless it was dropped
 * @param now - in ms, monotonic
 */
export function keptByCost<T>(make: () => Promise<T>, now: () => number = () => performance.now()): KeptByCost<T> {
  let last: { readonly value: T; readonly at: number; readonly took: number } | undefined;
  let making: Promise<T> | undefined;

  const begin = (): Promise<T> => {
    const from = now();
    const begun: Promise<T> = make().then(
      (value) => {
        if (making === begun) {
          last = { value, at: now(), took: now() - from };
          making = undefined;
        }
        return value;
      },
      (error: unknown) => {
        if (making === begun) last = making = undefined;
        throw error;
      },
    );
    making = begun;
    return begun;
  };

  return {
    get: () => {
      const age = last === undefined ? Infinity : now() - last.at;
      if (last === undefined || last.took <= QUICK_MS || age > OLDEST_MS) return making ?? begin();
      if (making === undefined && age > TIMES * last.took) begin().catch(() => undefined);
      return Promise.resolve(last.value);
    },
    drop: () => {
      last = making = undefined;
    },
  };
}
