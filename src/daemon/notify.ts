/** Notifies the targets of the config as long as `serve` runs: in the process that is alone or above the workers. */
import { hostname } from 'node:os';
import { NOT_RUNNING, repeating, restarting, type Restarting, type Running } from '../audit/restarting.ts';
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError, messageOf } from '../core/errors.ts';
import { gatewayProblems } from '../monitor/gateway-problems.ts';
import type { Monitor } from '../monitor/monitor.ts';
import type { Trouble } from '../notify/conditions.ts';
import type { Look } from '../notify/notifier.ts';
import type { Log } from '../ports/log.ts';

/**
 * How long to rest after a look, in ms; where a look takes long, so many times as long as it took. What the monitor says of many clients may be
 * half a minute old by itself, and what is new is to be told within a minute.
 */
const REST_MS = 5000;
const REST_FACTOR = 9;
const LONGEST_REST_MS = 15_000;

/** What it looks at. */
interface Sources {
  readonly monitor: () => Pick<Monitor, 'statuses'>;
  /** The newest config that was taken up. */
  readonly config: () => GatewayConfig;
  /** Whether uploads are taken on any store. */
  readonly isAnyStoreSafe: () => boolean;
}

/** Begins with it, if the config has anybody to notify. */
export function notifyTargets(config: GatewayConfig, log: Log, sources: Sources): Restarting {
  return restarting(config, ['notify', 'state'], (next) => start(next, log, sources));
}

function start({ notify, state }: GatewayConfig, log: Log, sources: Sources): Running {
  const targets = Object.values(notify);
  if (targets.length === 0) return NOT_RUNNING;
  const opening = (async () => {
    const [{ openNotifier }, { isOwner, leaveOwner }] = await Promise.all([
      import('../notify/notifier.ts'),
      import('../notify/owner.ts'),
    ]);
    const notifier = openNotifier({
      ...{ targets, state, log, gateway: hostname(), now: Date.now },
      look: () => look(sources),
    });
    return { notifier, isOwner, leaveOwner };
  })();
  let trouble = false;
  const run = async (signal: AbortSignal): Promise<number> => {
    const began = performance.now();
    try {
      const { notifier, isOwner } = await opening;
      if (await isOwner(state)) await notifier.round();
      trouble = false;
    } catch (error) {
      if (!trouble && !signal.aborted) log.error({ err: error }, `nobody is notified: ${messageOf(error)}`);
      trouble = true;
    }
    return Math.min(LONGEST_REST_MS, Math.max(REST_MS, REST_FACTOR * (performance.now() - began)));
  };
  return repeating(run, async () => {
    const opened = await opening.catch(() => undefined);
    await opened?.notifier.close();
    await opened?.leaveOwner(state).catch(() => undefined);
  });
}

async function look({ monitor, config, isAnyStoreSafe }: Sources): Promise<Look> {
  const problems: Trouble[] = [...(await gatewayProblems(config()))];
  const statuses = await monitor()
    .statuses()
    .catch((error: unknown) => {
      problems.push({
        ...{ kind: 'audit-unreadable', urgent: true },
        words: `The audit log cannot be read, so nobody knows how the backups stand: ${asGatewayError(error).message}`,
      });
      return undefined;
    });
  if (!isAnyStoreSafe())
    problems.push({
      ...{ kind: 'no-safe-store', urgent: true },
      words: 'No store is safe to store in, so no backup is taken; run: restic-gateway check --live',
    });
  return { statuses, problems, clients: config().clients };
}
