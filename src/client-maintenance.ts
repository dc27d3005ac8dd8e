/** The second composition root: from a config to the admin's maintenance of a client's repository, without a session. */
import { openAudit } from './audit/open-audit.ts';
import type { GatewayConfig } from './config/types.ts';
import { GatewayError } from './core/errors.ts';
import type { AuditSink } from './ports/audit-sink.ts';
import type { RepositoryMaintenance } from './ports/repository-maintenance.ts';
import type { CopyStore } from './ports/copy-store.ts';
import { openCopyStore, openMaintenance } from './stores/open-maintenance.ts';
import { scrubState, type ScrubState } from './maintenance/scrub-state.ts';

/** A client's repository, opened for maintenance. */
export interface OpenedMaintenance {
  readonly repository: { readonly store: string; readonly prefix: string };
  readonly maintenance: RepositoryMaintenance;
  readonly scrubs: ScrubState;
  /** Opens the audit, for work that changes something. @throws GatewayError `audit-unavailable` */
  readonly openAudit: () => Promise<AuditSink>;
}

/** @throws GatewayError `usage` when there is no such client, and what opening the store throws */
export async function openClientMaintenance(config: GatewayConfig, client: string): Promise<OpenedMaintenance> {
  const { repository } = config.clients[client] ?? {};
  if (repository === undefined)
    throw new GatewayError('usage', {
      detail: `there is no client ${client} in ${config.file}; it has: ${Object.keys(config.clients).join(', ')}`,
    });
  const store = config.stores[repository.store];
  if (store === undefined)
    throw new GatewayError('invalid-config', { detail: `there is no store ${repository.store}` });
  return {
    repository,
    maintenance: await openMaintenance(store, repository.prefix),
    scrubs: scrubState(config.state, repository),
    openAudit: () => openAudit(config),
  };
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
