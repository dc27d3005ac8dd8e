/** What protects a repository from removals, whichever of its clients removes: of several clients the one who says the longest counts. */
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import { repositoryIdentity } from '../limits/counted-repository.ts';

/** In ms; undefined where no client of the repository has any. */
interface Protection {
  readonly protectMs: number | undefined;
  readonly trashMs: number | undefined;
}

/** By the repository, whatever name its store has: worked out once for each config, as a prune asks for each pack. */
const known = new WeakMap<GatewayConfig, ReadonlyMap<string, Protection>>();

/** For how long snapshots are protected in a repository, in ms; undefined where none are. */
export function protectionOf(config: GatewayConfig, repository: ClientConfig['repository']): number | undefined {
  return protectionIn(config, repository)?.protectMs;
}

/** Whether what is removed from a repository goes to its trash. */
export function hasTrash(config: GatewayConfig, repository: ClientConfig['repository']): boolean {
  return protectionIn(config, repository)?.trashMs !== undefined;
}

function protectionIn(config: GatewayConfig, repository: ClientConfig['repository']): Protection | undefined {
  let all = known.get(config);
  if (all === undefined) known.set(config, (all = protections(config)));
  return all.get(repositoryIdentity(config, repository));
}

function protections(config: GatewayConfig): ReadonlyMap<string, Protection> {
  const all = new Map<string, Protection>();
  for (const { repository, protectMs, trashMs } of Object.values(config.clients)) {
    const identity = repositoryIdentity(config, repository);
    const before = all.get(identity);
    all.set(identity, {
      protectMs: longest(before?.protectMs, protectMs),
      trashMs: longest(before?.trashMs, trashMs),
    });
  }
  return all;
}

function longest(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Math.max(one, other);
}
