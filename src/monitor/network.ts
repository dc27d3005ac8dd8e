/** Where an address belongs: an IPv4 address is its own, of IPv6 a client has a whole /64 in which its addresses change. */
import { isIPv6 } from 'node:net';

/** The address itself, or the /64 of an IPv6 one such as `2001:db8:0:7::/64`; what is no address as it is. */
export function networkOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
  if (!isIPv6(plain)) return plain;
  // The WHATWG URL parser writes an embedded IPv4 part in hex.
  const [head = '', tail] = new URL(`http://[${plain}]/`).hostname.slice(1, -1).split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const [before, after] = [groups(head), groups(tail ?? '')];
  const zeros = Array.from({ length: tail === undefined ? 0 : 8 - before.length - after.length }, () => '0');
  const whole = [...before, ...zeros, ...after].slice(0, 4);
  return `${whole.join(':')}::/64`.replace(/(:0)+::/, '::').replace(/^0::/, '::');
}
