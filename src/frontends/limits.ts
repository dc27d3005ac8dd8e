/** What the SSH server lets its peers do, unless the config says otherwise. */
import type { GatewayConfig } from '../config/types.ts';
import type { Log } from '../ports/log.ts';
import type { OpenFiles } from '../state/open-files.ts';

/** The limits in force. */
export type SshLimits = Required<NonNullable<GatewayConfig['ssh']['limits']>>;

/** Generous to every honest client, and each a bound to what one without a key, or with one, can take. */
const DEFAULTS: SshLimits = {
  unauthenticated: 2000,
  unauthenticatedPerAddress: 500,
  loginSeconds: 30,
  maxDelaySeconds: 10,
  channels: 20,
  idleSeconds: 60,
  keepaliveSeconds: 15,
};

/** The limits of a config. */
export function limitsOf({ limits }: GatewayConfig['ssh']): SshLimits {
  return { ...DEFAULTS, ...limits };
}

/** The limits, as far as the process has descriptors for them. */
export function withinDescriptors(limits: SshLimits, files: OpenFiles, log: Log): SshLimits {
  const most = files.unauthenticated;
  if (limits.unauthenticated <= most) return limits;
  log.warn(
    { limit: most, configured: limits.unauthenticated, openFiles: files.limit },
    'fewer connections may wait to log in than configured, as few files may be open; raise that limit (LimitNOFILE)',
  );
  return { ...limits, unauthenticated: most };
}
