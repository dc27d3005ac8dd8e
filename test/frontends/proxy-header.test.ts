/** PROXY headers by themselves: what is one, how long it is, and whom it names. */
import { isIP } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import { beginsHeader, crc32c, readProxyHeader, type ProxyHeader } from '../../src/frontends/proxy-header.ts';
import { extra, proxyV2, V2_SIGNATURE } from '../support/proxy-headers.ts';
import { fuzz } from '../support/fuzz.ts';

const line = (text: string): Buffer => Buffer.from(text, 'latin1');
const v4 = Buffer.from([192, 0, 2, 7, 198, 51, 100, 1, 0xdd, 0xd5, 0, 22]);
const v6 = Buffer.concat([
  Buffer.from('20010db8000000000000000000000007', 'hex'),
  Buffer.from('20010db8000000000000000000000001', 'hex'),
  Buffer.from([0xdd, 0xd5, 0, 22]),
]);
const mapped = Buffer.concat([Buffer.from('00000000000000000000ffffc0000207', 'hex'), v6.subarray(16)]);
const named = (address: string, port: number) => ({ client: { address, port }, isOwn: false });
const own = { client: undefined, isOwn: true };
const unnamed = { client: undefined, isOwn: false };

/** With its own right checksum. */
function checked(block: Buffer): Buffer {
  const header = proxyV2(0x21, 0x11, Buffer.concat([block, extra(3, Buffer.alloc(4))]));
  header.writeUInt32BE(crc32c(header), header.length - 4);
  return header;
}

const GOOD: readonly (readonly [string, Buffer, object])[] = [
  ['a line of IPv4', line('PROXY TCP4 192.0.2.7 198.51.100.1 56789 22\r\n'), named('192.0.2.7', 56789)],
  ['a line of IPv6', line('PROXY TCP6 2001:DB8:0::7 2001:db8::1 56789 22\r\n'), named('2001:db8::7', 56789)],
  ['a line of IPv4 in IPv6', line('PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n'), named('192.0.2.7', 1)],
  ['a line of nobody', line('PROXY UNKNOWN\r\n'), own],
  ['a line of nobody with words', line(`PROXY UNKNOWN ${'f'.repeat(91)}\r\n`), own],
  [
    'the longest line',
    line(`PROXY TCP6 ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`),
    named('ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 65535),
  ],
  ['IPv4', proxyV2(0x21, 0x11, v4), named('192.0.2.7', 56789)],
  ['IPv6', proxyV2(0x21, 0x21, v6), named('2001:db8::7', 56789)],
  ['IPv4 in IPv6', proxyV2(0x21, 0x21, mapped), named('192.0.2.7', 56789)],
  [
    'IPv4 and extras',
    proxyV2(0x21, 0x11, Buffer.concat([v4, extra(2, line('name')), extra(4, Buffer.alloc(500))])),
    named('192.0.2.7', 56789),
  ],
  ['IPv4 with a checksum', checked(v4), named('192.0.2.7', 56789)],
  ['a UNIX socket', proxyV2(0x21, 0x31, Buffer.alloc(216)), unnamed],
  ['nobody', proxyV2(0x21, 0x00, Buffer.alloc(0)), own],
  ['a balancer of its own', proxyV2(0x20, 0x00, Buffer.alloc(0)), own],
  ['a balancer of its own, with what is not looked at', proxyV2(0x20, 0xff, Buffer.from('anything')), own],
];

describe('a header is read whole, in single bytes, and with what follows it', () => {
  test.each(GOOD)('%s', (_what, header, origin) => {
    const whole = { ...origin, length: header.length };
    for (let end = 0; end < header.length; end++) expect(readProxyHeader(header.subarray(0, end))).toBe('unfinished');
    expect(readProxyHeader(header)).toEqual(whole);
    for (const next of ['SSH-2.0-x\r\n', 'PROXY UNKNOWN\r\n'])
      expect(readProxyHeader(Buffer.concat([header, line(next)]))).toEqual(whole);
  });
});

describe('what is wrong is said, and never waited for', () => {
  const wrongSum = checked(v4);
  wrongSum[16] = 10;
  test.each([
    ['SSH', line('SSH-2.0-x\r\n')],
    ['another word', line('PROXX ')],
    ['another signature', Buffer.from(V2_SIGNATURE).fill(1, 11)],
    ['no address', line('PROXY TCP4\r\n')],
    ['IPv6 as IPv4', line('PROXY TCP4 ::1 ::1 1 2\r\n')],
    ['IPv4 as IPv6', line('PROXY TCP6 192.0.2.7 192.0.2.7 1 2\r\n')],
    ['a name', line('PROXY TCP4 localhost localhost 1 2\r\n')],
    ['a number too large', line('PROXY TCP4 256.0.0.1 192.0.2.1 1 2\r\n')],
    ['a scope', line('PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n')],
    ['a port too large', line('PROXY TCP4 192.0.2.7 192.0.2.7 65536 2\r\n')],
    ['a port with zeros', line('PROXY TCP4 192.0.2.7 192.0.2.7 01 2\r\n')],
    ['two spaces', line('PROXY TCP4  192.0.2.7 192.0.2.7 1 2\r\n')],
    ['words after it', line('PROXY TCP4 192.0.2.7 192.0.2.7 1 2 3\r\n')],
    ['datagrams', line('PROXY UDP4 192.0.2.7 192.0.2.7 1 2\r\n')],
    ['no carriage return', line('PROXY UNKNOWN\n')],
    ['a line break within', line('PROXY UNKNOWN \r \r\n')],
    ['a line without an end', line(`PROXY UNKNOWN ${'f'.repeat(93)}`)],
    ['version 1 in binary', proxyV2(0x11, 0x11, v4)],
    ['version 3', proxyV2(0x31, 0x11, v4)],
    ['an unknown command', proxyV2(0x22, 0x11, v4)],
    ['an unknown family', proxyV2(0x21, 0x41, v4)],
    ['an unknown transport', proxyV2(0x21, 0x13, v4)],
    ['a family without a transport', proxyV2(0x21, 0x10, v4)],
    ['datagrams in binary', proxyV2(0x21, 0x12, v4)],
    ['half an address', proxyV2(0x21, 0x11, v4.subarray(0, 11))],
    ['IPv4 as IPv6 in binary', proxyV2(0x21, 0x21, v4)],
    ['an extra that is cut off', proxyV2(0x21, 0x11, Buffer.concat([v4, Buffer.from([4, 0, 9, 1])]))],
    ['two bytes of an extra', proxyV2(0x21, 0x11, Buffer.concat([v4, Buffer.from([4, 0])]))],
    ['a wrong checksum', wrongSum],
    ['a short checksum', proxyV2(0x21, 0x11, Buffer.concat([v4, extra(3, Buffer.alloc(3))]))],
    ['a block too long', proxyV2(0x21, 0x11, Buffer.alloc(1025)).subarray(0, 16)],
  ])('%s', (_what, bytes) => {
    expect(readProxyHeader(bytes)).toEqual({ wrong: expect.any(String) });
  });
});

test('CRC-32C is the one of RFC 3720, B.4', () => {
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(line('123456789'))).toBe(0xe3069283);
});

test('whatever comes, a header is bounded, its address is one, and more bytes never change what it was', async () => {
  await fuzz('PROXY headers', { cases: 4000, lanes: 1 }, (chance) => {
    const bytes = Buffer.concat([chance.of(GOOD)[1], chance.bytes(chance.below(40))]);
    for (let changes = chance.below(4); changes > 0; changes--) bytes[chance.below(bytes.length)] = chance.below(256);
    const whole: ProxyHeader = readProxyHeader(bytes);
    let first: ProxyHeader = 'unfinished';
    for (let end = 1; end <= bytes.length && first === 'unfinished'; end++)
      first = readProxyHeader(bytes.subarray(0, end));
    if (typeof whole === 'object' && 'length' in whole) {
      expect(first).toEqual(whole);
      expect(beginsHeader(bytes)).toBe(true);
      expect(whole.length).toBeLessThanOrEqual(16 + 1024);
      if (whole.client !== undefined) expect(isIP(whole.client.address)).toBeGreaterThan(0);
    } else if (typeof whole === 'object') expect(first).toHaveProperty('wrong');
    return Promise.resolve();
  });
});
