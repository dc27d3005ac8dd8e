/**
 * One HTTP/1.1 exchange with the storage: a body sent no faster than it is taken, an answer that may come before the body is through, and
 * a time limit on every wait for the other side. What the client makes us wait for is never counted.
 */
import http, { type ClientRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { isOfUnknownIssuer, openRoute, systemCertificates, type Route, type Way } from '../../web/way.ts';
import { openFiles } from '../../state/open-files.ts';
import type { UploadBody } from './upload-body.ts';

/** How long the storage may take, and how long it is left alone, in ms. */
export interface S3Limits {
  /** To accept a connection, TLS included. */
  readonly connectMs: number;
  /** To begin its answer once it has the whole request, and again to complete an answer that is no object. */
  readonly answerMs: number;
  /** Without taking a byte of an upload that is offered, or giving a byte of a download that is waited for. */
  readonly idleMs: number;
  /** The pause before a request is sent again is up to this, and up to four times as long before each further time. */
  readonly pauseMs: number;
}

/** A request, signed and complete. */
interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'DELETE';
  /** Path and query as on the wire. */
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: UploadBody | undefined;
  /** Hands the body of a 2xx over unread. */
  readonly streamed: boolean;
}

/** An answer. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The body, read whole; empty where `stream` is set. */
  readonly text: string;
  /** The body of a 2xx to a `streamed` request. Whoever has it must read it to its end or destroy it. */
  readonly stream: IncomingMessage | undefined;
}

/** The other side took more than its time. */
export class StoreTimeout extends Error {}

/** The answer is none that HTTP or S3 knows. */
export class BadAnswer extends Error {}

/** The longest answer that is read whole, in bytes: a page of a list with 1,000 keys of 1,024 characters that all need escaping. */
const LONGEST_ANSWER = 8 * 1024 * 1024;

/** How long to wait for `100 Continue`. RFC 9110, 10.1.1: not for ever, as not every server sends it. */
const CONTINUE_MS = 1000;

/** So many uploads wait for it in vain before none waits any more. */
const MOST_UNHEARD = 3;

/** A connection that was idle this long is not used again: the storage may be just about to close it, and a body would be lost on it. */
const KEEP_IDLE_MS = 10_000;

/** Idle connections kept, and which part of what calls may have open. Those in use are bounded by the calls (see `store-calls.ts`). */
const KEEP_SOCKETS = 256;
const KEEP_SHARE = 1 / 4;

/**
 * Chunks are gathered to this many bytes a write: HTTP/2 gives 16 KiB at most at a time, and the calls of the system are the dearest part
 * of an upload.
 */
const WRITE_BYTES = 128 * 1024;

const TAKES_NO_MORE = 'took no more of an upload';

/** Where the storage listens. */
export interface HttpOrigin {
  readonly secure: boolean;
  readonly hostname: string;
  readonly port: number;
}

/** A timer for whatever is waited for just now. */
export class Limit {
  readonly #expired: (error: StoreTimeout) => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(expired: (error: StoreTimeout) => void) {
    this.#expired = expired;
  }

  /** Starts anew. `what` completes "the storage …". */
  arm(ms: number, what: string): void {
    this.disarm();
    this.#timer = setTimeout(() => {
      this.#expired(new StoreTimeout(`it ${what} for ${ms} ms`));
    }, ms);
  }

  disarm(): void {
    clearTimeout(this.#timer);
  }
}

/** Makes exchanges with one origin over shared connections. */
export class HttpTransport {
  readonly #origin: HttpOrigin;
  readonly #limits: S3Limits;
  readonly #way: Way;
  readonly #url: string;
  #route: Promise<Route> | undefined;
  /** Set once the system's CAs are trusted, too. */
  #trusted: readonly string[] | undefined;
  #asksFirst = true;
  /** Uploads in a row that nobody told to go on; counted only until one was. */
  #unheard = 0;

  /** @param url - of the origin, as rules about proxies see it */
  constructor(origin: HttpOrigin, url: string, way: Way, limits: S3Limits) {
    this.#origin = origin;
    this.#url = url;
    this.#way = way;
    this.#limits = limits;
  }

  /** Whether uploads may ask before their body (`Expect: 100-continue`): not where that is refused, nor where nobody ever answers it. */
  get asksFirst(): boolean {
    return this.#asksFirst;
  }

  /**
   * Trusts the CAs that the system trusts, where the store names none and a connection failed for want of one.
   * @returns whether that is new
   */
  trustsMore(error: unknown): boolean {
    if (this.#trusted !== undefined || this.#way.caFile !== undefined || !isOfUnknownIssuer(error)) return false;
    this.#trusted = systemCertificates();
    if (this.#trusted === undefined) return false;
    this.close();
    return true;
  }

  /** From now on uploads do not ask first. @returns whether they did so far */
  sendAtOnce(): boolean {
    const asked = this.#asksFirst;
    this.#asksFirst = false;
    return asked;
  }

  /** What came of asking. A server that has once told an upload to go on may be slow to do it again. */
  readonly #onAsked = (heard: boolean): void => {
    if (heard) this.#unheard = -Infinity;
    else if (++this.#unheard >= MOST_UNHEARD) this.sendAtOnce();
  };

  /**
   * Sends a request and waits for its answer, whatever its status.
   * @throws ContentError, StoreTimeout, BadAnswer, the signal's reason, or Node's error of the connection
   */
  async exchange(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
    signal.throwIfAborted();
    const { mayAsk, ...route } = await (this.#route ??= this.#openRoute());
    if (!mayAsk && this.sendAtOnce() && request.headers['expect'] !== undefined) {
      const headers = Object.fromEntries(Object.entries(request.headers).filter(([header]) => header !== 'expect'));
      return this.exchange({ ...request, headers }, signal);
    }
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const { secure, hostname, port } = this.#origin;
      const outgoing = (secure ? https : http).request({
        host: hostname,
        port,
        method: request.method,
        path: request.target,
        headers: request.headers,
        ...route,
      });
      new Exchange(outgoing, request, this.#limits, signal, { resolve, reject, asked: this.#onAsked }).start(secure);
    });
  }

  /** Closes all connections. */
  close(): void {
    const route = this.#route;
    this.#route = undefined;
    route?.then(
      ({ agent }) => {
        agent.destroy();
      },
      () => undefined,
    );
  }

  async #openRoute(): Promise<Route> {
    try {
      const maxFreeSockets = Math.min(KEEP_SOCKETS, Math.ceil(openFiles().calls * KEEP_SHARE));
      const options = { keepAlive: true, noDelay: true, maxFreeSockets, timeout: KEEP_IDLE_MS };
      return await openRoute(this.#url, this.#way, options, this.#trusted);
    } catch (error) {
      // Once the file is corrected it is read again.
      this.#route = undefined;
      throw error;
    }
  }
}

/** What an exchange comes to. */
interface Outcome {
  readonly resolve: (answer: HttpAnswer) => void;
  readonly reject: (error: unknown) => void;
  /** Told when an upload has asked first, and whether it was told to go on. */
  readonly asked: (heard: boolean) => void;
}

class Exchange {
  readonly #outgoing: ClientRequest;
  readonly #request: HttpRequest;
  readonly #limits: S3Limits;
  readonly #signal: AbortSignal;
  readonly #outcome: Outcome;
  readonly #limit: Limit;
  /** The answer has begun or the exchange has failed: no more of the body is wanted. */
  #answered = false;
  #sending = false;
  #sent = false;
  #over = false;

  constructor(outgoing: ClientRequest, request: HttpRequest, limits: S3Limits, signal: AbortSignal, outcome: Outcome) {
    this.#outgoing = outgoing;
    this.#request = request;
    this.#limits = limits;
    this.#signal = signal;
    this.#outcome = outcome;
    this.#limit = new Limit(this.#fail);
  }

  start(secure: boolean): void {
    const outgoing = this.#outgoing;
    this.#signal.addEventListener('abort', this.#onAbort, { once: true });
    // Kept after the end too: a connection that breaks later must not bring the process down.
    outgoing.on('error', this.#onSendingFailed);
    outgoing.on('response', this.#onAnswer);
    outgoing.on('finish', () => {
      if (!this.#done()) this.#limit.arm(this.#limits.answerMs, 'did not answer');
    });
    this.#limit.arm(this.#limits.connectMs, 'did not accept a connection');
    outgoing.once('socket', (socket) => {
      if (socket.connecting) socket.once(secure ? 'secureConnect' : 'connect', this.#onConnected);
      else this.#onConnected();
    });
    const { body, headers } = this.#request;
    if (body === undefined) outgoing.end();
    else if (headers['expect'] !== undefined) outgoing.flushHeaders();
  }

  readonly #onConnected = (): void => {
    if (this.#over || this.#answered) return;
    this.#limit.disarm();
    const { body, headers } = this.#request;
    if (body === undefined) {
      this.#limit.arm(this.#limits.answerMs, 'did not answer');
    } else if (headers['expect'] === undefined) {
      this.#sendBody(body);
    } else {
      const timer = setTimeout(() => {
        this.#outcome.asked(false);
        this.#sendBody(body);
      }, CONTINUE_MS);
      this.#outgoing.once('continue', () => {
        clearTimeout(timer);
        this.#outcome.asked(true);
        this.#sendBody(body);
      });
      this.#outgoing.once('close', () => {
        clearTimeout(timer);
      });
    }
  };

  #sendBody(body: UploadBody): void {
    if (this.#sending || this.#answered || this.#over) return;
    this.#sending = true;
    this.#pump(body).catch(this.#onSendingFailed);
  }

  async #pump(body: UploadBody): Promise<void> {
    const outgoing = this.#outgoing;
    let sent = 0;
    let gathered: Uint8Array[] = [];
    let bytes = 0;
    for (let index = 0; sent < body.size || index === 0; index += 1) {
      const chunk = await body.chunk(index);
      if (this.#done()) return;
      sent += chunk.length;
      gathered.push(chunk);
      bytes += chunk.length;
      if (bytes < WRITE_BYTES && sent < body.size) continue;
      this.#limit.arm(this.#limits.idleMs, TAKES_NO_MORE);
      // Corked: one call of the system for all of them.
      outgoing.cork();
      let taken = true;
      for (const part of gathered) taken = outgoing.write(part);
      if (sent === body.size) {
        this.#sent = true;
        outgoing.end();
      }
      outgoing.uncork();
      gathered = [];
      bytes = 0;
      if (this.#sent) return;
      if (!taken)
        await new Promise<void>((resolve) => {
          outgoing.once('drain', resolve);
        });
      // An answer that came meanwhile has armed a limit of its own.
      if (!this.#done()) this.#limit.disarm();
    }
  }

  readonly #onAnswer = (incoming: IncomingMessage): void => {
    if (this.#over) return;
    this.#answered = true;
    // Ends as an error of the reading; without a listener it would be thrown at large.
    incoming.on('error', () => undefined);
    const { statusCode: status = 0, headers } = incoming;
    const { body, streamed } = this.#request;
    if (status >= 200 && status < 300) {
      if (body !== undefined && !this.#sent) {
        this.#fail(new BadAnswer('it answered success before it had the whole upload'));
        return;
      }
      if (streamed) {
        this.#settle();
        this.#outcome.resolve({ status, headers, text: '', stream: incoming });
        return;
      }
    }
    this.#limit.arm(this.#limits.answerMs, 'did not complete its answer');
    readWhole(incoming).then((text) => {
      if (!this.#settle()) return;
      // A body that is still on its way makes the connection useless for the next request.
      if (!this.#outgoing.writableFinished) this.#outgoing.destroy();
      this.#outcome.resolve({ status, headers, text, stream: undefined });
    }, this.#fail);
  };

  #done(): boolean {
    return this.#answered || this.#over;
  }

  /** What breaks while an answer comes in is seen by the reading of it; the answer says more than a broken pipe. */
  readonly #onSendingFailed = (error: unknown): void => {
    if (!this.#answered) this.#fail(error);
  };

  readonly #onAbort = (): void => {
    this.#fail(this.#signal.reason);
  };

  readonly #fail = (error: unknown): void => {
    if (!this.#settle()) return;
    this.#outgoing.destroy();
    this.#outcome.reject(error);
  };

  #settle(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#limit.disarm();
    this.#signal.removeEventListener('abort', this.#onAbort);
    return true;
  }
}

async function readWhole(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > LONGEST_ANSWER) throw new BadAnswer(`its answer is longer than ${LONGEST_ANSWER} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
