/** Receivers of syslog messages on real sockets: TCP with octet counting, UDP, and a socket like /dev/log. */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { createServer as createTlsServer } from 'node:tls';

/** A receiver that listens. */
interface SyslogReceiver {
  readonly port: number;
  /** In the order in which they came. */
  readonly messages: string[];
  /** Ends it with its connections, as a receiver that is stopped. */
  close(): Promise<void>;
}

/** RFC 6587, section 3.4.1: each message after its length. Anything else is an error. @param port - 0: a free one @param tls - files, for TLS (RFC 5425) */
export async function receiveTcp(
  port = 0,
  tls?: { readonly key: string; readonly certificate: string },
): Promise<SyslogReceiver> {
  const messages: string[] = [];
  const sockets = new Set<Socket>();
  const receive = (socket: Socket): void => {
    sockets.add(socket);
    let rest = Buffer.alloc(0);
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      for (;;) {
        const space = rest.indexOf(' ');
        if (space < 0) return;
        const length = Number(rest.subarray(0, space).toString());
        if (!Number.isSafeInteger(length)) throw new Error(`no length: ${rest.subarray(0, 40).toString()}`);
        if (rest.length < space + 1 + length) return;
        messages.push(rest.subarray(space + 1, space + 1 + length).toString());
        rest = rest.subarray(space + 1 + length);
      }
    });
  };
  const server =
    tls === undefined
      ? createServer(receive)
      : createTlsServer({ key: readFileSync(tls.key), cert: readFileSync(tls.certificate) }, receive);
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    messages,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

export async function receiveUdp(): Promise<SyslogReceiver> {
  const messages: string[] = [];
  const socket = createSocket('udp4');
  socket.on('message', (message) => messages.push(message.toString()));
  await new Promise<void>((resolve) => {
    socket.bind(0, '127.0.0.1', resolve);
  });
  return {
    port: socket.address().port,
    messages,
    close: () =>
      new Promise((resolve) => {
        socket.close(resolve);
      }),
  };
}

/** A datagram socket at a path, by Perl, as Node has none. */
export async function receiveUnix(path: string): Promise<Omit<SyslogReceiver, 'port'>> {
  const child = spawn(
    'perl',
    [
      '-MSocket',
      '-e',
      `$| = 1; socket(S, AF_UNIX, SOCK_DGRAM, 0) or die; bind(S, sockaddr_un($ARGV[0])) or die; print "ready\\n";
       while (defined recv(S, $m, 65536, 0)) { $m =~ s/\\n/ /g; print "$m\\n" }`,
      path,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const messages: string[] = [];
  const lines = createInterface({ input: child.stdout });
  await new Promise<void>((resolve, reject) => {
    child.once('exit', () => {
      reject(new Error('perl has ended'));
    });
    lines.once('line', () => {
      lines.on('line', (line) => messages.push(line));
      resolve();
    });
  });
  return {
    messages,
    close: () =>
      new Promise((resolve) => {
        child.removeAllListeners('exit').once('exit', () => {
          resolve();
        });
        child.kill();
      }),
  };
}
