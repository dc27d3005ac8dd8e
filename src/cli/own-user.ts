/**
 * Whom the gateway's files belong to. root, who looks after a gateway that runs as a user of its own, must leave nothing there that this user
 * cannot use: so root's commands go on as that user.
 */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { findConfigFile, loadConfig } from '../config/load.ts';
import type { GatewayConfig } from '../config/types.ts';

/** In Node since 0.9.4, and not in its types. */
const { initgroups } = process as unknown as { readonly initgroups?: (user: number, group: number) => void };

/**
 * Loads the config for a command that uses storage, audit or state. Where the state directory (before there is one, the directory of the audit)
 * belongs to another user, and this is root, all that follows is done as that user.
 * @param file - as for `findConfigFile`
 * @throws GatewayError `invalid-config`, `usage`
 */
export function loadOwnConfig(file: string | undefined): GatewayConfig {
  const config = loadConfig(findConfigFile(file));
  goOnAsOwner(config);
  return config;
}

/** As `loadOwnConfig`, for a config that is loaded. */
export function goOnAsOwner({ state, audit }: Pick<GatewayConfig, 'state' | 'audit'>): void {
  if (process.getuid?.() !== 0) return;
  const [owner] = [state, dirname(audit.file)].flatMap((path) => statSync(path, { throwIfNoEntry: false }) ?? []);
  if (owner === undefined || owner.uid === 0) return;
  // In this order: each takes away the right to what comes before it.
  initgroups?.(owner.uid, owner.gid);
  process.setgid?.(owner.gid);
  process.setuid?.(owner.uid);
}
