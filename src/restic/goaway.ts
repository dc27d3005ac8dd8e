/**
 * Notices that the server's own HTTP/2 has given a connection up.
 *
 * When a client breaks the protocol, nghttp2 sends GOAWAY by itself and ignores what comes from then on. Node 20 tells nobody, so that the
 * session would stay for as long as the client keeps the connection open.
 */
import type { Duplex } from 'node:stream';

/** Length of a frame's header in bytes, and its type for GOAWAY (RFC 9113, 4.1 and 6.8). */
const HEADER = 9;
const GOAWAY = 7;
/** A GOAWAY's header, its last stream and its error code. */
const GOAWAY_HEAD = HEADER + 8;

/**
 * Watches the frames that are written to `duplex`, which must carry HTTP/2 of a server and nothing written before; only headers of frames
 * are looked at.
 * @param onGaveUp - called for each GOAWAY with an error, before it is written
 */
export function watchGoaway(duplex: Duplex, onGaveUp: () => void): void {
  const head = Buffer.alloc(GOAWAY_HEAD);
  let have = 0;
  let skip = 0;
  const see = (chunk: Uint8Array): void => {
    let at = 0;
    while (at < chunk.length) {
      if (skip > 0) {
        const passed = Math.min(skip, chunk.length - at);
        skip -= passed;
        at += passed;
        continue;
      }
      const wanted = have >= HEADER ? GOAWAY_HEAD : HEADER;
      const part = chunk.subarray(at, at + wanted - have);
      head.set(part, have);
      have += part.length;
      at += part.length;
      if (have < wanted) return;
      if (have === HEADER && head[3] === GOAWAY) continue;
      if (have === GOAWAY_HEAD && head.readUInt32BE(GOAWAY_HEAD - 4) !== 0) onGaveUp();
      skip = HEADER + head.readUIntBE(0, 3) - have;
      have = 0;
    }
  };
  const write = duplex.write.bind(duplex) as (...args: unknown[]) => boolean;
  duplex.write = (...args: unknown[]): boolean => {
    if (args[0] instanceof Uint8Array) see(args[0]);
    return write(...args);
  };
}
