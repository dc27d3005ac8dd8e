/**
 * What no entry of the config can break by itself: one key is one client, and one repository is one client's unless it is shared.
 */
import type { AuthorityKey } from './authority-key.ts';
import { didYouMean, quote } from './problems.ts';
import type { Claim, PathProblem } from './check.ts';
import { placeOf } from './repositories.ts';
import type { AuditCopyConfig, StoreConfig } from './types.ts';

/**
 * Compares all clients with one another.
 * @param stores - every store that is named; undefined for one that has something wrong of its own
 * @param copy - where the audit is copied to, which must be no client's
 * @param authorities - the keys of CAs
 */
export function crossCheck(
  claims: readonly Claim[],
  stores: ReadonlyMap<string, StoreConfig | undefined>,
  copy: AuditCopyConfig | undefined,
  authorities: readonly AuthorityKey[],
): readonly PathProblem[] {
  return [
    ...sharedKeys(claims),
    ...sharedPrincipals(claims),
    ...keysOfAuthorities(claims, authorities),
    ...sharedIds(claims),
    ...unknownStores(claims, stores),
    ...overlaps(claims, stores),
    ...(copy === undefined ? [] : checkCopy(copy, claims, stores)),
  ];
}

function checkCopy(
  { store, prefix }: AuditCopyConfig,
  claims: readonly Claim[],
  stores: ReadonlyMap<string, StoreConfig | undefined>,
): PathProblem[] {
  const problem = (key: string, message: string): PathProblem[] => [
    { path: ['audit', 'copy', key], part: 'value', message },
  ];
  if (!stores.has(store)) return problem('store', `there is no such store${didYouMean(store, stores.keys())}`);
  const target = stores.get(store);
  if (target === undefined) return [];
  if (target.type !== 's3') return problem('store', 'must be a store of type s3');
  const place = [...placeOf(target), ...prefix.split('/')].join('/');
  const other = claims.find(({ repository }) => {
    const theirs = repository && stores.get(repository.store);
    if (repository === undefined || theirs === undefined) return false;
    const parts = [...placeOf(theirs), ...repository.prefix.split('/').filter((part) => part !== '')].join('/');
    return `${place}/`.startsWith(`${parts}/`) || `${parts}/`.startsWith(`${place}/`);
  });
  return other === undefined
    ? []
    : problem(
        'prefix',
        `is in the way of the repository of client ${quote(other.client)}; give the copy a place of its own`,
      );
}

function sharedKeys(claims: readonly Claim[]): PathProblem[] {
  const named = claims.map(({ client, keys }) => ({
    client,
    items: keys.map(({ index, key: { blob } }) => ({ index, item: blob })),
  }));
  return sharedItems(named, 'keys', 'key');
}

function sharedPrincipals(claims: readonly Claim[]): PathProblem[] {
  const named = claims.map(({ client, principals }) => ({
    client,
    items: principals.map(({ index, principal }) => ({ index, item: principal })),
  }));
  return sharedItems(named, 'principals', 'principal');
}

/** Whatever tells who a client is must be one client's alone. */
function sharedItems(
  named: readonly {
    readonly client: string;
    readonly items: readonly { readonly index: number; readonly item: string }[];
  }[],
  under: 'keys' | 'principals',
  word: string,
): PathProblem[] {
  const owners = new Map<string, string>();
  return named.flatMap(({ client, items }) =>
    items.flatMap(({ index, item }) => {
      const owner = owners.get(item) ?? client;
      owners.set(item, owner);
      if (owner === client) return [];
      return {
        path: ['clients', client, under, index],
        part: 'value' as const,
        message: `this is also a ${word} of client ${quote(owner)}; a ${word} tells who a client is, so each client needs its own`,
        other: { path: ['clients', owner] },
      };
    }),
  );
}

function keysOfAuthorities(claims: readonly Claim[], authorities: readonly AuthorityKey[]): PathProblem[] {
  const blobs = new Set(authorities.map(({ blob }) => blob));
  return claims.flatMap(({ client, keys }) =>
    keys.flatMap(({ index, key: { blob } }) =>
      blobs.has(blob)
        ? {
            path: ['clients', client, 'keys', index],
            part: 'value' as const,
            message: 'this is also one of trustedUserCAKeys; the key of a CA signs certificates, and is no client',
          }
        : [],
    ),
  );
}

function sharedIds(claims: readonly Claim[]): PathProblem[] {
  const owners = new Map<string, string>();
  const problems: PathProblem[] = [];
  // Names first: of two, the id that was written is the one to be changed.
  for (const written of [false, true])
    for (const { client, id } of claims) {
      if (id === undefined || (id !== client) !== written) continue;
      const owner = owners.get(id);
      if (owner === undefined) owners.set(id, client);
      else
        problems.push({
          path: ['clients', client, 'id'],
          part: 'value',
          message: `is also the id of client ${quote(owner)}, and a history is one client's; give one of them another, such as id: ${client}-2`,
          other: { path: ['clients', owner] },
        });
    }
  return problems;
}

function unknownStores(claims: readonly Claim[], stores: ReadonlyMap<string, unknown>): PathProblem[] {
  return claims.flatMap(({ client, repository }) => {
    if (repository === undefined || stores.has(repository.store)) return [];
    return {
      path: ['clients', client, 'repository', 'store'],
      part: 'value' as const,
      message: `there is no such store${didYouMean(repository.store, stores.keys())}`,
    };
  });
}

/** What lies at one place: the first client that has it, and the first that does not share it. */
interface Occupants {
  readonly first: Claim;
  unshared: Claim | undefined;
}

function overlaps(claims: readonly Claim[], stores: ReadonlyMap<string, StoreConfig | undefined>): PathProblem[] {
  const placeOfStore = new Map([...stores].map(([name, store]) => [name, store && placeOf(store)]));
  const placed = claims.flatMap((claim) => {
    const place = claim.repository && placeOfStore.get(claim.repository.store);
    if (claim.repository === undefined || place === undefined) return [];
    return { claim, place: [...place, ...claim.repository.prefix.split('/').filter((part) => part !== '')] };
  });

  const occupants = new Map<string, Occupants>();
  const enemyAt = (place: readonly string[], { shared }: Claim): Claim | undefined => {
    const there = occupants.get(place.join('/'));
    return shared ? there?.unshared : there?.first;
  };
  const problems: PathProblem[] = [];
  const report = ({ client }: Claim, relation: string, other: Claim): void => {
    problems.push({
      path: ['clients', client, 'repository'],
      part: 'value',
      message: `${relation} the repository of client ${quote(other.client)}; give it a place of its own, or write "shared: true" in both clients`,
      other: { path: ['clients', other.client] },
    });
  };

  const clashing = new Set<Claim>();
  for (const { claim, place } of placed) {
    const enemy = enemyAt(place, claim);
    if (enemy) {
      clashing.add(claim);
      report(claim, 'is also', enemy);
    }
    const key = place.join('/');
    const there = occupants.get(key);
    if (there === undefined) occupants.set(key, { first: claim, unshared: claim.shared ? undefined : claim });
    else if (!claim.shared) there.unshared ??= claim;
  }
  // Now that every place is known: what lies inside of another one's, nearest first.
  for (const { claim, place } of placed) {
    if (clashing.has(claim)) continue;
    for (let length = place.length - 1; length > 0; length--) {
      const enemy = enemyAt(place.slice(0, length), claim);
      if (enemy === undefined) continue;
      report(claim, 'lies inside', enemy);
      break;
    }
  }
  return problems;
}
