/** Says loudly that the audit's file was removed, replaced or cut off while `serve` runs. */
import { watchForLoss, writeAuditLoss } from '../audit/loss.ts';
import { appendToAudit } from '../audit/open-audit.ts';
import { repeating, restarting, type Restarting, type Running } from '../audit/restarting.ts';
import type { GatewayConfig } from '../config/types.ts';
import { createAllowance } from '../core/allowance.ts';
import { messageOf } from '../core/errors.ts';
import type { Log } from '../ports/log.ts';

/** How often it is looked at, in ms. */
const LOOK_MS = 2000;

/** Begins with it. */
export function watchAudit(config: GatewayConfig, log: Log): Restarting {
  return restarting(config, ['audit', 'state'], (next) => start(next, log));
}

function start(config: GatewayConfig, log: Log): Running {
  const { file, keep, copy } = config.audit;
  const watch = watchForLoss(file, copy === undefined ? keep : undefined);
  const mayWarn = createAllowance(1, 1 / 600, () => performance.now());
  const run = async (): Promise<number> => {
    try {
      const what = await watch.look();
      if (what !== undefined) {
        await tell(config, what, log);
        // The file that was made for that, from now on.
        await watch.look();
      }
    } catch (error) {
      if (mayWarn.take())
        log.error(
          { err: error },
          `it cannot be told whether the audit ${file} is still in its place: ${messageOf(error)}`,
        );
    }
    return LOOK_MS;
  };
  return repeating(run, () => watch.close());
}

async function tell(config: GatewayConfig, what: string, log: Log): Promise<void> {
  log.error(
    { file: config.audit.file },
    `the audit log was tampered with, or moved by a mistake: ${what}; run: restic-gateway audit verify`,
  );
  const at = new Date().toISOString();
  // Either, whatever comes of the other.
  const outcomes = await Promise.allSettled([
    writeAuditLoss(config.state, { at, what }),
    appendToAudit(config, { kind: 'audit-lost', detail: what }, log),
  ]);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}
