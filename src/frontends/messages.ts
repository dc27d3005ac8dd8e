/**
 * Messages of SSH, and the parts that they are made of.
 *
 * Source: RFC 4251, 5 (types of data); RFC 4253, 11.1 (DISCONNECT); RFC 4254, 4 (GLOBAL_REQUEST); RFC 8308, 2.3 (EXT_INFO).
 */

const SSH_MSG_DISCONNECT = 1;
const SSH_MSG_EXT_INFO = 7;
const SSH_MSG_GLOBAL_REQUEST = 80;

/** Why a connection ends: RFC 4253, 11.1. OpenSSH's server ends one with too many wrong keys by the first. */
export const DISCONNECT = { protocolError: 2, byApplication: 11, tooManyConnections: 12 } as const;

/** A `uint32`. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A `string`: its length, and its bytes. */
export function string(value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

/** The end of a connection. @param reason - of `DISCONNECT`. @param text - what the peer's user reads */
export function disconnectMessage(reason: number, text: string): Buffer {
  return Buffer.concat([Buffer.of(SSH_MSG_DISCONNECT), uint32(reason), string(text), string('')]);
}

/** The signatures by which a client may log in. */
export function signaturesMessage(algorithms: readonly string[]): Buffer {
  return Buffer.concat([
    ...[Buffer.of(SSH_MSG_EXT_INFO), uint32(1)],
    ...[string('server-sig-algs'), string(algorithms.join(','))],
  ]);
}

/** A request that wants no answer. */
export function globalRequest(name: string, data: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.of(SSH_MSG_GLOBAL_REQUEST), string(name), Buffer.of(0), ...data]);
}
