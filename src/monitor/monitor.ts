/**
 * How all clients stand, from the audit that all processes write: kept up while it is open, by following the audit.
 */
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import type { Log } from '../ports/log.ts';
import type { ClientStanding } from './standing.ts';

/** What is known of the clients. */
export interface Monitor {
  /** One client as it stands now; undefined when the config has none of that name. @throws GatewayError `audit-unavailable` */
  standing(client: string): Promise<ClientStanding | undefined>;
  /** All clients of the config, in its order. Cheap: what has come to the audit since is read, and nothing else. @throws as `standing` */
  standings(): Promise<readonly ClientStanding[]>;
  /** Takes up another config. */
  reconfigure(config: GatewayConfig): void;
  /** Keeps what it knows for the next one, and lets go. Never rejects. */
  close(): Promise<void>;
}

/**
 * Opens a monitor. The first answer waits until the audit has been read; a checkpoint in the config's `state` shortens that.
 * @param options.watch - follow the audit all the time, and tell anomalies in the log and the audit: for `serve`'s primary
 */
export function openMonitor(options: {
  readonly config: GatewayConfig;
  readonly log: Log;
  readonly watch: boolean;
}): Monitor {
  let { config } = options;
  // The outline: filled in by the slices that follow.
  const unavailable = (): Promise<never> =>
    Promise.reject(new GatewayError('audit-unavailable', { detail: `${config.audit.file} is not followed yet` }));
  return {
    standing: unavailable,
    standings: unavailable,
    reconfigure: (next) => {
      config = next;
    },
    close: () => Promise.resolve(),
  };
}
