/**
 * What the sessions under one config share: its audit and its storages. What an earlier config has opened is kept for the sessions that
 * began with it, and closed when the last of them has ended.
 */
import { isDeepStrictEqual } from 'node:util';
import { openAudit } from '../audit/open-audit.ts';
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { getOrMake } from '../core/get-or-make.ts';
import type { AuditSink } from '../ports/audit-sink.ts';
import type { Log } from '../ports/log.ts';
import { openSafeStorage, type SafeStorage } from '../safeguard/safe-storage.ts';

type Resource = Promise<SafeStorage> | AuditSink;

/** Resources of the newest config. */
export interface Resources {
  audit(): AuditSink;
  /** Opens a store when it is first asked for. @throws GatewayError `invalid-config` */
  storage(name: string): Promise<SafeStorage>;
  /**
   * Makes ready to take up another config.
   * @returns a function that takes it up
   * @throws GatewayError `audit-unavailable`; nothing has changed then
   */
  prepare(next: GatewayConfig): Promise<() => void>;
  /** Closes what earlier configs have opened, but for what is still in use. */
  closeUnused(used: ReadonlySet<unknown>): void;
  /** Closes everything. */
  close(): Promise<void>;
}

/** @throws GatewayError `audit-unavailable` when the audit file cannot be opened */
export async function openResources(first: GatewayConfig, log: Log): Promise<Resources> {
  let config = first;
  let audit: AuditSink = await openAudit(config, log);
  const storages = new Map<string, Promise<SafeStorage>>();
  /** What earlier configs opened. */
  const retired = new Set<Resource>();

  const close = async (one: Resource): Promise<void> => {
    try {
      await (await one).close();
    } catch (error) {
      // What could not be opened needs no closing, and the sessions that met it have reported it.
      log.warn({ err: error }, 'what an earlier config had opened could not be closed');
    }
  };

  return {
    audit: () => audit,
    storage: (name) =>
      getOrMake(storages, name, () => {
        const store = config.stores[name];
        if (store === undefined) throw new GatewayError('invalid-config', { detail: `there is no store ${name}` });
        const opening = openSafeStorage(store, config.state);
        // A store that could not be opened (a secret that cannot be read) is tried again by the next session.
        opening.catch(() => {
          if (storages.get(name) === opening) storages.delete(name);
        });
        return opening;
      }),
    prepare: async (next) => {
      const opened = isDeepStrictEqual(next.audit, config.audit) ? undefined : await openAudit(next, log);
      return () => {
        if (opened !== undefined) {
          retired.add(audit);
          audit = opened;
        }
        // All stores are opened anew, since the secrets that they read may be new ones under the same config.
        for (const one of storages.values()) retired.add(one);
        storages.clear();
        config = next;
      };
    },
    closeUnused: (used) => {
      for (const one of retired) {
        if (used.has(one)) continue;
        retired.delete(one);
        void close(one);
      }
    },
    close: async () => {
      const all = [...retired, ...storages.values(), audit];
      retired.clear();
      storages.clear();
      await Promise.all(all.map(close));
    },
  };
}
