/** What the workers have counted, kept by the process above them, so that no sum falls when one of them ends. */
import type { Figures } from '../metrics/figures.ts';
import type { Served } from './service.ts';

/** How long a scrape waits for a worker, in ms; what it said last counts then. */
const PATIENCE_MS = 2000;

/** One worker's figures. */
export interface WorkerFigures {
  /** It has sent them. */
  take(figures: Figures): void;
  /** It is gone. */
  ended(): void;
}

/** Keeps the figures of all workers. */
interface AllFigures {
  /** One more worker that serves. @param ask - asks it for its figures */
  begin(ask: () => void): WorkerFigures;
  served(): Promise<Served>;
}

/** What is known of a worker that runs. */
interface Known {
  readonly name: string;
  readonly ask: () => void;
  last: Figures | undefined;
  waiting: (() => void)[];
}

/** Knows nobody yet. */
export function keepWorkerFigures(): AllFigures {
  const known = new Set<Known>();
  let ended: Figures['counted'][] = [];

  const newest = (one: Known): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, PATIENCE_MS);
      one.waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
      one.ask();
    });
  const answered = (one: Known): void => {
    for (const done of one.waiting) done();
    one.waiting = [];
  };

  return {
    begin: (ask) => {
      const taken = new Set([...known].map(({ name }) => name));
      // One that replaces another gets its name, so that there are never more names than workers.
      let number = 1;
      while (taken.has(`worker-${number}`)) number++;
      const one: Known = { name: `worker-${number}`, ask, last: undefined, waiting: [] };
      known.add(one);
      return {
        take: (figures) => {
          one.last = figures;
          answered(one);
        },
        ended: () => {
          known.delete(one);
          if (one.last !== undefined) ended.push(one.last.counted);
          answered(one);
        },
      };
    },
    served: async () => {
      await Promise.all([...known].map(newest));
      if (ended.length > 1) {
        const { addUp } = await import('../metrics/figures.ts');
        const summed = ended;
        const sum = await addUp(summed);
        // Another one may have ended, or another scrape have added up, meanwhile.
        if (summed === ended) ended = [sum];
      }
      const processes = new Map<string, Figures>();
      for (const { name, last } of known) if (last !== undefined) processes.set(name, last);
      return { processes, ended: ended.flat() };
    },
  };
}
