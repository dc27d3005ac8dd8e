/** The unencrypted beginning of SSH, byte by byte: for peers that do what no library would. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';

/** Message numbers: RFC 4253, 12; RFC 5656, 7.1. */
export const MESSAGE = { disconnect: 1, ignore: 2, kexinit: 20, newkeys: 21, kexInit: 30, kexReply: 31 } as const;

/** SSH_DISCONNECT_KEY_EXCHANGE_FAILED: RFC 4253, 11.1. */
export const KEY_EXCHANGE_FAILED = 3;

/** The ten name-lists of KEXINIT, in its order (RFC 4253, 7.1). */
const LISTS = [
  'kex',
  'hostKey',
  'cipherToServer',
  'cipherToClient',
  'macToServer',
  'macToClient',
  'compressionToServer',
  'compressionToClient',
  'languageToServer',
  'languageToClient',
] as const;

/** What a side proposes. */
export type Proposal = Readonly<Record<(typeof LISTS)[number], readonly string[]>>;

/** A client that is at the mercy of nobody's checks. */
export interface RawClient {
  /** The server's identification, without its line end. */
  readonly identification: string;
  /** Sends messages, each in a packet, all in one write. */
  send(...messages: readonly Uint8Array[]): void;
  /** The next message; undefined when the server has ended the connection. */
  next(): Promise<Buffer | undefined>;
  close(): void;
}

/** Connects and sends an identification. */
export async function rawClient({ host, port }: { readonly host: string; readonly port: number }): Promise<RawClient> {
  const socket = connect({ host, port, noDelay: true });
  // What a server that hangs up does to one that still writes.
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write('SSH-2.0-raw\r\n');
  const bytes = (async function* () {
    for await (const chunk of socket) yield* chunk as Buffer;
  })();
  const read = async (length: number): Promise<Buffer | undefined> => {
    const buffer = Buffer.alloc(length);
    for (let at = 0; at < length; at++) {
      const { done, value } = await bytes.next().catch(() => ({ done: true as const, value: undefined }));
      if (done === true) return undefined;
      buffer[at] = value;
    }
    return buffer;
  };
  let identification = '';
  while (!identification.endsWith('\n')) identification += (await read(1))?.toString('latin1') ?? '\n';
  return {
    identification: identification.trimEnd(),
    send: (...messages) => {
      socket.write(Buffer.concat(messages.map(packet)));
    },
    next: async () => {
      const head = await read(5);
      if (head === undefined) return undefined;
      const rest = await read(head.readUInt32BE(0) - 1);
      return rest?.subarray(0, rest.length - head.readUInt8(4));
    },
    close: () => {
      socket.destroy();
    },
  };
}

/** A KEXINIT message. @param guessed - that the first packet of the key exchange follows, by guess */
export function kexinit(proposal: Proposal, guessed = false): Buffer {
  return Buffer.concat([
    Buffer.of(MESSAGE.kexinit),
    randomBytes(16),
    ...LISTS.map((name) => string(Buffer.from(proposal[name].join(',')))),
    Buffer.of(guessed ? 1 : 0, 0, 0, 0, 0),
  ]);
}

/** What a KEXINIT message proposes. */
export function parseKexinit(message: Buffer): Proposal {
  let at = 17;
  return Object.fromEntries(
    LISTS.map((name) => {
      const end = at + 4 + message.readUInt32BE(at);
      const list = message.toString('latin1', at + 4, end);
      at = end;
      return [name, list === '' ? [] : list.split(',')];
    }),
  ) as unknown as Proposal;
}

/** SSH_MSG_KEX_ECDH_INIT, with which every method of that family begins. */
export function kexInit(value: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(MESSAGE.kexInit), string(value)]);
}

function string(value: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(value.length);
  return Buffer.concat([length, value]);
}

/** A message as an unencrypted packet. RFC 4253, 6: length, length of the padding, payload, padding to a multiple of 8. */
export function packet(payload: Uint8Array): Buffer {
  const padding = 4 + ((8 - ((payload.length + 9) % 8)) % 8);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(1 + payload.length + padding);
  head.writeUInt8(padding, 4);
  return Buffer.concat([head, payload, randomBytes(padding)]);
}
