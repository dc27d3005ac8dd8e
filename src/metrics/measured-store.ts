/** A store whose answers are timed and whose failures are counted; it does nothing else than the store beneath. */
import { asGatewayError, type ErrorCode } from '../core/errors.ts';
import type { StoreMeter, StoreOperation } from '../ports/meter.ts';
import type { ListedObject, RepositoryStore } from '../ports/repository-store.ts';

/** Times a store, by the clock of this process. */
export function measuredStore(store: RepositoryStore, meter: StoreMeter): RepositoryStore {
  /** @param began - asked for when the store has answered */
  const timed = async <T>(
    operation: StoreOperation,
    call: Promise<T>,
    signal: AbortSignal,
    began: () => number,
  ): Promise<T> => {
    try {
      const answer = await call;
      meter.answered(operation, since(began()));
      return answer;
    } catch (error) {
      // Of a call that was given up nothing is known.
      if (!signal.aborted && answers(error)) meter.answered(operation, since(began()));
      count(operation, error);
      throw error;
    }
  };
  const count = (operation: StoreOperation, error: unknown): void => {
    const { code } = asGatewayError(error);
    if (isFailure(code)) meter.failed(operation, code);
  };
  const now = (): (() => number) => {
    const began = performance.now();
    return () => began;
  };

  return {
    create: (ref, content, uploader, options) => {
      // The client sets how long the content takes to come; the store, how long it takes once it has asked for the last of it.
      let pulled = performance.now();
      const body = onPull(content.body, () => (pulled = performance.now()));
      const call = store.create(ref, { ...content, body }, uploader, options);
      return timed('create', call, options.signal, () => pulled);
    },
    load: async (ref, range, options) => {
      const object = await timed('load', store.load(ref, range, options), options.signal, now());
      return {
        ...object,
        body: onFailure(object.body, (error) => {
          count('load', error);
        }),
      };
    },
    stat: (ref, options) => timed('stat', store.stat(ref, options), options.signal, now()),
    remove: (ref, options) => timed('remove', store.remove(ref, options), options.signal, now()),
    list: (type, options) => timedList(store.list(type, options), meter, count),
  };
}

/** Timed up to its first page. */
async function* timedList(
  pages: AsyncIterable<readonly ListedObject[]>,
  meter: StoreMeter,
  count: (operation: StoreOperation, error: unknown) => void,
): AsyncIterable<readonly ListedObject[]> {
  const began = performance.now();
  let first = true;
  const answered = (): void => {
    if (first) meter.answered('list', since(began));
    first = false;
  };
  try {
    for await (const page of pages) {
      answered();
      yield page;
    }
    answered();
  } catch (error) {
    count('list', error);
    throw error;
  }
}

/** The same chunks; costs nothing for each but a call. */
function onPull(body: AsyncIterable<Uint8Array>, pulling: () => void): AsyncIterable<Uint8Array> {
  return {
    [Symbol.asyncIterator]: () => {
      const inner = body[Symbol.asyncIterator]();
      return {
        next: () => {
          pulling();
          return inner.next();
        },
        return: (value?: unknown) => inner.return?.(value) ?? Promise.resolve({ done: true, value: undefined }),
      };
    },
  };
}

function onFailure(body: AsyncIterable<Uint8Array>, failed: (error: unknown) => void): AsyncIterable<Uint8Array> {
  return {
    [Symbol.asyncIterator]: () => {
      const inner = body[Symbol.asyncIterator]();
      return {
        next: () => {
          const next = inner.next();
          next.catch(failed);
          return next;
        },
        return: (value?: unknown) => inner.return?.(value) ?? Promise.resolve({ done: true, value: undefined }),
      };
    },
  };
}

/** Whether an error is an answer of the store. */
function answers(error: unknown): boolean {
  const { code } = asGatewayError(error);
  return isFailure(code) || code === 'not-found' || code === 'range-not-satisfiable' || code === 'retained';
}

/** What the content's own end or the client caused is none. */
function isFailure(code: ErrorCode): boolean {
  return code.startsWith('store-') || code === 'internal';
}

function since(began: number): number {
  return (performance.now() - began) / 1000;
}
