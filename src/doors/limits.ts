/** What the SSH door lets its peers do, unless the config says otherwise. */
import type { GatewayConfig } from '../config/types.ts';

/** The limits in force. */
export type SshLimits = Required<NonNullable<GatewayConfig['ssh']['limits']>>;

/** Generous to every honest client, and each a bound to what one without a key, or with one, can take. */
const DEFAULTS: SshLimits = {
  unauthenticated: 500,
  unauthenticatedPerAddress: 100,
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
