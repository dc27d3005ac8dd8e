/** What is wrong with the gateway itself, whoever its clients are: from what its processes have left in the state directory. */
import { readAuditLoss } from '../audit/loss.ts';
import { readCopyState } from '../audit/copy-state.ts';
import type { GatewayConfig } from '../config/types.ts';
import { readKept } from '../database/kept.ts';
import { notifyProblems } from '../notify/problems.ts';
import { whoServes } from '../state/serving.ts';

/** What is wrong. */
export interface GatewayProblem {
  /**
   * `config`: the file is not what `serve` goes by. `audit-lost`: the audit's file was removed, replaced or cut off. `audit-copy`: its copy is behind.
   * `database`: it is away. `notify`: a target of `notify` cannot be reached.
   */
  readonly kind: 'config' | 'audit-lost' | 'audit-copy' | 'database' | 'notify';
  /** The target of `notify` that it is about. */
  readonly target?: string;
  /** Whether somebody must look at it now. */
  readonly urgent: boolean;
  /** A sentence, and what to do. */
  readonly words: string;
}

/** Never throws: what cannot be read is not known. */
export async function gatewayProblems({
  audit,
  state,
  file,
  database,
  notify,
}: Pick<GatewayConfig, 'audit' | 'state' | 'file' | 'database' | 'notify'>): Promise<readonly GatewayProblem[]> {
  const problems: GatewayProblem[] = [];
  const serving = await whoServes(state, file);
  for (const words of new Set(serving.filter(({ taken }) => !taken).map((one) => one.words)))
    problems.push({
      kind: 'config',
      urgent: true,
      words: `serve does not use the config as it is in ${file} now: ${words}`,
    });
  const loss = await readAuditLoss(state);
  if (loss !== undefined)
    problems.push({
      ...{ kind: 'audit-lost', urgent: true },
      words: `${loss.what} (noticed ${loss.at}); run restic-gateway audit verify, and when it is explained, restic-gateway status --acknowledge`,
    });
  const copy = audit.copy === undefined ? undefined : (await readCopyState(state))?.failing;
  if (copy !== undefined)
    problems.push({
      ...{ kind: 'audit-copy', urgent: copy.late },
      words: `the audit has not been copied to ${audit.copy?.store ?? ''} since ${copy.since}: ${copy.why}`,
    });
  const away = database === undefined ? undefined : readKept(state)?.away;
  if (away !== undefined)
    problems.push({
      ...{ kind: 'database', urgent: true },
      words: `the database is away since ${away.since.toISOString()} (${away.why}): clients are served, but what other gateways do is not known here`,
    });
  for (const { target, words } of await notifyProblems({ notify, state }, Date.now()))
    problems.push({ kind: 'notify', urgent: true, words, target });
  return problems;
}
