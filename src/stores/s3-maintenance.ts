/** The admin's maintenance of a repository on S3. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { S3StoreConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { isRepositoryDirectory } from '../core/object.ts';
import type { CallOptions } from '../ports/repository-store.ts';
import type { CopyStore } from '../ports/copy-store.ts';
import { isPrivate } from '../ports/repository-maintenance.ts';
import type { FileFacts, RepositoryMaintenance, StoredFile } from '../ports/repository-maintenance.ts';
import { credentialChain, LIMITS, type S3Secret } from './s3-store.ts';
import { assertCopied, copyObject } from './s3/copy.ts';
import { Download } from './s3/download.ts';
import { S3Refusal } from './s3/errors.ts';
import { listPage, type ListPage } from './s3/list.ts';
import { LockedObjects } from './s3/locked-objects.ts';
import { lookUp } from './s3/look-up.ts';
import { readArrival, readArrivedHash, readStat } from './s3/metadata.ts';
import { retentionHeaders } from './s3/object-lock.ts';
import { RemovedVersions } from './s3/removed-versions.ts';
import { S3Client } from './s3/s3-client.ts';
import { BadAnswer, type HttpAnswer } from './s3/transport.ts';
import { UploadBody } from './s3/upload-body.ts';
import { versionPages } from './s3/versions.ts';

/** A repository on S3. */
export class S3Maintenance implements RepositoryMaintenance, CopyStore {
  readonly objectLock?: LockedObjects;
  readonly versions: RemovedVersions;
  readonly #client: S3Client;
  /** What stands before each key: empty, or ending in a slash. */
  readonly #prefix: string;
  readonly #objectLock: S3StoreConfig['objectLock'];

  /** @throws GatewayError `store-misconfigured` when the endpoint is no URL */
  constructor(config: S3StoreConfig, secret: S3Secret | undefined, prefix: string) {
    this.#client = new S3Client(config, secret === undefined ? credentialChain(config.region) : () => secret, LIMITS);
    this.#objectLock = config.objectLock;
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.versions = new RemovedVersions(this.#client, this.#prefix, config.objectLock);
    if (config.objectLock !== undefined)
      this.objectLock = new LockedObjects(this.#client, this.#prefix, config.objectLock);
  }

  async *files(under: string, { signal }: CallOptions): AsyncGenerator<readonly StoredFile[]> {
    try {
      for await (const page of this.#pages(this.#prefix + under, signal)) {
        const files = page.objects.map(({ key, size, modified }): StoredFile => {
          if (modified === undefined || !key.startsWith(this.#prefix))
            throw new BadAnswer('its list has an object without a time or from elsewhere');
          return { key: key.slice(this.#prefix.length), size, modified };
        });
        // The empty objects by which consoles and gateways mark folders stand for nothing.
        yield under === ''
          ? files.filter(({ key, size }) => !isPrivate(key) && !(size === 0 && isRepositoryDirectory(key)))
          : files;
      }
    } catch (error) {
      throw this.#client.failure(error, signal);
    }
  }

  async *read(key: string, { signal }: CallOptions): AsyncGenerator<Uint8Array> {
    const failure = (error: unknown): GatewayError => this.#client.failure(error, signal);
    let answer: HttpAnswer;
    try {
      answer = await this.#client.send(
        { method: 'GET', key: this.#prefix + key, streamed: true, accept: [200] },
        signal,
      );
    } catch (error) {
      throw error instanceof S3Refusal && error.noSuchKey
        ? new GatewayError('not-found', { cause: error })
        : failure(error);
    }
    const { stream } = answer;
    if (stream === undefined) throw failure(new BadAnswer('it answered an object without a body'));
    try {
      const { size } = readStat(answer);
      yield* new Download(stream, size, LIMITS.idleMs, signal, failure);
    } catch (error) {
      stream.destroy();
      throw failure(error);
    }
  }

  async facts(key: string, { signal }: CallOptions): Promise<FileFacts | undefined> {
    try {
      // By itself the storage does not tell the checksum that it keeps.
      const headers = { 'x-amz-checksum-mode': 'ENABLED' };
      const answer = await lookUp(this.#client, this.#prefix + key, headers, signal);
      if (answer === undefined) return undefined;
      const { size, modified, uploader } = readStat(answer);
      const sha256 = storedHash(answer.headers['x-amz-checksum-sha256']);
      const arrivedSha256 = readArrivedHash(answer);
      return {
        ...{ size, modified, arrived: readArrival(answer) ?? modified },
        ...(uploader === undefined ? {} : { uploader }),
        ...(sha256 === undefined ? {} : { sha256 }),
        ...(arrivedSha256 === undefined ? {} : { arrivedSha256 }),
      };
    } catch (error) {
      throw this.#client.failure(error, signal);
    }
  }

  async write(key: string, bytes: Uint8Array, { signal }: CallOptions): Promise<void> {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const body = new UploadBody({ size: bytes.length, sha256, body: Readable.from([bytes]) });
    const headers = { 'content-type': 'application/json' };
    try {
      await this.#client.send({ method: 'PUT', key: this.#prefix + key, headers, body, accept: [200] }, signal);
      await assertCopied(this.#client, this.#prefix + key, bytes.length, signal);
    } catch (error) {
      throw this.#client.failure(error, signal);
    } finally {
      await body.release(signal);
    }
  }

  /** As `CopyStore.create`. */
  async create(key: string, bytes: Uint8Array, { signal }: CallOptions): Promise<'created' | 'exists'> {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const body = new UploadBody({ size: bytes.length, sha256, body: Readable.from([bytes]) });
    const lock = this.#objectLock;
    const headers = {
      ...{ 'content-type': 'application/x-ndjson', 'if-none-match': '*' },
      ...(lock !== undefined && retentionHeaders(lock, new Date())),
    };
    try {
      const request = { method: 'PUT', key: this.#prefix + key, headers, body, accept: [200, 412] } as const;
      const { status } = await this.#client.send(request, signal);
      if (status !== 200) return 'exists';
      // Where versions are kept, two at once may both be told that they made it; the one that is there counts.
      return (await this.#written(key, signal)) === bytes.length ? 'created' : 'exists';
    } catch (error) {
      throw this.#client.failure(error, signal);
    } finally {
      await body.release(signal);
    }
  }

  async move(from: string, to: string, options: CallOptions): Promise<'moved' | 'hidden' | 'absent' | 'taken'> {
    const { signal } = options;
    const source = await this.facts(from, options);
    if (source === undefined) return 'absent';
    const there = await this.facts(to, options);
    // Of the same length, it is the copy of an earlier attempt: both keys carry the hash of the content.
    if (there !== undefined && there.size !== source.size) return 'taken';
    try {
      const copy = { from: this.#prefix + from, to: this.#prefix + to, size: source.size };
      if (there === undefined) await copyObject(this.#client, copy, signal);
      const removed = await this.#client.remove(this.#prefix + from, signal);
      if ((await lookUp(this.#client, this.#prefix + from, {}, signal)) !== undefined)
        throw new BadAnswer(`it answered that it has removed ${this.#prefix}${from}, which is still there`);
      return removed === 'hidden' ? 'hidden' : 'moved';
    } catch (error) {
      if (this.#objectLock !== undefined && error instanceof S3Refusal && error.status === 403)
        throw new GatewayError('retained', { cause: error });
      throw this.#client.failure(error, signal);
    }
  }

  /** The size of what was just written, as another request sees it. */
  async #written(key: string, signal: AbortSignal): Promise<number> {
    const answer = await lookUp(this.#client, this.#prefix + key, {}, signal);
    if (answer === undefined)
      throw new BadAnswer(`it answered that it has stored ${this.#prefix}${key}, and does not have it`);
    return readStat(answer).size;
  }

  async *directories(under: string, { signal }: CallOptions): AsyncGenerator<readonly string[]> {
    const folder = this.#prefix + under;
    try {
      for await (const { folders } of this.#pages(folder, signal, '/')) {
        const names = folders.map((name) => name.slice(folder.length, -1));
        if (names.length > 0) yield names;
      }
    } catch (error) {
      throw this.#client.failure(error, signal);
    }
  }

  async discard(key: string, { signal }: CallOptions): Promise<'gone' | 'hidden'> {
    if (!isPrivate(key)) throw new GatewayError('internal', { detail: `${key} is not one of the gateway's own files` });
    try {
      if ((await this.#client.remove(this.#prefix + key, signal)) === 'removed') return 'gone';
    } catch (error) {
      if (error instanceof S3Refusal && error.noSuchKey) return 'gone';
      if (this.#objectLock !== undefined && error instanceof S3Refusal && error.status === 403)
        throw new GatewayError('retained', { cause: error });
      throw this.#client.failure(error, signal);
    }
    try {
      // The bucket keeps versions: of this, none is of use to anyone.
      const versions: string[] = [];
      for await (const page of versionPages(this.#client, this.#prefix + key, signal))
        versions.push(...page.flatMap((one) => (one.key === this.#prefix + key ? [one.version] : [])));
      for (const version of versions.reverse()) await this.#client.remove(this.#prefix + key, signal, version);
      return 'gone';
    } catch (error) {
      // Whoever may not list or remove versions, or not yet, has hidden it all the same.
      if (error instanceof S3Refusal && (error.status === 403 || error.noSuchKey)) return 'hidden';
      throw this.#client.failure(error, signal);
    }
  }

  /** There is no such thing as an empty directory. */
  discardEmpty(): Promise<void> {
    return Promise.resolve();
  }

  /** All pages of a list. */
  async *#pages(prefix: string, signal: AbortSignal, delimiter?: string): AsyncGenerator<ListPage> {
    let token: string | undefined;
    do {
      const page = await listPage(this.#client, prefix, token, signal, { delimiter });
      if (page.next !== undefined && page.next === token)
        throw new BadAnswer('it gives the same page of a list for ever');
      yield page;
      token = page.next;
    } while (token !== undefined);
  }

  close(): Promise<void> {
    this.#client.close();
    return Promise.resolve();
  }
}

/** The hash of the whole content; an upload in parts has one of its parts' hashes instead, which says `-` and their number. */
function storedHash(header: string | readonly string[] | undefined): string | undefined {
  if (typeof header !== 'string' || !/^[A-Za-z0-9+/]{43}=$/.test(header)) return undefined;
  return Buffer.from(header, 'base64').toString('hex');
}
