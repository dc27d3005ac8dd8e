/** `restic-gateway extend CLIENT|--all`: renews the retention of what a repository still uses, in a bucket with Object Lock. */
import { extensionOf, noteExtension } from '../client-maintenance.ts';
import type { GatewayConfig } from '../config/types.ts';
import { parseDuration } from '../config/values.ts';
import { GatewayError } from '../core/errors.ts';
import { extend } from '../retention/extend.ts';
import { sayError } from './failure.ts';
import { jsonLine } from './json.ts';
import { chooseClients } from './choose-clients.ts';
import {
  describeTrouble,
  parsePace,
  stopSignal,
  whyNoObjectLock,
  withObjectLock,
  type LockOptions,
} from './object-lock.ts';
import { parseOption } from './option.ts';
import { loadOwnConfig } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';
import { print } from './progress.ts';
import { formatDuration } from './terminal.ts';

/** Options as the command line gives them. */
interface ExtendArguments {
  readonly client: string | undefined;
  readonly all: boolean;
  readonly dryRun: boolean;
  readonly whenUnder: string | undefined;
  readonly rate: string | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly config: string | undefined;
}

/** What is renewed: by default what is retained for less than half of the days that the store's `objectLock` says. */
const SHARE = 0.5;
const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * Renews one repository or all that are under Object Lock. With all, a failure of one does not keep the others from it.
 * @returns the exit status: 1 when something could not be renewed, or it was stopped
 * @throws GatewayError
 */
export async function runExtend(given: ExtendArguments): Promise<number> {
  refuseInForcedCommand();
  const pace = parsePace(given.rate);
  const under = given.whenUnder === undefined ? undefined : parseOption('--when-under', given.whenUnder, parseDuration);
  const config = await loadOwnConfig(given.config);
  const chosen = chooseClients(given, config);
  const clients = given.all ? chosen.filter((client) => whyNoObjectLock(config, client) === undefined) : chosen;
  if (clients.length === 0)
    throw new GatewayError('usage', {
      detail: 'no client has a store with objectLock, so that there is nothing to renew: docs/s3.md#object-lock',
    });
  const options = { pace, signal: stopSignal() };
  let status = 0;
  for (const client of clients)
    try {
      if (!(await extendOne(client, config, given, under, options))) status = 1;
      if (options.signal.aborted) return 1;
    } catch (error) {
      if (!given.all) throw error;
      sayError(error, client);
      status = 1;
    }
  return status;
}

/** @returns whether all is renewed that should be */
async function extendOne(
  client: string,
  config: GatewayConfig,
  { dryRun, json, quiet }: ExtendArguments,
  under: number | undefined,
  options: LockOptions,
): Promise<boolean> {
  return withObjectLock(config, client, options, async (request) => {
    const whole = request.lock.rule.days * DAY_MS;
    const whenUnder = under ?? extensionOf(config, client) ?? whole * SHARE;
    if (whenUnder > whole)
      throw new GatewayError('usage', {
        detail: `--when-under is longer than the ${request.lock.rule.days} days of objectLock in store ${request.repository.store}: everything would be renewed each time; say a shorter time, or raise days`,
      });
    const result = await extend({ ...request, whenUnder, dryRun });
    const { objects, changed, failed, complete, until, failures } = result;
    if (!dryRun && complete) await noteExtension(config, client, whenUnder, result);
    const isGood = failed === 0 && complete;
    if (json)
      print(
        jsonLine('extend', {
          ...{ client, repository: request.repository, good: isGood, dryRun, whenUnderMs: whenUnder, until },
          ...{ objects, renewed: changed, failed, complete, failures },
        }),
      );
    else if (!quiet || !isGood) {
      const what = dryRun ? 'would be renewed' : 'renewed';
      const rest = objects - changed - failed;
      print(
        `${client}: ${objects} objects: ${changed} ${what} until ${until.toISOString()}, ${rest} retained for ${formatDuration(whenUnder)} or longer\n${describeTrouble(result)}`,
      );
    }
    return isGood;
  });
}
