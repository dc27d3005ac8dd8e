/**
 * The first line of an SSH connection, before anything is made for it: one that stays silent costs a socket, and no more.
 *
 * Source: RFC 4253, 4.2. Both sides send theirs without waiting for the other's.
 */
import type { Socket } from 'node:net';
import { disconnectMessage, uint32 } from './messages.ts';
import { beginsHeader } from './proxy-header.ts';

/** The software version in the server's line. */
export const SOFTWARE = 'restic-gateway';

const OWN_LINE = Buffer.from(`SSH-2.0-${SOFTWARE}\r\n`);
/** RFC 4253 allows 255 bytes; this is for those that do not know. */
const LONGEST = 1024;
const START = 'SSH-';

/**
 * Sends the server's line and waits for the client's.
 * @param done - told when the client's line is whole: all that was read is back in the socket, which is paused; or why it cannot become one
 */
export function exchangeIdentifications(socket: Socket, done: (wrong?: string) => void): void {
  socket.write(OWN_LINE);
  let read: Buffer = Buffer.alloc(0);
  const take = (chunk: Buffer): void => {
    read = read.length === 0 ? chunk : Buffer.concat([read, chunk]);
    const end = read.subarray(0, LONGEST).indexOf('\n');
    const starts = START.startsWith(read.toString('latin1', 0, START.length));
    if (starts && end < 0 && read.length < LONGEST) return;
    socket.off('data', take);
    socket.pause();
    if (!starts || end < 0) {
      done(
        beginsHeader(read)
          ? 'what it sent is not SSH: it looks like a PROXY header, which is taken once, and from the addresses in proxyProtocol.from alone'
          : 'what it sent is not SSH',
      );
      return;
    }
    socket.unshift(read);
    done();
  };
  socket.on('data', take);
}

/** A DISCONNECT (RFC 4253, 11.1) as it is before the first key exchange: in the clear, padded to 8 bytes. */
export function disconnectPacket(reason: number, text: string): Buffer {
  const payload = disconnectMessage(reason, text);
  const padding = 4 + ((8 - ((5 + payload.length + 4) % 8)) % 8);
  return Buffer.concat([uint32(1 + payload.length + padding), Buffer.from([padding]), payload, Buffer.alloc(padding)]);
}

/** Keeps the server's line, which has been sent, from being sent again by whoever serves the socket now. */
export function withoutOwnLine(socket: Socket): void {
  const first = (data: string | Uint8Array): boolean => {
    // Back to what every socket has.
    Reflect.deleteProperty(socket, 'write');
    return (typeof data !== 'string' && OWN_LINE.equals(data)) || socket.write(data);
  };
  socket.write = first;
}
