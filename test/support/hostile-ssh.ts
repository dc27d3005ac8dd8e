/** An SSH client that keeps to no rule: ssh2's own, with messages of any making in its encrypted stream. */
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import type { Client } from 'ssh2';

interface Internals {
  readonly _sock: Socket;
  readonly _protocol: {
    readonly _authsQueue: string[];
    parse: (bytes: Uint8Array) => void;
    rekey(): void;
    readonly _packetRW: {
      readonly write: {
        readonly allocStart: number;
        readonly allocStartKEX: number;
        alloc(size: number, force: boolean): Uint8Array;
        finalize(packet: Uint8Array, force: boolean): Uint8Array;
      };
    };
    readonly _cipher: { encrypt(packet: Uint8Array): void };
    readonly _handlers: Record<string, ((...message: unknown[]) => unknown) | undefined>;
  };
}

const { sendPacket } = createRequire(import.meta.url)('ssh2/lib/protocol/utils.js') as {
  readonly sendPacket: (protocol: unknown, packet: Uint8Array, bypass?: boolean) => void;
};

/** Sends one message, whatever it is, as a packet. @param bypass - also in the middle of a key exchange */
export function sendMessage(client: Client, message: Uint8Array, bypass = false): void {
  const { _protocol: protocol } = client as unknown as Internals;
  const writer = protocol._packetRW.write;
  // In the middle of a key exchange ssh2 makes only a message, to be put into a packet later; encrypted as one, that ends this process.
  const at = bypass ? writer.allocStartKEX : writer.allocStart;
  const packet = writer.alloc(message.length, bypass);
  packet.set(message, at);
  sendPacket(protocol, writer.finalize(packet, bypass), bypass);
}

/** The TCP socket of a client. */
export function tcpOf(client: Client): Socket {
  return (client as unknown as Internals)._sock;
}

/** Has the client take that many answers to offers of keys that it did not send itself. */
export function awaitKeyAnswers(client: Client, count: number): void {
  (client as unknown as Internals)._protocol._authsQueue.unshift(...Array<string>(count).fill('publickey'));
}

/** Begins a key exchange, unless one is under way. */
export function rekey(client: Client): void {
  (client as unknown as Internals)._protocol.rekey();
}

/** Reads and drops all that the server sends from now on. */
export function deafen(client: Client): void {
  (client as unknown as Internals)._protocol.parse = () => undefined;
}

/** Calls `seen` for every message of a kind that the server sends, before the client acts on it. */
export function overhear(client: Client, kind: string, seen: (...message: unknown[]) => void): void {
  const handlers = (client as unknown as Internals)._protocol._handlers;
  const handler = handlers[kind];
  handlers[kind] = (protocol, ...message) => {
    seen(...message);
    // What the client did not ask for, it may have no use for.
    try {
      return handler?.(protocol, ...message);
    } catch {
      return undefined;
    }
  };
}

/** Drops every message of a kind that the server sends. */
export function ignore(client: Client, kind: string): void {
  (client as unknown as Internals)._protocol._handlers[kind] = () => undefined;
}

/** A message from its parts: a number is a byte, an array of one number a uint32, a text or bytes a string (RFC 4251, 5). */
export function message(...parts: readonly (number | readonly [number] | string | Uint8Array | boolean)[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'number') return Buffer.of(part);
      if (typeof part === 'boolean') return Buffer.of(part ? 1 : 0);
      if (typeof part === 'string' || part instanceof Uint8Array) {
        const bytes = Buffer.from(part as string);
        return Buffer.concat([uint32(bytes.length), bytes]);
      }
      return uint32(part[0]);
    }),
  );
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
