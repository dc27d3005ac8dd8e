/** HTTP/2 frame by frame (RFC 9113): for clients that do what no library would. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** Frame types (RFC 9113, 6). */
export const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const;
/** Flags. */
export const END_STREAM = 1;
export const END_HEADERS = 4;

/** A frame that the server sent. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** A frame to send. */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Headers in HPACK, each a literal without indexing (RFC 7541, 6.2.2). */
export function headers(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  return Buffer.concat(
    fields.flatMap(([name, value]) => [
      Buffer.of(0),
      integer(name.length),
      Buffer.from(name),
      integer(value.length),
      Buffer.from(value),
    ]),
  );
}

/** The headers of a request. */
export function requestHeaders(
  method: string,
  path: string,
  more: readonly (readonly [string, string])[] = [],
): Buffer {
  return headers([[':method', method], [':scheme', 'http'], [':authority', 'x'], [':path', path], ...more]);
}

/** A length with a prefix of seven bits (RFC 7541, 5.1). */
function integer(value: number): Buffer {
  if (value < 127) return Buffer.of(value);
  const bytes = [127];
  for (let rest = value - 127; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.of(...bytes, rest);
    bytes.push((rest % 128) + 128);
  }
}

/** What a client says first. */
export const PREFACE = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(FRAME.settings, 0, 0)]);

/** Two ends of a TCP connection. */
export async function socketPair(): Promise<{ readonly client: Socket; readonly server: Duplex }> {
  const listener = createServer({ noDelay: true, allowHalfOpen: true });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const accepted = new Promise<Socket>((resolve) => listener.once('connection', resolve));
  const client = connect({ port: (listener.address() as AddressInfo).port, host: '127.0.0.1', noDelay: true });
  client.on('error', () => undefined);
  const server = await accepted;
  listener.close();
  return { client, server };
}

/** Collects what the server sends, frame by frame. */
export function collectFrames(socket: Duplex): readonly Frame[] {
  const frames: Frame[] = [];
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const length = rest.readUIntBE(0, 3);
      frames.push({
        type: rest.readUInt8(3),
        flags: rest.readUInt8(4),
        stream: rest.readUInt32BE(5),
        payload: rest.subarray(9, 9 + length),
      });
      rest = rest.subarray(9 + length);
    }
  });
  return frames;
}
