/** A restic client without restic: HTTP/2 with prior knowledge on the standard input and output of a program it starts. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { connect, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { connect as connectSocket, createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { environment, type Lab } from './lab.ts';

/** What restic's Go client grants ahead: 4 MiB a stream, 1 GiB a connection. */
const STREAM_WINDOW = 4 * 1024 * 1024;
const CONNECTION_WINDOW = 1024 * 1024 * 1024;
/** Megabytes that Node lets a session hold before it ends streams: whole packs are handed to it at once. */
const SESSION_MEMORY = 4096;

/** A whole answer. */
interface Answer {
  readonly status: number;
  /** How long the body was. */
  readonly bytes: number;
  /** Of the body; only when it was asked for. */
  readonly sha256: string | undefined;
}

/** A session that is open. */
export interface Session {
  /** @throws Error when the answer was cut off or had another status than `wanted` */
  request(method: string, target: string, wanted: readonly number[], parts?: RequestParts): Promise<Answer>;
  /** Ends it as restic does, and waits for the end of the program. */
  close(): Promise<void>;
}

/** What a request carries beside method and path. */
interface RequestParts {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: readonly Uint8Array[];
  /** Whether the answer is to be hashed. */
  readonly hash?: boolean;
}

/** Opens sessions. */
export interface Sessions {
  /** Starts a program; the session is there at once, and its first request waits until the program answers. */
  open(argv: readonly string[], env?: Readonly<Record<string, string>>): Promise<Session>;
  close(): void;
}

/** Content with a name of its own, as restic's packs have. */
export interface Pack {
  readonly name: string;
  readonly body: readonly Uint8Array[];
  readonly size: number;
}

/** Packs that differ in their first bytes alone, so that they need the memory of one. */
export function makePacks(count: number, size: number): Pack[] {
  const rest = randomBytes(size - 16);
  return Array.from({ length: count }, () => {
    const head = randomBytes(16);
    return { name: createHash('sha256').update(head).update(rest).digest('hex'), body: [head, rest], size };
  });
}

/** Gives each program one socket for both directions, as sshd does and as Node's HTTP/2 can use without detours. */
export async function createSessions(lab: Lab): Promise<Sessions> {
  const address = path.join(lab.directory('sessions'), 'socket');
  const server: Server = createServer({ pauseOnConnect: true });
  await new Promise<void>((resolve) => server.listen(address, resolve));
  let pairing: Promise<unknown> = Promise.resolve();
  const pair = async (): Promise<{ readonly ours: Socket; readonly theirs: Socket }> => {
    const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
    const ours = connectSocket(address);
    return { ours, theirs: await accepted };
  };
  return {
    open: async (argv, env = {}) => {
      // One after the other, so that each gets its own other end.
      const paired = pairing.then(pair);
      pairing = paired;
      const { ours, theirs } = await paired;
      const [command = '', ...args] = argv;
      const child = spawn(command, args, { env: environment(env), stdio: [theirs, theirs, 'pipe'] });
      theirs.destroy();
      return sessionOn(ours, child);
    },
    close: () => server.close(),
  };
}

function sessionOn(socket: Socket, child: ChildProcess): Session {
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    if (said.length < 10_000) said += chunk.toString();
  });
  const exited = new Promise<void>((resolve) => child.once('close', resolve));
  const http2: ClientHttp2Session = connect('http://localhost', {
    createConnection: () => socket,
    maxSessionMemory: SESSION_MEMORY,
    settings: { initialWindowSize: STREAM_WINDOW, enablePush: false },
  });
  http2.setMaxListeners(0);
  http2.once('connect', () => {
    http2.setLocalWindowSize(CONNECTION_WINDOW);
  });
  http2.on('error', () => undefined);
  const request: Session['request'] = (method, target, wanted, parts = {}) =>
    new Promise((resolve, reject) => {
      const { headers = {}, body = [], hash = false } = parts;
      const fail = (why: string): void => {
        reject(new Error(`${method} ${target}: ${why}; the program said: ${said === '' ? 'nothing' : said}`));
      };
      const length = body.reduce((sum, chunk) => sum + chunk.length, 0);
      const stream: ClientHttp2Stream = http2.request(
        {
          ':method': method,
          ':path': target,
          ':authority': 'localhost',
          ...(body.length === 0 ? {} : { 'content-length': String(length) }),
          ...headers,
        },
        { endStream: body.length === 0 },
      );
      let [status, bytes, ended] = [0, 0, false];
      const digest = hash ? createHash('sha256') : undefined;
      stream.on('response', (answer) => {
        status = Number(answer[':status']);
      });
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        digest?.update(chunk);
      });
      stream.on('end', () => (ended = true));
      stream.on('error', (error: Error) => {
        fail(error.message);
      });
      stream.on('close', () => {
        if (!ended) fail('the answer was cut off');
        else if (!wanted.includes(status)) fail(`answered ${status}`);
        else resolve({ status, bytes, sha256: digest?.digest('hex') });
      });
      for (const chunk of body) stream.write(chunk);
      if (body.length > 0) stream.end();
    });
  return {
    request,
    close: async () => {
      http2.destroy();
      socket.destroy();
      await exited;
    },
  };
}
