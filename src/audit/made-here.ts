/** Which locks the audit of this machine has the making of; read from its end, as a lock that matters is young. */
import { stat } from 'node:fs/promises';
import { parseLine } from './lines.ts';
import { auditFiles, readLines } from './read.ts';

/** How far back is read, in ms: what a lock may be old, and some more. */
const BACK_MS = 45 * 60 * 1000;
/** How much is read first; then four times as much each time. */
const FIRST_BYTES = 1024 * 1024;

/**
 * @param file - of the audit
 * @param locks - session by name of the lock
 * @returns the names of those that a session of that id has made here within the last 45 minutes
 * @throws GatewayError `audit-unavailable` when it cannot be read
 */
export async function locksMadeHere<Name extends string>(
  file: string,
  locks: ReadonlyMap<Name, string>,
): Promise<ReadonlySet<Name>> {
  const wanted = new Map([...locks].map(([name, session]) => [`locks/${name}`, { name, session }]));
  const found = new Set<Name>();
  const since = Date.now() - BACK_MS;
  for (const one of [...(await auditFiles(file))].reverse()) {
    const { size, mtimeMs } = await stat(one);
    if (mtimeMs < since) continue;
    for (let bytes = one.endsWith('.gz') ? size : FIRST_BYTES; ; bytes *= 4) {
      const start = Math.max(0, size - bytes);
      let first: number | undefined;
      for await (const lines of readLines(one, start))
        for (const line of lines) {
          const event = parseLine(line.bytes);
          if (event === undefined) continue;
          first ??= Date.parse(String(event['time']));
          if (event['event'] !== 'create') continue;
          const lock = wanted.get(String(event['object']));
          if (lock !== undefined && lock.session === event['session']) found.add(lock.name);
        }
      if (found.size === locks.size) return found;
      if (start === 0 || (first !== undefined && first < since)) break;
    }
  }
  return found;
}
