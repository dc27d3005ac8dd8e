/**
 * Several sequences at once as one, holding no more items than it may.
 */
import { setMaxListeners } from 'node:events';

/**
 * What all the sources yield, in the order in which it comes. A source is asked for its next item only when its last one was taken, and
 * begun only when there is leave for an item more. The first error ends it, and so does leaving the loop: the signal of the sources that
 * have begun is then aborted.
 * @param sources - each begins a sequence that ends soon when its signal is aborted
 * @param mayHoldMore - whether one item more may be under way or held, beside the one that is waited for, from now on
 */
export async function* inParallel<T>(
  sources: readonly ((signal: AbortSignal) => AsyncIterator<T>)[],
  signal: AbortSignal,
  mayHoldMore: () => boolean = () => true,
): AsyncGenerator<T> {
  const stop = new AbortController();
  // As many listen as there are sources, and that is no leak to be warned of.
  setMaxListeners(0, stop.signal);
  const onAbort = (): void => {
    stop.abort(signal.reason);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();

  interface Arrival {
    readonly source: AsyncIterator<T>;
    readonly step: IteratorResult<T>;
  }
  const coming = new Map<AsyncIterator<T>, Promise<Arrival>>();
  const ask = (source: AsyncIterator<T>): void => {
    const arrival = source.next().then((step) => ({ source, step }));
    // One that fails after another has ended it all is no longer looked at.
    arrival.catch(() => undefined);
    coming.set(source, arrival);
  };
  const idle = [...sources];
  let most = 1;
  try {
    for (;;) {
      while (idle.length > 0 && (coming.size < most || mayHoldMore())) {
        most = Math.max(most, coming.size + 1);
        const begin = idle.shift();
        if (begin !== undefined) ask(begin(stop.signal));
      }
      if (coming.size === 0) return;
      const { source, step } = await Promise.race(coming.values());
      coming.delete(source);
      if (step.done === true) continue;
      yield step.value;
      ask(source);
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    stop.abort();
  }
}
