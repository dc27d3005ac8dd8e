/** PROXY headers as a balancer makes them, and as nobody should. */

/** The first twelve bytes of version 2. */
export const V2_SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

/** A header of version 2. @param command - with the version, 0x21 and 0x20 @param kind - family and transport, 0x11 for IPv4 */
export function proxyV2(command: number, kind: number, block: Buffer): Buffer {
  const fixed = Buffer.from([command, kind, block.length >> 8, block.length & 0xff]);
  return Buffer.concat([V2_SIGNATURE, fixed, block]);
}

/** What may follow the addresses. */
export function extra(type: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 0xff]), value]);
}

/** The text form, of a client at this IPv4 address. */
export function proxyV1(address: string, port = 40_000): Buffer {
  return Buffer.from(`PROXY TCP4 ${address} 192.0.2.1 ${port} 22\r\n`);
}
