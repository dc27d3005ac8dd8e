/** Waiting for what may take longer than it is worth. What is no longer waited for goes on, and its failure is nobody's. */

/** What a promise comes to; undefined when it takes longer than `ms`. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * What a promise comes to, unless the signal comes first.
 * @param why - what is thrown then
 * @param discard - takes what comes too late
 */
export function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  why: () => Error,
  discard: (late: T) => unknown = () => undefined,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      promise.then(discard).catch(() => undefined);
      reject(why());
    };
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    void promise.then(resolve, reject).finally(() => {
      signal.removeEventListener('abort', onAbort);
    });
  });
}
