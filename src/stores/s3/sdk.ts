/**
 * The AWS SDK for what not every session does: it builds and signs requests and reads the answers, which go over this store's own
 * transport, so that time limits, connections and errors are the same everywhere. Loaded when first needed: no session of a client does.
 */
import { Readable } from 'node:stream';
import {
  GetObjectLegalHoldCommand,
  GetObjectLockConfigurationCommand,
  GetObjectRetentionCommand,
  PutObjectLegalHoldCommand,
  PutObjectRetentionCommand,
  S3Client,
  type ServiceInputTypes,
  type ServiceOutputTypes,
} from '@aws-sdk/client-s3';
import type { S3StoreConfig } from '../../config/types.ts';
import type { Retention } from '../../ports/object-lock.ts';
import type { BucketAddress } from './address.ts';
import { assertDocument } from './answers.ts';
import { S3Refusal } from './errors.ts';
import { encodeQuery, type S3Credentials } from './signature.ts';
import { BadAnswer, type HttpAnswer, type HttpTransport } from './transport.ts';
import { UploadBody } from './upload-body.ts';

// The SDK warns on stderr when Node is older than what its future versions will need. The version here is pinned by the lockfile, and
// stderr belongs to the person at the client: `serve` logs it instead.
process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';

/** What the SDK hands to its request handler, as far as it is used here. */
interface SdkRequest {
  readonly method: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>;
  readonly headers: Readonly<Record<string, string>>;
  /** A document of a few hundred bytes, where there is one. */
  readonly body?: string | Uint8Array;
}

/** One call of the SDK: its options, which reach the request handler as they are, and what came of it there. */
interface Call {
  readonly abortSignal: AbortSignal;
  /** The outermost element of the answer; undefined where S3 answers without a body. */
  readonly root: string | undefined;
  failure?: { readonly error: unknown };
}

type SdkCommand<Input extends ServiceInputTypes, Output extends ServiceOutputTypes> = Parameters<
  typeof S3Client.prototype.send<Input, Output>
>[0];

/** The bucket, by the SDK. Every method throws S3Refusal or what the transport throws. */
export class SdkBucket {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #transport: HttpTransport;

  constructor(
    config: S3StoreConfig,
    address: BucketAddress,
    transport: HttpTransport,
    credentials: () => Promise<S3Credentials>,
  ) {
    this.#bucket = config.bucket;
    this.#transport = transport;
    this.#client = new S3Client({
      region: config.region,
      endpoint: address.endpoint,
      forcePathStyle: address.bucketInPath,
      credentials: async () => {
        const { accessKeyId, secretAccessKey, sessionToken } = await credentials();
        return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
      },
      // Whoever calls tries again, for all requests alike.
      maxAttempts: 1,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: {
        handle: async (request: SdkRequest, call: Call) => {
          try {
            const answer = await this.#exchange(request, call);
            return { response: { statusCode: answer.status, headers: answer.headers, body: Buffer.from(answer.text) } };
          } catch (error) {
            call.failure = { error };
            throw error;
          }
        },
        updateHttpClientConfig: () => undefined,
        httpHandlerConfigs: () => ({}),
      } as never,
    });
  }

  /** Whether the bucket has Object Lock, and its own retention in words, if it has one. */
  async objectLock(
    signal: AbortSignal,
  ): Promise<{ readonly enabled: boolean; readonly retention: string | undefined }> {
    const command = new GetObjectLockConfigurationCommand({ Bucket: this.#bucket });
    const { ObjectLockConfiguration: lock } = await this.#send(command, {
      abortSignal: signal,
      root: 'ObjectLockConfiguration',
    });
    const { Mode: mode, Days: days, Years: years } = lock?.Rule?.DefaultRetention ?? {};
    const time = days === undefined ? `${years ?? 0} years` : `${days} days`;
    return {
      enabled: lock?.ObjectLockEnabled === 'Enabled',
      retention: mode === undefined ? undefined : `${mode.toLowerCase()}, ${time}`,
    };
  }

  /** How long an object is retained; undefined when it has no retention. */
  async retention(key: string, signal: AbortSignal): Promise<Retention | undefined> {
    const command = new GetObjectRetentionCommand({ Bucket: this.#bucket, Key: key });
    const { Retention: found } = await this.#send(command, { abortSignal: signal, root: 'Retention' });
    const { Mode: mode, RetainUntilDate: until } = found ?? {};
    if (mode === undefined && until === undefined) return undefined;
    if ((mode !== 'COMPLIANCE' && mode !== 'GOVERNANCE') || until === undefined)
      throw new BadAnswer('it names a retention without its mode or its end');
    return { mode: mode === 'COMPLIANCE' ? 'compliance' : 'governance', until };
  }

  /** Sets how long an object is retained. Never asks to go round what is there, so that it can be lengthened alone. */
  async retain(key: string, { mode, until }: Retention, signal: AbortSignal): Promise<void> {
    const Mode = mode === 'compliance' ? 'COMPLIANCE' : 'GOVERNANCE';
    const Retention = { Mode, RetainUntilDate: until } as const;
    const command = new PutObjectRetentionCommand({ Bucket: this.#bucket, Key: key, Retention });
    await this.#send(command, { abortSignal: signal, root: undefined });
  }

  /** Whether a legal hold is on an object. @param version - by default the current one */
  async legalHold(key: string, version: string | undefined, signal: AbortSignal): Promise<boolean> {
    const command = new GetObjectLegalHoldCommand({ ...this.#versionOf(key, version) });
    const { LegalHold } = await this.#send(command, { abortSignal: signal, root: 'LegalHold' });
    return LegalHold?.Status === 'ON';
  }

  /** Puts a legal hold on an object, or ends it. @param version - by default the current one */
  async setLegalHold(key: string, version: string | undefined, on: boolean, signal: AbortSignal): Promise<void> {
    const LegalHold = { Status: on ? 'ON' : 'OFF' } as const;
    const command = new PutObjectLegalHoldCommand({ ...this.#versionOf(key, version), LegalHold });
    await this.#send(command, { abortSignal: signal, root: undefined });
  }

  close(): void {
    this.#client.destroy();
  }

  #versionOf(key: string, version: string | undefined) {
    return { Bucket: this.#bucket, Key: key, ...(version !== undefined && { VersionId: version }) };
  }

  /** What went wrong on the way is thrown as it was, not as the SDK wraps it. */
  async #send<Input extends ServiceInputTypes, Output extends ServiceOutputTypes>(
    command: SdkCommand<Input, Output>,
    call: Call,
  ): Promise<Output> {
    try {
      return await this.#client.send(command, call);
    } catch (error) {
      throw call.failure === undefined ? error : call.failure.error;
    }
  }

  async #exchange(request: SdkRequest, { abortSignal: signal, root }: Call): Promise<HttpAnswer> {
    const query = encodeQuery(
      Object.fromEntries(Object.entries(request.query ?? {}).map(([name, value]) => [name, String(value ?? '')])),
    );
    const bytes = request.body === undefined ? undefined : Buffer.from(request.body);
    const sha256 = request.headers['x-amz-content-sha256'] ?? '';
    const body = bytes && new UploadBody({ size: bytes.length, sha256, body: Readable.from([bytes]) });
    const answer = await this.#transport.exchange(
      {
        method: request.method as 'GET' | 'HEAD' | 'PUT' | 'DELETE',
        target: query === '' ? request.path : `${request.path}?${query}`,
        headers: request.headers,
        body,
        streamed: false,
      },
      signal,
    );
    if (answer.status < 200 || answer.status >= 300) throw new S3Refusal(answer);
    assertDocument(request.method, root, answer);
    return answer;
  }
}
