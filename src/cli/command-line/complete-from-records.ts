/** What completion offers from the audit log and the stores, read as the gateway's user. */
import { stat } from 'node:fs/promises';
import { parseLine } from '../../audit/lines.ts';
import { readLines } from '../../audit/read.ts';
import { openClientMaintenance } from '../../client-maintenance.ts';
import type { GatewayConfig } from '../../config/types.ts';
import { readQuarantines } from '../../maintenance/quarantine.ts';

/** One word that is offered. */
export interface Candidate {
  readonly word: string;
  /** Beside it, where the shell shows that. */
  readonly about: string;
}

/** How much of the audit's end is read, in bytes: what an admin means came lately, and a shell waits. */
const READ = 512 * 1024;
const MOST = 50;

/** The newest sessions, the latest first. @param client - whose; empty for all */
export async function newestSessions(
  { audit: { file } }: GatewayConfig,
  client: string,
): Promise<readonly Candidate[]> {
  const { size } = await stat(file);
  const found = new Map<string, string>();
  for await (const lines of readLines(file, Math.max(0, size - READ)))
    for (const { bytes } of lines) {
      const event = parseLine(bytes);
      const session = event?.['session'];
      if (typeof session !== 'string' || (client !== '' && event?.['client'] !== client)) continue;
      found.delete(session);
      found.set(session, `${String(event?.['client'])} ${String(event?.['time'])}`);
    }
  return [...found]
    .toReversed()
    .slice(0, MOST)
    .map(([word, about]) => ({ word, about }));
}

/** The quarantines of a client's repository. */
export async function quarantinesOf(config: GatewayConfig, client: string): Promise<readonly Candidate[]> {
  const { maintenance } = await openClientMaintenance(config, client);
  const found: Candidate[] = [];
  try {
    for await (const { id, selection } of readQuarantines(maintenance, new AbortController().signal)) {
      found.push({ word: id, about: selection });
      if (found.length === MOST) break;
    }
  } finally {
    await maintenance.close();
  }
  return found;
}
