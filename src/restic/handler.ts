/**
 * Serves one client's requests on its repository: parse, decide, act on the store, answer; the audit has a line before every change.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { asGatewayError, GatewayError, isGatewayError } from '../core/errors.ts';
import { CONFIG_REF, objectKey, SIZE_LIMITS, type ObjectRef } from '../core/object.ts';
import { parseOperation, type Operation } from '../core/operation.ts';
import { decide, factsNeeded, type DenialReason, type Facts } from '../core/policy.ts';
import type { Grant, Origin } from '../core/principal.ts';
import type { AuditEvent, AuditSink, SessionIdentity } from '../ports/audit-sink.ts';
import type { Attempt, CountedRecords } from '../ports/counted-records.ts';
import type { Log } from '../ports/log.ts';
import type { OperationResult, SessionMeter } from '../ports/meter.ts';
import type { RepositoryStore } from '../ports/repository-store.ts';
import type { Rate, Throttle } from '../ports/throttle.ts';
import type { Turns } from '../ports/turns.ts';
import { createAllowance } from '../core/allowance.ts';
import { hold, MAX_UNDER_WAY, refuse } from './http2-session.ts';
import {
  inPieces,
  respondEmpty,
  respondError,
  respondList,
  respondObject,
  respondStat,
  type Pace,
} from './responses.ts';
import { mayGather, STREAM_WINDOW, takeFor } from './stream-memory.ts';
import { isOpen } from './streams.ts';
import { bufferedUpload, digestOf, namedUpload, type Upload } from './upload.ts';

/** What a handler serves and reports to. */
export interface HandlerContext {
  readonly identity: SessionIdentity;
  readonly grant: Grant;
  readonly store: RepositoryStore;
  /** Undefined for who is held to no rate. */
  readonly throttle: Throttle | undefined;
  /** Undefined for who waits for nobody. */
  readonly turns?: Turns | undefined;
  readonly audit: AuditSink;
  /** Takes what a client can cause as often as it likes. */
  readonly records: CountedRecords;
  readonly log: Log;
  /** Undefined where nobody wants to know. */
  readonly meter?: SessionMeter | undefined;
  /** Says one plain line to the person at the client. */
  readonly tell: (line: string) => void;
  /** Awaited before the locks are listed, as long as it takes; undefined for who need not wait. */
  readonly beforeLocks?: ((signal: AbortSignal) => Promise<void>) | undefined;
}

/** What the session has done so far. */
export interface Counts {
  bytesIn: number;
  bytesOut: number;
  objectsCreated: number;
  objectsRemoved: number;
  denied: number;
}

/** Serves the streams of one session. */
export interface Handler {
  readonly counts: Readonly<Counts>;
  /** Takes one request. Resolves when nothing works on it any more, and never rejects. */
  readonly handle: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => Promise<void>;
  /** Resolves when no request is under way and the audit has all that is to say of them. */
  idle(): Promise<void>;
}

/** An answer that the policy or append-only itself refuses; already in the audit when thrown. */
class Denied extends GatewayError {
  readonly line: string;
  constructor(line: string) {
    super('denied', { detail: line });
    this.line = line;
  }
}

/** How many failed saves are remembered, to tell restic's own clean-up from an attack. */
const REMEMBERED_FAILURES = 1000;

/**
 * What an object on its way out takes, in bytes: what was read ahead of it, what waits to be sent, and its packets; and what a list takes
 * with a page.
 */
const LOAD_BYTES = 640 * 1024;
const LIST_BYTES = 512 * 1024;

/** A rate that has made a session wait for less than this, in ms, is not worth a word. */
const WORTH_TELLING_MS = 1000;

/** What the user is told of a rate. */
const SLOWED: Readonly<Record<Rate, string>> = {
  upload: 'uploads are slowed down to',
  download: 'downloads are slowed down to',
  requests: 'requests are slowed down to',
  'small-objects': 'small objects are slowed down to',
};

/** A change that counts for nothing: of the admin, or one that was not announced. */
const FREE: Attempt = { settle: () => undefined };

/** Lines of the log about an audit that takes nothing, over all sessions: a client that goes on asking must not fill the log. */
const unrecorded = createAllowance(20, 0.1, () => performance.now());

/**
 * Makes the handler of one session.
 * @param defect - told of what was thrown that nobody had foreseen
 */
export function createHandler(context: HandlerContext, defect: (error: unknown) => void): Handler {
  const { identity, grant, store, throttle, turns, audit, records, log, meter } = context;
  const { principal } = identity;
  const origin: Origin = { client: principal.client, door: principal.door, session: identity.session };
  const counts: Counts = { bytesIn: 0, bytesOut: 0, objectsCreated: 0, objectsRemoved: 0, denied: 0 };
  const failedSaves = new Set<string>();
  const told = new Set<string>();
  const running = new Set<Promise<void>>();

  const record = (event: AuditEvent): Promise<void> => audit.append(identity, event);

  /** A change that is about to be announced. @returns undefined when too many of the client's have failed */
  const begin = (): Attempt | undefined => (principal.door === 'admin' ? FREE : records.attempt());

  /** The person sees each kind of trouble once a session. */
  const tellOnce = (topic: string, line: string): void => {
    if (told.has(topic)) return;
    told.add(topic);
    context.tell(line);
  };

  /** How long each rate has made requests wait, all of them together, in ms. */
  const waited = new Map<Rate, number>();

  /** Waits for what the throttle says. @throws GatewayError `client-gone` */
  const slowDown = async (
    stream: ServerHttp2Stream,
    rate: Rate,
    wait: Promise<void>,
    signal: AbortSignal,
  ): Promise<void> => {
    const began = performance.now();
    await hold(stream, wait);
    if (signal.aborted) throw new GatewayError('client-gone');
    const before = waited.get(rate) ?? 0;
    const now = before + performance.now() - began;
    const telling = before < WORTH_TELLING_MS && now >= WORTH_TELLING_MS;
    waited.set(rate, now);
    if (!telling || throttle === undefined) return;
    const limit = throttle.tell(rate);
    tellOnce(rate, `${SLOWED[rate]} ${limit}, the most that client ${principal.client} may.`);
    try {
      await records.record(identity, { kind: 'throttled', reason: rate, limit });
    } catch (error) {
      // Whoever changes something hears of it, and reading goes on.
      log.error({ err: error, session: identity.session }, asGatewayError(error).message);
    }
  };

  const countDenial = (reason: string): void => {
    counts.denied++;
    meter?.denied(reason);
  };

  const deny = async (denial: Extract<AuditEvent, { kind: 'denied' }>, line: string): Promise<Denied> => {
    await records.record(identity, denial);
    countDenial(denial.reason);
    return new Denied(line);
  };

  const gatherFacts = async (operation: Operation, signal: AbortSignal): Promise<Facts> => {
    const kind = factsNeeded(grant, operation);
    switch (kind) {
      case 'none':
        return { kind };
      case 'repository':
        return { kind, exists: (await statOrAbsent(CONFIG_REF, signal)) !== undefined };
      case 'lock': {
        const stat = operation.kind === 'remove' ? await statOrAbsent(operation.ref, signal) : undefined;
        if (stat === undefined) return { kind, lock: undefined };
        return { kind, lock: { ageMs: stat.ageMs, ...(stat.origin ? { origin: stat.origin } : {}) } };
      }
    }
  };

  const statOrAbsent = async (ref: ObjectRef, signal: AbortSignal) => {
    try {
      return await store.stat(ref, { signal });
    } catch (error) {
      if (isGatewayError(error, 'not-found')) return undefined;
      throw error;
    }
  };

  /** Throws `Denied` unless the policy allows the operation. */
  const authorize = async (operation: Operation, signal: AbortSignal): Promise<Facts> => {
    const facts = await gatherFacts(operation, signal);
    const decision = decide(principal, grant, operation, facts);
    if (decision.allow) return facts;
    if (operation.kind !== 'save' && operation.kind !== 'remove' && operation.kind !== 'create-repository')
      throw new GatewayError('internal', { detail: 'a reading operation was denied' });
    const ref = 'ref' in operation ? { ref: operation.ref } : {};
    let reason: DenialReason | 'cleanup-after-failed-save' = decision.reason;
    // restic removes what it failed to save: refused as any other removal, but no attack and nothing to bother a person with.
    if (operation.kind === 'remove' && failedSaves.has(objectKey(operation.ref))) reason = 'cleanup-after-failed-save';
    else tellOnce('denied', `${decision.tell}.`);
    throw await deny({ kind: 'denied', operation: operation.kind, ...ref, reason }, decision.tell);
  };

  const save = async (
    stream: ServerHttp2Stream,
    { ref, size }: Operation & { kind: 'save' },
    signal: AbortSignal,
  ): Promise<void> => {
    if (size > SIZE_LIMITS[ref.type])
      throw new GatewayError('too-large', {
        detail: `${ref.type} may have ${SIZE_LIMITS[ref.type]} bytes, not ${size}`,
      });
    const turn = throttle?.object(size, signal);
    if (turn !== undefined) await slowDown(stream, 'small-objects', turn, signal);

    const storing = new AbortController();
    const progress = { announced: false, there: false, sha256: '', attempt: FREE };
    // Once the audit has said that the object comes, a client that goes away no longer stops it: what is said is carried out.
    const onGone = (): void => {
      if (!progress.announced) storing.abort();
    };
    signal.addEventListener('abort', onGone);
    const commit = async (): Promise<void> => {
      const attempt = begin();
      if (attempt === undefined) {
        // What is there already is no failure when nothing is announced.
        progress.there = (await statOrAbsent(ref, signal)) !== undefined;
        throw new GatewayError(progress.there ? 'already-exists' : 'too-many-failures');
      }
      progress.attempt = attempt;
      // From here on, whatever happens is told: a line that was begun may be in the file.
      progress.announced = true;
      await record({ kind: 'create', ref, size, sha256: progress.sha256 });
    };
    const source = incoming(stream, {
      piece: () => throttle?.piece('upload') ?? Infinity,
      before: (bytes) => {
        counts.bytesIn += bytes;
        const wait = throttle?.upload(bytes, signal);
        return wait && slowDown(stream, 'upload', wait, signal);
      },
    });
    const upload: Upload =
      ref.type === 'config'
        ? await bufferedUpload(source, size, commit)
        : namedUpload(source, size, ref.name, commit, () => mayGather(stream));
    const { sha256 } = upload.content;
    progress.sha256 = sha256;

    let outcome: 'created' | 'exists';
    try {
      outcome = await store.create(ref, upload.content, origin, { signal: storing.signal }).catch((error: unknown) => {
        if (progress.there) return 'exists';
        throw error;
      });
    } catch (error) {
      progress.attempt.settle('failed');
      if (progress.announced) await record({ kind: 'create-failed', ref, reason: asGatewayError(error).code });
      // Content that is wrong for a name that is taken is an attempt to overwrite, and is said to be one.
      if (isGatewayError(error, 'content-mismatch') && (await statOrAbsent(ref, signal)) !== undefined)
        throw await overwrite(ref);
      throw error;
    }
    progress.attempt.settle(outcome === 'created' ? 'done' : 'failed');
    if (outcome === 'created') {
      counts.objectsCreated++;
      return;
    }
    if (progress.announced) await record({ kind: 'create-failed', ref, reason: 'exists' });
    // A save whose answer was lost is sent again: good, if the very same content is there, whole.
    if (!(await upload.verify())) throw await overwrite(ref);
    const stored = await store.load(ref, undefined, { signal });
    if (stored.size === size && (await digestOf(stored.body)) === sha256) return;
    throw await overwrite(ref);
  };

  const overwrite = async (ref: ObjectRef): Promise<Denied> => {
    const line = new GatewayError('already-exists').tell;
    tellOnce('denied', `refused to overwrite ${ref.type}: ${line}.`);
    return deny({ kind: 'denied', operation: 'save', ref, reason: 'overwrite' }, line);
  };

  const remove = async (ref: ObjectRef, signal: AbortSignal): Promise<void> => {
    const attempt = begin();
    if (attempt === undefined) {
      if ((await statOrAbsent(ref, signal)) === undefined) return;
      throw new GatewayError('too-many-failures');
    }
    await record({ kind: 'remove', ref });
    let outcome: 'removed' | 'hidden' | 'absent';
    try {
      outcome = await store.remove(ref, { signal });
    } catch (error) {
      attempt.settle('failed');
      await record({ kind: 'remove-failed', ref, reason: asGatewayError(error).code });
      throw error;
    }
    attempt.settle(outcome === 'absent' ? 'failed' : 'done');
    if (outcome === 'absent') {
      await record({ kind: 'remove-failed', ref, reason: 'absent' });
      return;
    }
    counts.objectsRemoved++;
    // Every run removes its own lock; only who thins out the backups needs to know where the space went.
    if (outcome === 'hidden' && ref.type !== 'locks')
      tellOnce(
        'hidden',
        'the bucket keeps old versions: what is removed is hidden, not gone, and its space comes free only when its retention and the lifecycle rules of the bucket let it go.',
      );
  };

  /** @param sending - told of every piece's length in bytes */
  const paceOf = (stream: ServerHttp2Stream, signal: AbortSignal, sending: (bytes: number) => void): Pace => ({
    piece: () => throttle?.piece('download') ?? Infinity,
    before: (bytes) => {
      sending(bytes);
      const wait = throttle?.download(bytes, signal);
      return wait && slowDown(stream, 'download', wait, signal);
    },
  });

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
      case 'list': {
        if (operation.type === 'locks' && context.beforeLocks !== undefined)
          await hold(stream, context.beforeLocks(signal));
        const room = takeFor(stream, LIST_BYTES, signal);
        if (room !== undefined) await hold(stream, room);
        await respondList(
          stream,
          operation.version,
          store.list(operation.type, { signal }),
          paceOf(stream, signal, () => undefined),
        );
        return;
      }
      case 'stat':
        respondStat(stream, await store.stat(operation.ref, { signal }));
        return;
      case 'load': {
        const room = takeFor(stream, LOAD_BYTES, signal);
        if (room !== undefined) await hold(stream, room);
        const object = await store.load(operation.ref, operation.range, { signal });
        const pace = paceOf(stream, signal, (bytes) => (counts.bytesOut += bytes));
        await respondObject(stream, object, operation.range !== undefined, pace);
        return;
      }
      case 'save':
        await save(stream, operation, signal);
        respondEmpty(stream, 200);
        return;
      case 'remove':
        // A repeated removal must not fail, and one of nothing changes nothing.
        if (!(facts.kind === 'lock' && facts.lock === undefined)) await remove(operation.ref, signal);
        respondEmpty(stream, 200);
        return;
    }
  };

  /** Says, records and answers a failure. */
  const fail = async (stream: ServerHttp2Stream, operation: Operation | undefined, thrown: unknown): Promise<void> => {
    const error = asGatewayError(thrown);
    if (operation?.kind === 'save') {
      if (failedSaves.size < REMEMBERED_FAILURES) failedSaves.add(objectKey(operation.ref));
    }
    if (!(error instanceof Denied) && isOpen(stream)) {
      const ref = operation !== undefined && 'ref' in operation ? { ref: operation.ref } : {};
      if (operation === undefined) {
        countDenial(error.code);
        await records.record(identity, { kind: 'denied', operation: 'request', reason: error.code });
      } else if (error.status >= 500 && error.code !== 'quota-exceeded') {
        const written = await records.record(identity, {
          kind: 'failed',
          operation: operation.kind,
          ...ref,
          reason: error.code,
          detail: error.message,
        });
        tellOnce(error.code, `${error.tell}.`);
        if (written)
          log.error(
            { err: error, session: identity.session, client: principal.client, operation: operation.kind },
            error.message,
          );
      } else if (error.status !== 404 && operation.kind === 'save') {
        countDenial(error.code);
        await records.record(identity, { kind: 'denied', operation: 'save', ...ref, reason: error.code });
        tellOnce(error.code, `${error.tell}.`);
      } else if (error.code === 'retained') {
        // The audit has its `remove-failed`.
        tellOnce(error.code, `${error.tell}.`);
      }
    }
    respondError(stream, error);
  };

  const serve = async (stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> => {
    const request = new AbortController();
    const gone = (): void => {
      request.abort();
    };
    stream.on('aborted', gone);
    stream.on('close', gone);
    let operation: Operation | undefined;
    try {
      const turn = throttle?.request(request.signal);
      if (turn !== undefined) await slowDown(stream, 'requests', turn, request.signal);
      const begin = turns?.take(request.signal);
      if (begin !== undefined) await hold(stream, begin);
      if (request.signal.aborted) throw new GatewayError('client-gone');
      operation = parseOperation({
        method: headers[':method'] ?? '',
        path: headers[':path'] ?? '',
        range: headers.range,
        accept: headers.accept,
        contentLength: headers['content-length'],
        contentEncoding: headers['content-encoding'],
      });
      await perform(stream, operation, request.signal);
      meter?.operation(operation.kind, 'ok');
    } catch (error) {
      meter?.operation(operation?.kind ?? 'request', isOpen(stream) ? resultOf(asGatewayError(error)) : 'gone');
      try {
        await fail(stream, operation, error);
      } catch (second) {
        // The audit cannot take the failure itself: the client hears so, and nothing was changed.
        const failure = asGatewayError(second);
        tellOnce(failure.code, `${failure.tell}.`);
        if (unrecorded.take())
          log.error({ err: second, session: identity.session, client: principal.client }, failure.message);
        respondError(stream, failure);
      }
    }
    if (throttle !== undefined && !stream.endAfterHeaders && !stream.readableEnded)
      throttle.discarded(sentAhead(headers['content-length']));
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

/** What an error makes of a request. */
function resultOf({ code, status }: GatewayError): OperationResult {
  if (code === 'client-gone') return 'gone';
  if (code === 'not-found') return 'absent';
  return status >= 500 && code !== 'quota-exceeded' ? 'failed' : 'denied';
}

/** How much of a body that is not read to its end may have come, in bytes. @param length - as declared */
function sentAhead(length: string | undefined): number {
  const declared = Number(length);
  return Number.isNaN(declared) ? STREAM_WINDOW : Math.min(declared, STREAM_WINDOW);
}

/**
 * The body of a request; left early, the stream stays open for an answer.
 * @param pace - heeded before each piece is handed on, and with it before more is read
 */
async function* incoming(stream: ServerHttp2Stream, pace: Pace): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>) {
      for (const piece of inPieces(chunk, pace.piece())) {
        const wait = pace.before(piece.length);
        if (wait !== undefined) await wait;
        yield piece;
      }
    }
  } catch (error) {
    throw new GatewayError('client-gone', { cause: error });
  }
}
