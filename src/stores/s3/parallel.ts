/**
 * Several sequences at once as one, holding no more than one item of each.
 */
import { setMaxListeners } from 'node:events';

/**
 * What all the sources yield, in the order in which it comes. A source is asked for its next item only when its last one was taken. The
 * first error ends it, and so does leaving the loop: the sources' signal is then aborted.
 * @param sources - each begins a sequence that ends soon when its signal is aborted
 */
export async function* inParallel<T>(
  sources: readonly ((signal: AbortSignal) => AsyncIterator<T>)[],
  signal: AbortSignal,
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
  try {
    for (const begin of sources) ask(begin(stop.signal));
    while (coming.size > 0) {
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
