/**
 * The header with which a balancer says whose connection it hands on: PROXY protocol, versions 1 and 2, for TCP.
 *
 * Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt (2.1 the text, 2.2 the binary form, 2.2.3 the checksum).
 */
import { isIPv4, isIPv6, SocketAddress } from 'node:net';

/** Whose connection it is. */
export interface Origin {
  /** As the header has it, IPv4 in IPv6 as IPv4; undefined: the header names no address, and the balancer's own holds. */
  readonly client: { readonly address: string; readonly port: number } | undefined;
  /** Whether the balancer speaks for itself, as its health checks do. */
  readonly isOwn: boolean;
  /** Bytes of the header. */
  readonly length: number;
}

/** What has come so far. */
export type ProxyHeader = 'unfinished' | { readonly wrong: string } | Origin;

/** Version 1: with the end of its line, in bytes. */
const LONGEST_LINE = 107;
/** Version 2: what may follow its fixed part, in bytes. Addresses take 216 at most, and a name and an id that balancers add some 400. */
const LONGEST_BLOCK = 1024;
const FIXED = 16;
const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const LINE_START = Buffer.from('PROXY ');

const IPV4 = { size: 12, text: (bytes: Buffer) => bytes.join('.') };
const IPV6 = { size: 36, text: (bytes: Buffer) => (bytes.toString('hex').match(/.{4}/g) ?? []).join(':') };
const UNIX_SIZE = 216;
const CHECKSUM = 0x03;

/** Whether these first bytes are a header's, as far as they go. */
export function beginsHeader(bytes: Buffer): boolean {
  return [SIGNATURE, LINE_START].some((start) => {
    const most = Math.min(start.length, bytes.length);
    return bytes.subarray(0, most).equals(start.subarray(0, most));
  });
}

/** Reads a header from the first bytes of a connection; more than its `length` are not its own. */
export function readProxyHeader(bytes: Buffer): ProxyHeader {
  if (!beginsHeader(bytes)) return { wrong: 'it does not begin as one' };
  if (bytes[0] === LINE_START[0]) return readLine(bytes);
  return bytes.length < FIXED ? 'unfinished' : readBinary(bytes);
}

function readLine(bytes: Buffer): ProxyHeader {
  const start = bytes.subarray(0, LONGEST_LINE).toString('latin1');
  const end = start.indexOf('\n');
  if (end < 0) return bytes.length < LONGEST_LINE ? 'unfinished' : { wrong: 'its line is longer than 107 bytes' };
  const length = end + 1;
  const line = start.slice(0, length);
  if (/^PROXY UNKNOWN(?: [^\r\n]*)?\r\n$/.test(line)) return { client: undefined, isOwn: true, length };
  const [, family, from = '', to = '', fromPort = '', toPort = ''] =
    /^PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (\d{1,5}) (\d{1,5})\r\n$/.exec(line) ?? [];
  const isAddress = family === '4' ? isIPv4 : isIPv6;
  if (family === undefined || !isAddress(from) || !isAddress(to) || !isPort(fromPort) || !isPort(toPort))
    return { wrong: 'its line is not "PROXY TCP4 FROM TO PORT PORT", nor TCP6 or UNKNOWN' };
  return { client: { address: canonical(from), port: Number(fromPort) }, isOwn: false, length };
}

function isPort(text: string): boolean {
  return /^(?:0|[1-9]\d*)$/.test(text) && Number(text) <= 65_535;
}

function readBinary(bytes: Buffer): ProxyHeader {
  const [versionAndCommand = 0, familyAndTransport = 0] = bytes.subarray(SIGNATURE.length);
  const block = bytes.readUInt16BE(14);
  if (versionAndCommand >> 4 !== 2) return { wrong: `its version is ${versionAndCommand >> 4}` };
  const command = versionAndCommand & 0xf;
  if (command > 1) return { wrong: `its command is ${command}` };
  if (block > LONGEST_BLOCK) return { wrong: `${block} bytes follow, and at most ${LONGEST_BLOCK} may` };
  const length = FIXED + block;
  if (bytes.length < length) return 'unfinished';
  // LOCAL: whatever follows is not to be looked at.
  if (command === 0) return { client: undefined, isOwn: true, length };

  const [family, transport] = [familyAndTransport >> 4, familyAndTransport & 0xf];
  if (family > 3 || transport > 2) return { wrong: `its address is of kind ${familyAndTransport}` };
  if (transport === 2) return { wrong: 'it is of datagrams' };
  // Half of a kind is none.
  if ((family === 0) !== (transport === 0)) return { wrong: `its address is of kind ${familyAndTransport}` };
  const form = [undefined, IPV4, IPV6][family];
  const size = form?.size ?? (family === 3 ? UNIX_SIZE : 0);
  if (block < size) return { wrong: `its address takes ${size} bytes, and ${block} follow` };
  const wrong = wrongInExtras(bytes.subarray(0, length), FIXED + size);
  if (wrong !== undefined) return { wrong };
  if (form === undefined) return { client: undefined, isOwn: family === 0, length };
  const width = (size - 4) / 2;
  const address = canonical(form.text(bytes.subarray(FIXED, FIXED + width)));
  return { client: { address, port: bytes.readUInt16BE(FIXED + 2 * width) }, isOwn: false, length };
}

/** What is wrong with what follows the addresses: type, length, value, one after the other. Only the checksum is looked at. */
function wrongInExtras(header: Buffer, from: number): string | undefined {
  let checked = false;
  for (let at = from; at < header.length;) {
    if (header.length - at < 3) return 'what follows its addresses is cut off';
    const [type, size] = [header[at], header.readUInt16BE(at + 1)];
    const value = at + 3;
    at = value + size;
    if (at > header.length) return 'what follows its addresses is cut off';
    if (type !== CHECKSUM) continue;
    if (checked || size !== 4) return 'its checksum is not one of 4 bytes';
    checked = true;
    const whole = Buffer.from(header);
    whole.fill(0, value, value + 4);
    if (crc32c(whole) !== header.readUInt32BE(value)) return 'its checksum is wrong';
  }
  return undefined;
}

/** CRC-32C (Castagnoli; RFC 4960, appendix B), bit by bit: a header is short. */
export function crc32c(bytes: Uint8Array): number {
  let rest = 0xffffffff;
  for (const byte of bytes) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ (rest & 1 ? 0x82f63b78 : 0);
  }
  return (rest ^ 0xffffffff) >>> 0;
}

/** As Node writes the address of a peer, but for IPv4 in IPv6, which becomes IPv4. */
function canonical(address: string): string {
  if (isIPv4(address)) return address;
  return new SocketAddress({ address, family: 'ipv6' }).address.replace(/^::ffff:(?=\d+\.)/i, '');
}
