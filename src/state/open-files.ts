/**
 * How many files a process may have open, connections among them, and for what: each use has a share, so that none takes what another
 * needs. What finds its share taken waits or is told so, and nobody's session ends for want of a descriptor.
 */
import { readFileSync } from 'node:fs';

/** How many descriptors each use may have. */
export interface OpenFiles {
  /** All that the process may have; more than any process has where that is unknown. */
  readonly limit: number;
  /** Connections that have not logged in: at most a quarter of the limit. */
  readonly unauthenticated: number;
  /** Connections that have; a run of restic has one. */
  readonly connections: number;
  /** Of those, the connections of one client. */
  readonly connectionsOfClient: number;
  /** Calls on storage: each has a file or a connection. */
  readonly calls: number;
  /** Requests for metrics and pages. */
  readonly web: number;
}

/** Fewer leave no session room beside what a process has open for itself. */
export const LEAST_OPEN_FILES = 56;

/** What a process has open for itself: some 25, and more while it rotates the audit, reloads, or tries its stores. */
const OWN = 32;
const MOST_SPARE = 256;
/** As many calls as clients may have at once, and 15 pages ahead of each list (see `store-calls.ts`). */
const MOST_CALLS = 1792;
const MOST_WEB = 100;
const UNKNOWN = 2 ** 30;

let known: OpenFiles | undefined;

/** The shares of this process, as its limit was when they were first asked for. */
export function openFiles(): OpenFiles {
  return (known ??= shareOpenFiles(readLimit()));
}

/** @param limit - how many files a process may have open */
export function shareOpenFiles(limit: number): OpenFiles {
  const rest = Math.max(0, limit - OWN - Math.floor(Math.min(limit / 8, MOST_SPARE)));
  const unauthenticated = Math.max(10, Math.floor(rest / 4));
  const calls = Math.max(4, Math.min(MOST_CALLS, Math.floor(rest / 3)));
  const connections = Math.max(2, rest - unauthenticated - calls);
  return {
    ...{ limit, unauthenticated, connections, calls },
    connectionsOfClient: Math.max(1, Math.floor(connections / 2)),
    web: Math.max(4, Math.min(MOST_WEB, Math.floor(limit / 16))),
  };
}

/**
 * What an admin should know of the limit; undefined where it is high enough.
 * @param maxSessions - how many sessions may be open at once, by the config
 * @param processes - over how many processes they are spread
 */
export function tooFewOpenFiles(
  { limit, connections }: OpenFiles,
  maxSessions: number,
  processes: number,
): string | undefined {
  if (limit < LEAST_OPEN_FILES)
    return `only ${limit} files may be open, and no session has room below ${LEAST_OPEN_FILES}; raise that limit (ulimit -n, LimitNOFILE=)`;
  if (connections * processes >= maxSessions) return undefined;
  let enough = 64;
  while (shareOpenFiles(enough).connections * processes < maxSessions) enough *= 2;
  return `${limit} files may be open, enough for ${connections * processes} sessions at once, and maxSessions is ${maxSessions}; raise that limit to ${enough} (ulimit -n, LimitNOFILE=), or lower maxSessions`;
}

/** Node raises the soft limit to the hard one as it starts. */
function readLimit(): number {
  try {
    const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return soft === undefined ? UNKNOWN : Number(soft);
  } catch {
    // Not Linux, or no /proc.
    return UNKNOWN;
  }
}
