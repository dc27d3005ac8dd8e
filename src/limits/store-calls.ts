/**
 * How much of the stores one client may have at once, over all of its sessions in this process, and how much all may. One more call waits
 * for its turn, in order; a part of what all may have is kept for clients that have little, so that no few can keep the others waiting.
 *
 * Each call has a file or a connection of its own, so fewer may be under way where few files may be open.
 *
 * A download that nobody reads lets go of the store after a while and is resumed by its range when it is read again: an S3 server has some
 * dozens of threads, and each open download holds one.
 */
import { GatewayError } from '../core/errors.ts';
import type { ByteRange } from '../core/operation.ts';
import type { ObjectRef } from '../core/object.ts';
import type { CallOptions, ListedObject, LoadedObject, RepositoryStore } from '../ports/repository-store.ts';
import { openFiles } from '../state/open-files.ts';

/** How many turns each client may have at once, and all together; and a client while no other has had any lately. */
interface MostTurns {
  readonly each: number;
  readonly alone?: number;
  readonly all: number;
}

/**
 * Calls at once, of each client and of all, by kind. Each kind waits for its own kind alone, so that the refresh of a lock never waits for
 * packs.
 */
const MOST = {
  /**
   * Packs on their way in, and downloads that are being read: one more than restic has connections, as whoever has more of them under way has
   * as much more of the storage. Where there is nobody else, they only wait for it, and a slow one is asked for more at once.
   */
  packs: { each: 6, alone: 32, all: 256 },
  downloads: { each: 6, alone: 32, all: 256 },
  /** Each page is some hundred KiB while it is read, and costs the storage a thousand look-ups. */
  lists: { each: 2, alone: 4, all: 64 },
  /**
   * All else: look-ups, removals, and objects that are no packs. More would fill libuv's few threads, behind which everybody's files wait.
   */
  small: { each: 4, alone: 32, all: 256 },
} as const satisfies Readonly<Record<string, MostTurns>>;
type Kind = keyof typeof MOST;

const ALL = MOST.packs.all + MOST.downloads.all + MOST.lists.all + MOST.small.all;
/** A list on S3 fetches so many pages beside the one that is waited for. */
const PAGES_AHEAD = 15;

/** The part of all that is kept for clients that have few, and the part of their own that is few. */
const RESERVE = 1 / 4;
const FEW = 1 / 8;

/** For so long, in ms, a client that had a turn counts as one that may want the next. */
const LATELY_MS = 5000;

/** Calls of one kind that a client may have waiting. More are answered `too-many-requests`. */
const MOST_WAITING = 1024;

/** After so long, in ms, a download that nobody reads lets go of the store. */
const UNREAD_MS = 5000;

/** The store calls of all clients in this process. */
export interface StoreCalls {
  /** The same store, for one session of a client. */
  of(client: string, store: RepositoryStore): RepositoryStore;
}

/**
 * @param unreadMs - after how long a download that nobody reads lets go of the store
 * @param descriptors - how many all calls may have open together
 */
export function createStoreCalls(unreadMs: number = UNREAD_MS, descriptors: number = openFiles().calls): StoreCalls {
  const share = Math.min(1, descriptors / ALL);
  const turns: Readonly<Record<Kind, Turns>> = {
    packs: new Turns(shareOf(MOST.packs, share)),
    downloads: new Turns(shareOf(MOST.downloads, share)),
    lists: new Turns(shareOf(MOST.lists, share)),
    small: new Turns(shareOf(MOST.small, share)),
  };
  const mayFetchAhead = descriptors >= ALL + MOST.lists.all * PAGES_AHEAD;
  const take = (client: string, kind: Kind, signal: AbortSignal): Promise<() => void> =>
    turns[kind].take(client, signal);
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
        create: (ref, content, uploader, options) =>
          during(ref.type === 'data' ? 'packs' : 'small', options, () => store.create(ref, content, uploader, options)),
        stat: (ref, options) => during('small', options, () => store.stat(ref, options)),
        remove: (ref, options) => during('small', options, () => store.remove(ref, options)),
        load: async (ref, range, options) => {
          const open = (part: ByteRange | undefined): Promise<Opened> =>
            openDownload(store, () => take(client, 'downloads', options.signal), ref, part, options);
          const opened = await open(range);
          return { ...opened.object, body: new PatientDownload(opened, open, unreadMs) };
        },
        list: (type, options) => {
          const given = mayFetchAhead ? options : { ...options, mayFetchAhead: () => false };
          return inTurn(() => take(client, 'lists', options.signal), store.list(type, given));
        },
      };
    },
  };
}

/** As many turns as there are descriptors for, and never all of them for one client. */
function shareOf({ each, alone = each, all }: MostTurns, share: number): Required<MostTurns> {
  if (share === 1) return { each, alone, all };
  const most = Math.max(2, Math.floor(all * share));
  const half = Math.floor(most / 2);
  return { each: Math.min(each, half), alone: Math.min(alone, half), all: most };
}

/** A client's turns of one kind. */
interface Own {
  used: number;
  /** Those who wait, in the order in which they came. */
  readonly waiting: Set<() => void>;
}

/** Turns of one kind for all clients: so many for each and so many in all, of which the last part is kept for those who have few. */
class Turns {
  readonly #limits: Required<MostTurns>;
  readonly #clients = new Map<string, Own>();
  /** Clients of which somebody waits; whose turn it was goes to the end. */
  readonly #queue = new Map<string, Own>();
  #used = 0;
  /** Who asked last, and until when it is not alone. */
  #last: string | undefined;
  #sharedUntil = 0;

  constructor(limits: Required<MostTurns>) {
    this.#limits = limits;
  }

  /**
   * Waits for a turn. @returns a function that ends it; it may be called again and does nothing then
   * @throws GatewayError `client-gone` on the signal, `too-many-requests` when too many wait
   */
  take(client: string, signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) return Promise.reject(new GatewayError('client-gone'));
    if (client !== this.#last) {
      if (this.#last !== undefined) this.#sharedUntil = performance.now() + LATELY_MS;
      this.#last = client;
    }
    let own = this.#clients.get(client);
    if (own === undefined) this.#clients.set(client, (own = { used: 0, waiting: new Set() }));
    const { waiting } = own;
    if (waiting.size === 0 && this.#mayHave(own)) return Promise.resolve(this.#turn(client, own));
    if (waiting.size >= MOST_WAITING) return Promise.reject(new GatewayError('too-many-requests'));
    const mine = own;
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(this.#turn(client, mine));
      };
      const onAbort = (): void => {
        waiting.delete(go);
        this.#tidy(client, mine);
        reject(new GatewayError('client-gone'));
      };
      waiting.add(go);
      this.#queue.set(client, mine);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  #mayHave({ used }: Own): boolean {
    const { each, alone, all } = this.#limits;
    const few = Math.max(1, Math.min(each, alone * FEW));
    if (used >= each && (used >= alone || this.#isShared())) return false;
    if (this.#used >= all) return false;
    return this.#used < all - all * RESERVE || used < few;
  }

  /** Whether another client has turns, wants some, or did lately. */
  #isShared(): boolean {
    return this.#clients.size > 1 || performance.now() < this.#sharedUntil;
  }

  #turn(client: string, own: Own): () => void {
    own.used += 1;
    this.#used += 1;
    let over = false;
    return () => {
      if (over) return;
      over = true;
      own.used -= 1;
      this.#used -= 1;
      this.#tidy(client, own);
      this.#next();
    };
  }

  /** Gives the turns that are free to those who wait, one client after the other. */
  #next(): void {
    for (const [client, own] of [...this.#queue]) {
      const [go] = own.waiting;
      if (go === undefined || !this.#mayHave(own)) continue;
      own.waiting.delete(go);
      this.#queue.delete(client);
      if (own.waiting.size > 0) this.#queue.set(client, own);
      go();
      if (this.#used >= this.#limits.all) return;
    }
  }

  #tidy(client: string, own: Own): void {
    if (own.waiting.size > 0) return;
    this.#queue.delete(client);
    if (own.used === 0) this.#clients.delete(client);
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
