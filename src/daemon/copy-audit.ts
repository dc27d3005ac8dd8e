/** Copies the audit as long as `serve` runs, and once more when it ends. */
import { createCopying } from '../audit/copying.ts';
import { NOT_RUNNING, repeating, restarting, type Restarting, type Running } from '../audit/restarting.ts';
import type { GatewayConfig } from '../config/types.ts';
import { messageOf } from '../core/errors.ts';
import { openAuditCopy } from '../client-maintenance.ts';
import type { Log } from '../ports/log.ts';

/** How long the last run may take, in ms. */
const LAST_MS = 10_000;

/** Begins to copy, if the config says so. */
export function copyAudit(config: GatewayConfig, log: Log): Restarting {
  return restarting(config, ['audit', 'state', 'stores'], (next) => start(next, log));
}

function start(config: GatewayConfig, log: Log): Running {
  const { copy } = config.audit;
  if (copy === undefined) return NOT_RUNNING;
  const open = async () => {
    const opened = await openAuditCopy(config);
    return opened && { store: opened.store, copying: createCopying({ config, log, ...opened }) };
  };
  const opening = open().catch((error: unknown) => {
    log.error({ err: error }, `the audit is not copied: ${messageOf(error)}`);
    return undefined;
  });
  const run = async (signal: AbortSignal): Promise<number> => {
    // What goes wrong is in the log, and is tried again.
    await (await opening)?.copying.run(signal).catch(() => undefined);
    return copy.every;
  };
  return repeating(run, async () => {
    await run(AbortSignal.timeout(LAST_MS));
    await (await opening)?.store.close();
  });
}
