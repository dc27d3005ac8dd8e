/** `restic-gateway client hold NAME` and `client release NAME`: a legal hold on all that is in a client's repository. */
import { hold, release } from '../../retention/legal-hold.ts';
import { describeTrouble, parsePace, stopSignal, withObjectLock } from '../object-lock.ts';
import { loadOwnConfig } from '../own-user.ts';
import { refuseInForcedCommand } from '../program.ts';
import { print } from '../progress.ts';
import { jsonLine } from '../json.ts';

/** Options as the command line gives them. */
interface LegalHoldArguments {
  readonly name: string;
  readonly rate: string | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly config: string | undefined;
}

/**
 * Holds, or ends that.
 * @returns the exit status: 1 when something could not be held or released, or it was stopped
 * @throws GatewayError
 */
export async function runLegalHold(
  { name: client, rate, json, quiet, config: file }: LegalHoldArguments,
  what: 'hold' | 'release',
): Promise<number> {
  refuseInForcedCommand();
  const pace = parsePace(rate);
  const config = await loadOwnConfig(file);
  return withObjectLock(config, client, { pace, signal: stopSignal() }, async (request) => {
    const counts = await (what === 'hold' ? hold(request) : release(request));
    const { objects, changed, failed, complete, failures } = counts;
    if (json)
      print(
        jsonLine('legal-hold', {
          ...{ client, repository: request.repository, action: what },
          ...{ objects, changed, failed, complete, failures, good: failed === 0 && complete },
        }),
      );
    else if (!quiet || failed > 0 || !complete) {
      const before = objects - changed - failed;
      print(
        what === 'hold'
          ? `${client}: ${changed + before} objects are under legal hold, ${before} of them since before\n`
          : `${client}: the legal hold of ${changed} objects has ended, removed ones included\n`,
      );
      print(describeTrouble(counts));
    }
    return failed === 0 && complete ? 0 : 1;
  });
}
