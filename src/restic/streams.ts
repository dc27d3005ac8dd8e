/**
 * HTTP/2 streams of Node, made safe to answer on: in whatever state a client has left a stream, nothing here throws.
 *
 * A client may reset a stream at any moment. Node then throws in `respond()`, and it does so also for a stream that is not `destroyed` yet,
 * since part of its body lies unread.
 *
 * Node up to 22 sends all that waits when it resets a stream, also while nghttp2 is reading, which then goes on with a stream that was freed
 * (nghttp2's Programmers' Guide, "Remarks"; nodejs/node#64113). Whatever runs in an event may run there. So streams are closed in a turn of
 * the event loop of their own.
 */
import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';

/** Streams that are about to be reset. */
const leaving = new WeakSet<ServerHttp2Stream>();

/** Whether somebody may still hear an answer on the stream. */
export function isOpen(stream: ServerHttp2Stream): boolean {
  return (
    !leaving.has(stream) &&
    !stream.destroyed &&
    !stream.closed &&
    !stream.aborted &&
    stream.session?.destroyed === false
  );
}

/**
 * How many bytes the client lets come on a stream: what it keeps open for each, and what is left of its connection's window (RFC 9113, 5.2).
 * What it has added to one stream alone is not seen.
 */
export function peerWindow({ session }: ServerHttp2Stream): number {
  if (session === undefined || session.destroyed) return 0;
  return Math.min(session.remoteSettings.initialWindowSize ?? 0, session.state.remoteWindowSize ?? 0);
}

/**
 * Begins an answer.
 * @param options - as for Node's `respond`
 * @returns whether it was begun: not for a stream that has one already or whose client is gone
 */
export function begin(
  stream: ServerHttp2Stream,
  headers: OutgoingHttpHeaders,
  options: { readonly endStream?: boolean } = {},
): boolean {
  if (!isOpen(stream) || stream.headersSent) return false;
  try {
    stream.respond(headers, options);
    return true;
  } catch {
    // Between two looks a stream may be gone. Whatever else Node may have against it, this stream alone ends.
    reset(stream, constants.NGHTTP2_INTERNAL_ERROR);
    return false;
  }
}

/** Resets a stream soon, unless it is over or about to be; from now on it is not open. @param code - RFC 9113, 7 */
export function reset(stream: ServerHttp2Stream, code: number): void {
  if (!isOpen(stream)) return;
  leaving.add(stream);
  setImmediate(() => {
    try {
      if (!stream.destroyed && !stream.closed) stream.close(code);
    } catch {
      drop(stream);
    }
  });
}

/** Lets go of a stream that is over, and of all that it holds. Not to be called in an event of HTTP/2. */
export function drop(stream: ServerHttp2Stream): void {
  try {
    stream.destroy();
  } catch {
    // It is its session's to end then.
  }
}
