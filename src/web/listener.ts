/**
 * The HTTP listener of the metrics and the status page: reading only, small, and closed to whoever lacks its token.
 *
 * Source: RFC 9110 (methods, HEAD, authentication), RFC 7617 (Basic), RFC 6750 (Bearer).
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { isIP, type AddressInfo } from 'node:net';
import { createAllowance } from '../core/allowance.ts';
import { GatewayError } from '../core/errors.ts';
import { whyNotListening } from '../core/listening.ts';
import type { Log } from '../ports/log.ts';
import { openFiles } from '../state/open-files.ts';
import type { WebAnswer, WebRoute } from '../ports/web.ts';
import { createCompression } from './compression.ts';
import { boundConnections } from './guests.ts';

/** A listener that serves. */
export interface WebListener {
  readonly address: { readonly host: string; readonly port: number };
  /** What requests must bring from now on; undefined for nothing. */
  setToken(token: string | undefined): void;
  /** Ends every connection. */
  close(): Promise<void>;
}

/** Bytes of a request's line and headers, and the number of headers; a browser behind a proxy sends some 3 KiB in thirty. */
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_HEADERS = 100;
/** How long a request may take to come, in ms, and how long a connection stays without one. */
const HEADERS_MS = 10_000;
const REQUEST_MS = 20_000;
const KEEP_ALIVE_MS = 15_000;
/** How long an answer that nobody reads is kept, in ms. */
const STALLED_MS = 60_000;
/** Requests in one connection. */
const MAX_REQUESTS = 1000;

const METHODS = 'GET, HEAD';

/** What every answer says unless its route says otherwise. */
const STRICT: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'content-type': 'text/plain; charset=utf-8',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

/**
 * Starts to listen.
 * @param options.token - what a request must bring, as Bearer or as the password of Basic; undefined for nothing
 * @throws GatewayError `invalid-config` for an address that cannot be listened on
 */
export async function openWebListener(options: {
  readonly listen: { readonly host: string; readonly port: number };
  readonly token: string | undefined;
  readonly routes: readonly WebRoute[];
  readonly log: Log;
}): Promise<WebListener> {
  const { listen, routes, log } = options;
  let expected = digest(options.token);
  const compress = createCompression();

  const answerOf = async (request: IncomingMessage): Promise<WebAnswer> => {
    // Whoever is behind it could be anybody's page in the admin's browser, which reaches loopback by a name of its own (DNS rebinding).
    if (expected === undefined && !isOwnName(request.headers.host, listen.host))
      return plain(421, 'this is not served under that name; use the address, or set a token in the config');
    const target = targetOf(request.url);
    if (target === undefined) return plain(400, 'the path is not valid');
    const found = find(routes, target.path);
    if (found?.route.open !== true && expected !== undefined && !isAuthorized(request.headers.authorization, expected))
      return plain(401, 'a token is needed: as Authorization: Bearer TOKEN, or as the password of any user name', {
        'www-authenticate': 'Basic realm="restic-gateway", charset="UTF-8"',
      });
    if (found === undefined) return plain(404, 'there is no such page');
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return plain(405, 'this only serves reading', { allow: METHODS });
    return found.route.answer({ parts: found.parts, query: target.query });
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let answer: WebAnswer;
    try {
      answer = await answerOf(request);
    } catch (error) {
      log.error({ err: error }, 'a request to the metrics or the status page failed');
      answer = plain(500, 'the gateway failed; its log says why');
    }
    try {
      // What was let in alone: whoever has no token costs no compression, since what they are answered is short.
      const packed = await compress(request.headers['accept-encoding'], answer);
      const body = packed?.body ?? Buffer.from(answer.body);
      // What a client sends along is not waited for: it may have no end.
      if (hasBody(request)) response.setHeader('connection', 'close');
      response.writeHead(answer.status, {
        ...STRICT,
        ...answer.headers,
        ...packed?.headers,
        'content-length': body.length,
      });
      response.end(request.method === 'HEAD' ? undefined : body);
    } catch (error) {
      log.error({ err: error }, 'a request to the metrics or the status page could not be answered');
      response.destroy();
    }
  };

  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_MS,
      requestTimeout: REQUEST_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: 2000,
      requireHostHeader: true,
    },
    (request, response) => {
      void serve(request, response);
    },
  );
  server.maxHeadersCount = MAX_HEADERS;
  boundConnections(server, openFiles().web);
  server.maxRequestsPerSocket = MAX_REQUESTS;
  server.setTimeout(STALLED_MS);
  // Nothing is waited for that a client would send, nor any other protocol spoken.
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    void serve(request, response);
  });
  server.on('connect', (_request, socket) => {
    // From here on it is nobody's but ours: Node has taken its listeners and its time limits away.
    socket.on('error', () => undefined);
    socket.end(
      `HTTP/1.1 405 Method Not Allowed\r\nAllow: ${METHODS}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
      () => socket.destroy(),
    );
  });

  const { host, port } = listen;
  server.listen(port, host);
  await once(server, 'listening').catch((error: unknown) => {
    throw new GatewayError('invalid-config', {
      detail: whyNotListening(error as NodeJS.ErrnoException, 'metrics.listen', listen),
      cause: error,
    });
  });
  // One for each connection that comes would fill the log.
  const failures = createAllowance(5, 0.1, () => performance.now());
  server.on('error', (error) => {
    if (failures.take()) log.error({ err: error }, 'the listener of the metrics failed');
  });
  const bound = server.address() as AddressInfo;
  return {
    address: { host: bound.address, port: bound.port },
    setToken: (token) => {
      expected = digest(token);
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}

function plain(status: number, line: string, headers: Readonly<Record<string, string>> = {}): WebAnswer {
  return { status, headers, body: `${line}\n` };
}

/** Of fixed length, so that comparing takes the same time whatever is brought. */
function digest(token: string | undefined): Buffer | undefined {
  return token === undefined ? undefined : createHash('sha256').update(token).digest();
}

function isAuthorized(header: string | undefined, expected: Buffer): boolean {
  const [, scheme = '', credentials = ''] = /^(Bearer|Basic) +([A-Za-z0-9\-._~+/]+=*)$/i.exec(header ?? '') ?? [];
  let token = credentials;
  if (scheme.toLowerCase() === 'basic') {
    const pair = Buffer.from(credentials, 'base64').toString('latin1');
    const colon = pair.indexOf(':');
    token = colon < 0 ? '' : pair.slice(colon + 1);
  }
  return timingSafeEqual(createHash('sha256').update(token, 'latin1').digest(), expected);
}

/** Whether a Host header names the listener itself, by address or by a name that nobody else can have. */
function isOwnName(header: string | undefined, listened: string): boolean {
  const [, v6, name = ''] = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::\d{1,5})?$/.exec(header ?? '') ?? [];
  if (v6 !== undefined) return isIP(v6) === 6;
  return isIP(name) === 4 || ['localhost', listened].includes(name.toLowerCase());
}

/** Path and query of a request; undefined for what no browser sends. */
function targetOf(url = ''): { readonly path: string; readonly query: URLSearchParams } | undefined {
  if (!url.startsWith('/')) return undefined;
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  return { path, query: new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)) };
}

function find(
  routes: readonly WebRoute[],
  path: string,
): { readonly route: WebRoute; readonly parts: readonly string[] } | undefined {
  for (const route of routes) {
    const match = route.path.exec(path);
    if (match === null) continue;
    try {
      return { route, parts: match.slice(1).map(decodeURIComponent) };
    } catch {
      // Not percent-encoding, so the name of nothing.
      return undefined;
    }
  }
  return undefined;
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0;
}
