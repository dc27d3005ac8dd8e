/**
 * How much a session's streams may hold: taken from the client's memory before a window lets bytes come, given back when the stream and
 * whoever worked on it are done.
 *
 * HTTP/2 in Node has one window for all streams of a session (SETTINGS_INITIAL_WINDOW_SIZE), and hands DATA to JavaScript as it comes:
 * what is not read waits there, so that the window is what bounds it. A session begins with a small window and is given larger ones when
 * its uploads have shown that they move and there is memory for it. A body for which there is none is refused as not begun.
 *
 * Source: RFC 9113, 5.2 and 6.9.2 (a changed initial window changes those of all streams), 8.1.1 (a body is not longer than declared).
 */
import { constants, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { GatewayError } from '../core/errors.ts';
import type { ClientMemory, Lease } from '../ports/memory.ts';
import { reset } from './streams.ts';

const KIB = 1024;
/** Windows, in bytes, and what a body must have sent to be worth the next one: more than waits anywhere while the storage takes nothing. */
const WINDOWS = [
  { window: 64 * KIB, enough: 512 * KIB },
  { window: 256 * KIB, enough: 2048 * KIB },
  { window: 1024 * KIB, enough: Infinity },
] as const;
/** The window that each session begins with. */
export const FIRST_WINDOW = WINDOWS[0].window;
/** The largest. SSH's own window of 2 MiB bounds a session before five of these do. */
export const STREAM_WINDOW = WINDOWS[2].window;
/** What a store gathers of a body before it writes, in bytes, by the window; there are two such pieces, one of them being written. */
const LEAST_GATHERED = 64 * KIB;
/** Bodies up to this may be kept whole by the store, to be sent again. */
const KEPT_WHOLE = 1024 * KIB;
/** What a body takes at least. */
const LEAST_BODY = 4 * KIB;
/** What the peer may send ahead on the channel beneath, once the session is worth a larger window; and before. */
const CHANNEL_WINDOW = 2048 * KIB;
const FIRST_CHANNEL_WINDOW = 128 * KIB;
/** What a session takes by itself: the channel's first window, frames and answers without a body. */
export const SESSION_BYTES = FIRST_CHANNEL_WINDOW + 64 * KIB;
/**
 * Pieces of a body that may wait unread, beyond one for each KiB of the window: each takes some hundred bytes of its own, so that a flood
 * of tiny ones would take many times what it sends.
 */
const SPARE_PIECES = 64;
/** Bodies at once that a session should have room for before its windows grow: restic has 5 connections, and one more for its lock. */
const USUAL_BODIES = 6;
/** After a request had to be refused, or windows could not be had, for so long none are asked for, in ms. */
const PAUSE_MS = 10_000;

/** The memory of one session's streams. */
interface StreamMemory {
  /** Takes what the body of a request may need. @returns false when it is not to be had and the request must be refused */
  accept(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): boolean;
  /** Gives back what the stream has, once it is closed as well. To be called when whatever works on it has ended. */
  done(stream: ServerHttp2Stream): void;
}

/** A body that comes, and the window that its lease is for. */
interface Body {
  readonly lease: Lease;
  /** As declared. */
  readonly length: number | undefined;
  level: number;
}

interface Held {
  readonly memory: ClientMemory;
  readonly leases: Lease[];
  /** What its store may gather. */
  gathered: number;
}

const held = new WeakMap<ServerHttp2Stream, Held>();

/**
 * Takes memory for what a stream is about to be sent, and waits for it in the client's turn.
 * @throws GatewayError `client-gone` when the signal aborts first
 */
export function takeFor(stream: ServerHttp2Stream, bytes: number, signal: AbortSignal): Promise<void> | undefined {
  const streamMemory = held.get(stream);
  if (streamMemory === undefined) return undefined;
  const { memory, leases } = streamMemory;
  const taken = memory.wait(bytes, signal);
  if (!(taken instanceof Promise)) {
    if (taken === undefined) return Promise.reject(new GatewayError('client-gone'));
    leases.push(taken);
    return undefined;
  }
  return taken.then((lease) => {
    if (lease === undefined) throw new GatewayError('client-gone');
    leases.push(lease);
  });
}

/** Takes more memory for what a stream is sent, if there is plenty. @returns whether it was taken */
export function takeMoreFor(stream: ServerHttp2Stream, bytes: number): boolean {
  const streamMemory = held.get(stream);
  return streamMemory === undefined || streamMemory.leases.at(-1)?.grow(bytes) === true;
}

/** The most bytes of a stream's body that a store may gather before it writes them. */
export function mayGather(stream: ServerHttp2Stream): number {
  return held.get(stream)?.gathered ?? LEAST_GATHERED;
}

/**
 * @param own - what the session itself has taken; grows with its windows, and is given back by whoever took it
 * @param widen - lets the peer send so many bytes ahead on the channel beneath; undefined where that is not ours to say
 */
export function createStreamMemory(
  session: ServerHttp2Session,
  memory: ClientMemory,
  own: Lease,
  widen: ((bytes: number) => void) | undefined,
): StreamMemory {
  /** The window that the client may know of: the larger one until it has said that it knows of a smaller one. */
  let level = 0;
  /** Until the client has acknowledged a change, there is no other. */
  let changing = false;
  let notBefore = 0;
  let shrinks = false;
  let widened = widen === undefined;
  const bodies = new Map<ServerHttp2Stream, Body>();
  widen?.(FIRST_CHANNEL_WINDOW);

  const change = (to: number): void => {
    changing = true;
    if (to > level) level = to;
    try {
      session.settings({ initialWindowSize: windowOf(to) }, () => {
        changing = false;
        level = to;
      });
    } catch {
      // It is over.
    }
  };

  /**
   * Takes the larger windows back, while no body comes: of one that does, Go's client may have taken what a frame needs of the larger window
   * before it hears of the smaller one, and send it after it has said that it knows of it, which nghttp2 answers with FLOW_CONTROL_ERROR.
   */
  const shrink = (): void => {
    notBefore = performance.now() + PAUSE_MS;
    if (level > 0) shrinks = true;
    shrinkWhenIdle();
  };
  const shrinkWhenIdle = (): void => {
    if (!shrinks || changing || bodies.size > 0) return;
    shrinks = false;
    change(0);
  };

  const grow = (): void => {
    if (changing || memory.scarce || performance.now() < notBefore) return;
    const to = level + 1;
    // Else one that comes later would be refused, which a client that has sent a part of its body takes for a failure.
    const room = Math.max(USUAL_BODIES, bodies.size) * bodyBytes(to) - bodies.size * bodyBytes(level);
    const others = memory.take(room);
    others?.release();
    const more =
      others !== undefined &&
      [...bodies].every(([stream, body]) => {
        if (body.level >= to) return true;
        if (!body.lease.grow(bodyBytes(to, body.length) - bodyBytes(body.level, body.length))) return false;
        body.level = to;
        const streamMemory = held.get(stream);
        if (streamMemory !== undefined) streamMemory.gathered = gatheredAt(to);
        return true;
      });
    if (more && !widened && own.grow(CHANNEL_WINDOW - FIRST_CHANNEL_WINDOW)) {
      widened = true;
      widen?.(CHANNEL_WINDOW);
    }
    if (more && widened) {
      shrinks = false;
      change(to);
    } else notBefore = performance.now() + PAUSE_MS;
  };

  return {
    accept: (stream, headers) => {
      const streamMemory: Held = { memory, leases: [], gathered: gatheredAt(level) };
      held.set(stream, streamMemory);
      if (stream.endAfterHeaders) return true;
      const length = lengthOf(headers['content-length']);
      const lease = memory.take(bodyBytes(level, length));
      if (lease === undefined) {
        shrink();
        return false;
      }
      streamMemory.leases.push(lease);
      bodies.set(stream, { lease, length, level });
      if (memory.scarce) shrink();
      watch(
        stream,
        () => windowOf(level),
        (received) => {
          if (received >= enoughAt(level)) grow();
        },
      );
      return true;
    },
    done: (stream) => {
      const release = (): void => {
        bodies.delete(stream);
        shrinkWhenIdle();
        for (const lease of held.get(stream)?.leases ?? []) lease.release();
        held.delete(stream);
      };
      if (stream.destroyed) release();
      else stream.once('close', release);
    },
  };
}

/**
 * Looks at the pieces of a body as they come, before anybody reads them: a small one is copied out of the large buffer that it came in and
 * would keep, unless half of that is the stream's own by then, and a flood of them ends the stream.
 * @param onMoved - told how many bytes have come so far
 */
function watch(stream: ServerHttp2Stream, window: () => number, onMoved: (received: number) => void): void {
  let received = 0;
  let waiting = 0;
  /** The large buffer that the last small piece came in, which must not be kept for that, and how much of it has come on this stream. */
  let last: WeakRef<ArrayBufferLike> | undefined;
  let run = 0;
  let flooded = false;
  const push = stream.push.bind(stream);
  stream.push = (chunk: Uint8Array | null): boolean => {
    // With a part of it left out, it must not look whole to anybody.
    if (flooded) return false;
    if (chunk === null) return push(chunk);
    // Whoever reads takes all that waits.
    waiting = stream.readableLength === 0 ? 1 : waiting + 1;
    if (waiting > SPARE_PIECES + window() / KIB) {
      flooded = true;
      reset(stream, constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return false;
    }
    received += chunk.length;
    onMoved(received);
    const { buffer, length } = chunk;
    if (buffer.byteLength <= 2 * length) return push(chunk);
    // The pieces of one large buffer come one after the other.
    if (last?.deref() !== buffer) {
      last = new WeakRef(buffer);
      run = 0;
    }
    run += length;
    return push(buffer.byteLength > 2 * run ? copyOf(chunk) : chunk);
  };
}

/** A copy with memory of its own, not out of a pool that others keep. */
function copyOf(chunk: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafeSlow(chunk.length);
  copy.set(chunk);
  return copy;
}

function lengthOf(declared: string | undefined): number | undefined {
  const length = Number(declared);
  return Number.isSafeInteger(length) ? length : undefined;
}

function windowOf(level: number): number {
  return WINDOWS[level]?.window ?? STREAM_WINDOW;
}

function enoughAt(level: number): number {
  return WINDOWS[level]?.enough ?? Infinity;
}

function gatheredAt(level: number): number {
  return Math.max(LEAST_GATHERED, windowOf(level) / 2);
}

/** What a body may hold at once: what waits unread, what was read of it in one go, and what the store has gathered. */
function bodyBytes(level: number, length = Infinity): number {
  const window = windowOf(level);
  if (length <= KEPT_WHOLE) return LEAST_BODY + Math.min(length, window) + length;
  return 2 * window + 2 * gatheredAt(level);
}
