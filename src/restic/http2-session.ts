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
import type { EndReason } from '../ports/audit-sink.ts';

/**
 * Streams at once. restic's lock operations bypass its own limit of connections, and its HTTP/2 client fails rather than queues when the
 * server's limit is low, so it must not be below 250.
 */
const MAX_CONCURRENT_STREAMS = 256;
/** Bytes a client may send ahead on one stream. SSH's own window of 2 MiB bounds a session before five of these do. */
const STREAM_WINDOW = 1024 * 1024;
/** Bytes a client may send ahead over all streams of the connection. */
const CONNECTION_WINDOW = 16 * 1024 * 1024;
/** The largest frame a client may send; Go's client fills frames up to 512 KiB when it may, and fewer frames cost less. */
const MAX_FRAME_SIZE = 512 * 1024;

/** A connection that is being served. */
export interface Http2Service {
  /** Resolves once when the connection is over, whatever ended it. */
  readonly ended: Promise<EndReason>;
  /** Ends it at once, cutting off what is under way. */
  close(reason: EndReason): void;
}

/**
 * Serves HTTP/2 on `duplex` and hands every stream to `onStream`, which must not throw. Destroys `duplex` at the end, just after
 * `ending` was called.
 */
export function serveHttp2(
  duplex: Duplex,
  onStream: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void,
  ending: (reason: EndReason) => void,
): Http2Service {
  let over = false;
  let finish: (reason: EndReason) => void = () => undefined;
  const ended = new Promise<EndReason>((resolve) => (finish = resolve));
  const session: ServerHttp2Session = performServerHandshake(duplex, {
    settings: {
      maxConcurrentStreams: MAX_CONCURRENT_STREAMS,
      initialWindowSize: STREAM_WINDOW,
      maxFrameSize: MAX_FRAME_SIZE,
      enablePush: false,
    },
  });
  session.setLocalWindowSize(CONNECTION_WINDOW);

  const end = (reason: EndReason): void => {
    if (over) return;
    over = true;
    ending(reason);
    finish(reason);
    if (!session.destroyed) session.destroy();
    duplex.destroy();
  };
  session.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    onStream(stream, headers);
  });
  session.on('error', (error: NodeJS.ErrnoException) => {
    end(
      error.code === 'ERR_HTTP2_ERROR' || error.code === 'ERR_HTTP2_SESSION_ERROR'
        ? 'protocol-error'
        : 'connection-lost',
    );
  });
  // A GOAWAY without an error is a client that says goodbye; what it has under way still ends by itself.
  session.on('goaway', (code: number) => {
    if (code !== constants.NGHTTP2_NO_ERROR) end('protocol-error');
  });
  session.on('close', () => {
    end('connection-lost');
  });
  duplex.on('end', () => {
    end('client-ended');
  });
  duplex.on('error', () => {
    end('connection-lost');
  });
  duplex.on('close', () => {
    end('connection-lost');
  });
  return { ended, close: end };
}
