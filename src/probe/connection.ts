/** A client's way to the server: SSH by ssh2, and restic's HTTP/2 by http2-wrapper on a channel; everything has a time limit. */
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { request } from 'http2-wrapper';
import ssh2, {
  type Client,
  type ClientChannel,
  type ConnectConfig,
  type ExecOptions,
  type ServerHostKeyAlgorithm,
} from 'ssh2';
import { within } from '../core/waiting.ts';
import { GatewayError, messageOf } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import type { KnownHost } from './known-hosts.ts';

/** Whom the probe speaks to, and as whom. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** Of each step, in ms. */
  readonly timeoutMs: number;
  readonly known: KnownHost;
}

/** How an attempt to log in ended. */
type Login =
  | { readonly in: true; readonly client: Client }
  /** `handshake`: whether algorithms were agreed on and the host key was good. */
  | { readonly in: false; readonly handshake: boolean; readonly why: string; readonly level: string | undefined };

/** Tries to log in. Never throws for what the server says. @throws GatewayError `session-refused` for a host key that is not known */
export function logIn(target: Target, options: ConnectConfig): Promise<Login> {
  const { host, port, user, timeoutMs, known } = target;
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    let handshake = false;
    let refusal: string | undefined;
    const fail = (why: string, level?: string): void => {
      clearTimeout(timer);
      client.destroy();
      if (refusal === undefined) resolve({ in: false, handshake, why, level });
      else reject(new GatewayError('session-refused', { detail: `${host}:${port}: ${refusal}` }));
    };
    const timer = setTimeout(() => {
      fail(`no answer within ${timeoutMs / 1000} s; --timeout gives it more`, 'client-timeout');
    }, timeoutMs);
    client.on('handshake', () => {
      handshake = true;
    });
    client.on('ready', () => {
      clearTimeout(timer);
      resolve({ in: true, client });
    });
    client.on('error', (error: Error & { level?: string }) => {
      fail(messageOf(error), error.level);
    });
    client.on('close', () => {
      fail('the server closed the connection');
    });
    const types = known.types === undefined ? undefined : hostKeyAlgorithms(known.types);
    client.connect({
      host,
      port,
      username: user,
      readyTimeout: 0,
      ...options,
      algorithms: { ...(types === undefined ? {} : { serverHostKey: types }), ...options.algorithms },
      hostVerifier: (key: Buffer) => {
        if (known.accepts(key)) return true;
        refusal = known.refusal(key);
        return false;
      },
    });
  });
}

/** As OpenSSH does: a server that has several keys is asked for one that is known. */
function hostKeyAlgorithms(types: readonly string[]): ServerHostKeyAlgorithm[] {
  return types.flatMap((type) =>
    type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type],
  ) as ServerHostKeyAlgorithm[];
}

/** An answer of the server; `status` 0 for a request that got none (reset, closed, no answer in time). */
interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

/** The most of an answer that is kept, in bytes; one that is longer counts as none. */
const MOST_BYTES = 4 * 1024 * 1024;

/** What is sent with a request. */
interface Parts {
  readonly body?: Uint8Array;
  /** Declared instead of the body's own length; when it is longer, the upload is broken off after what there is. */
  readonly declared?: number;
  /** How long an answer is waited for; the target's time unless given. */
  readonly timeoutMs?: number;
}

/** restic's way to speak on one session. */
export interface ResticSession {
  request(method: string, path: string, parts?: Parts): Promise<Answer>;
}

/** Asks for a command, and waits for its end. @returns what it says on stderr, of which the beginning is kept; undefined when it takes too long */
export async function whatIsSaid(client: Client, command: string, timeoutMs: number): Promise<string | undefined> {
  const channel = await within(timeoutMs, execute(client, command));
  if (channel === undefined || channel instanceof Error) return channel?.message;
  let said = '';
  channel.stderr.on('data', (chunk: Buffer) => {
    if (said.length < 1000) said += chunk.toString();
  });
  channel.resume();
  return within(
    timeoutMs,
    once(channel, 'close').then(() => said),
  );
}

/** Opens a session for restic. @throws GatewayError `session-refused` with what the server says */
export async function openResticSession(
  client: Client,
  timeoutMs: number,
  command = 'serve restic --stdio restic-gateway-probe',
): Promise<ResticSession> {
  const channel = await within(timeoutMs, execute(client, command));
  if (channel === undefined || channel instanceof Error)
    throw new GatewayError('session-refused', {
      detail: `the server gives this key no session${channel === undefined ? ' in time' : `: ${channel.message}`}`,
    });
  let said = '';
  channel.stderr.on('data', (chunk: Buffer) => (said += chunk.toString().slice(0, 1000)));
  const session = connectHttp2('http://localhost', { createConnection: () => channel });
  session.on('error', () => undefined);
  const send = (method: string, path: string, { body, declared, timeoutMs: own = timeoutMs }: Parts = {}) =>
    new Promise<Answer>((resolve) => {
      const none = { status: 0, body: Buffer.alloc(0) };
      if (session.destroyed) {
        resolve(none);
        return;
      }
      const length = declared ?? body?.length;
      const outgoing = request(
        { h2session: session, method, path, headers: length === undefined ? {} : { 'content-length': String(length) } },
        (incoming) => {
          const { statusCode = 0 } = incoming;
          // A refusal counts as soon as it is there: the server may reset the stream of an upload right after it.
          if (statusCode >= 400) finish({ status: statusCode, body: Buffer.alloc(0) });
          const chunks: Buffer[] = [];
          let left = MOST_BYTES;
          incoming.on('data', (chunk: Buffer) => {
            left -= chunk.length;
            if (left >= 0) chunks.push(chunk);
            else outgoing.destroy();
          });
          incoming.on('error', () => {
            finish(none);
          });
          incoming.on('aborted', () => {
            finish(none);
          });
          incoming.on('end', () => {
            finish({ status: statusCode, body: Buffer.concat(chunks) });
          });
        },
      );
      const finish = (answer: Answer): void => {
        clearTimeout(timer);
        resolve(answer);
      };
      const timer = setTimeout(() => {
        outgoing.destroy();
        finish(none);
      }, own);
      outgoing.on('error', () => {
        finish(none);
      });
      outgoing.on('close', () => {
        setImmediate(finish, none);
      });
      if (body !== undefined && body.length > 0) outgoing.write(body);
      if (declared === undefined || declared === (body?.length ?? 0)) outgoing.end();
      else outgoing.flushHeaders();
    });
  // restic's own first request: any answer shows that the session lives.
  const alive = await send('GET', '/file-1');
  if (alive.status === 0) {
    client.destroy();
    const line = printable(said.replace(/\s+/g, ' ').trim());
    throw new GatewayError('session-refused', {
      detail: `the server lets this key in but does not serve restic${line === '' ? '' : `; it says: ${line}`}`,
    });
  }
  return { request: send };
}

/** Runs a command; an error when the server declines. */
export function execute(client: Client, command: string, options: ExecOptions = {}): Promise<ClientChannel | Error> {
  return new Promise((resolve) => {
    client.exec(command, options, (error, channel) => {
      resolve(error ?? channel);
    });
  });
}
