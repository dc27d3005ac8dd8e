/**
 * The private parts of ssh2 that the SSH server goes by, all of them and only here: what they look like, how to reach them, and a check at
 * start that they are there.
 *
 * ssh2 has no public call for these: looking at a message before it is handled (peer-guard.ts), sending many packets in one write
 * (packet-sender.ts), knowing what the peer has taken (peer-guard.ts), opening a channel's window as far as the memory budget allows
 * (channel-stream.ts), a key exchange method of one's own (mlkem-kex.ts), and messages that ssh2 cannot send (announcements.ts).
 *
 * To update ssh2: read what changed in its lib/server.js, lib/client.js, lib/Channel.js, lib/utils.js and lib/protocol/; raise the version
 * in package.json; run `npm test -- frontends attacks/ssh`. `checkSsh2` names the member that is gone. What it cannot see is a member that is
 * still there and means something else: that is what those tests are for.
 */
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import ssh2, { type Client, type Connection, type ServerChannel } from 'ssh2';
import { GatewayError } from '../core/errors.ts';

/** A handler of a message that has been parsed: lib/server.js, `messageHandlers`. */
type Handler = (protocol: unknown, ...message: unknown[]) => unknown;

/** Both directions of a channel, which ssh2 shares between a session and its channel: lib/Channel.js. Windows in bytes. */
interface ChannelState {
  readonly incoming: { window: number; readonly state: string };
  readonly outgoing: { readonly id: number; readonly packetSize: number; readonly state: string; window: number };
}

/** A channel: lib/Channel.js. */
export interface InternalChannel extends ChannelState {
  /** Set while somebody waits for the peer to widen the window. */
  _waitWindow: boolean;
  /** Called when it has. */
  _chunkcb: (() => void) | undefined;
  /** Called by ssh2's stream when its reader wants more. */
  _read: () => void;
}

/** The cipher of what goes out: lib/protocol/crypto.js. */
interface Cipher {
  outSeqno: number;
  readonly _dead: boolean;
  /** Memory for a packet with a payload of so many bytes, which goes to `PAYLOAD_AT`. */
  allocPacket(bytes: number): Uint8Array;
  /** Encrypts a packet, and sends it. */
  encrypt(packet: Uint8Array): void;
  /** The native part of `AESGCMCipherBinding`, which encrypts a packet in place and appends its tag. */
  readonly _instance?: { encrypt(packet: Buffer): void };
}

/** What both sides of a key exchange propose: lib/protocol/kex.js, `KexInit`. */
export interface Offer {
  readonly lists: {
    readonly kex: { readonly array: readonly string[] };
    readonly serverHostKey: { readonly array: readonly string[] };
  };
}

/** A key exchange under way: lib/protocol/kex.js. `computeSecret` returns its errors. */
export interface KeyExchange {
  type: string;
  readonly negotiated: { kex: string };
  _remoteKexinit: Buffer;
  /** Whether the peer takes SSH_MSG_EXT_INFO, once that is negotiated. */
  remoteExtInfoEnabled: boolean;
  /** The exchange hash of the connection's first key exchange, once that is over. */
  readonly sessionID: Buffer | undefined;
  getPublicKey: () => Buffer;
  convertPublicKey: (publicKey: Buffer) => Buffer;
  computeSecret: (peer: Buffer) => Buffer | Error;
}

/** The state of one connection: lib/protocol/Protocol.js. */
export interface Protocol {
  readonly _server: boolean;
  readonly _debug?: (line: string) => void;
  readonly _cipher: Cipher;
  /** By name of the message. */
  readonly _handlers: Record<string, Handler | undefined>;
  /** Undefined but while a key exchange is under way. */
  readonly _kexinit: unknown;
  _offer: Offer;
  _kex: KeyExchange | undefined;
  _decipher: { _onPayload: (payload: Buffer) => unknown } | undefined;
  _onHeader: (header: unknown) => void;
  /** Called when both sides use the new keys: it sends EXT_INFO where the peer takes it, and tells the connection. */
  _onHandshakeComplete: (...negotiated: unknown[]) => void;
  _onPacket: () => void;
  /** Takes what has come, from one place in it to another. @returns how far it came; undefined when there is no more. */
  _parse: (data: Uint8Array, from: number, to: number) => number | undefined;
  _skipNextInboundPacket: boolean;
  start(): void;
  parse(data: Uint8Array, from: number, to: number): void;
  rekey(): void;
  /** Sends a request that nobody knows, and that is answered for that reason. */
  ping(): void;
  /** Answers a global request (RFC 4254, 4). */
  requestSuccess(data: Buffer): void;
  requestFailure(): void;
  cleanup(): void;
  channelData(id: number, data: Buffer): void;
  channelWindowAdjust(id: number, bytes: number): void;
  channelOpenConfirm(remote: number, local: number, window: number, packetSize: number): void;
}

/** A connection: lib/server.js and lib/client.js. */
interface InternalConnection {
  readonly _protocol: Protocol;
  readonly _sock: Socket;
  readonly _chanMgr: {
    get(id: number): { readonly _channel?: ChannelState; readonly _chanInfo?: ChannelState } | undefined;
  };
}

/** The modules of ssh2 that a key exchange method goes into. */
export interface Ssh2Modules {
  readonly version: string;
  readonly constants: { readonly SUPPORTED_KEX: string[] };
  readonly kex: {
    readonly KexInit: new (lists: unknown) => Offer;
    readonly onKEXPayload: (this: Protocol, state: { firstPacket: boolean }, payload: Buffer) => unknown;
  };
  /** Handlers of payloads by message number. */
  readonly handlers: ((protocol: Protocol, payload: Buffer) => unknown)[];
  readonly Protocol: new (config: unknown) => Protocol;
  /** Whether the native part is in use; ssh2 takes Node's crypto without a word where it is not built, or built for another Node. */
  readonly crypto: { readonly bindingAvailable: boolean };
}

/** The class of the cipher that encrypts in place; there is no other way to tell it. */
const NATIVE_GCM = 'AESGCMCipherBinding';
/** The class of the one that encrypts nothing. */
const NULL_CIPHER = 'NullCipher';

/** @throws GatewayError `internal` when there are no such modules */
export function loadSsh2(): Ssh2Modules {
  const require = createRequire(import.meta.url);
  try {
    return {
      version: (require('ssh2/package.json') as { readonly version: string }).version,
      constants: require('ssh2/lib/protocol/constants.js') as Ssh2Modules['constants'],
      kex: require('ssh2/lib/protocol/kex.js') as Ssh2Modules['kex'],
      handlers: require('ssh2/lib/protocol/handlers.js') as Ssh2Modules['handlers'],
      Protocol: require('ssh2/lib/protocol/Protocol.js') as Ssh2Modules['Protocol'],
      crypto: require('ssh2/lib/protocol/crypto.js') as Ssh2Modules['crypto'],
    };
  } catch (error) {
    throw unexpectedSsh2('?', error);
  }
}

/** Ssh2's state of a connection. */
export function protocolOf(connection: Connection | Client): Protocol {
  return (connection as unknown as InternalConnection)._protocol;
}

/** The TCP connection beneath an SSH connection. */
export function socketOf(connection: Connection): Socket {
  return (connection as unknown as InternalConnection)._sock;
}

/**
 * The state of a channel of a connection, by its local number.
 * @returns `open`: it has its command, so that somebody reads it; undefined when there is no such channel
 */
export function channelOf(
  connection: Connection,
  local: number,
): (ChannelState & { readonly open: boolean }) | undefined {
  const entry = (connection as unknown as InternalConnection)._chanMgr.get(local);
  const state = entry?._channel ?? entry?._chanInfo;
  return state && { incoming: state.incoming, outgoing: state.outgoing, open: entry?._channel !== undefined };
}

/** Ssh2's state of a channel. */
export function internalsOf(channel: ServerChannel): InternalChannel {
  return channel as unknown as InternalChannel;
}

/** The native encryption of what goes out, in place; undefined when ssh2 has to make the packets. */
export function encryptsInPlace({ _cipher: cipher }: Protocol): { encrypt(packet: Buffer): void } | undefined {
  return cipher.constructor.name === NATIVE_GCM && !cipher._dead ? cipher._instance : undefined;
}

/** Whether what is sent to the peer is still in the clear, as before the first key exchange is over. */
export function sendsInClear(connection: Connection): boolean {
  return protocolOf(connection)._cipher.constructor.name === NULL_CIPHER;
}

/** Where the payload of a packet begins: after its length and that of its padding (RFC 4253, 6). */
const PAYLOAD_AT = 5;

/** Sends a message at once, also in the middle of a key exchange, in which only some may be sent (RFC 4253, 7.1). */
export function sendMessage({ _cipher: cipher }: Protocol, message: Uint8Array): void {
  const packet = cipher.allocPacket(message.length);
  packet.set(message, PAYLOAD_AT);
  cipher.encrypt(packet);
}

/** @param cause - what is otherwise than expected */
export function unexpectedSsh2(version: string, cause: unknown): GatewayError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new GatewayError('internal', {
    detail: `ssh2 ${version} is not built as this gateway needs it (${why}); install the gateway's own packages with: npm ci`,
    cause,
  });
}

/** What of a running ssh2 is looked at. */
export interface Ssh2Parts {
  readonly connection: object;
  /** A session whose command is still to come, as the channel manager has it. */
  readonly session: object;
  /** The same session when it has its command. */
  readonly served: object;
  readonly channel: object;
}

const MESSAGES = ['CHANNEL_OPEN', 'CHANNEL_REQUEST', 'GLOBAL_REQUEST', 'CHANNEL_DATA', 'CHANNEL_EXTENDED_DATA'];
const STATE: readonly (readonly [string, string])[] = [
  ['incoming.window', 'number'],
  ['incoming.state', 'string'],
  ['outgoing.id', 'number'],
  ['outgoing.packetSize', 'number'],
  ['outgoing.state', 'string'],
  ['outgoing.window', 'number'],
];
/** Every private member by the object that has it, and its type; those of a key exchange are proved by one, in mlkem-kex.ts. */
export const MEMBERS: Readonly<Record<keyof Ssh2Parts, readonly (readonly [path: string, type: string])[]>> = {
  connection: [
    ['_sock', 'object'],
    ['_chanMgr.get', 'function'],
    ['_protocol._server', 'boolean'],
    ['_protocol._cipher.outSeqno', 'number'],
    ['_protocol._cipher._dead', 'boolean'],
    ['_protocol._cipher.allocPacket', 'function'],
    ['_protocol._cipher.encrypt', 'function'],
    ['_protocol._kex.remoteExtInfoEnabled', 'boolean'],
    ['_protocol._kex.sessionID', 'object'],
    ['_protocol._onHandshakeComplete', 'function'],
    ['_protocol._decipher._onPayload', 'function'],
    ['_protocol._offer.lists.kex.array', 'object'],
    ['_protocol._offer.lists.serverHostKey.array', 'object'],
    ['_protocol._onHeader', 'function'],
    ['_protocol._onPacket', 'function'],
    ['_protocol._parse', 'function'],
    ['_protocol._skipNextInboundPacket', 'boolean'],
    ['_protocol.ping', 'function'],
    ['_protocol.requestSuccess', 'function'],
    ['_protocol.requestFailure', 'function'],
    ['_protocol.channelData', 'function'],
    ['_protocol.channelWindowAdjust', 'function'],
    ['_protocol.channelOpenConfirm', 'function'],
    ...MESSAGES.map((name) => [`_protocol._handlers.${name}`, 'function'] as const),
  ],
  session: STATE.map(([path, type]) => [`_chanInfo.${path}`, type]),
  served: STATE.map(([path, type]) => [`_channel.${path}`, type]),
  channel: [...STATE, ['_waitWindow', 'boolean'], ['_read', 'function'], ['push', 'function']],
};

/**
 * Looks at every private member of what runs.
 * @returns what is not as expected, undefined when all is
 */
export function missingIn(parts: Ssh2Parts, native: boolean): string | undefined {
  for (const [name, members] of Object.entries(MEMBERS) as [keyof Ssh2Parts, (typeof MEMBERS)['channel']][])
    for (const [path, type] of members) {
      const found = typeof at(parts[name], path);
      if (found !== type) return `${path} of a ${name} is of type ${found}, not ${type}`;
    }
  if (!('_kexinit' in (at(parts.connection, '_protocol') as object)))
    return '_protocol._kexinit of a connection is missing';
  if (!('_chunkcb' in parts.channel)) return '_chunkcb of a channel is missing';
  const cipher = at(parts.connection, '_protocol._cipher') as Cipher;
  if (native && (cipher.constructor.name !== NATIVE_GCM || typeof cipher._instance?.encrypt !== 'function'))
    return `the cipher of AES-GCM is ${cipher.constructor.name}, not ${NATIVE_GCM} with its native part`;
  return undefined;
}

function at(from: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>(
      (value, name) => (value === undefined || value === null ? undefined : Reflect.get(value, name)),
      from,
    );
}

let checked: Promise<void> | undefined;

/**
 * Checks once in a process, on a connection in memory, that ssh2 is the one that this gateway was made for.
 * @throws GatewayError `internal` that names what is not
 */
export function checkSsh2(): Promise<void> {
  checked ??= (async () => {
    const { version, crypto } = loadSsh2();
    let missing: string | undefined;
    try {
      missing = await withSsh2Parts((parts) => missingIn(parts, crypto.bindingAvailable));
    } catch (error) {
      throw unexpectedSsh2(version, error);
    }
    if (missing !== undefined) throw unexpectedSsh2(version, missing);
  })();
  return checked;
}

/** How long a connection in memory may take, in ms. */
const CHECK_MS = 30_000;

/** Opens a connection in memory and on it a channel, and has them looked at. */
export async function withSsh2Parts<T>(look: (parts: Ssh2Parts) => T): Promise<T> {
  const cipher = ['aes128-gcm@openssh.com'] as const;
  const kex = ['curve25519-sha256'] as const;
  const [ours, theirs] = connectedPair();
  const client = new ssh2.Client();
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<T>((resolve, reject) => {
      timer = setTimeout(() => {
        reject(new Error('a connection in memory comes to nothing'));
      }, CHECK_MS);
      const served = (connection: Connection): void => {
        connection.on('error', reject);
        connection.on('authentication', (context) => {
          context.accept();
        });
        connection.on('session', (accept) => {
          const session = accept();
          session.on('exec', (acceptExec) => {
            const entry = (connection as unknown as InternalConnection)._chanMgr.get(0) ?? {};
            const session = { ...entry };
            const channel = acceptExec();
            Promise.resolve({ connection, session, served: entry, channel }).then(look).then(resolve, reject);
          });
        });
      };
      const server = new ssh2.Server(
        { hostKeys: [passingHostKey()], algorithms: { cipher: [...cipher], kex: [...kex] } },
        served,
      );
      // Any duplex stream does; the types ask for a socket.
      Reflect.apply(server.injectSocket.bind(server), undefined, [ours]);
      client.on('error', reject);
      client.on('ready', () => {
        client.exec('x', (error) => {
          if (error) reject(error);
        });
      });
      client.connect({ sock: theirs, username: 'x', algorithms: { cipher: [...cipher], kex: [...kex] } });
    });
  } finally {
    clearTimeout(timer);
    client.on('error', () => undefined);
    ours.destroy();
    theirs.destroy();
  }
}

/** Two ends in memory. What is written comes out later, as on a network: ssh2 cannot bear an answer within its own write. */
function connectedPair(): readonly [Duplex, Duplex] {
  const end = (peer: () => Duplex): Duplex =>
    new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, done) => {
        setImmediate(() => {
          peer().push(chunk);
          done();
        });
      },
    });
  const one: Duplex = end(() => other);
  const other: Duplex = end(() => one);
  return [one, other];
}

/**
 * A host key for a check alone, in OpenSSH's format. ssh2 1.17 drops leading zero bytes of the public key that it generates, so that one
 * key in 256 cannot be read again; another one is made then.
 */
export function passingHostKey(): string {
  for (;;) {
    const text = ssh2.utils.generateKeyPairSync('ed25519').private;
    if (!(ssh2.utils.parseKey(text) instanceof Error)) return text;
  }
}
