/** Which targets of notifications cannot be reached: for `status`, the page, the metrics, and the other targets. */
import type { GatewayConfig } from '../config/types.ts';
import { printable } from '../core/printable.ts';
import { readReach, type Failing } from './told.ts';

/** For so long, in ms, a target may be away without anybody being told: servers are restarted, and mail servers put off whom they do not know. */
const FAILING_AFTER_MS = 3_600_000;

/** Whether somebody has to look at it. */
export function isProblem({ since, refused, tries }: Failing, now: number): boolean {
  return now - since >= FAILING_AFTER_MS || (refused && tries > 1);
}

/** A sentence for each, by target. Never throws: what cannot be read is not known. */
export async function notifyProblems(
  { notify, state }: Pick<GatewayConfig, 'notify' | 'state'>,
  now: number,
): Promise<readonly { readonly target: string; readonly words: string }[]> {
  const found = [];
  for (const target of Object.keys(notify)) {
    const failing = (await readReach(state, target))?.failing;
    if (failing !== undefined && isProblem(failing, now))
      found.push({
        target,
        words: `notifications have not reached ${target} since ${new Date(failing.since).toISOString()}: ${printable(failing.why, 300)}; they are sent once it can be reached: restic-gateway notify test ${target}`,
      });
  }
  return found;
}
