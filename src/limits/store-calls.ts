/**
 * How much of a store one client may have at once, over all of its sessions in this process. One more call waits for its turn, in order;
 * other clients never wait for it.
 *
 * A download that nobody reads lets go of the store after a while and is resumed by its range when it is read again: an S3 server has some
 * dozens of threads, and each open download holds one.
 */
import { GatewayError } from '../core/errors.ts';
import type { ByteRange } from '../core/operation.ts';
import type { ObjectRef } from '../core/object.ts';
import type { CallOptions, ListedObject, LoadedObject, RepositoryStore } from '../ports/repository-store.ts';

/** Calls of a client at once, by kind. Each kind waits for its own kind alone, so that the refresh of a lock never waits for packs. */
const MOST = {
  /** Packs on their way in, and downloads that are being read: more than one restic has connections. */
  packs: 32,
  downloads: 32,
  /** A list is fetched some pages ahead, each a few hundred KiB while it is read. */
  lists: 4,
  /** All else: look-ups, removals, and objects that are no packs. More would fill libuv's few threads, behind which everybody's files wait. */
  small: 8,
} as const;
type Kind = keyof typeof MOST;

/** Calls of one kind that a client may have waiting. More are told to come again. */
const MOST_WAITING = 1024;

/** After so long, in ms, a download that nobody reads lets go of the store. */
const UNREAD_MS = 5000;

/** The store calls of all clients in this process. */
export interface StoreCalls {
  /** The same store, for one session of a client. */
  of(client: string, store: RepositoryStore): RepositoryStore;
}

/** @param unreadMs - after how long a download that nobody reads lets go of the store */
export function createStoreCalls(unreadMs: number = UNREAD_MS): StoreCalls {
  const clients = new Map<string, Map<Kind, Turns>>();
  const take = (client: string, kind: Kind, signal: AbortSignal): Promise<() => void> => {
    let kinds = clients.get(client);
    if (kinds === undefined) clients.set(client, (kinds = new Map<Kind, Turns>()));
    let turns = kinds.get(kind);
    if (turns === undefined) kinds.set(kind, (turns = new Turns(MOST[kind])));
    return turns.take(signal);
  };
  return {
    of: (client, store) => {
      const during = async <T>(kind: Kind, { signal }: CallOptions, call: () => Promise<T>): Promise<T> => {
        const leave = await take(client, kind, signal);
        try {
          return await call();
        } finally {
          leave();
        }
      };
      return {
        create: (ref, content, origin, options) =>
          during(ref.type === 'data' ? 'packs' : 'small', options, () => store.create(ref, content, origin, options)),
        stat: (ref, options) => during('small', options, () => store.stat(ref, options)),
        remove: (ref, options) => during('small', options, () => store.remove(ref, options)),
        load: async (ref, range, options) => {
          const open = (part: ByteRange | undefined): Promise<Opened> =>
            openDownload(store, () => take(client, 'downloads', options.signal), ref, part, options);
          const opened = await open(range);
          return { ...opened.object, body: new PatientDownload(opened, open, unreadMs) };
        },
        list: (type, options) => inTurn(() => take(client, 'lists', options.signal), store.list(type, options)),
      };
    },
  };
}

/** So many at once, the others in the order in which they came. */
class Turns {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(most: number) {
    this.#free = most;
  }

  /**
   * Waits for a turn. @returns a function that ends it; it may be called again and does nothing then
   * @throws GatewayError `client-gone` on the signal, `too-many-requests` when too many wait
   */
  take(signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) return Promise.reject(new GatewayError('client-gone'));
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve(this.#turn());
    }
    if (this.#waiting.size >= MOST_WAITING) return Promise.reject(new GatewayError('too-many-requests'));
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(this.#turn());
      };
      const onAbort = (): void => {
        this.#waiting.delete(go);
        reject(new GatewayError('client-gone'));
      };
      this.#waiting.add(go);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  #turn(): () => void {
    let over = false;
    return () => {
      if (over) return;
      over = true;
      const [next] = this.#waiting;
      if (next === undefined) {
        this.#free += 1;
        return;
      }
      this.#waiting.delete(next);
      next();
    };
  }
}

/** A list that begins when it is its turn. */
async function* inTurn(
  take: () => Promise<() => void>,
  pages: AsyncIterable<readonly ListedObject[]>,
): AsyncGenerator<readonly ListedObject[]> {
  const leave = await take();
  try {
    yield* pages;
  } finally {
    leave();
  }
}

/** A download that holds a turn. */
interface Opened {
  readonly object: LoadedObject;
  readonly leave: () => void;
  readonly ref: ObjectRef;
  readonly signal: AbortSignal;
}

async function openDownload(
  store: RepositoryStore,
  take: () => Promise<() => void>,
  ref: ObjectRef,
  range: ByteRange | undefined,
  options: CallOptions,
): Promise<Opened> {
  const leave = await take();
  try {
    return { object: await store.load(ref, range, options), leave, ref, signal: options.signal };
  } catch (error) {
    leave();
    throw error;
  }
}

/** A download that holds its turn while it is read. */
class PatientDownload implements AsyncIterableIterator<Uint8Array> {
  readonly #open: (range: ByteRange) => Promise<Opened>;
  readonly #size: number;
  readonly #end: number;
  readonly #signal: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  #at: number;
  #source: AsyncIterator<Uint8Array> | undefined;
  #leave: () => void;
  /** Whether somebody waits for the next piece, and has since the timer was last heard. */
  #reading = false;
  #read = true;
  #over = false;

  constructor({ object, leave, signal }: Opened, open: (range: ByteRange) => Promise<Opened>, unreadMs: number) {
    this.#open = open;
    this.#size = object.size;
    this.#at = object.first;
    this.#end = object.first + object.length;
    this.#source = object.body[Symbol.asyncIterator]();
    this.#leave = leave;
    this.#signal = signal;
    this.#timer = setInterval(() => {
      if (!this.#reading && !this.#read) this.#letGo();
      this.#read = false;
    }, unreadMs).unref();
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#read = true;
    this.#reading = true;
    try {
      if (this.#over) return { done: true, value: undefined };
      if (this.#source === undefined) await this.#resume();
      const step = (await this.#source?.next()) as IteratorResult<Uint8Array, undefined> | undefined;
      if (step === undefined || step.done === true) {
        this.#finish();
        return { done: true, value: undefined };
      }
      this.#at += step.value.length;
      return step;
    } catch (error) {
      this.#finish();
      throw error;
    } finally {
      this.#reading = false;
    }
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    const source = this.#source;
    this.#finish();
    await source?.return?.();
    return { done: true, value: undefined };
  }

  async #resume(): Promise<void> {
    if (this.#at >= this.#end) return;
    const { object, leave } = await this.#open({ first: this.#at, last: this.#end - 1 });
    this.#leave = leave;
    this.#source = object.body[Symbol.asyncIterator]();
    if (this.#over) {
      this.#letGo();
      throw new GatewayError('client-gone');
    }
    if (object.size !== this.#size || object.first !== this.#at || object.first + object.length !== this.#end)
      throw new GatewayError('store-failed', { detail: 'an object changed while it was being read' });
  }

  /** Gives its turn and what the store holds for it to others. */
  #letGo(): void {
    const source = this.#source;
    this.#source = undefined;
    this.#leave();
    source?.return?.().catch(() => undefined);
  }

  readonly #onAbort = (): void => {
    this.#finish();
  };

  #finish(): void {
    this.#over = true;
    clearInterval(this.#timer);
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#leave();
  }
}
