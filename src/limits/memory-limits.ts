/** How much memory one process may use for its clients, of what the config gives to all. */
import { availableParallelism } from 'node:os';
import type { GatewayConfig } from '../config/types.ts';
import type { MemoryLimits } from './memory-budget.ts';

const MIB = 1024 * 1024;
/** For a host of 2 GiB, with as much again for Node itself and room for restic and the system. */
const DEFAULT_TOTAL = 512 * MIB;
/** Of the total, unless the config says otherwise: what ten runs of restic hold at full speed. */
const DEFAULT_SHARE = 1 / 4;
/** For one run of restic at full speed, and some idle sessions beside it. */
const LEAST_PER_CLIENT = 20 * MIB;
/** The same where the channel beneath is sshd's to hold, and no other session. */
const LEAST_PER_SESSION = 20 * MIB;

/**
 * The memory of one of the processes of `serve`.
 * @param processes - how many there are
 */
export function memoryOfServe({ memory = {} }: GatewayConfig, processes: number): MemoryLimits {
  const { total = DEFAULT_TOTAL, perClient = total * DEFAULT_SHARE } = memory;
  return {
    total: Math.max(2 * LEAST_PER_CLIENT, Math.floor(total / processes)),
    perClient: Math.max(LEAST_PER_CLIENT, Math.floor(perClient / processes)),
  };
}

/** How many processes of `serve` take connections; `auto` is one for each core, as far as there is memory for them. */
export function processesOf(config: GatewayConfig, cores: number = availableParallelism()): number {
  return config.workers === 'auto' ? Math.min(cores, mostProcessesOfServe(config)) : config.workers;
}

/** How many processes of `serve` there is memory for. */
function mostProcessesOfServe({ memory: { total = DEFAULT_TOTAL } = {} }: GatewayConfig): number {
  return Math.max(1, Math.floor(total / (2 * LEAST_PER_CLIENT)));
}

/** The memory of a process that serves one session: as many of them as a client may have make up its share. */
export function memoryOfOneSession({ memory = {}, clients }: GatewayConfig, client: string): MemoryLimits {
  const { total = DEFAULT_TOTAL, perClient = total * DEFAULT_SHARE } = memory;
  const bytes = Math.max(LEAST_PER_SESSION, Math.floor(perClient / (clients[client]?.maxSessions ?? 1)));
  return { total: bytes, perClient: bytes };
}
