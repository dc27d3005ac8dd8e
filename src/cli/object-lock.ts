/** What the commands on Object Lock share: a client's repository opened for them, Ctrl-C, progress on a terminal, and what they print. */
import { openClientMaintenance } from '../client-maintenance.ts';
import type { GatewayConfig } from '../config/types.ts';
import { parseTimes } from '../config/values.ts';
import { GatewayError } from '../core/errors.ts';
import type { ObjectLock } from '../ports/object-lock.ts';
import type { LockCounts, LockWork } from '../retention/each-object.ts';
import type { LegalHoldRequest } from '../retention/legal-hold.ts';
import { openProgress } from './progress.ts';
import { parseOption } from './option.ts';
import { styled, table } from './terminal.ts';

/** Options of all of them. */
export interface LockOptions {
  /** As `parsePace` gives it. */
  readonly pace: number | undefined;
  readonly signal: AbortSignal;
}

/** `--rate`: how many objects a second. @throws GatewayError `usage` */
export function parsePace(rate: string | undefined): number | undefined {
  return rate === undefined ? undefined : parseOption('--rate', rate, (text) => parseTimes(text, 's', 1));
}

/** A signal that Ctrl-C and systemd give. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.on(name, () => {
      stop.abort(new GatewayError('client-gone', { detail: 'stopped' }));
    });
  return stop.signal;
}

/** Why a client's repository can have neither retention nor legal hold, and what to do; undefined when it can. */
export function whyNoObjectLock({ clients, stores }: GatewayConfig, client: string): string | undefined {
  const name = clients[client]?.repository.store ?? '';
  const store = stores[name];
  const needed = 'a bucket with Object Lock, and objectLock in its store: docs/s3.md#object-lock';
  if (store?.type === 'directory')
    return `store ${name} is a directory, which has no Object Lock; this needs ${needed}`;
  if (store?.objectLock === undefined) return `store ${name} has no objectLock; this needs ${needed}`;
  return undefined;
}

/**
 * Opens a client's repository, and closes it after the work.
 * @throws GatewayError `usage` when there is no such client, or no Object Lock
 */
export async function withObjectLock<T>(
  config: GatewayConfig,
  client: string,
  { pace, signal }: LockOptions,
  work: (request: LegalHoldRequest) => Promise<T>,
): Promise<T> {
  const { principal, repository, maintenance, openAudit } = await openClientMaintenance(config, client);
  const bar = openProgress(`${client}: asking the store`);
  try {
    const lock: ObjectLock | undefined = maintenance.objectLock;
    if (lock === undefined)
      throw new GatewayError('usage', {
        detail: whyNoObjectLock(config, client) ?? `client ${client}: no Object Lock`,
      });
    const tell = ({ objects, changed, failed }: Readonly<LockCounts>): void => {
      const trouble = failed === 0 ? '' : `, ${failed} failed`;
      bar.show(() => `${client}: ${objects} objects, ${changed} changed${trouble}`);
    };
    const shared: LockWork = {
      ...{ principal, repository, openAudit, signal, progress: tell, perSecond: pace },
    };
    return await work({ ...shared, maintenance, lock });
  } finally {
    bar.clear();
    await maintenance.close();
  }
}

/** What failed, and whether all was done, in lines for people; empty when all is well. */
export function describeTrouble({ failures, failed, complete }: LockCounts): string {
  const lines: string[] = [];
  if (failed > 0) {
    const rows = failures.map(({ key, detail }) => [key, detail]);
    lines.push(
      `${styled(process.stdout, 'red', `${failed} failed`)}${failed > rows.length ? `, of which the first ${rows.length}` : ''}:\n`,
      table([{ title: 'object' }, { title: 'why' }], rows),
    );
  }
  if (!complete) lines.push('Stopped; the same command does the rest.\n');
  return lines.join('');
}
