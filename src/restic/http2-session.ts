/**
 * HTTP/2 with prior knowledge on any duplex stream: one connection, served until the client ends it.
 *
 * Source: RFC 9113; restic's rclone backend, which opens one connection for its whole run and takes GOAWAY for a failure.
 */
import {
  constants,
  performServerHandshake,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Duplex } from 'node:stream';
import { createAllowance } from '../core/allowance.ts';
import type { EndReason } from '../ports/audit-sink.ts';
import type { ClientMemory, Lease } from '../ports/memory.ts';
import { watchGoaway } from './goaway.ts';
import { createStreamMemory, FIRST_WINDOW } from './stream-memory.ts';
import { drop, reset } from './streams.ts';

/**
 * Streams at once. restic's lock operations bypass its own limit of connections, and its HTTP/2 client fails rather than queues when the
 * server's limit is low, so it must not be below 250.
 */
const MAX_CONCURRENT_STREAMS = 256;
/** Bytes a client may send ahead over all streams of the connection. */
const CONNECTION_WINDOW = 16 * 1024 * 1024;
/** The largest frame a client may send; Go's client fills frames up to 512 KiB when it may, and fewer frames cost less. */
const MAX_FRAME_SIZE = 512 * 1024;

/**
 * Requests with a body at once, whatever memory there is for them; restic has 5 under way, or as many as its `connections` says. One more is refused as not begun, which clients send again.
 */
const MAX_BODIES = 64;
/** Requests under way at once, those that the client has called off included: the store may not have heard of it yet. */
export const MAX_UNDER_WAY = 2 * MAX_CONCURRENT_STREAMS;
/** PING and SETTINGS frames at once, and each second after that: restic sends a handful in a session. */
const CONTROL_FRAMES = { burst: 200, perSecond: 10 };
/** Bytes of all headers of a request, and their number; restic sends nine short ones. */
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_HEADERS = 64;
/** How long a stream may stay without a byte moving in either direction, in ms. */
const STALLED_MS = 5 * 60_000;

/** What a session may hold. */
export interface SessionMemory {
  readonly of: ClientMemory;
  readonly own: Lease;
  readonly widen: ((bytes: number) => void) | undefined;
}

/** A connection that is being served. */
export interface Http2Service {
  /** Resolves once when the connection is over, whatever ended it. */
  readonly ended: Promise<EndReason>;
  /** Ends it at once, cutting off what is under way. */
  close(reason: EndReason): void;
}

/** What a client may send, as far as HTTP/2 can say so. */
const SESSION_OPTIONS = {
  settings: {
    maxConcurrentStreams: MAX_CONCURRENT_STREAMS,
    initialWindowSize: FIRST_WINDOW,
    maxFrameSize: MAX_FRAME_SIZE,
    maxHeaderListSize: MAX_HEADER_BYTES,
    enablePush: false,
  },
  maxHeaderListPairs: MAX_HEADERS,
};

/** What a connection's streams and its end are given to. Whatever is thrown here is a defect that ends this connection, and no other. */
export interface Http2Events {
  /** A request has come. Resolves when nothing works on it any more. */
  readonly stream: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => Promise<void>;
  /** Called once, just before `duplex` is destroyed. */
  readonly ending: (reason: EndReason) => void;
  /** Something was thrown that nobody had foreseen; the connection ends. */
  readonly defect: (error: unknown) => void;
}

/**
 * Serves HTTP/2 on `duplex`, and destroys it at the end.
 * @param memory - of the client, undefined for as much as there is; `own` is what the session has taken of it, `widen` lets the peer send more ahead on the channel beneath
 * @param stalledMs - how long a stream may stay without a byte moving
 */
export function serveHttp2(
  duplex: Duplex,
  events: Http2Events,
  memory: SessionMemory | undefined,
  stalledMs: number = STALLED_MS,
): Http2Service {
  let over = false;
  const living = new Set<ServerHttp2Stream>();
  /** Runs what an event calls for: a defect in it costs this connection. */
  const safely =
    <A extends readonly unknown[]>(listener: (...event: A) => void) =>
    (...event: A): void => {
      try {
        listener(...event);
      } catch (error) {
        events.defect(error);
        end('gateway-failed');
      }
    };
  let finish: (reason: EndReason) => void = () => undefined;
  const ended = new Promise<EndReason>((resolve) => (finish = resolve));
  // After the write, so that the client may still read why.
  watchGoaway(duplex, () => {
    setImmediate(end, 'protocol-error');
  });
  const session: ServerHttp2Session = performServerHandshake(duplex, SESSION_OPTIONS);
  session.setLocalWindowSize(CONNECTION_WINDOW);
  const streams = memory && createStreamMemory(session, memory.of, memory.own, memory.widen);

  const end = (reason: EndReason): void => {
    if (over) return;
    over = true;
    try {
      events.ending(reason);
    } catch (error) {
      events.defect(error);
    }
    // Not from within HTTP/2, which may be reading just now (streams.ts).
    setImmediate(() => {
      try {
        if (!session.destroyed) destroy();
      } catch {
        // Node asserts in its own JSStreamSocket when a write is under way at that moment; what is left of the session goes with its stream.
      }
      // Whatever a stream holds goes now, and with it what waits for the stream.
      for (const stream of living) drop(stream);
      duplex.destroy();
      finish(reason);
    });
  };
  const failed = (error?: NodeJS.ErrnoException): void => {
    end(error?.code?.startsWith('ERR_HTTP2_') === true ? 'protocol-error' : 'connection-lost');
  };
  const destroy = takeOverEnding(session, failed);
  /** After a goodbye, nghttp2 reads only while there are streams: neither another request nor the end of the input would be seen. */
  let saidGoodbye = false;
  const endWhenDone = (): void => {
    if (over || living.size > 0) return;
    // What the client has not read yet must still reach it.
    whenWritten(duplex, stalledMs, () => {
      if (living.size === 0) end('client-ended');
    });
  };
  let bodies = 0;
  const onStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void => {
    // What goes wrong with a stream is seen by whoever reads or writes it.
    stream.on('error', () => undefined);
    living.add(stream);
    stream.once('close', () => {
      living.delete(stream);
      if (saidGoodbye) setImmediate(endWhenDone);
    });
    if (over) return;
    // Reset by the client, with a part of its body unread, it would stay until somebody has read that.
    stream.once('aborted', () => {
      setImmediate(drop, stream);
    });
    if (!stream.endAfterHeaders) {
      if (bodies >= MAX_BODIES) {
        refuse(stream);
        return;
      }
      bodies++;
      stream.once('close', () => bodies--);
    }
    if (streams?.accept(stream, headers) === false) {
      refuse(stream);
      return;
    }
    const onStalled = (): void => {
      if (held.has(stream)) stream.setTimeout(stalledMs, onStalled);
      else reset(stream, constants.NGHTTP2_CANCEL);
    };
    stream.setTimeout(stalledMs, onStalled);
    const failed = (error: unknown): void => {
      events.defect(error);
      end('gateway-failed');
    };
    events
      .stream(stream, headers)
      .then(() => streams?.done(stream), failed)
      .catch(failed);
  };
  session.on('stream', safely(onStream));
  boundControlFrames(session, end);
  session.on('error', failed);
  // A GOAWAY without an error is a client that says goodbye; what it has under way still ends by itself.
  session.on('goaway', (code: number) => {
    if (code === constants.NGHTTP2_NO_ERROR) saidGoodbye = true;
    else end('protocol-error');
    // After what came with it.
    setImmediate(endWhenDone);
  });
  session.on('close', () => {
    end('connection-lost');
  });
  endWith(duplex, end);
  return { ended, close: end };
}

const NOTHING = Buffer.alloc(0);

/** Calls back once what is beneath has taken all that was written, or has taken nothing of it for so long. */
function whenWritten(duplex: Duplex, withinMs: number, then: () => void): void {
  if (!duplex.writable) {
    then();
    return;
  }
  const timer = setTimeout(then, withinMs);
  duplex.write(NOTHING, () => {
    clearTimeout(timer);
    then();
  });
}

/** Resets and floods of frames that need an answer nobody reads are nghttp2's to count, which ends the session; these it answers for ever. */
function boundControlFrames(session: ServerHttp2Session, end: (reason: EndReason) => void): void {
  const control = createAllowance(CONTROL_FRAMES.burst, CONTROL_FRAMES.perSecond, () => performance.now());
  const onControl = (): void => {
    if (!control.take()) end('protocol-error');
  };
  session.on('ping', onControl);
  session.on('remoteSettings', onControl);
}

function endWith(duplex: Duplex, end: (reason: EndReason) => void): void {
  duplex.on('end', () => {
    end('client-ended');
  });
  duplex.on('error', () => {
    end('connection-lost');
  });
  // Newer Node closes it before the session says which rule was broken.
  duplex.on('close', () => {
    setImmediate(end, 'connection-lost');
  });
  // A client may be gone by now, while its session was being opened; its stream has no more to say of that.
  if (duplex.destroyed) end('connection-lost');
}

/**
 * Lets Node no longer end a session by itself. It does so while it is reading: of a client that has said goodbye it would reset each further
 * stream right there, and at an error all of them (streams.ts). Such a client's streams are served as before until it goes.
 * @param failed - called instead of `destroy`
 * @returns `destroy` itself
 */
function takeOverEnding(session: ServerHttp2Session, failed: (error?: NodeJS.ErrnoException) => void): () => void {
  const destroy = session.destroy.bind(session);
  session.close = () => undefined;
  session.destroy = failed;
  return () => {
    destroy();
  };
}

/** Streams on which nothing moves because of us. */
const held = new WeakSet<ServerHttp2Stream>();

/** Waits, and lets nobody take the stream for a stalled one meanwhile. */
export async function hold(stream: ServerHttp2Stream, wait: Promise<void>): Promise<void> {
  held.add(stream);
  try {
    await wait;
  } finally {
    held.delete(stream);
  }
}

/** Answers that a request was not begun (RFC 9113, 8.7), so that the client may send it again. */
export function refuse(stream: ServerHttp2Stream): void {
  reset(stream, constants.NGHTTP2_REFUSED_STREAM);
}
