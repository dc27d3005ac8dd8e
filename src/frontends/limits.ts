/** What the SSH server lets its peers do, unless the config says otherwise. */
import type { GatewayConfig } from '../config/types.ts';
import type { Log } from '../ports/log.ts';
import type { OpenFiles } from '../state/open-files.ts';

/** The limits in force. */
export type SshLimits = Required<NonNullable<GatewayConfig['ssh']['limits']>>;

/** Generous to every honest client, and each a bound to what one without a key, or with one, can take. */
const DEFAULTS: SshLimits = {
  unauthenticated: 2000,
  unauthenticatedPerAddress: 1000,
  loginSeconds: 30,
  maxDelaySeconds: 10,
  channels: 20,
  idleSeconds: 60,
  keepaliveSeconds: 15,
  lostSeconds: 600,
};

/**
 * The limits of a config, for one process.
 * @param processes - how many take turns at the port: each has its part of the connections that have not logged in
 */
export function limitsOf({ limits }: GatewayConfig['ssh'], processes: number): SshLimits {
  const all = { ...DEFAULTS, ...limits };
  return {
    ...all,
    unauthenticated: Math.ceil(all.unauthenticated / processes),
    unauthenticatedPerAddress: Math.ceil(all.unauthenticatedPerAddress / processes),
  };
}

/**
 * When a peer that answers no keepalive is lost. A client that sleeps, or that is without a network for a while, goes on after that as long as
 * TCP does; but it gives way before, when its client needs the place.
 * @returns how many keepalives may be unanswered, as ssh2 counts them, and the silence in ms after which one gives way
 */
export function patienceOf({ keepaliveSeconds, lostSeconds }: SshLimits): {
  readonly unanswered: number;
  readonly givesWayMs: number;
} {
  return {
    unanswered: Math.max(1, Math.ceil(lostSeconds / keepaliveSeconds) - 1),
    givesWayMs: Math.min(UNANSWERED * keepaliveSeconds, lostSeconds) * 1000,
  };
}

/** So many keepalives without an answer make a peer give way. */
const UNANSWERED = 4;

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
