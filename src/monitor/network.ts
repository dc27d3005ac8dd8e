/** Where an address belongs: an IPv4 address is its own, of IPv6 a client has a whole /64 in which its addresses change. */
import { isIPv6 } from 'node:net';
import { networksOf } from '../core/fair-pool.ts';

/** The address itself, or the /64 of an IPv6 one such as `2001:db8:0:7::/64`; what is no address as it is. */
export function networkOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
  if (!isIPv6(plain)) return plain;
  return (networksOf(plain).at(-1) ?? plain).replace(/(:0)+::/, '::').replace(/^0::/, '::');
}
