/** An HTTP proxy on loopback as companies have them: it passes on requests for http URLs, and tunnels by CONNECT for https. */
import { once } from 'node:events';
import http from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { join } from './joined.ts';

export interface ForwardProxy {
  /** http URL, without credentials. */
  readonly url: string;
  /** What was asked for so far, as `CONNECT host:port` or `PUT http://…`. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

/** @param credentials - `user:password` that it wants (RFC 9110, 11.7.2); by default none */
export async function startForwardProxy(credentials?: string): Promise<ForwardProxy> {
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  const wanted = credentials === undefined ? undefined : `Basic ${Buffer.from(credentials).toString('base64')}`;
  const server = http.createServer((request, response) => {
    requests.push(`${request.method ?? ''} ${request.url ?? ''}`);
    const { 'proxy-authorization': given, ...headers } = request.headers;
    if (given !== wanted) {
      response.writeHead(407, { 'content-type': 'text/html' }).end('<html>who are you?</html>');
      return;
    }
    const target = new URL(request.url ?? '');
    const outgoing = http.request(target, { method: request.method ?? '', headers }, (incoming) => {
      response.writeHead(incoming.statusCode ?? 0, incoming.headers);
      incoming.pipe(response);
    });
    outgoing.on('error', () => request.socket.destroy());
    request.pipe(outgoing);
  });
  server.on('connect', (request: http.IncomingMessage, socket: Socket) => {
    requests.push(`CONNECT ${request.url ?? ''}`);
    if (request.headers['proxy-authorization'] !== wanted) {
      socket.end('HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n');
      return;
    }
    const { hostname, port } = new URL(`http://${request.url ?? ''}`);
    const inner = connect(Number(port), hostname, () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
    join(socket, inner);
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
