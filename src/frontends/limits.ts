/** What the SSH server lets its peers do, unless the config says otherwise. */
import { readFileSync } from 'node:fs';
import type { GatewayConfig } from '../config/types.ts';
import type { Log } from '../ports/log.ts';

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

/** One in so many descriptors is for connections that have not logged in; the others are for sessions, storage and audit. */
const DESCRIPTOR_SHARE = 4;

/** The limits of a config. */
export function limitsOf({ limits }: GatewayConfig['ssh']): SshLimits {
  return { ...DEFAULTS, ...limits };
}

/** How many files this process may have open. Node raises the soft limit to the hard one as it starts. Undefined where it is unknown. */
export function descriptorLimit(): number | undefined {
  try {
    const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    // Not Linux, or no /proc.
    return undefined;
  }
}

/** The limits, as far as the process has descriptors for them. @param descriptors - how many it may have */
export function withinDescriptors(limits: SshLimits, descriptors: number | undefined, log: Log): SshLimits {
  const most = Math.max(8, Math.floor((descriptors ?? Infinity) / DESCRIPTOR_SHARE));
  if (limits.unauthenticated <= most) return limits;
  log.warn(
    { limit: most, configured: limits.unauthenticated, openFiles: descriptors },
    'fewer connections may wait to log in than configured, as few files may be open; raise that limit (LimitNOFILE)',
  );
  return { ...limits, unauthenticated: most };
}
