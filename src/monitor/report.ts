/**
 * Writes into the audit what its readers have found in it, and that an admin has seen it.
 *
 * Several processes may find the same: who makes the file of its id below `monitor/reported` in the state directory writes it. The file is
 * needed until everyone has read the line, and counts for nothing after a while, so that what a killed process has not written is written
 * by another.
 */
import { readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { timedId } from '../core/timed-id.ts';
import { openAudit } from '../audit/open-audit.ts';
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import { GatewayError, messageOf } from '../core/errors.ts';
import { adminOf } from '../core/principal.ts';
import type { AuditEvent, AuditSink } from '../ports/audit-sink.ts';
import { makeMonitorDirectory } from './directory.ts';
import type { Anomaly } from './client-status.ts';

/** An anomaly of a client. */
export interface Found {
  readonly client: ClientConfig;
  readonly anomaly: Anomaly;
}

/** How long a claim counts, in ms. */
const CLAIM_MS = 10 * 60 * 1000;

/**
 * Writes those that nobody else is writing.
 * @returns those that were written
 * @throws GatewayError `audit-unavailable`, `state-unavailable`
 */
export async function reportAnomalies(config: GatewayConfig, all: readonly Found[]): Promise<readonly Found[]> {
  const directory = await claimsDirectory(config.state);
  const reported: Found[] = [];
  await withAudit(config, async (audit) => {
    for (const found of all) {
      const { client, anomaly } = found;
      const claim = join(directory, `${client.id}.${anomaly.id}`);
      if (!(await makeClaim(claim))) continue;
      const { rule, id, what, session } = anomaly;
      try {
        await append(audit, client, session, { kind: 'anomaly', rule, anomaly: id, detail: what });
      } catch (error) {
        await rm(claim, { force: true });
        throw error;
      }
      reported.push(found);
    }
  });
  return reported;
}

/** Writes that these were seen. @throws GatewayError `audit-unavailable` */
export function acknowledgeAnomalies(config: GatewayConfig, all: readonly Found[]): Promise<void> {
  return withAudit(config, async (audit) => {
    for (const { client, anomaly } of all)
      await append(audit, client, anomaly.session, {
        ...{ kind: 'anomaly-acknowledged', rule: anomaly.rule, anomaly: anomaly.id },
      });
  });
}

async function withAudit(config: GatewayConfig, work: (audit: AuditSink) => Promise<void>): Promise<void> {
  const audit = await openAudit(config);
  try {
    await work(audit);
  } finally {
    await audit.close();
  }
}

function append(audit: AuditSink, client: ClientConfig, session: string | undefined, event: AuditEvent): Promise<void> {
  const { access, repository } = client;
  return audit.append({ session: session ?? timedId(), principal: adminOf(client), access, repository }, event);
}

async function claimsDirectory(state: string): Promise<string> {
  try {
    const directory = await makeMonitorDirectory(state, 'reported');
    await dropOldClaims(directory);
    return directory;
  } catch (error) {
    throw new GatewayError('state-unavailable', {
      detail: `what was reported already cannot be recorded in ${state}: ${messageOf(error)}`,
      cause: error,
    });
  }
}

async function makeClaim(file: string): Promise<boolean> {
  try {
    await writeFile(file, '', { flag: 'wx', mode: 0o600 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function dropOldClaims(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const file = join(directory, name);
    const stats = await stat(file).catch(() => undefined);
    if (stats !== undefined && Math.abs(Date.now() - stats.mtimeMs) > CLAIM_MS) await rm(file, { force: true });
  }
}
