/** What one gateway is made of: all of its sessions share it. */
import type { GatewayConfig } from '../config/types.ts';
import type { ClientLogs } from '../limits/client-log.ts';
import type { AllCountedRecords } from '../limits/counted-records.ts';
import type { Log } from '../ports/log.ts';
import type { Memory } from '../ports/memory.ts';
import type { Meter } from '../ports/meter.ts';
import type { Resources } from './resources.ts';

export interface GatewayParts {
  /** The newest config. */
  readonly config: () => GatewayConfig;
  readonly resources: Resources;
  readonly records: AllCountedRecords;
  readonly memory: Memory;
  readonly logs: ClientLogs;
  readonly log: Log;
  readonly meter: Meter | undefined;
}
