/**
 * Retention and legal hold of objects that are stored already.
 *
 * Source: the S3 API reference, "HeadObject", "GetObjectRetention", "PutObjectRetention", "GetObjectLegalHold", "PutObjectLegalHold" and
 * "ListObjectVersions". A HEAD tells the retention only to who has `s3:GetObjectRetention`, and says nothing where there is none: so what
 * it does not tell is asked for.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { S3StoreConfig } from '../../config/types.ts';
import { GatewayError } from '../../core/errors.ts';
import type { ObjectLock, ObjectVersion, Retention } from '../../ports/object-lock.ts';
import type { CallOptions } from '../../ports/repository-store.ts';
import { S3Refusal } from './errors.ts';
import { lookUp } from './look-up.ts';
import type { S3Client } from './s3-client.ts';
import { BadAnswer } from './transport.ts';
import { versionPages } from './versions.ts';

/** The objects of a repository in a bucket with Object Lock. */
export class LockedObjects implements ObjectLock {
  readonly rule: NonNullable<S3StoreConfig['objectLock']>;
  readonly #client: S3Client;
  readonly #prefix: string;

  /** @param prefix - what stands before each key: empty, or ending in a slash */
  constructor(client: S3Client, prefix: string, rule: NonNullable<S3StoreConfig['objectLock']>) {
    this.#client = client;
    this.#prefix = prefix;
    this.rule = rule;
  }

  retention(key: string, { signal }: CallOptions): Promise<Retention | 'none' | undefined> {
    return this.#call('s3:GetObjectRetention', signal, async () => {
      const answer = await lookUp(this.#client, this.#prefix + key, {}, signal);
      return answer && (readRetention(answer.headers) ?? (await this.#asked(key, signal)));
    });
  }

  async retain(key: string, retention: Retention, options: CallOptions): Promise<boolean> {
    const { signal } = options;
    const enough = async (): Promise<boolean | undefined> => {
      const now = await this.retention(key, options);
      return now === undefined ? undefined : now !== 'none' && now.until >= retention.until;
    };
    return this.#call('s3:PutObjectRetention', signal, async () => {
      try {
        await this.#client.ask((bucket) => bucket.retain(this.#prefix + key, retention, signal), signal);
      } catch (error) {
        if (isGone(error)) return false;
        // To who was quicker and has asked for more, this would be a shortening.
        const more = error instanceof S3Refusal && error.status === 403 ? await enough() : false;
        if (more === false) throw error;
        return more ?? false;
      }
      const done = await enough();
      if (done === false)
        throw new BadAnswer(`it answered that it retains ${this.#prefix}${key} for longer, and does not`);
      return done ?? false;
    });
  }

  /** @param most - the most versions of a page; by default as many as the storage gives */
  async *versions(under: string, { signal }: CallOptions, most?: number): AsyncGenerator<readonly ObjectVersion[]> {
    const pages = versionPages(this.#client, this.#prefix + under, signal, most);
    const next = () => this.#call('s3:ListBucketVersions', signal, () => pages.next());
    for (let step = await next(); step.done !== true; step = await next())
      yield step.value
        .filter(({ isMarker }) => !isMarker)
        .map(({ key, version }) => ({ key: key.slice(this.#prefix.length), version }));
  }

  legalHold(
    { key, version }: { readonly key: string; readonly version?: string },
    { signal }: CallOptions,
  ): Promise<boolean | undefined> {
    return this.#call('s3:GetObjectLegalHold', signal, async () => {
      try {
        return await this.#client.ask((bucket) => bucket.legalHold(this.#prefix + key, version, signal), signal);
      } catch (error) {
        if (isGone(error)) return undefined;
        if (hasNone(error)) return false;
        throw error;
      }
    });
  }

  async setLegalHold(
    object: { readonly key: string; readonly version?: string },
    on: boolean,
    options: CallOptions,
  ): Promise<boolean> {
    const { signal } = options;
    const { key, version } = object;
    return this.#call('s3:PutObjectLegalHold', signal, async () => {
      try {
        await this.#client.ask((bucket) => bucket.setLegalHold(this.#prefix + key, version, on, signal), signal);
      } catch (error) {
        if (isGone(error)) return false;
        throw error;
      }
      const now = await this.legalHold(object, options);
      if (now === undefined) return false;
      if (now !== on)
        throw new BadAnswer(`it answered that it has changed the legal hold of ${this.#prefix}${key}, and has not`);
      return true;
    });
  }

  /** The retention, for a HEAD that told none. */
  async #asked(key: string, signal: AbortSignal): Promise<Retention | 'none' | undefined> {
    try {
      const found = await this.#client.ask((bucket) => bucket.retention(this.#prefix + key, signal), signal);
      return found ?? 'none';
    } catch (error) {
      if (isGone(error)) return undefined;
      if (hasNone(error)) return 'none';
      throw error;
    }
  }

  /** Words what goes wrong. @param permission - that the call needs */
  async #call<T>(permission: string, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      if (error instanceof S3Refusal && error.code === 'AccessDenied')
        throw new GatewayError('store-misconfigured', {
          detail: `the storage denies ${permission}: grant it to the key of this config, with no condition that is in the way, or use a config with another key (docs/s3.md#object-lock)`,
          cause: error,
        });
      // AWS and Ceph answer so in a bucket that has no Object Lock.
      if (error instanceof S3Refusal && error.code === 'InvalidRequest')
        throw new GatewayError('store-misconfigured', {
          detail: `the bucket ${this.#client.bucket} has no Object Lock: make one that has, or remove objectLock from the store (${error.message})`,
          cause: error,
        });
      throw this.#client.failure(error, signal);
    }
  }
}

/** There is no such object, or a delete marker is over it (405 with AWS). */
const isGone = (error: unknown): boolean =>
  error instanceof S3Refusal &&
  (error.noSuchKey || error.code === 'NoSuchVersion' || (error.status === 405 && error.code === 'MethodNotAllowed'));

/** The object is there, and never had what is asked for: as AWS says it, and as Ceph. */
const hasNone = (error: unknown): boolean =>
  error instanceof S3Refusal &&
  (error.code === 'NoSuchObjectLockConfiguration' || error.code === 'ObjectLockConfigurationNotFoundError');

/** What an answer to a HEAD says; undefined where it says nothing, or nothing legible. */
function readRetention(headers: IncomingHttpHeaders): Retention | undefined {
  const mode = headers['x-amz-object-lock-mode'];
  const date = headers['x-amz-object-lock-retain-until-date'];
  const until = new Date(typeof date === 'string' ? date : Number.NaN);
  if (Number.isNaN(until.getTime()) || (mode !== 'COMPLIANCE' && mode !== 'GOVERNANCE')) return undefined;
  return { mode: mode === 'COMPLIANCE' ? 'compliance' : 'governance', until };
}
