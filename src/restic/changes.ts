/** Carries out what changes a repository, saving and removing: announced in the audit before anything becomes visible. */
import type { ServerHttp2Stream } from 'node:http2';
import { asGatewayError, GatewayError, isGatewayError } from '../core/errors.ts';
import { SIZE_LIMITS, type ObjectRef } from '../core/object.ts';
import type { Operation } from '../core/operation.ts';
import { idOf, type Uploader } from '../core/principal.ts';
import type { Attempt } from '../ports/counted-records.ts';
import type { Counts, HandlerContext } from './context.ts';
import type { Pacing } from './pacing.ts';
import type { Reports } from './reports.ts';
import { inPieces, type Pace } from './responses.ts';
import { mayGather } from './stream-memory.ts';
import { bufferedUpload, digestOf, namedUpload, type Upload } from './upload.ts';

/** A change that counts for nothing: of the admin, or one that was not announced. */
const FREE: Attempt = { settle: () => undefined };

/** Changes of one session. */
interface Changes {
  /** Stores the body of a request. Resolves when the object is there, whole and durable. @throws GatewayError for whatever else */
  save(stream: ServerHttp2Stream, operation: Operation & { kind: 'save' }, signal: AbortSignal): Promise<void>;
  /** Removes an object, or finds it absent. */
  remove(ref: ObjectRef, signal: AbortSignal): Promise<void>;
}

/** How far an object on its way in has come. */
interface Saving {
  readonly ref: ObjectRef;
  readonly size: number;
  readonly upload: Upload;
  attempt: Attempt;
  /** The audit has said that it comes, or may have. */
  announced: boolean;
  /** It was found to be there before anything was announced. */
  there: boolean;
}

/** Makes the changes of one session. */
export function createChanges(context: HandlerContext, counts: Counts, pacing: Pacing, reports: Reports): Changes {
  const { identity, store, audit, records } = context;
  const { principal } = identity;
  const uploader: Uploader = { client: idOf(principal), via: principal.via, session: identity.session };

  /** A change that is about to be announced. @returns undefined when too many of the client's have failed */
  const begin = (): Attempt | undefined => (principal.via === 'admin' ? FREE : records.attempt());

  /** Opens the body of a request, so that the audit hears of it just before the last piece goes to the store. */
  const receive = async (
    stream: ServerHttp2Stream,
    { ref, size }: Operation & { kind: 'save' },
    signal: AbortSignal,
  ): Promise<Saving> => {
    const commit = async (): Promise<void> => {
      const attempt = begin();
      if (attempt === undefined) {
        // What is there already is no failure when nothing is announced.
        progress.there = (await store.stat(ref, { signal })) !== undefined;
        throw new GatewayError(progress.there ? 'already-exists' : 'too-many-failures');
      }
      progress.attempt = attempt;
      // From here on, whatever happens is told: a line that was begun may be in the file.
      progress.announced = true;
      await audit.append(identity, { kind: 'create', ref, size, sha256: upload.content.sha256 });
    };
    const pace = pacing.body('upload', stream, signal, (bytes) => (counts.bytesIn += bytes));
    const source = incoming(stream, pace);
    const upload =
      ref.type === 'config'
        ? await bufferedUpload(source, size, commit)
        : namedUpload(source, size, ref.name, commit, () => mayGather(stream));
    const progress: Saving = { ref, size, upload, attempt: FREE, announced: false, there: false };
    return progress;
  };

  /** Gives an object to the store, and settles what was announced. */
  const deliver = async (saving: Saving, signal: AbortSignal): Promise<'created' | 'exists'> => {
    const storing = new AbortController();
    // Once the audit has said that the object comes, a client that goes away no longer stops it: what is said is carried out.
    signal.addEventListener('abort', () => {
      if (!saving.announced) storing.abort();
    });
    const { ref, upload } = saving;
    let outcome: 'created' | 'exists';
    try {
      outcome = await store
        .create(ref, upload.content, uploader, { signal: storing.signal })
        .catch((error: unknown) => {
          if (saving.there) return 'exists';
          throw error;
        });
    } catch (error) {
      saving.attempt.settle('failed');
      if (saving.announced)
        await audit.append(identity, { kind: 'create-failed', ref, reason: asGatewayError(error).code });
      // Content that is wrong for a name that is taken is an attempt to overwrite, and is said to be one.
      if (isGatewayError(error, 'content-mismatch') && (await store.stat(ref, { signal })) !== undefined)
        throw await overwrite(ref);
      throw error;
    }
    saving.attempt.settle(outcome === 'created' ? 'done' : 'failed');
    if (outcome === 'exists' && saving.announced)
      await audit.append(identity, { kind: 'create-failed', ref, reason: 'exists' });
    return outcome;
  };

  /** @returns what to throw */
  const overwrite = (ref: ObjectRef): Promise<GatewayError> => {
    const line = new GatewayError('already-exists').clientMessage;
    reports.notifyOnce('denied', `refused to overwrite ${ref.type}: ${line}.`);
    return reports.deny({ kind: 'denied', operation: 'save', ref, reason: 'overwrite' }, line);
  };

  return {
    save: async (stream, operation, signal) => {
      const { ref, size } = operation;
      if (size > SIZE_LIMITS[ref.type])
        throw new GatewayError('too-large', {
          detail: `${ref.type} may have ${SIZE_LIMITS[ref.type]} bytes, not ${size}`,
        });
      const wait = pacing.object(stream, size, signal);
      if (wait !== undefined) await wait;
      const saving = await receive(stream, operation, signal);
      if ((await deliver(saving, signal)) === 'created') counts.objectsCreated++;
      else if (!(await isSame(store, saving, signal))) throw await overwrite(ref);
    },
    remove: async (ref, signal) => {
      const known = await describe(context, ref, signal);
      const attempt = begin();
      if (attempt === undefined) {
        if ((await store.stat(ref, { signal })) === undefined) return;
        throw new GatewayError('too-many-failures');
      }
      await audit.append(identity, { kind: 'remove', ref, ...known });
      let outcome: Awaited<ReturnType<typeof store.remove>>;
      try {
        outcome = await store.remove(ref, { signal });
      } catch (error) {
        attempt.settle('failed');
        await audit.append(identity, { kind: 'remove-failed', ref, reason: asGatewayError(error).code });
        throw error;
      }
      attempt.settle(outcome === 'absent' ? 'failed' : 'done');
      if (outcome === 'absent') {
        await audit.append(identity, { kind: 'remove-failed', ref, reason: 'absent' });
        return;
      }
      counts.objectsRemoved++;
      // Every run removes its own lock; only who thins out the backups needs to know where the space went.
      if (outcome === 'hidden' && ref.type !== 'locks')
        reports.notifyOnce(
          'hidden',
          'the bucket keeps old versions: what is removed is hidden, not gone, and its space comes free only when its retention and the lifecycle rules of the bucket let it go.',
        );
    },
  };
}

/** A save whose answer was lost is sent again: good, if the very same content is there, whole. */
async function isSame(
  store: HandlerContext['store'],
  { ref, size, upload }: Saving,
  signal: AbortSignal,
): Promise<boolean> {
  if (!(await upload.verify())) return false;
  const stored = await store.load(ref, undefined, { signal });
  return stored.size === size && (await digestOf(stored.body)) === upload.content.sha256;
}

/**
 * What the audit says of something that is removed, so that it can be told how much was lost: of each snapshot, and of all that a client
 * removes. The admin's prune does not wait for it.
 */
async function describe(
  { store, identity: { principal } }: HandlerContext,
  ref: ObjectRef,
  signal: AbortSignal,
): Promise<{ size?: number; arrived?: string }> {
  if (ref.type === 'locks' || (principal.via === 'admin' && ref.type !== 'snapshots')) return {};
  const stat = await store.stat(ref, { signal });
  return stat === undefined ? {} : { size: stat.size, arrived: new Date(Date.now() - stat.ageMs).toISOString() };
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
