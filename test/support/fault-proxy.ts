/** An HTTP proxy on loopback in front of a real S3 server, that breaks what it is told to break: answers, connections, bodies, time. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { Signer, type S3Credentials } from '../../src/stores/s3/signature.ts';

/** What happens to a request. `after` counts bytes of the body in question. */
export type Fault =
  /** Answered as S3 words an error, to HEAD without words; at once, or when so much of the request's body was read. */
  | {
      readonly kind: 'refuse';
      readonly after?: number;
      readonly status: number;
      readonly code: string;
      readonly headers?: Record<string, string>;
      /** S3's message. */
      readonly text?: string;
      /** As a web server would, by a page. */
      readonly page?: boolean;
    }
  /** Passed on without ever saying `100 Continue`. */
  | { readonly kind: 'silent-continue' }
  /** Answered with this once the request is read whole. */
  | { readonly kind: 'say'; readonly status: number; readonly text: string; readonly headers?: Record<string, string> }
  /** As a cache that loses writes: an upload is read whole and answered as S3 would, and nothing of it is passed on. */
  | { readonly kind: 'swallow' }
  /** Only the upload's first bytes are passed on, signed anew, as if there were no more. */
  | { readonly kind: 'truncate'; readonly after: number; readonly secret: S3Credentials }
  /** The server's answer with other headers. */
  | { readonly kind: 'reword'; readonly headers: Record<string, string> }
  /** Passed on without its condition, as if the server did not know any; signed anew, since the signature covers it. */
  | { readonly kind: 'drop-condition'; readonly secret: S3Credentials }
  /** The connection is reset at the request's head. */
  | { readonly kind: 'reset' }
  /** The request is read whole and never answered. */
  | { readonly kind: 'mute' }
  /** The server does what it is asked, but its answer is lost: the connection is reset. */
  | { readonly kind: 'lose-answer' }
  | { readonly kind: 'reset-upload'; readonly after: number }
  /** Nothing of it is read until `release()`, and then all is as if nothing had been. */
  | { readonly kind: 'hold' }
  /** No more of the upload is read. */
  | { readonly kind: 'stall-upload'; readonly after: number }
  | { readonly kind: 'reset-download'; readonly after: number }
  /** The connection is closed in good order, in the middle of the body. */
  | { readonly kind: 'cut-download'; readonly after: number }
  | { readonly kind: 'stall-download'; readonly after: number };

/** Which requests a fault hits. */
export interface Rule {
  /** By default any. */
  readonly method?: string;
  /** Found in the path; by default any. */
  readonly path?: RegExp;
  /** Only uploads that declare more bytes than this. */
  readonly over?: number;
  /** Only requests with this header, in lower case. */
  readonly having?: string;
  /** How many requests; by default all. */
  readonly times?: number;
  readonly fault: Fault;
}

/** A proxy that runs. */
export interface FaultProxy {
  /** http URL without a slash at its end. */
  readonly endpoint: string;
  /** Method and path of every request so far, path without query. */
  readonly requests: readonly string[];
  /** Connections that clients have opened so far. */
  readonly connections: number;
  /** Connections that are open now. */
  readonly open: number;
  /** How many requests of a kind are under way, their answers included. @param line - as in `requests` */
  underWay(line: RegExp): number;
  /** From now on, instead of what was set before. */
  set(...rules: readonly Rule[]): void;
  /** Lets everything pass again, what is held as well. */
  release(): void;
  /** Lets everything pass again, and ends what still hangs. */
  heal(): void;
  close(): Promise<void>;
}

/** Starts a proxy to an S3 server at an http URL. */
export async function startFaultProxy(upstream: string): Promise<FaultProxy> {
  const { hostname, port } = new URL(upstream);
  const agent = new http.Agent({ keepAlive: true });
  const sockets = new Set<Socket>();
  const requests: string[] = [];
  let holding: (() => void)[] = [];
  const running = new Map<ServerResponse, string>();
  let connections = 0;
  let rules: { rule: Rule; left: number }[] = [];

  const faultFor = ({ method, url = '', headers }: IncomingMessage): Fault | undefined => {
    const hit = rules.find(
      ({ rule, left }) =>
        left > 0 &&
        (rule.method === undefined || rule.method === method) &&
        (rule.path === undefined || rule.path.test(url)) &&
        (rule.having === undefined || headers[rule.having] !== undefined) &&
        (rule.over === undefined || Number(headers['content-length'] ?? 0) > rule.over),
    );
    if (hit !== undefined) hit.left -= 1;
    return hit?.rule.fault;
  };

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const { method = '', url = '' } = request;
    const line = `${method} ${url.split('?')[0] ?? ''}`;
    requests.push(line);
    running.set(response, line);
    response.once('close', () => running.delete(response));
    const fault = faultFor(request);
    request.on('error', () => undefined);
    switch (fault?.kind) {
      case 'hold':
        holding.push(() => {
          if (request.headers.expect !== undefined) response.writeContinue();
          pass(request, response, undefined);
        });
        return;
      case 'refuse': {
        const [type, text] =
          fault.page === true
            ? ['text/html', `<html><body>${fault.status}</body></html>`]
            : [
                'application/xml',
                `<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>${fault.text ?? 'by order'}</Message></Error>`,
              ];
        const answer = (): void => {
          response.writeHead(fault.status, { ...fault.headers, 'content-type': type });
          response.end(method === 'HEAD' ? undefined : text);
        };
        let left = fault.after ?? 0;
        if (left === 0) {
          answer();
          return;
        }
        if (request.headers.expect !== undefined) response.writeContinue();
        request.on('data', (chunk: Buffer) => {
          left -= chunk.length;
          if (left > 0) return;
          request.removeAllListeners('data').pause();
          answer();
        });
        return;
      }
      case 'reset':
        request.socket.resetAndDestroy();
        return;
      case 'say':
      case 'mute':
        if (request.headers.expect !== undefined) response.writeContinue();
        request.resume().on('end', () => {
          if (fault.kind === 'say') response.writeHead(fault.status, fault.headers).end(fault.text);
        });
        return;
      case 'swallow': {
        if (request.headers.expect !== undefined) response.writeContinue();
        const md5 = createHash('md5');
        request.on('data', (chunk: Buffer) => md5.update(chunk));
        request.on('end', () => {
          response.writeHead(200, { etag: `"${md5.digest('hex')}"`, 'content-length': 0 }).end();
        });
        return;
      }
      case 'truncate': {
        if (request.headers.expect !== undefined) response.writeContinue();
        const chunks: Buffer[] = [];
        request.on('data', (chunk: Buffer) => chunks.push(chunk));
        request.on('end', () => {
          const body = Buffer.concat(chunks).subarray(0, fault.after);
          const payloadHash = createHash('sha256').update(body).digest('hex');
          const headers = {
            ...signedAnew(request, fault.secret, { payloadHash, drop: /^x-amz-(sdk-)?checksum-/ }),
            'content-length': body.length,
          };
          const outgoing = http.request({ hostname, port, method, path: url, agent, headers });
          outgoing.on('error', () => request.socket.destroy());
          outgoing.on('response', (incoming) => {
            response.writeHead(incoming.statusCode ?? 0, incoming.headers);
            incoming.pipe(response);
          });
          outgoing.end(body);
        });
        return;
      }
      case 'silent-continue':
        pass(request, response, undefined);
        return;
      case 'reword':
      case 'drop-condition':
      case 'lose-answer':
      case 'reset-upload':
      case 'stall-upload':
      case 'reset-download':
      case 'cut-download':
      case 'stall-download':
      case undefined:
        if (request.headers.expect !== undefined) response.writeContinue();
        pass(request, response, fault);
    }
  };

  const pass = (request: IncomingMessage, response: ServerResponse, fault: Fault | undefined): void => {
    const { method, url, headers, socket } = request;
    const outgoing = http.request({ hostname, port, method, path: url, agent });
    // As they are, `Host` too: they are signed.
    const passed =
      fault?.kind === 'drop-condition' ? signedAnew(request, fault.secret, { drop: /^if-none-match$/ }) : headers;
    for (const [name, value] of Object.entries(passed))
      if (name !== 'expect' && value !== undefined) outgoing.setHeader(name, value);
    outgoing.on('error', () => socket.destroy());
    response.on('close', () => {
      if (!response.writableFinished) outgoing.destroy();
    });
    outgoing.on('response', (incoming) => {
      incoming.on('error', () => socket.destroy());
      if (fault?.kind === 'lose-answer') {
        socket.resetAndDestroy();
        incoming.resume();
        return;
      }
      const reworded = fault?.kind === 'reword' ? fault.headers : {};
      response.writeHead(incoming.statusCode ?? 0, { ...incoming.headers, ...reworded });
      if (fault?.kind !== 'reset-download' && fault?.kind !== 'cut-download' && fault?.kind !== 'stall-download') {
        incoming.pipe(response);
        return;
      }
      let left = fault.after;
      // One that is shorter passes.
      incoming.on('end', () => response.end());
      incoming.on('data', (chunk: Buffer) => {
        const part = chunk.subarray(0, left);
        left -= part.length;
        if (left > 0) {
          response.write(part);
          return;
        }
        incoming.removeAllListeners('data').removeAllListeners('end').pause();
        // Once it is on its way: a reset would overtake it.
        response.write(part, () => {
          setImmediate(() => {
            if (fault.kind === 'reset-download') socket.resetAndDestroy();
            else if (fault.kind === 'cut-download') socket.end();
          });
        });
      });
    });
    if (fault?.kind !== 'reset-upload' && fault?.kind !== 'stall-upload') {
      request.pipe(outgoing);
      return;
    }
    let left = fault.after;
    request.on('data', (chunk: Buffer) => {
      left -= chunk.length;
      outgoing.write(chunk);
      if (left > 0) return;
      if (fault.kind === 'reset-upload') socket.resetAndDestroy();
      else request.removeAllListeners('data').pause();
    });
  };

  const server = http.createServer({ keepAliveTimeout: 0 });
  server.on('request', onRequest).on('checkContinue', onRequest);
  server.on('connection', (socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    get connections() {
      return connections;
    },
    get open() {
      return sockets.size;
    },
    underWay: (line) => [...running.values()].filter((one) => line.test(one)).length,
    set: (...given) => {
      rules = given.map((rule) => ({ rule, left: rule.times ?? Infinity }));
    },
    release: () => {
      rules = [];
      const all = holding;
      holding = [];
      for (const pass of all) pass();
    },
    heal: () => {
      rules = [];
      for (const socket of sockets) socket.destroy();
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      agent.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A request's headers with one of them dropped, or for another body, with the signature that belongs to them. */
function signedAnew(
  { method = '', url = '', headers }: IncomingMessage,
  secret: S3Credentials,
  { drop, payloadHash = String(headers['x-amz-content-sha256']) }: { drop?: RegExp; payloadHash?: string },
): Record<string, string | string[] | undefined> {
  const [, region = '', names = ''] =
    /Credential=[^/]+\/\d+\/([^/]+)\/.*SignedHeaders=([^,]+)/.exec(headers.authorization ?? '') ?? [];
  const dropped = (name: string): boolean => drop?.test(name) === true;
  if (drop !== undefined && payloadHash === headers['x-amz-content-sha256'] && !Object.keys(headers).some(dropped))
    return headers;
  const others = Object.fromEntries(Object.entries(headers).filter(([name]) => !dropped(name) && name !== 'expect'));
  const signed = names.split(';').filter((name) => !dropped(name));
  const request = {
    ...{ method, path: url, query: '', payloadHash },
    headers: Object.fromEntries(signed.map((name) => [name, String(others[name])])),
  };
  return { ...others, ...new Signer(region).sign(request, secret, new Date()) };
}
