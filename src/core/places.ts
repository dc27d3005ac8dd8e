/**
 * How many sessions each client has open, so that no more are opened than it may have.
 */

/** Counts places. Whoever serves in several processes has one that asks the process that counts. */
export interface Places {
  /**
   * Takes a place for a client unless `most` are taken; two that ask at once cannot both get the last one.
   * @returns how many were taken before: a place was taken if, and only if, these are less than `most`
   */
  take(client: string, most: number): number | Promise<number>;
  /** Gives a place back that was taken. */
  leave(client: string): void;
}

/** Places that are counted here. */
interface CountedPlaces extends Places {
  take(client: string, most: number): number;
  /** The places that are taken, of all clients. */
  total(): number;
}

/** Counts from nothing. */
export function countPlaces(): CountedPlaces {
  const taken = new Map<string, number>();
  let total = 0;
  return {
    take: (client, most) => {
      const before = taken.get(client) ?? 0;
      if (before >= most) return before;
      taken.set(client, before + 1);
      total++;
      return before;
    },
    leave: (client) => {
      const left = (taken.get(client) ?? 0) - 1;
      if (left < 0) return;
      // Clients come and go with the config; those without a session leave nothing behind.
      if (left === 0) taken.delete(client);
      else taken.set(client, left);
      total--;
    },
    total: () => total,
  };
}
