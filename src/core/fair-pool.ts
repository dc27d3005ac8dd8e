/**
 * A crowd of which some must go when it grows too large: those of whoever holds most, by address and by network.
 *
 * A few are drawn at random and the worst of them goes. Whoever holds much is drawn often, whoever holds one connection among a thousand
 * hardly ever, and neither the size of the crowd nor the rate at which it is filled costs more than the draw. Pure but for `random`.
 */

/** One of the crowd. */
export interface Held {
  /** The networks that it is counted by, the widest first and its own address last. */
  readonly networks: readonly string[];
  /** Since when it is in, in ms. */
  readonly since: number;
}

/** The crowd. */
export interface FairPool<T extends Held> {
  readonly size: number;
  add(one: T): void;
  remove(one: T): void;
  /**
   * Who should go first, of those that came before a moment in ms: of the widest network that holds most, and so on down to the address,
   * and of one address rather an older one. Undefined when there is none, or none was drawn.
   */
  worst(before?: number): T | undefined;
}

/** How many are drawn. Among equals the youngest of the drawn never goes, so that who has just come is safe while there are older ones. */
const DRAWN = 8;

/** @param random - from 0 up to 1, as Math.random */
export function createFairPool<T extends Held>(random: () => number = Math.random): FairPool<T> {
  const all: T[] = [];
  const places = new Map<T, number>();
  const counts = new Map<string, number>();

  const count = (networks: readonly string[], change: number): void => {
    for (const network of networks) {
      const next = (counts.get(network) ?? 0) + change;
      if (next === 0) counts.delete(network);
      else counts.set(network, next);
    }
  };
  /** Whether `a` should go rather than `b`. */
  const worse = (a: T, b: T): boolean => {
    for (let level = 0; level < Math.max(a.networks.length, b.networks.length); level++) {
      const [mine, other] = [a, b].map(({ networks }) => counts.get(networks[level] ?? networks.at(-1) ?? '') ?? 0);
      if (mine !== other) return (mine ?? 0) > (other ?? 0);
    }
    return a.since < b.since;
  };

  return {
    get size() {
      return all.length;
    },
    add: (one) => {
      if (places.has(one)) return;
      places.set(one, all.length);
      all.push(one);
      count(one.networks, 1);
    },
    remove: (one) => {
      const place = places.get(one);
      if (place === undefined) return;
      places.delete(one);
      count(one.networks, -1);
      const last = all.pop();
      if (last === undefined || last === one) return;
      all[place] = last;
      places.set(last, place);
    },
    worst: (before = Infinity) => {
      let found: T | undefined;
      const few = all.length <= DRAWN;
      for (let draw = 0; draw < Math.min(DRAWN, all.length); draw++) {
        const one = all[few ? draw : Math.floor(random() * all.length)];
        if (one !== undefined && one.since < before && (found === undefined || worse(one, found))) found = one;
      }
      return found;
    },
  };
}

/**
 * The networks that an address is counted by: an IPv4 address and its /24; of IPv6 the /64 that a host has to itself, the /56 of a home
 * and the /48 of a site (RFC 6177, RIPE-690). A scope (`%eth0`) counts for nothing.
 */
export function networksOf(address: string): readonly string[] {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '');
  if (!plain.includes(':')) return [plain.replace(/\.\d+$/, '.0/24'), plain];
  const [head = '', tail] = plain.split('%', 1)[0]?.split('::') ?? [];
  const groups = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  if (tail !== undefined) while (groups.length + after.length < 8) groups.push('0');
  const [a, b, c, d] = [...groups, ...after].map((group) => Number.parseInt(group, 16) & 0xffff);
  const hex = (...parts: readonly (number | undefined)[]): string =>
    parts.map((part) => (part ?? 0).toString(16)).join(':');
  return [`${hex(a, b, c)}::/48`, `${hex(a, b, c, (d ?? 0) & 0xff00)}::/56`, `${hex(a, b, c, d)}::/64`];
}
