/** A restic client's HTTP/2 by http2-wrapper, on any duplex stream: what the handler's tests and the attacks speak with. */
import { createHash, randomBytes } from 'node:crypto';
import { connect, type ClientHttp2Session } from 'node:http2';
import type { Duplex, Readable } from 'node:stream';
import { request } from 'http2-wrapper';

/** A whole answer. */
interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

/** What a request carries beside method and path. */
export interface RequestParts {
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent with a Content-Length unless the headers say otherwise. */
  readonly body?: Uint8Array;
}

/** A connected client. */
export interface ResticClient {
  readonly session: ClientHttp2Session;
  request(method: string, path: string, parts?: RequestParts): Promise<Answer>;
  close(): void;
}

/** Speaks HTTP/2 with prior knowledge on `duplex`, as restic does to its rclone program. */
export function resticClient(duplex: Duplex): ResticClient {
  const session = connect('http://localhost', { createConnection: () => duplex });
  session.on('error', () => undefined);
  // At the end of its stream, Node has a session write a farewell, also when a write is under way, which its JSStreamSocket asserts against.
  const destroy = session.destroy.bind(session);
  session.destroy = (...args: Parameters<typeof destroy>): void => {
    try {
      destroy(...args);
    } catch {
      duplex.destroy();
    }
  };
  // One for each request under way.
  session.setMaxListeners(0);
  return {
    session,
    request: (method, path, { headers = {}, body } = {}) =>
      new Promise<Answer>((settle, reject) => {
        // What is asked of a session that has just ended, http2-wrapper may never answer.
        const gone = (): void => {
          setImmediate(reject, new Error('the session ended'));
        };
        if (session.destroyed) {
          gone();
          return;
        }
        session.once('close', gone);
        const resolve = (answer: Answer): void => {
          session.off('close', gone);
          // Whatever is done then must not be done while HTTP/2 is reading (reentry.ts).
          setImmediate(settle, answer);
        };
        const length = body === undefined ? {} : { 'content-length': String(body.length) };
        const outgoing = request(
          { h2session: session, method, path, headers: { ...length, ...headers } },
          (incoming) => {
            destroyLater(incoming);
            const chunks: Buffer[] = [];
            const answered = (): void => {
              const { statusCode = 0 } = incoming;
              resolve({ status: statusCode, headers: incoming.headers, body: Buffer.concat(chunks) });
            };
            incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
            incoming.on('aborted', () => {
              // The answer to an upload is whole with its headers; what was left of the upload is called off after it (RFC 9113, 8.1).
              if (body !== undefined) answered();
              else reject(new Error('the answer was cut off'));
            });
            incoming.on('error', reject);
            incoming.on('end', answered);
          },
        );
        outgoing.on('error', reject);
        if (body !== undefined) outgoing.write(body);
        outgoing.end();
      }),
    close: () => {
      // The session ends with its stream. Destroyed by itself, it writes a farewell, which Node fails to when a write is under way already
      // on a stream that is no socket (an assertion in JSStreamSocket).
      duplex.destroy();
    },
  };
}

/** http2-wrapper resets the stream of an answer that has ended right there, while Node's HTTP/2 is reading: a defect of both (reentry.ts). */
function destroyLater(incoming: Readable): void {
  const destroy = incoming._destroy.bind(incoming);
  incoming._destroy = (error, done) => {
    setImmediate(destroy, error, done);
  };
}

/** Some content and the name it hashes to. */
export function sample(size = 100): { readonly name: string; readonly body: Buffer } {
  const body = randomBytes(size);
  return { name: sha256(body), body };
}

/** SHA-256 as 64 lower-case hex digits. */
export function sha256(body: Uint8Array): string {
  return createHash('sha256').update(body).digest('hex');
}
