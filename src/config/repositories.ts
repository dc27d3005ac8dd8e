/** Which clients have one and the same repository, whatever their stores are called, and what holds for it by what all of them say. */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, sep } from 'node:path';
import { getOrMake } from '../core/get-or-make.ts';
import type { ClientConfig, GatewayConfig, StoreConfig } from './types.ts';

type Repository = ClientConfig['repository'];

/** What keeps removals back in a repository, in ms: of all its clients the longest. Undefined where none of them has any. */
interface Protection {
  /** How long after its arrival a snapshot cannot be removed. */
  readonly protectMs: number | undefined;
  /** How long what is removed stays in the trash. */
  readonly trashMs: number | undefined;
}

/** Worked out once for each config, as a prune asks for each pack. */
interface Known {
  readonly identities: ReadonlyMap<string, string>;
  readonly protections: ReadonlyMap<string, Protection>;
  /** By identity, in the order of the config. */
  readonly clients: ReadonlyMap<string, readonly ClientConfig[]>;
}
const knownOf = new WeakMap<GatewayConfig, Known>();

/** The identity of a repository on this machine: the same for all names that its store has in the config. */
export function repositoryIdentity(config: GatewayConfig, repository: Repository): string {
  return known(config).identities.get(nameOf(repository)) ?? identityBy(config, repository);
}

/** What holds for a repository, whichever of its clients is asked for. */
export function protectionOf(config: GatewayConfig, repository: Repository): Protection {
  const identity = repositoryIdentity(config, repository);
  return known(config).protections.get(identity) ?? { protectMs: undefined, trashMs: undefined };
}

/** The clients that have a repository. */
export function clientsOf(config: GatewayConfig, repository: Repository): readonly ClientConfig[] {
  return known(config).clients.get(repositoryIdentity(config, repository)) ?? [];
}

/** The name that a repository has for its first client: under which the files in `state` are that are about all of it. */
export function commonName(config: GatewayConfig, repository: Repository): Repository {
  return clientsOf(config, repository)[0]?.repository ?? repository;
}

function known(config: GatewayConfig): Known {
  const before = knownOf.get(config);
  if (before !== undefined) return before;
  const identities = identitiesIn(config);
  const protections = new Map<string, Protection>();
  const clients = new Map<string, ClientConfig[]>();
  for (const client of Object.values(config.clients)) {
    const { repository, protectMs, trashMs } = client;
    const identity = identities.get(nameOf(repository)) ?? '';
    getOrMake(clients, identity, (): ClientConfig[] => []).push(client);
    const others = protections.get(identity);
    protections.set(identity, {
      protectMs: longest(others?.protectMs, protectMs),
      trashMs: longest(others?.trashMs, trashMs),
    });
  }
  const found = { identities, protections, clients };
  knownOf.set(config, found);
  return found;
}

/** Of each client's repository, by its name: that of the first one that is really there. */
function identitiesIn(config: GatewayConfig): ReadonlyMap<string, string> {
  const stores = Object.values(config.stores);
  // One alone has no second name, and need not be looked at.
  const places = new Map(stores.length < 2 ? [] : stores.map((store) => [store.name, placeOf(store).join('/')]));
  const byPlace = new Map<string, string>();
  const identities = new Map<string, string>();
  for (const { repository } of Object.values(config.clients)) {
    const own = identityBy(config, repository);
    const place = places.get(repository.store);
    const at = place === undefined ? own : `${place}/${repository.prefix}`.replace(/\/$/, '');
    const identity = byPlace.get(at) ?? own;
    byPlace.set(at, identity);
    identities.set(nameOf(repository), identity);
  }
  return identities;
}

function nameOf({ store, prefix }: Repository): string {
  return `${store}/${prefix}`;
}

function identityBy(config: GatewayConfig, { store: name, prefix }: Repository): string {
  const store = config.stores[name];
  if (store?.type === 's3') return JSON.stringify([store.endpoint ?? store.region, store.bucket, prefix]);
  return JSON.stringify([store?.path, prefix]);
}

function longest(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Math.max(one, other);
}

/** Where a store really is, from the outermost part inwards; two stores with the same place are the same storage. */
export function placeOf(store: StoreConfig): readonly string[] {
  switch (store.type) {
    case 's3':
      return ['s3', hostOf(store.endpoint), store.bucket];
    case 'directory':
      return [
        'directory',
        ...realPath(store.path)
          .split(sep)
          .filter((part) => part !== ''),
      ];
  }
}

// Scheme and default port do not make another server, and all of AWS has one name space of buckets.
function hostOf(endpoint: string | undefined): string {
  if (endpoint === undefined) return 'aws';
  const { host, hostname } = new URL(endpoint);
  return /\.amazonaws\.com(?:\.cn)?$/.test(hostname) ? 'aws' : host;
}

// A directory that is not there yet is where its nearest ancestor that exists really is.
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(realPath(parent), basename(path));
  }
}
