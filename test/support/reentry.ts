/**
 * Notices when Node's HTTP/2 is told to reset a stream while it is reading. Node up to 22 then sends at once, nghttp2 frees the stream, and the
 * reading goes on with what was freed: nothing that a test sees, until the process ends by it some day (nodejs/node#64113).
 */
import { connect, type Http2Stream } from 'node:http2';
import { duplexPair, type Duplex } from 'node:stream';

/** What is reset by CANCEL, Node keeps until the reading is over. */
const CANCEL = 8;

interface NativeStream {
  rstStream: (code: number) => void;
}

let reading = 0;
const seen: string[] = [];

/** Watches what is read from a stream, which must be none of Node's own, from here on. @returns the stream */
export function watchReading<T extends Duplex>(duplex: T): T {
  const push = duplex.push.bind(duplex);
  duplex.push = (chunk: unknown): boolean => {
    reading++;
    try {
      return push(chunk);
    } finally {
      reading--;
    }
  };
  return duplex;
}

/** From now on, in this process. @returns where the resets came from that came while something was being read; grows */
export function watchResets(): string[] {
  const [end] = duplexPair();
  const session = connect('http://localhost', { createConnection: () => end });
  const stream = session.request({ ':path': '/' });
  const native = nativeOf(stream);
  session.destroy();
  stream.on('error', () => undefined);
  const { rstStream } = native;
  native.rstStream = function (this: NativeStream, code: number): void {
    if (reading > 0 && code !== CANCEL) seen.push(new Error(`reset with ${code}`).stack ?? '');
    rstStream.call(this, code);
  };
  return seen;
}

/** Where all native streams have their methods. */
function nativeOf(stream: Http2Stream): NativeStream {
  const handle = Object.getOwnPropertySymbols(stream).find(({ description }) => description === 'kHandle');
  const native = handle && (Reflect.get(stream, handle) as object | undefined);
  if (native === undefined) throw new Error('Node keeps its native streams elsewhere now');
  return Object.getPrototypeOf(native) as NativeStream;
}
