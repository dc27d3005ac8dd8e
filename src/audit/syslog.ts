/**
 * Sends lines of the audit as syslog messages (RFC 5424): by UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS (RFC 5425) to a
 * receiver, or into the socket of this machine's syslog or journal by logger(1), since Node has no datagram sockets of that kind.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { connect, isIP, isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import type { Duplex, Writable } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { SyslogConfig } from '../config/types.ts';
import { printableJson } from '../core/printable.ts';

/** A line that is to be sent. */
export interface SyslogLine {
  /** The event's kind, and its time as it stands in the line. */
  readonly kind: string;
  readonly time: string;
  /** Without its line break. */
  readonly bytes: Uint8Array;
}

/** Sends lines. */
export interface SyslogSender {
  /** Resolves when the system has taken them, in order. @throws Error of the network; the next call connects anew */
  send(lines: readonly SyslogLine[]): Promise<void>;
  close(): void;
}

const APP = 'restic-gateway';
/** How long a connection may take to be made or to take what is sent, in ms. */
const LIMIT_MS = 10_000;
/** RFC 5424, table 2: error, warning and informational. */
const SEVERITIES: Readonly<Record<string, number>> = {
  ...{ failed: 3, 'copy-late': 3, 'create-failed': 5, 'remove-failed': 5 },
  ...{ denied: 4, 'more-denied': 4, 'session-refused': 4, 'more-refused': 4, anomaly: 4, throttled: 5 },
};

export function openSyslog(config: SyslogConfig): SyslogSender {
  const { to, facility } = config;
  if (to.transport === 'unix') return overLogger(to.path, facility);
  const { transport, host, port } = to;
  const format = (line: SyslogLine): Buffer => formatMessage(facility, line);
  switch (transport) {
    case 'udp':
      return overDatagrams(to, format);
    case 'tcp':
      return overStream(() => connect({ host, port }), 'connect', format);
    case 'tls':
      return overStream(
        () => connectTls({ host, port, ...(isIP(host) === 0 && { servername: host }) }),
        'secureConnect',
        format,
      );
  }
}

/** Below what UDP carries over either kind of IP; of a message of whatever way no more is sent, so that no line can stop all after it. */
const MOST_MESSAGE_BYTES = 65_000;
/** RFC 5424, section 6.2.3. */
const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z$/;

/** `<PRI>1 TIME HOST restic-gateway PID KIND - LINE` */
function formatMessage(facility: number, { kind, time, bytes }: SyslogLine): Buffer {
  const priority = 8 * facility + severityOf(kind);
  const id = /^[\x21-\x7e]{1,32}$/.test(kind) ? kind : '-';
  const when = TIMESTAMP.test(time) ? time : '-';
  const head = `<${priority}>1 ${when} ${hostname() || '-'} ${APP} ${process.pid} ${id} - `;
  return Buffer.concat([Buffer.from(head), fit(bytes)]).subarray(0, MOST_MESSAGE_BYTES);
}

/** Whoever may write to the audit has no terminal of those who read what comes to syslog. What a gateway wrote says the same. */
function fit(bytes: Uint8Array): Buffer {
  return Buffer.from(printableJson(Buffer.from(bytes).toString())).subarray(0, MOST_MESSAGE_BYTES);
}

function severityOf(kind: string): number {
  return SEVERITIES[kind] ?? 6;
}

/** What is opened when it is first needed, and anew once it was dropped. */
function reopened<T>(connectTo: () => Promise<T>) {
  let open: Promise<T> | undefined;
  return {
    get: () => (open ??= connectTo()),
    drop: (end: (one: T) => unknown): void => {
      void open?.then(end, () => undefined);
      open = undefined;
    },
  };
}

function overDatagrams(
  { host, port }: { readonly host: string; readonly port: number },
  format: (line: SyslogLine) => Buffer,
): SyslogSender {
  let failure: Error | undefined;
  const connectTo = (): Promise<DatagramSocket> =>
    new Promise((resolve, reject) => {
      const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
      socket.unref();
      socket.on('error', (error) => {
        // Nobody listens there: what was sent before is lost, and the next call throws it.
        failure = error;
      });
      // With a callback, that a name cannot be looked up comes to it, and not to the `error` event.
      socket.connect(port, host, (error?: Error) => {
        if (error === undefined) {
          resolve(socket);
          return;
        }
        socket.close();
        reject(error);
      });
    });
  const open = reopened(connectTo);
  const close = (): void => {
    open.drop((socket) => socket.close());
  };

  return {
    send: async (lines) => {
      try {
        const socket = await open.get();
        for (const line of lines) {
          if (failure !== undefined) throw failure;
          await new Promise<void>((resolve, reject) => {
            socket.send(format(line), (error) => {
              if (error === null) resolve();
              else reject(error);
            });
          });
        }
      } catch (error) {
        failure = undefined;
        close();
        throw error;
      }
    },
    close,
  };
}

/** @param opened - the event that says that it is open */
function overStream(
  begin: () => Duplex,
  opened: 'connect' | 'secureConnect',
  format: (line: SyslogLine) => Buffer,
): SyslogSender {
  const connectTo = (): Promise<Duplex> =>
    new Promise((resolve, reject) => {
      const stream = begin();
      const timer = setTimeout(() => stream.destroy(new Error('it did not answer')), LIMIT_MS);
      stream.once(opened, () => {
        clearTimeout(timer);
        resolve(stream);
      });
      stream.on('error', reject);
      stream.on('close', () => {
        clearTimeout(timer);
        reject(new Error('it closed the connection'));
      });
      // A receiver says nothing; that it ends the connection is noticed only by who reads.
      stream.resume();
    });
  const open = reopened(connectTo);
  const frame = (message: Buffer): Buffer => Buffer.concat([Buffer.from(`${message.length} `), message]);

  return {
    send: async (lines) => {
      try {
        let stream = await open.get();
        if (stream.destroyed) {
          open.drop(() => undefined);
          stream = await open.get();
        }
        await write(stream, Buffer.concat(lines.map((line) => frame(format(line)))));
      } catch (error) {
        open.drop((stream) => stream.destroy());
        throw error;
      }
    },
    close: () => {
      open.drop((stream) => stream.end());
    },
  };
}

function overLogger(path: string, facility: number): SyslogSender {
  let child: ChildProcess | undefined;
  let failure: Error | undefined;

  const start = (): ChildProcess => {
    const started = spawn(
      'logger',
      [
        ...['--socket', path, '--socket-errors=on', '--size', '64KiB'],
        // What stands before each line tells logger its priority.
        ...['--prio-prefix', '--tag', APP, `--id=${process.pid}`],
      ],
      { stdio: ['pipe', 'ignore', 'ignore'] },
    );
    const gone = (error: Error): void => {
      if (child !== started) return;
      child = undefined;
      failure = error;
    };
    started.once('error', gone).once('exit', (status) => {
      gone(new Error(`logger ended with ${status ?? 'a signal'}`));
    });
    started.stdin.on('error', gone);
    return started;
  };

  return {
    send: async (lines) => {
      const found = failure;
      failure = undefined;
      if (found !== undefined) throw found;
      if (!(await stat(path)).isSocket()) throw new Error(`${path} is not a socket`);
      child ??= start();
      const texts = lines.flatMap(({ kind, bytes }) => [
        Buffer.from(`<${8 * facility + severityOf(kind)}>`),
        fit(bytes),
        Buffer.from('\n'),
      ]);
      if (child.stdin !== null) await write(child.stdin, Buffer.concat(texts));
    },
    close: () => {
      const old = child;
      child = undefined;
      old?.stdin?.end();
    },
  };
}

function write(stream: Writable, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error('it takes nothing'));
    }, LIMIT_MS);
    const done = (error?: Error | null): void => {
      clearTimeout(timer);
      stream.off('close', closed);
      if (error === undefined || error === null) resolve();
      else reject(error);
    };
    const closed = (): void => {
      done(new Error('it closed the connection'));
    };
    stream.once('close', closed);
    stream.write(bytes, done);
  });
}
