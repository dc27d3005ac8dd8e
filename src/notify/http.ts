/** One POST to a target: a time limit over all of it, TLS verified, no redirect followed, and of the answer no more read than its status. */
import http from 'node:http';
import https from 'node:https';
import { printable } from '../core/printable.ts';
import { messageOf } from '../core/errors.ts';
import { isOfUnknownIssuer, openRoute, systemCertificates, type Route, type Way } from '../web/way.ts';

/** Why something could not be sent. Nothing of a URL is in it but the host. */
export class SendError extends Error {
  /** The other side says that trying again does not help. */
  readonly refused: boolean;

  constructor(message: string, refused: boolean, cause?: unknown) {
    super(message, { cause });
    this.refused = refused;
  }
}

/** How long all of it may take, in ms. */
const LIMIT_MS = 20_000;
/** How much of an answer's body is read, to find out why it is none that was wanted. */
const MOST_ANSWER_BYTES = 16 * 1024;
/** How much of it is told, in characters. */
const MOST_TOLD = 200;
/** Answers of 4xx that may be another one a moment later: request timeout, too early, too many requests. */
const PASSING: ReadonlySet<number> = new Set([408, 425, 429]);

/** Sends to servers of one way. */
export interface Poster {
  /** @param url - http or https @throws SendError */
  post(url: string, headers: Readonly<Record<string, string>>, body: string): Promise<void>;
  close(): void;
}

/** @param signal - ends what is under way */
export function openPoster(way: Way, signal: AbortSignal): Poster {
  /** By origin, since `{client}` may not be in it. */
  const routes = new Map<string, Promise<Route>>();
  /** The system's CAs, once a server's CA is none that Node knows: they are hundreds, and each connection would have to take them in. */
  let trusted: readonly string[] | undefined;
  const routeTo = (url: string): Promise<Route> => {
    const { origin } = new URL(url);
    let route = routes.get(origin);
    if (route === undefined) {
      route = openRoute(url, way, { keepAlive: true, timeout: LIMIT_MS }, trusted?.length === 0 ? undefined : trusted);
      routes.set(origin, route);
      // Once a file is corrected it is read again.
      route.catch(() => routes.delete(origin));
    }
    return route;
  };
  const send = async (url: string, headers: Readonly<Record<string, string>>, body: string): Promise<Answer> => {
    const { agent, ca, checkServerIdentity } = await routeTo(url);
    return exchange(
      url,
      {
        ...{ method: 'POST', agent, ...(ca && { ca }), ...(checkServerIdentity && { checkServerIdentity }) },
        signal: AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]),
        headers: { 'user-agent': 'restic-gateway', 'content-length': Buffer.byteLength(body), ...headers },
      },
      body,
    );
  };
  return {
    post: async (url, headers, body) => {
      const { host } = new URL(url);
      try {
        const { status, text } = await send(url, headers, body).catch((error: unknown) => {
          if (trusted !== undefined || way.caFile !== undefined || !isOfUnknownIssuer(error)) throw error;
          trusted = systemCertificates() ?? [];
          routes.clear();
          return send(url, headers, body);
        });
        if (status >= 200 && status < 300) return;
        if (status >= 300 && status < 400)
          throw new SendError(`${host} answers with a redirect (${status}); name the URL that it leads to`, true);
        const said = text === '' ? '' : `: ${printable(text.replace(/\s+/g, ' ').trim(), MOST_TOLD)}`;
        throw new SendError(`${host} answers ${status}${said}`, status < 500 && !PASSING.has(status));
      } catch (error) {
        if (error instanceof SendError) throw error;
        const late = error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError');
        const why =
          late && !signal.aborted ? `no answer in ${LIMIT_MS / 1000} s` : printable(messageOf(error), MOST_TOLD);
        throw new SendError(`${host} cannot be reached: ${why}`, false, error);
      }
    },
    close: () => {
      for (const route of routes.values())
        route.then(
          ({ agent }) => {
            agent.destroy();
          },
          () => undefined,
        );
    },
  };
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

function exchange(url: string, options: https.RequestOptions, body: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = (url.startsWith('https:') ? https : http).request(url, options, (response) => {
      const status = response.statusCode ?? 0;
      const chunks: Buffer[] = [];
      let bytes = 0;
      const done = (): void => {
        resolve({ status, text: Buffer.concat(chunks).toString().slice(0, MOST_ANSWER_BYTES) });
      };
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes < MOST_ANSWER_BYTES) return;
        done();
        request.destroy();
      });
      response.on('end', done);
      // The status is what counts; what it goes on to say may break off.
      response.on('error', done);
    });
    request.on('error', reject);
    request.end(body);
  });
}
