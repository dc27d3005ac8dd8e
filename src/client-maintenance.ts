/** The second composition root: from a config to the admin's maintenance of a client's repository, without a session. */
import { openAudit } from './audit/open-audit.ts';
import { noSuch } from './config/problems.ts';
import { commonName, protectionOf, repositoryIdentity } from './config/repositories.ts';
import type { GatewayConfig } from './config/types.ts';
import { GatewayError, messageOf } from './core/errors.ts';
import { foreignPlace } from './core/object.ts';
import { adminOf, type Principal } from './core/principal.ts';
import { timedId } from './core/timed-id.ts';
import type { RemovedBy } from './core/trash.ts';
import type { AuditSink } from './ports/audit-sink.ts';
import type { RepositoryMaintenance } from './ports/repository-maintenance.ts';
import type { CopyStore } from './ports/copy-store.ts';
import { openCopyStore, openMaintenance } from './stores/open-maintenance.ts';
import { scrubState, type ScrubState } from './maintenance/scrub-state.ts';
import { noPurge, type PurgeCounts, type TrashWork } from './maintenance/trash-work.ts';
import type { TrashContents } from './maintenance/trash.ts';
import { trashState, type TrashState } from './maintenance/trash-state.ts';
import type { LockCounts } from './retention/each-object.ts';
import { extendedState, type ExtendedState } from './retention/extended-state.ts';

/** A client's repository, opened for maintenance. */
export interface OpenedMaintenance {
  /** The admin, as the audit has whoever works on it. */
  readonly principal: Principal;
  readonly repository: { readonly store: string; readonly prefix: string };
  readonly maintenance: RepositoryMaintenance;
  readonly scrubs: ScrubState;
  readonly trash: TrashState;
  readonly extended: ExtendedState;
  /** Opens the audit, for work that changes something. @throws GatewayError `audit-unavailable` */
  readonly openAudit: () => Promise<AuditSink>;
}

/** @throws GatewayError `usage` when there is no such client, and what opening the store throws */
export async function openClientMaintenance(config: GatewayConfig, client: string): Promise<OpenedMaintenance> {
  const found = config.clients[client];
  if (found === undefined) throw noSuch('client', client, config.clients, config.file);
  const { repository } = found;
  const store = config.stores[repository.store];
  if (store === undefined)
    throw new GatewayError('invalid-config', { detail: `there is no store ${repository.store}` });
  const common = commonName(config, repository);
  return {
    principal: adminOf(found),
    repository,
    maintenance: await openMaintenance(store, repository.prefix),
    scrubs: scrubState(config.state, common),
    trash: trashState(config.state, common),
    extended: extendedState(config.state, common),
    openAudit: () => openAudit(config),
  };
}

/** How long what is removed is kept where no client of the repository says so any more, in ms. */
const FORTNIGHT_MS = 14 * 24 * 60 * 60 * 1000;

/** How long the trash of a repository keeps what was removed, in ms: of all its clients the longest. */
export function trashMsOf(config: GatewayConfig, repository: OpenedMaintenance['repository']): number {
  return protectionOf(config, repository).trashMs ?? FORTNIGHT_MS;
}

/** One client for each repository of a config. */
export function repositoriesOf(config: GatewayConfig): readonly string[] {
  const byPlace = new Map<string, string>();
  for (const { name, repository } of Object.values(config.clients)) {
    const place = repositoryIdentity(config, repository);
    if (!byPlace.has(place)) byPlace.set(place, name);
  }
  return [...byPlace.values()];
}

/** Does something on a client's trash as its admin, with an audit that is open meanwhile. */
export async function onTrash<T>(
  { principal, maintenance, repository, openAudit }: OpenedMaintenance,
  signal: AbortSignal,
  work: (work: TrashWork) => Promise<T>,
): Promise<T> {
  const audit = await openAudit();
  try {
    const identity = { session: timedId(3), principal, access: 'full', repository } as const;
    return await work({ maintenance, audit, identity, signal });
  } finally {
    await audit.close();
  }
}

/**
 * Purges the trash of a client's repository, and notes what is left.
 * @param options.olderThanMs - by default as long as its clients' `trash` says
 * @param options.watch - gives the repository back as it is used here, so that it is seen how far this is
 * @param options.held - asked only when there is something to purge: whether what clients removed has to wait
 * @throws GatewayError
 */
export async function purgeClientTrash(
  config: GatewayConfig,
  client: string,
  options: {
    readonly olderThanMs?: number | undefined;
    readonly watch?: (maintenance: RepositoryMaintenance) => RepositoryMaintenance;
    readonly held: () => Promise<boolean>;
    readonly gently: boolean;
    readonly signal: AbortSignal;
  },
): Promise<PurgeCounts & { readonly left: TrashContents }> {
  const { purgeTrash, readTrash } = await import('./maintenance/trash.ts');
  const { maintenance, ...rest } = await openClientMaintenance(config, client);
  const opened = { ...rest, maintenance: options.watch?.(maintenance) ?? maintenance };
  const { signal, gently } = options;
  try {
    const keptMs = trashMsOf(config, opened.repository);
    const before = new Date(Date.now() - (options.olderThanMs ?? keptMs));
    let contents = await readTrash(opened.maintenance, signal);
    let counts = noPurge();
    if (mayBePurged(contents, before)) {
      const held = await options.held();
      const may = (by: RemovedBy): boolean => by === 'admin' || !held;
      counts = await onTrash(opened, signal, (work) => purgeTrash(work, { before, may, gently }));
      contents = await readTrash(opened.maintenance, signal);
    }
    await opened.trash.write(contents, new Date(), keptMs);
    return { ...counts, left: contents };
  } finally {
    await opened.maintenance.close();
  }
}

function mayBePurged({ sessions, versions }: TrashContents, before: Date): boolean {
  const oldest = typeof versions === 'object' ? versions.oldest : undefined;
  return sessions.some(({ first }) => first < before) || (oldest !== undefined && oldest < before);
}

/** What `serve` renews in a client's repository: what is retained for less than this, in ms. Undefined: nothing. */
export function extensionOf({ clients, stores }: GatewayConfig, client: string): number | undefined {
  const store = stores[clients[client]?.repository.store ?? ''];
  return store?.type === 's3' ? store.objectLock?.extend : undefined;
}

/**
 * Renews the retention of what a client's repository uses, and notes what came of it.
 * @param options.whenUnderMs - what is retained for less than this is renewed
 * @throws GatewayError as `extend`, which is noted, too
 */
export async function extendClientRetention(
  config: GatewayConfig,
  client: string,
  options: {
    readonly whenUnderMs: number;
    /** How many objects are begun a second, at most. */
    readonly perSecond: number;
    readonly signal: AbortSignal;
  },
): Promise<LockCounts> {
  const { extend } = await import('./retention/extend.ts');
  const { whenUnderMs, perSecond, signal } = options;
  const { principal, maintenance, repository, openAudit } = await openClientMaintenance(config, client);
  const { objectLock: lock } = maintenance;
  try {
    if (lock === undefined) throw new GatewayError('usage', { detail: `client ${client}: no Object Lock` });
    const work = { principal, repository, openAudit, signal, perSecond, progress: () => undefined };
    const counts = await extend({ ...work, maintenance, lock, whenUnder: whenUnderMs, dryRun: false });
    // Whoever was stopped has not come to its end, and goes on where it starts the next time.
    if (counts.complete) await noteExtension(config, client, whenUnderMs, counts);
    return counts;
  } catch (error) {
    const nothing = { objects: 0, changed: 0, failed: 0, complete: false };
    const failures = [{ key: '', detail: messageOf(error) }];
    if (!signal.aborted) await noteExtension(config, client, whenUnderMs, { ...nothing, failures });
    throw error;
  } finally {
    await maintenance.close();
  }
}

/** Notes what came of a renewal, for status and metrics, and for whoever would do the same today. @throws GatewayError `state-unavailable` */
export async function noteExtension(
  config: GatewayConfig,
  client: string,
  whenUnderMs: number,
  { objects, changed, failed, complete, failures: [first] }: LockCounts,
): Promise<void> {
  const { repository } = config.clients[client] ?? {};
  if (repository === undefined) return;
  await extendedState(config.state, commonName(config, repository)).write({
    ...{ at: new Date().toISOString(), whenUnderMs, objects, renewed: changed, failed, complete },
    ...(first !== undefined && { problem: first.detail }),
  });
}

/** Where the audit is copied to, and its name for people: `STORE:PREFIX`. Undefined when it is not. @throws as `openCopyStore` */
export async function openAuditCopy(
  config: GatewayConfig,
): Promise<{ readonly store: CopyStore; readonly name: string } | undefined> {
  const { copy } = config.audit;
  const store = copy && config.stores[copy.store];
  if (copy === undefined || store?.type !== 's3') return undefined;
  return { store: await openCopyStore(store, copy.prefix), name: `${copy.store}:${copy.prefix}` };
}

/** What file systems and storage appliances keep in a directory of theirs by themselves. */
const OF_VOLUMES = new Set(
  ['lost+found', '.snapshot', '.snapshots', '.zfs', '@eaDir', '#recycle', '#snapshot', '@Recycle', '.Trash'].map(
    (name) => `${name}/`,
  ),
);

/** What is in a place, which no client need have. @throws GatewayError when there is no such store, or it cannot be asked */
export async function whatIsIn(
  config: GatewayConfig,
  { store: name, prefix }: OpenedMaintenance['repository'],
): Promise<'nothing' | 'repository' | 'files'> {
  const store = config.stores[name];
  if (store === undefined) throw noSuch('store', name, config.stores, config.file);
  const maintenance = await openMaintenance(store, prefix);
  const { signal } = new AbortController();
  try {
    if ((await maintenance.facts('config', { signal })) !== undefined) return 'repository';
    for await (const page of maintenance.files('', { signal }))
      if (page.some(({ key }) => !OF_VOLUMES.has(foreignPlace(key)))) return 'files';
    return 'nothing';
  } finally {
    await maintenance.close();
  }
}
