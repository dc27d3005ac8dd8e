/** Ranges of addresses, and who is in one. */
import { BlockList, isIP, isIPv6 } from 'node:net';
import { parseAddressRange } from './values.ts';

/** @param ranges - as `parseAddressRange` gives them */
export function isWithin(address: string, ranges: readonly string[]): boolean {
  return rangesOf(ranges)(address);
}

/** Who is in any of these ranges, for whom it is asked often. @param ranges - as `parseAddressRange` gives them */
export function rangesOf(ranges: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const range of ranges) {
    const [network = '', bits] = range.split('/');
    const family = isIPv6(network) ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(network, family);
    else list.addSubnet(network, Number(bits), family);
  }
  return (address) => {
    // An IPv4 peer of a dual-stack listener comes as ::ffff:a.b.c.d.
    const plain = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
    return isIP(plain) !== 0 && list.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4');
  };
}

/** The ranges of a list with commas, as SSH has it. @returns undefined when one of them is none */
export function readRanges(text: string): readonly string[] | undefined {
  try {
    return text.split(',').map(parseAddressRange);
  } catch {
    return undefined;
  }
}
