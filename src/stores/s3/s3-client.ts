/**
 * Requests to one bucket: addressed, signed, sent, repeated where that is safe, and judged.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { S3StoreConfig } from '../../config/types.ts';
import { GatewayError } from '../../core/errors.ts';
import { unlessAborted, within } from '../../core/waiting.ts';
import { addressOf, type BucketAddress } from './address.ts';
import { assertAnswer } from './answers.ts';
import { judge, S3Refusal, type StoreNames } from './errors.ts';
import { checksumHeaders } from './object-lock.ts';
import { EMPTY_HASH, encodePart, encodeQuery, Signer, type S3Credentials } from './signature.ts';
import type { SdkBucket } from './sdk.ts';
import { HttpTransport, StoreTimeout, type HttpAnswer, type S3Limits } from './transport.ts';
import { ContentError, REPEATABLE_BYTES, type UploadBody } from './upload-body.ts';

/**
 * One of the requests that every session makes. They are signed and sent without the SDK, whose client costs 0.6 ms of CPU a request, and
 * a session's start as much again when it has to be loaded.
 */
interface S3Request {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'DELETE';
  /** The object's key in the bucket; undefined for the bucket itself. */
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Names in lower case; all of them are signed. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: UploadBody;
  /** Hands the body of a 2xx over unread. */
  readonly streamed?: boolean;
  /**
   * The statuses that are an answer to the request; any other one is thrown as S3Refusal. Of a success the rest must be as S3 answers it,
   * too.
   */
  readonly accept: readonly number[];
}

/** Gives the credentials of the moment. */
export type CredentialSource = () => S3Credentials | Promise<S3Credentials>;

/** How often a request is sent before its failure counts. */
const ATTEMPTS = 4;

/** A client of one bucket. */
export class S3Client {
  readonly #address: BucketAddress;
  readonly #names: StoreNames;
  readonly #limits: S3Limits;
  readonly #credentials: CredentialSource;
  readonly #signer: Signer;
  readonly #transport: HttpTransport;
  readonly #config: S3StoreConfig;
  #sdk: Promise<SdkBucket> | undefined;
  /** Whether the storage takes the checksum of an upload, as all but old ones do. */
  #checksums: 'untried' | 'taken' | 'refused' = 'untried';

  /** @throws GatewayError `store-misconfigured` when the endpoint is no URL */
  constructor(config: S3StoreConfig, credentials: CredentialSource, limits: S3Limits) {
    const { name, bucket, region } = config;
    this.#address = addressOf(config);
    this.#names = { store: name, bucket, region, endpoint: this.#address.endpoint };
    this.#config = config;
    this.#limits = limits;
    this.#credentials = credentials;
    this.#signer = new Signer(region);
    this.#transport = new HttpTransport(this.#address.origin, this.#address.url, config, limits);
  }

  /** How long a download may stand still, in ms. */
  get idleMs(): number {
    return this.#limits.idleMs;
  }

  /** The bucket's name. */
  get bucket(): string {
    return this.#names.bucket;
  }

  /**
   * Sends a request; again, a few times, when it fails for the moment and can be repeated.
   * @throws S3Refusal, ContentError, and what `failure` takes besides
   */
  send(request: S3Request, signal: AbortSignal): Promise<HttpAnswer> {
    // Asked after the attempt: what was pulled by then decides.
    const repeatable = (): boolean => request.body?.repeatable !== false;
    return this.#patiently(() => this.#attempt(request, signal), repeatable, signal);
  }

  /**
   * Removes an object, or the one version of it that is named; S3 answers alike where there is none.
   * @returns `hidden`: a delete marker was put over it, and it is there still as an older version
   * @throws as `send`
   */
  async remove(key: string, signal: AbortSignal, version?: string): Promise<'removed' | 'hidden'> {
    const query = version === undefined ? {} : { versionId: version };
    const { headers } = await this.send({ method: 'DELETE', key, query, accept: [200, 204] }, signal);
    return headers['x-amz-delete-marker'] === 'true' ? 'hidden' : 'removed';
  }

  /** Runs a call of the SDK on the bucket; again, a few times, when it fails for the moment. @throws as `send` */
  ask<T>(call: (bucket: SdkBucket) => Promise<T>, signal: AbortSignal): Promise<T> {
    return this.#patiently(
      async () => {
        this.#sdk ??= import('./sdk.ts').then(
          ({ SdkBucket }) =>
            new SdkBucket(this.#config, this.#address, this.#transport, async () =>
              this.#freshCredentials(AbortSignal.timeout(this.#limits.answerMs)),
            ),
        );
        return call(await this.#sdk);
      },
      () => true,
      signal,
    );
  }

  async #patiently<T>(attempt: () => Promise<T>, repeatable: () => boolean, signal: AbortSignal): Promise<T> {
    for (let attempts = 1; ; attempts += 1) {
      try {
        return await attempt();
      } catch (error) {
        if (error instanceof ContentError || signal.aborted || attempts === ATTEMPTS) throw error;
        if (!repeatable() || !(this.#yieldsTo(error) || judge(error, this.#names).transient)) throw error;
      }
      // A random part of the pause, so that those who were turned away together do not come back together.
      await pause(Math.random() * this.#limits.pauseMs * 4 ** (attempts - 1), undefined, { signal });
    }
  }

  /**
   * Whether another attempt has a better chance. What is refused and can be left out then is: `Expect` (RFC 9110, 10.1.1), and the checksum that buckets with a
   * default retention ask for and old storages do not know.
   */
  #yieldsTo(error: unknown): boolean {
    if (!(error instanceof S3Refusal)) return this.#transport.trustsMore(error);
    if (error.status === 417) return this.#transport.sendAtOnce();
    const unknown =
      /^(InvalidArgument|InvalidRequest|NotImplemented|)$/.test(error.code) && /checksum/i.test(error.message);
    if (this.#checksums !== 'untried' || !unknown) return false;
    this.#checksums = 'refused';
    return true;
  }

  /** Whatever was thrown in a call, as the call may throw it. */
  failure(error: unknown, signal: AbortSignal): GatewayError {
    if (error instanceof GatewayError) return error;
    if (signal.aborted) return new GatewayError('client-gone', { detail: 'the call was aborted', cause: error });
    return judge(error, this.#names).error;
  }

  close(): void {
    this.#transport.close();
  }

  async #attempt(request: S3Request, signal: AbortSignal): Promise<HttpAnswer> {
    const { method, key, body } = request;
    const checksum = body !== undefined && this.#checksums !== 'refused' ? checksumHeaders(body.sha256) : undefined;
    const headers = { ...request.headers, ...checksum };
    const path = key === undefined ? this.#address.basePath || '/' : this.#address.basePath + encodeKey(key);
    const query = encodeQuery(request.query ?? {});
    const signed = this.#signer.sign(
      {
        method,
        path,
        query,
        headers: { ...headers, host: this.#address.host },
        // The content's name is its hash: the storage itself refuses what does not have it.
        payloadHash: body?.sha256 ?? EMPTY_HASH,
      },
      await this.#freshCredentials(signal),
      new Date(),
    );
    const answer = await this.#transport.exchange(
      {
        method,
        target: query === '' ? path : `${path}?${query}`,
        headers: body === undefined ? signed : { ...signed, ...bodyHeaders(body, this.#transport.asksFirst) },
        body,
        streamed: request.streamed === true,
      },
      signal,
    );
    try {
      if (!request.accept.includes(answer.status)) throw new S3Refusal(answer);
      assertAnswer({ ...request, headers }, answer);
      if (checksum !== undefined && answer.status === 200) this.#checksums = 'taken';
      return answer;
    } catch (error) {
      answer.stream?.destroy();
      throw error;
    }
  }

  /** The credential chain may ask the network, so that it too needs a limit. */
  #freshCredentials(signal: AbortSignal): S3Credentials | Promise<S3Credentials> {
    const given = this.#credentials();
    if (!(given instanceof Promise)) return given;
    const { answerMs } = this.#limits;
    return within(
      answerMs,
      unlessAborted(given, signal, () => signal.reason as Error),
    ).then((found) => {
      if (found !== undefined) return found;
      throw new StoreTimeout(`it has no credentials: their source did not answer for ${answerMs} ms`);
    });
  }
}

/** Headers of a body that the signature leaves out, so that a proxy may change them. */
function bodyHeaders(body: UploadBody, mayAsk: boolean): Record<string, string> {
  const headers: Record<string, string> = { 'content-length': String(body.size) };
  // What cannot be sent twice asks first: a refusal, and a connection that the storage has closed, then cost nothing of it.
  if (mayAsk && body.size > REPEATABLE_BYTES) headers['expect'] = '100-continue';
  return headers;
}

function encodeKey(key: string): string {
  return `/${key.split('/').map(encodePart).join('/')}`;
}
