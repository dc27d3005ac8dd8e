/** Copies the audit as long as `serve` runs, and once more when it ends. */
import { createCopying } from '../audit/copying.ts';
import { NOT_RUNNING, restarting, type Restarting, type Running } from '../audit/restarting.ts';
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
  const closing = new AbortController();
  let wake: () => void = () => undefined;

  const work = async (): Promise<void> => {
    const opened = await openAuditCopy(config);
    if (opened === undefined) return;
    try {
      const copying = createCopying({ config, log, ...opened });
      // What goes wrong is told by it, and tried again.
      const run = (signal: AbortSignal) => copying.run(signal).catch(() => undefined);
      while (!closing.signal.aborted) {
        await run(closing.signal);
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (closing.signal.aborted) resolve();
          else setTimeout(resolve, copy.every).unref();
        });
      }
      await run(AbortSignal.timeout(LAST_MS));
    } finally {
      await opened.store.close();
    }
  };
  const done = work().catch((error: unknown) => {
    log.error({ err: error }, `the audit is not copied: ${messageOf(error)}`);
  });
  return {
    close: async () => {
      closing.abort();
      wake();
      await done;
    },
  };
}
