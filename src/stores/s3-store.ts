/**
 * Repositories on S3: the atomic create is `If-None-Match: *`, the content's name is the signed hash of the payload, and who brought an
 * object stands in its metadata.
 */
import type { S3StoreConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { objectKey, parseObjectKey, type NamedType, type ObjectRef } from '../core/object.ts';
import { resolveRange, type ByteRange } from '../core/operation.ts';
import type { Uploader } from '../core/principal.ts';
import { KEPT_NOTE, parseKeptNote, parseTrashKey, removersBy, type KeptNote } from '../core/trash.ts';
import type {
  CallOptions,
  Content,
  ListedObject,
  ListOptions,
  LoadedObject,
  ObjectStat,
  Storage,
  StoredRepository,
} from '../ports/repository-store.ts';
import { TRASH } from '../ports/repository-maintenance.ts';
import { contentRange } from './s3/answers.ts';
import { copyObject } from './s3/copy.ts';
import { Download } from './s3/download.ts';
import { retentionHeaders } from './s3/object-lock.ts';
import { NoCredentials, S3Refusal } from './s3/errors.ts';
import { uploaderHeaders, readStat } from './s3/metadata.ts';
import { listPage, type ListPage } from './s3/list.ts';
import { lookUp } from './s3/look-up.ts';
import { inParallel } from './s3/parallel.ts';
import { S3Client, type CredentialSource } from './s3/s3-client.ts';
import { BadAnswer, type HttpAnswer, type S3Limits } from './s3/transport.ts';
import { ContentError, UploadBody } from './s3/upload-body.ts';

/** restic has no watchdog of its own on this backend: each wait must end in an answer. */
export const LIMITS: S3Limits = { connectMs: 10_000, answerMs: 60_000, idleMs: 60_000, pauseMs: 100 };

/** An access key as the config has it. */
export interface S3Secret {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/**
 * Opens storage on S3; makes no call to it yet.
 * @param secret - undefined: the credential chain of the AWS SDK (environment, shared files, web identity, container, instance)
 * @param limits - how long the storage may take; by default 10 s to connect, 60 s for everything else
 * @throws GatewayError `store-misconfigured` when the endpoint is no URL
 */
export function createS3Storage(
  config: S3StoreConfig,
  secret: S3Secret | undefined,
  limits: S3Limits = LIMITS,
): Storage {
  const credentials = secret === undefined ? credentialChain(config.region) : () => secret;
  const client = new S3Client(config, credentials, limits);
  return {
    repository: (prefix) => new S3Repository(client, prefix === '' ? '' : `${prefix}/`, limits, config.objectLock),
    reach: async ({ signal }) => {
      try {
        await listPage(client, '', undefined, signal, { most: 1 });
      } catch (error) {
        throw client.failure(error, signal);
      }
    },
    check: async (_prefixes, { signal }) => {
      try {
        const { checkBucket } = await import('./s3/store-check.ts');
        return await checkBucket(client, config, signal);
      } catch (error) {
        throw client.failure(error, signal);
      }
    },
    // An upload is one request without parts, and what is not whole is nothing there.
    tidy: () => Promise.resolve(),
    close: () => {
      client.close();
      return Promise.resolve();
    },
  };
}

/** The SDK's chain, loaded only where it is used: it costs what the rest of a session's start does together. */
export function credentialChain(region: string): CredentialSource {
  let provider: CredentialSource | undefined;
  return async () => {
    if (provider === undefined) {
      const { defaultProvider } = await import('@aws-sdk/credential-provider-node');
      provider = defaultProvider({ clientConfig: { region } });
    }
    try {
      return await provider();
    } catch (cause) {
      throw new NoCredentials(cause instanceof Error ? cause.message : 'unknown reason', { cause });
    }
  };
}

/** How many requests of one list run at once: the first hex digits of a name. */
const SHARDS = Array.from({ length: 16 }, (_, digit) => digit.toString(16));

class S3Repository implements StoredRepository {
  readonly #client: S3Client;
  /** What stands before each key: empty, or ending in a slash. */
  readonly #prefix: string;
  readonly #limits: S3Limits;
  readonly #objectLock: S3StoreConfig['objectLock'];
  /** The batch of which the trash has, or is about to have, its note. */
  #noted: { readonly batch: string; readonly done: Promise<void> } | undefined;

  constructor(client: S3Client, prefix: string, limits: S3Limits, objectLock: S3StoreConfig['objectLock']) {
    this.#objectLock = objectLock;
    this.#client = client;
    this.#prefix = prefix;
    this.#limits = limits;
  }

  async create(
    ref: ObjectRef,
    content: Content,
    uploader: Uploader,
    options: CallOptions,
  ): Promise<'created' | 'exists'> {
    const { signal } = options;
    const body = new UploadBody(content);
    const lock = this.#objectLock;
    const now = new Date();
    try {
      const { status } = await this.#client.send(
        {
          method: 'PUT',
          key: this.#key(ref),
          headers: {
            'content-type': 'application/octet-stream',
            'if-none-match': '*',
            ...uploaderHeaders(uploader, now, ref.type === 'config' ? content.sha256 : undefined),
            // restic must be able to remove its locks.
            ...(lock !== undefined && ref.type !== 'locks' && retentionHeaders(lock, now)),
          },
          body,
          // A 412 may also be the answer to the second sending of what the first one did store, its answer lost: it exists all the same.
          accept: [200, 412],
        },
        signal,
      );
      return status === 200 ? 'created' : 'exists';
    } catch (error) {
      if (error instanceof ContentError) throw error.cause as Error;
      // Not every storage says what is invalid; what may be here is the retention, in a bucket that knows none.
      if (lock !== undefined && error instanceof S3Refusal && error.code === 'InvalidRequest')
        throw new GatewayError('store-misconfigured', {
          detail: `the bucket takes nothing with a retention: give it Object Lock, or remove objectLock from the store (${error.message})`,
          cause: error,
        });
      throw this.#client.failure(error, signal);
    } finally {
      await body.release(signal);
    }
  }

  async load(ref: ObjectRef, range: ByteRange | undefined, options: CallOptions): Promise<LoadedObject> {
    const { signal } = options;
    const failure = (error: unknown): GatewayError => this.#client.failure(error, signal);
    let stream: HttpAnswer['stream'];
    try {
      const answer = await this.#client.send(
        {
          method: 'GET',
          key: this.#key(ref),
          headers: range === undefined ? {} : { range: `bytes=${range.first}-${range.last ?? ''}` },
          streamed: true,
          accept: range === undefined ? [200] : [200, 206, 416],
        },
        signal,
      );
      // S3 knows no range of an object without bytes.
      if (answer.status === 416) {
        if ((await this.stat(ref, options))?.size === 0) return { size: 0, first: 0, length: 0, body: NO_BYTES };
        throw new GatewayError('range-not-satisfiable');
      }
      stream = answer.stream;
      if (stream === undefined) throw new BadAnswer('it answered an object without a body');
      const place = placeOf(answer, range);
      return { ...place, body: new Download(stream, place.length, this.#limits.idleMs, signal, failure) };
    } catch (error) {
      stream?.destroy();
      throw isNoSuchKey(error) ? new GatewayError('not-found', { cause: error }) : failure(error);
    }
  }

  async stat(ref: ObjectRef, { signal }: CallOptions): Promise<ObjectStat | undefined> {
    try {
      const answer = await lookUp(this.#client, this.#key(ref), {}, signal);
      return answer && readStat(answer);
    } catch (error) {
      throw this.#client.failure(error, signal);
    }
  }

  async remove(ref: ObjectRef, options: CallOptions): Promise<'removed' | 'hidden' | 'absent'> {
    const { signal } = options;
    // S3 answers a DELETE alike whether something was there or not, so that is looked up before. Should two remove the same object
    // between look and act, both hear `removed`: harmless, as it is gone for both.
    if ((await this.stat(ref, options)) === undefined) return 'absent';
    try {
      return await this.#client.remove(this.#key(ref), signal);
    } catch (error) {
      // Storages word it as they like, and some in the same words as a right that is missing.
      if (this.#objectLock !== undefined && error instanceof S3Refusal && error.status === 403)
        throw new GatewayError('retained', { cause: error });
      // Not AWS, but some others, say so when someone else was quicker.
      if (isNoSuchKey(error)) return 'absent';
      throw this.#client.failure(error, signal);
    }
  }

  async setAside(
    ref: ObjectRef,
    batch: string,
    options: CallOptions,
  ): Promise<'kept' | 'hidden' | 'removed' | 'absent'> {
    const { signal } = options;
    const client = this.#client;
    const [from, to] = [this.#key(ref), `${this.#prefix}${TRASH}${batch}/${objectKey(ref)}`];
    try {
      const source = await lookUp(client, from, {}, signal);
      if (source === undefined) return 'absent';
      // Of a version that has an id of its own, a removal without one takes nothing away, and the storage has its own trash. What was there
      // before versions were kept has the id `null`, and is gone once they are kept no more.
      const version = source.headers['x-amz-version-id'];
      if ((version ?? 'null') !== 'null') {
        await this.#note(batch, signal);
        return await client.remove(from, signal);
      }
      const { size } = readStat(source);
      // All other names say what the content is, so that what is there already may be written over.
      if (ref.type === 'config') await this.#assertNoOther(to, source, signal);
      await copyObject(client, { from, to, size }, signal);
      await client.remove(from, signal);
      return 'kept';
    } catch (error) {
      // Storages word it as they like, and some in the same words as a right that is missing.
      if (this.#objectLock !== undefined && error instanceof S3Refusal && error.status === 403)
        throw new GatewayError('retained', { cause: error });
      // Someone else was quicker.
      if (isNoSuchKey(error)) return 'absent';
      throw client.failure(error, signal);
    }
  }

  /** Notes in the trash that the storage keeps what this batch removes, once for each batch. */
  #note(batch: string, signal: AbortSignal): Promise<void> {
    if (this.#noted?.batch === batch) return this.#noted.done;
    const done = import('./s3/note.ts').then(({ putNote }) =>
      putNote(this.#client, `${this.#prefix}${TRASH}${batch}/${KEPT_NOTE}`, signal),
    );
    const noted = { batch, done };
    this.#noted = noted;
    // The next removal tries again.
    done.catch(() => {
      if (this.#noted === noted) this.#noted = undefined;
    });
    return done;
  }

  async removedByClients({ signal }: CallOptions): Promise<number> {
    const trash = this.#prefix + TRASH;
    const notes: KeptNote[] = [];
    let bytes = 0;
    let token: string | undefined;
    try {
      do {
        const page = await this.#page(trash, token, signal);
        if (page.next !== undefined && page.next === token)
          throw new BadAnswer('it gives the same page of a list for ever');
        for (const { key, size, modified } of page.objects) {
          if (parseTrashKey(key.slice(trash.length))?.batch.by === 'client') bytes += size;
          const batch = parseKeptNote(key.slice(trash.length));
          if (batch !== undefined && modified !== undefined) notes.push({ batch, noted: modified });
        }
        token = page.next;
      } while (token !== undefined);
      if (!notes.some(({ batch }) => batch.by === 'client')) return bytes;
      const { RemovedVersions } = await import('./s3/removed-versions.ts');
      const versions = new RemovedVersions(this.#client, this.#prefix, this.#objectLock);
      const remover = removersBy(notes);
      for (const type of ['data', 'index', 'snapshots'])
        for await (const page of versions.removed(`${type}/`, { signal }))
          for (const { removed, size } of page) if (remover(removed)?.by === 'client') bytes += size;
      return bytes;
    } catch (error) {
      throw this.#client.failure(error, signal);
    }
  }

  /** @throws GatewayError `store-unavailable` when a config of other content is there */
  async #assertNoOther(key: string, source: HttpAnswer, signal: AbortSignal): Promise<void> {
    const there = await lookUp(this.#client, key, {}, signal);
    if (there === undefined || there.headers.etag === source.headers.etag) return;
    throw new GatewayError('store-unavailable', {
      detail: 'another config was moved to the trash within this minute; try again in the next one',
    });
  }

  async *list(type: NamedType, options: ListOptions): AsyncGenerator<readonly ListedObject[]> {
    const { signal, mayFetchAhead } = options;
    const folder = `${this.#prefix}${type}/`;
    try {
      const first = await this.#page(folder, undefined, signal);
      const objects = this.#objectsOf(type, first);
      yield objects;
      if (first.next === undefined) return;
      if (type !== 'data') {
        yield* this.#pages(type, folder, first.next, signal);
        return;
      }
      // Names are hashes, spread evenly: each digit's share is listed beside the others. The first page is among them once more, so that
      // nothing rests on the order in which the storage lists.
      const seen = new Set<string>(objects.map(({ name }) => name));
      const shards = SHARDS.map((digit) => (inner: AbortSignal) => this.#pages(type, folder + digit, undefined, inner));
      for await (const page of inParallel(shards, signal, mayFetchAhead))
        yield seen.size === 0 ? page : page.filter(({ name }) => !seen.delete(name));
    } catch (error) {
      throw this.#client.failure(error, signal);
    }
  }

  #key(ref: ObjectRef): string {
    return this.#prefix + objectKey(ref);
  }

  /** Everything under a key prefix, page after page. */
  async *#pages(
    type: NamedType,
    prefix: string,
    from: string | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<readonly ListedObject[]> {
    let token = from;
    do {
      const page = await this.#page(prefix, token, signal);
      if (page.next !== undefined && page.next === token)
        throw new BadAnswer('it gives the same page of a list for ever');
      yield this.#objectsOf(type, page);
      token = page.next;
    } while (token !== undefined);
  }

  #page(prefix: string, token: string | undefined, signal: AbortSignal): Promise<ListPage> {
    return listPage(this.#client, prefix, token, signal);
  }

  /** The objects of the type on a page: keys that are not exactly where restic looks for them are someone else's. */
  #objectsOf(type: NamedType, page: ListPage): ListedObject[] {
    const objects: ListedObject[] = [];
    for (const { key, size } of page.objects) {
      if (!key.startsWith(this.#prefix)) continue;
      const ref = parseObjectKey(key.slice(this.#prefix.length));
      if (ref?.type === type) objects.push({ name: ref.name, size });
    }
    return objects;
  }
}

const NO_BYTES: AsyncIterable<Uint8Array> = {
  [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined }) }),
};

const isNoSuchKey = (error: unknown): boolean => error instanceof S3Refusal && error.noSuchKey;

/**
 * Size and place of what an answer to a GET gives, which must be what was asked for.
 * @throws BadAnswer; GatewayError `range-not-satisfiable`
 */
function placeOf(
  { status, headers }: HttpAnswer,
  range: ByteRange | undefined,
): { readonly size: number; readonly first: number; readonly length: number } {
  const given = status === 206 ? contentRange(headers) : { first: 0, size: Number(headers['content-length'] ?? NaN) };
  if (given === undefined || Number.isNaN(given.size)) throw new BadAnswer('it does not say how long an object is');
  const { size } = given;
  const end = 'last' in given ? given.last : size - 1;
  const { first, length } = range === undefined ? { first: 0, length: size } : resolveRange(range, size);
  if (given.first !== first || end !== first + length - 1)
    throw new BadAnswer('it gives another part of an object than was asked for');
  return { size, first, length };
}
