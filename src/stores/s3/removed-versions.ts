/**
 * What a bucket that keeps versions keeps of what was removed.
 *
 * A version counts as removed when a delete marker has come over it. What was only replaced does not: whoever writes over an object with
 * stolen credentials must not have the good version taken away for it.
 */
import type { S3StoreConfig } from '../../config/types.ts';
import { GatewayError } from '../../core/errors.ts';
import type { KeptVersions, RemovedVersion } from '../../ports/kept-versions.ts';
import type { CallOptions } from '../../ports/repository-store.ts';
import { copyObject } from './copy.ts';
import { S3Refusal } from './errors.ts';
import { lookUp } from './look-up.ts';
import { readStat } from './metadata.ts';
import { retentionHeaders } from './object-lock.ts';
import type { S3Client } from './s3-client.ts';
import { BadAnswer, type HttpAnswer } from './transport.ts';
import { keepsVersions, versionPages, type KeyVersion } from './versions.ts';

/** How many markers over nothing are held of one key; of more, the newest stay for the next time. */
const MOST_MARKERS = 1000;

/** The versions of a repository's objects in a bucket. */
export class RemovedVersions implements KeptVersions {
  readonly #client: S3Client;
  readonly #prefix: string;
  readonly #objectLock: S3StoreConfig['objectLock'];

  /** @param prefix - what stands before each key: empty, or ending in a slash */
  constructor(client: S3Client, prefix: string, objectLock: S3StoreConfig['objectLock']) {
    this.#client = client;
    this.#prefix = prefix;
    this.#objectLock = objectLock;
  }

  async look({ signal }: CallOptions): Promise<'kept' | 'none' | 'denied'> {
    const client = this.#client;
    try {
      if (!(await keepsVersions(client, signal))) return 'none';
    } catch (error) {
      const answer = refusalOf(error);
      if (answer === undefined) throw client.failure(error, signal);
      if (answer === 'unknown') return 'none';
    }
    try {
      await versionPages(client, `${this.#prefix}config`, signal, 1).next();
      return 'kept';
    } catch (error) {
      const answer = refusalOf(error);
      if (answer === undefined) throw client.failure(error, signal);
      return answer === 'unknown' ? 'none' : 'denied';
    }
  }

  async *removed(under: string, { signal }: CallOptions): AsyncGenerator<readonly RemovedVersion[]> {
    for await (const page of this.#pages(under, signal)) {
      const removed = page.flatMap(({ entry, marker, isHidden }): RemovedVersion[] => {
        if (marker === undefined || entry.isMarker) return [];
        const { version, size } = entry;
        return [{ key: entry.key.slice(this.#prefix.length), version, size, removed: marker.modified, isHidden }];
      });
      if (removed.length > 0) yield removed;
    }
  }

  async bringBack(
    { key, version, size }: RemovedVersion,
    { signal }: CallOptions,
  ): Promise<'moved' | 'absent' | 'taken'> {
    const client = this.#client;
    const at = this.#prefix + key;
    try {
      const there = await lookUp(client, at, {}, signal);
      if (there !== undefined) return readStat(there).size === size ? 'moved' : 'taken';
      const headers = this.#objectLock === undefined ? {} : retentionHeaders(this.#objectLock, new Date());
      await copyObject(client, { from: at, to: at, size, version, headers }, signal);
      return 'moved';
    } catch (error) {
      if (isGone(error)) return 'absent';
      if (error instanceof S3Refusal && error.status === 403)
        throw new GatewayError('store-misconfigured', {
          detail: `the storage does not let ${key} be copied from its older version (${error.message}): grant s3:GetObjectVersion and s3:PutObject${this.#objectLock === undefined ? '' : ' and s3:PutObjectRetention'} to the key of this config, or use a config with another key`,
          cause: error,
        });
      throw client.failure(error, signal);
    }
  }

  async discard(
    { key, version }: RemovedVersion,
    { signal }: CallOptions,
  ): Promise<'gone' | 'current' | 'retained' | 'denied'> {
    const client = this.#client;
    const at = this.#prefix + key;
    try {
      // Its owner may have taken the marker away since.
      const there = await lookUp(client, at, {}, signal);
      if (there?.headers['x-amz-version-id'] === version) return 'current';
      // Without the header that goes round it, governance holds whoever asks.
      await client.remove(at, signal, version);
      return 'gone';
    } catch (error) {
      if (isGone(error)) return 'gone';
      if (!(error instanceof S3Refusal) || error.status !== 403) throw client.failure(error, signal);
      return (await this.#isRetained(at, version, signal)) ? 'retained' : 'denied';
    }
  }

  async tidy(under: string, before: Date, { signal }: CallOptions): Promise<void> {
    let markers: KeyVersion[] = [];
    const removeMarkers = async (): Promise<void> => {
      const old = markers.reverse().filter(({ modified }) => modified < before);
      markers = [];
      for (const { key, version } of old)
        try {
          await this.#client.remove(key, signal, version);
        } catch (error) {
          if (isGone(error)) continue;
          if (!(error instanceof S3Refusal) || error.status !== 403) throw this.#client.failure(error, signal);
        }
    };
    let key: string | undefined;
    let isBare = true;
    for await (const page of this.#pages(under, signal))
      for (const { entry } of page) {
        if (entry.key !== key) {
          if (isBare) await removeMarkers();
          [key, isBare, markers] = [entry.key, true, []];
        }
        // A marker that goes before what is under it would bring that back.
        if (!entry.isMarker) isBare = false;
        else if (isBare) markers.push(entry);
        if (markers.length > MOST_MARKERS) markers.shift();
      }
    if (isBare) await removeMarkers();
  }

  /** All versions under a key, each with the marker that came over it and whether it is what its key had last before it was removed. */
  async *#pages(
    under: string,
    signal: AbortSignal,
  ): AsyncGenerator<
    readonly {
      readonly entry: KeyVersion;
      readonly marker: KeyVersion | undefined;
      readonly isHidden: boolean;
    }[]
  > {
    let key: string | undefined;
    let marker: KeyVersion | undefined;
    /** Nothing but markers has come of the key, the first of which is what it has now. */
    let isGone = false;
    try {
      for await (const page of versionPages(this.#client, this.#prefix + under, signal))
        yield page.map((entry) => {
          if (entry.key !== key) {
            // What comes twice, or in pieces, would be taken for what it is not.
            if (key !== undefined && Buffer.compare(Buffer.from(entry.key), Buffer.from(key)) < 0)
              throw new BadAnswer('its list of versions is not in the order of the keys');
            [key, marker, isGone] = [entry.key, undefined, entry.isMarker && entry.isLatest];
          }
          const isHidden = isGone && !entry.isMarker;
          // Of several markers, the oldest is the removal.
          if (entry.isMarker) marker = entry;
          else isGone = false;
          return { entry, marker, isHidden };
        });
    } catch (error) {
      if (error instanceof S3Refusal && error.code === 'AccessDenied')
        throw new GatewayError('store-misconfigured', {
          detail: `the storage denies s3:ListBucketVersions: grant it to the key of this config, or use a config with another key (docs/s3.md)`,
          cause: error,
        });
      throw this.#client.failure(error, signal);
    }
  }

  /** Whether a version is what the storage retains, as far as it tells. */
  async #isRetained(key: string, versionId: string, signal: AbortSignal): Promise<boolean> {
    let answer: HttpAnswer;
    try {
      answer = await this.#client.send({ method: 'HEAD', key, query: { versionId }, accept: [200] }, signal);
    } catch (error) {
      if (error instanceof S3Refusal) return false;
      throw this.#client.failure(error, signal);
    }
    const until = Date.parse(String(answer.headers['x-amz-object-lock-retain-until-date'] ?? ''));
    return answer.headers['x-amz-object-lock-legal-hold'] === 'ON' || until > Date.now();
  }
}

/** What a refusal means: `denied`, or that the storage does not know the request. */
function refusalOf(error: unknown): 'denied' | 'unknown' | undefined {
  if (!(error instanceof S3Refusal)) return undefined;
  if (error.status === 403) return 'denied';
  return [400, 404, 405, 501].includes(error.status) && error.code !== 'NoSuchBucket' ? 'unknown' : undefined;
}

const isGone = (error: unknown): boolean =>
  error instanceof S3Refusal && (error.noSuchKey || error.code === 'NoSuchVersion');
