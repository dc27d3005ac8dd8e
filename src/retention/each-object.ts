/** Works through the objects of a repository that the storage may be asked to keep: everything of restic's but locks. */
import { setTimeout as sleep } from 'node:timers/promises';
import { asGatewayError, type ErrorCode, type GatewayError } from '../core/errors.ts';
import { parseObjectKey } from '../core/object.ts';
import { timedId } from '../core/timed-id.ts';
import { inPool } from '../maintenance/pool.ts';
import type { AuditEvent, AuditSink, SessionIdentity } from '../ports/audit-sink.ts';

/** How many objects are worked on at once. */
const AT_ONCE = 16;
/** After so many failures with no success between, the storage has failed and not an object. */
const FAILURES_IN_A_ROW = 50;
/** Failures that are told one by one. */
const MOST_TOLD = 20;
/** What may be wrong with one object alone. */
const OF_ONE: readonly ErrorCode[] = ['store-failed', 'store-timeout', 'store-unavailable'];

/** A repository, whose it is, and how its work is watched, slowed and stopped. */
export interface LockWork {
  readonly principal: SessionIdentity['principal'];
  readonly repository: SessionIdentity['repository'];
  /** Opens the audit before the first change. @throws GatewayError `audit-unavailable` */
  readonly openAudit: () => Promise<AuditSink>;
  /** Stops it; what is under way is given up. */
  readonly signal: AbortSignal;
  /** How many objects are begun a second, evenly, at most; undefined: as many as the storage takes. */
  readonly perSecond: number | undefined;
  /** Called often; must be cheap. */
  readonly progress: (counts: Readonly<LockCounts>) => void;
}

/** What came of it. */
export interface LockCounts {
  /** Looked at. */
  objects: number;
  /** Of those, what was changed, or would be by a dry run. */
  changed: number;
  /** What failed, and is as it was, as far as is known. */
  failed: number;
  /** Whether that is all of the repository; false when it was stopped. */
  complete: boolean;
  /** The first failures. */
  readonly failures: { readonly key: string; readonly detail: string }[];
}

/** What was done about one object; `gone`: there is no such object any more. */
type Done = 'changed' | 'as-it-was' | 'gone';

/** Whether this is an object that the storage may keep: restic must be able to remove its locks, and the rest is not restic's. */
function isKept(key: string): boolean {
  const ref = parseObjectKey(key);
  return ref !== undefined && ref.type !== 'locks';
}

/**
 * Goes through objects, some at once. A failure of one is counted, and the others are gone on with.
 * @param work.begin - written into the audit before the first change
 * @param work.end - the kind of the event that says what came of it, if anything was to be changed
 * @param each - does it; calls `changing` first if it changes something
 * @throws GatewayError when the storage fails as a whole, or the audit; what was done by then stays
 */
export async function eachObject<T extends { readonly key: string }>(
  pages: AsyncIterable<readonly T[]>,
  work: LockWork & { readonly begin: AuditEvent; readonly end: 'extended' | 'held' | 'released' },
  each: (object: T, changing: () => Promise<void>) => Promise<Done>,
): Promise<LockCounts> {
  const { principal, repository, signal } = work;
  const counts: LockCounts = { objects: 0, changed: 0, failed: 0, complete: false, failures: [] };
  const identity: SessionIdentity = {
    ...{ session: timedId(), principal, access: 'full', repository },
  };
  let audit: Promise<AuditSink> | undefined;
  const changing = async (): Promise<void> => {
    await (audit ??= begin(work, identity));
  };
  const pace = evenly(work.perSecond, signal);
  let inARow = 0;
  const fail = (key: string, error: GatewayError): void => {
    counts.objects += 1;
    counts.failed += 1;
    if (counts.failures.length < MOST_TOLD) counts.failures.push({ key, detail: error.message });
    inARow += 1;
    if (inARow >= FAILURES_IN_A_ROW) throw error;
  };
  const one = async (object: T): Promise<void> => {
    await pace();
    try {
      const done = await each(object, changing);
      inARow = 0;
      if (done === 'gone') return;
      counts.objects += 1;
      if (done === 'changed') counts.changed += 1;
    } catch (error) {
      const failure = asGatewayError(error);
      if (signal.aborted || !OF_ONE.includes(failure.code)) throw failure;
      fail(object.key, failure);
    }
    work.progress(counts);
  };
  let failure: { readonly error: unknown } | undefined;
  try {
    for await (const page of pages)
      await inPool(
        page.filter(({ key }) => isKept(key)),
        AT_ONCE,
        one,
      );
    counts.complete = true;
  } catch (error) {
    if (!signal.aborted) failure = { error };
  }
  // Where it could not be begun, that is the failure.
  const sink = await audit?.catch(() => undefined);
  try {
    const { objects, changed, failed, complete } = counts;
    await sink?.append(identity, { kind: work.end, objects, changed, failed, complete });
  } catch (error) {
    failure ??= { error };
  } finally {
    await sink?.close();
  }
  if (failure !== undefined) throw failure.error;
  return counts;
}

async function begin(
  work: { readonly openAudit: LockWork['openAudit']; readonly begin: AuditEvent },
  identity: SessionIdentity,
): Promise<AuditSink> {
  const sink = await work.openAudit();
  try {
    await sink.append(identity, work.begin);
    return sink;
  } catch (error) {
    await sink.close();
    throw error;
  }
}

/** Waits for its turn, of so many in a second. */
function evenly(perSecond: number | undefined, signal: AbortSignal): () => Promise<void> {
  if (perSecond === undefined) return () => Promise.resolve();
  let due = performance.now();
  return async () => {
    const now = performance.now();
    const turn = Math.max(due, now);
    due = turn + 1000 / perSecond;
    if (turn > now) await sleep(turn - now, undefined, { signal });
  };
}
