/**
 * Serves one client's requests on its repository: parse, decide, act on the store, answer; the audit has a line before every change.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { asGatewayError, GatewayError } from '../core/errors.ts';
import { CONFIG_REF } from '../core/object.ts';
import { parseOperation, type Operation } from '../core/operation.ts';
import { decide, factsNeeded, type DenialReason, type Facts } from '../core/policy.ts';
import type { OperationResult } from '../ports/meter.ts';
import { createChanges } from './changes.ts';
import type { Counts, HandlerContext } from './context.ts';
import { createFloor, type Floor } from './floor.ts';
import { hold, MAX_UNDER_WAY, refuse } from './http2-session.ts';
import { createPacing } from './pacing.ts';
import { createReports, isFailure } from './reports.ts';
import { respondEmpty, respondList, respondObject, respondStat } from './responses.ts';
import { takeFor, takeMoreFor } from './stream-memory.ts';
import { isOpen, peerWindow } from './streams.ts';

/** Serves the streams of one session. */
interface Handler {
  readonly counts: Readonly<Counts>;
  /** Takes one request. Resolves when nothing works on it any more, and never rejects. */
  readonly handle: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => Promise<void>;
  /** Resolves when no request is under way and the audit has all that is to say of them. */
  idle(): Promise<void>;
}

/**
 * What an object on its way out takes, in bytes: what the store has read ahead of it (256 KiB on S3), what waits to be sent, and its
 * packets; and what a list takes for each page that it holds, of a thousand names and the XML that they were cut out of.
 */
const LOAD_BYTES = 896 * 1024;
const LIST_BYTES = 640 * 1024;
/** What of it waits to be sent at most; and while there is plenty of memory, of an object that is worth it. */
const SENT_AHEAD = 256 * 1024;
const MORE_AHEAD = 768 * 1024;
/** What a page of a list comes to on the wire. */
const PAGE_TEXT = 96 * 1024;

/** Leave to fetch pages of a list before the client takes them: no more than it has opened windows for, and than there is memory for. */
function listAhead(stream: ServerHttp2Stream): () => boolean {
  let pages = 1;
  return () => {
    if ((pages + 1) * PAGE_TEXT > peerWindow(stream) || !takeMoreFor(stream, LIST_BYTES)) return false;
    pages += 1;
    return true;
  };
}

/**
 * Makes the handler of one session.
 * @param defect - told of what was thrown that nobody had foreseen
 */
export function createHandler(context: HandlerContext, defect: (error: unknown) => void): Handler {
  const { identity, grant, store, records, meter, beforeLocks } = context;
  const counts: Counts = { bytesIn: 0, bytesOut: 0, objectsCreated: 0, objectsRemoved: 0, denied: 0 };
  const reports = createReports(context, counts);
  const pacing = createPacing(context, reports);
  const changes = createChanges(context, counts, pacing, reports);
  const running = new Set<Promise<void>>();
  const floor = createFloor(store, grant);

  /** Throws unless the policy allows the operation. */
  const authorize = async (operation: Operation, signal: AbortSignal): Promise<Facts> => {
    const facts = await gatherFacts(context, floor, operation, signal);
    const decision = decide(identity.principal, grant, operation, facts);
    if (decision.allow) return facts;
    if (operation.kind !== 'save' && operation.kind !== 'remove' && operation.kind !== 'create-repository')
      throw new GatewayError('internal', { detail: 'a reading operation was denied' });
    const ref = 'ref' in operation ? { ref: operation.ref } : {};
    let reason: DenialReason | 'cleanup-after-failed-save' = decision.reason;
    // restic removes what it failed to save: refused as any other removal, but no attack and nothing to bother a person with.
    if (operation.kind === 'remove' && reports.hasFailedToSave(operation.ref)) reason = 'cleanup-after-failed-save';
    else reports.notifyOnce(decision.reason === 'protected' ? 'protected' : 'denied', `${decision.clientMessage}.`);
    throw await reports.deny({ kind: 'denied', operation: operation.kind, ...ref, reason }, decision.clientMessage);
  };

  const list = async (
    stream: ServerHttp2Stream,
    { type, version }: Operation & { kind: 'list' },
    signal: AbortSignal,
  ): Promise<void> => {
    if (type === 'locks' && beforeLocks !== undefined) await hold(stream, beforeLocks(signal));
    const room = takeFor(stream, LIST_BYTES, signal);
    if (room !== undefined) await hold(stream, room);
    const pace = pacing.body('download', stream, signal, () => undefined);
    await respondList(stream, version, store.list(type, { signal, mayFetchAhead: listAhead(stream) }), pace);
  };

  const load = async (
    stream: ServerHttp2Stream,
    { ref, range }: Operation & { kind: 'load' },
    signal: AbortSignal,
  ): Promise<void> => {
    const room = takeFor(stream, LOAD_BYTES, signal);
    if (room !== undefined) await hold(stream, room);
    const object = await store.load(ref, range, { signal });
    const pace = pacing.body('download', stream, signal, (bytes) => (counts.bytesOut += bytes));
    const more = object.length > SENT_AHEAD + MORE_AHEAD && takeMoreFor(stream, MORE_AHEAD);
    const ahead = more ? SENT_AHEAD + MORE_AHEAD : SENT_AHEAD;
    await respondObject(stream, object, range !== undefined && object.size > 0, pace, ahead);
  };

  const perform = async (stream: ServerHttp2Stream, operation: Operation, signal: AbortSignal): Promise<void> => {
    const facts = await authorize(operation, signal);
    switch (operation.kind) {
      case 'greet':
        respondEmpty(stream, 404);
        return;
      case 'create-repository':
        // The store makes what it needs with the first object; restic wants only to hear that it may go on.
        respondEmpty(stream, 200);
        return;
      case 'list':
        return list(stream, operation, signal);
      case 'stat': {
        const stat = await store.stat(operation.ref, { signal });
        if (stat === undefined) throw new GatewayError('not-found');
        respondStat(stream, stat);
        return;
      }
      case 'load':
        return load(stream, operation, signal);
      case 'save':
        await changes.save(stream, operation, signal);
        respondEmpty(stream, 200);
        return;
      case 'remove':
        // A repeated removal must not fail, and one of nothing changes nothing.
        if (!isAbsent(facts)) await changes.remove(operation.ref, signal);
        respondEmpty(stream, 200);
        return;
    }
  };

  const serve = async (stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> => {
    const signal = untilGone(stream);
    let operation: Operation | undefined;
    try {
      const wait = pacing.begin(stream, signal);
      if (wait !== undefined) await wait;
      if (signal.aborted) throw new GatewayError('client-gone');
      operation = operationOf(headers);
      await perform(stream, operation, signal);
      if (operation.kind === 'remove') floor.settle(operation.ref, 'gone');
      meter?.operation(operation.kind, 'ok');
    } catch (error) {
      if (operation?.kind === 'remove') floor.settle(operation.ref, 'failed');
      meter?.operation(operation?.kind ?? 'request', isOpen(stream) ? resultOf(asGatewayError(error)) : 'gone');
      await reports.fail(stream, operation, error);
    }
    pacing.end(stream, headers);
  };

  return {
    counts,
    handle: (stream, headers) => {
      if (running.size >= MAX_UNDER_WAY) {
        refuse(stream);
        return Promise.resolve();
      }
      const task = serve(stream, headers)
        .catch(defect)
        .finally(() => running.delete(task));
      running.add(task);
      return task;
    },
    idle: async () => {
      while (running.size > 0) await Promise.all(running);
      await records.conclude();
    },
  };
}

/** Aborted when the client no longer waits for an answer, or has it. */
function untilGone(stream: ServerHttp2Stream): AbortSignal {
  const request = new AbortController();
  const gone = (): void => {
    request.abort();
  };
  stream.on('aborted', gone);
  stream.on('close', gone);
  return request.signal;
}

/** @throws GatewayError for what is none of restic's requests */
function operationOf(headers: IncomingHttpHeaders): Operation {
  return parseOperation({
    method: headers[':method'] ?? '',
    path: headers[':path'] ?? '',
    range: headers.range,
    accept: headers.accept,
    contentLength: headers['content-length'],
    contentEncoding: headers['content-encoding'],
  });
}

/** Whether what is to be removed was looked up and is not there. */
function isAbsent(facts: Facts): boolean {
  return (
    (facts.kind === 'lock' && facts.lock === undefined) || (facts.kind === 'snapshot' && facts.snapshot === undefined)
  );
}

/** Looks up what the policy has to know of the operation. */
async function gatherFacts(
  { grant, store }: HandlerContext,
  floor: Floor,
  operation: Operation,
  signal: AbortSignal,
): Promise<Facts> {
  const kind = factsNeeded(grant, operation);
  switch (kind) {
    case 'none':
      return { kind };
    case 'repository':
      return { kind, exists: (await store.stat(CONFIG_REF, { signal })) !== undefined };
    case 'lock': {
      const stat = operation.kind === 'remove' ? await store.stat(operation.ref, { signal }) : undefined;
      if (stat === undefined) return { kind, lock: undefined };
      return { kind, lock: { ageMs: stat.ageMs, ...(stat.uploader ? { uploader: stat.uploader } : {}) } };
    }
    case 'left':
      return { kind, snapshots: floor.left };
    case 'snapshot': {
      const removed =
        operation.kind === 'remove' && operation.ref.type === 'snapshots' ? operation.ref.name : undefined;
      return { kind, snapshot: removed && (await floor.lookUp(removed, { signal })) };
    }
  }
}

/** What an error makes of a request. */
function resultOf(error: GatewayError): OperationResult {
  if (error.code === 'client-gone') return 'gone';
  if (error.code === 'not-found') return 'absent';
  return isFailure(error) ? 'failed' : 'denied';
}
