/** Those whom the gateway notifies, on real sockets: an HTTP server that keeps what it is sent, and a mail server. */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { text as textOf } from 'node:stream/consumers';
import { SMTPServer } from 'smtp-server';

/** One request. */
interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** What it was answered; 0: nothing. */
  readonly status: number;
}

interface Answer {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

export interface HttpReceiver {
  readonly url: string;
  readonly port: number;
  readonly received: Received[];
  /** What it answers from now on; `hang`: nothing. */
  answer: Answer | 'hang' | ((path: string) => Answer);
  close(): Promise<void>;
}

/** @param port - 0: a free one @param tls - files */
export async function receiveHttp(
  port = 0,
  tls?: { readonly key: string; readonly certificate: string },
): Promise<HttpReceiver> {
  const sockets = new Set<Socket>();
  const received: Received[] = [];
  const server = (
    tls === undefined
      ? createServer()
      : createTlsServer({ key: readFileSync(tls.key), cert: readFileSync(tls.certificate) })
  ) as ReturnType<typeof createServer>;
  server.on('request', (request, response) => {
    void textOf(request).then((body) => {
      const { method = '', url = '', headers } = request;
      const answer = typeof receiver.answer === 'function' ? receiver.answer(url) : receiver.answer;
      received.push({ method, path: url, headers, body, status: answer === 'hang' ? 0 : answer.status });
      if (answer === 'hang') return;
      response.writeHead(answer.status, answer.headers).end(answer.body ?? '');
    });
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const { port: bound } = server.address() as AddressInfo;
  const receiver: HttpReceiver = {
    ...{ url: `http${tls === undefined ? '' : 's'}://127.0.0.1:${bound}`, port: bound, received },
    answer: { status: 200 },
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
  return receiver;
}

/** One mail. */
interface Mail {
  readonly from: string;
  readonly to: readonly string[];
  /** Who was logged in. */
  readonly user: string | undefined;
  readonly secure: boolean;
  readonly text: string;
}

interface MailReceiver {
  readonly port: number;
  readonly mails: Mail[];
  close(): Promise<void>;
}

/** @param tls - files; with `implicit`, TLS from the start, else by STARTTLS @param login - needed then */
export async function receiveMail(options: {
  readonly tls?: { readonly key: string; readonly certificate: string };
  readonly implicit?: boolean;
  readonly login?: { readonly user: string; readonly password: string };
}): Promise<MailReceiver> {
  const { tls, implicit = false, login } = options;
  const mails: Mail[] = [];
  const server = new SMTPServer({
    ...{ secure: implicit, logger: false, authOptional: login === undefined, disableReverseLookup: true },
    ...(tls === undefined
      ? { disabledCommands: ['STARTTLS'] }
      : { key: readFileSync(tls.key), cert: readFileSync(tls.certificate) }),
    onAuth: ({ username, password }, _session, done) => {
      if (login !== undefined && username === login.user && password === login.password) done(null, { user: username });
      else done(new Error('wrong user or password'));
    },
    onData: (stream, session, done) => {
      void textOf(stream).then((text) => {
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({
          from: mailFrom === false ? '' : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          user: typeof session.user === 'string' ? session.user : undefined,
          secure: session.secure,
          text,
        });
        done();
      });
    },
  });
  server.on('error', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.server.address() as AddressInfo).port,
    mails,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
      }),
  };
}
