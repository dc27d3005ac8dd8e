/**
 * AWS Signature Version 4 for S3, with the payload's hash known beforehand: a body is never read to be signed.
 *
 * Source: AWS, "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk". By hand, because the SDK's
 * client costs 0.6 ms of CPU a request where this costs 0.03 ms, and 80 ms to load in a process that may serve a single session.
 */
import { createHash, createHmac } from 'node:crypto';

/** What a request is signed with. */
export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Given with temporary credentials. */
  readonly sessionToken?: string | undefined;
}

/** A request to be signed. */
interface SignableRequest {
  readonly method: string;
  /** As on the wire: each part encoded by `encodePart`. */
  readonly path: string;
  /** As on the wire, without `?`: made by `encodeQuery`. */
  readonly query: string;
  /** Every header to be signed, `host` among them; names in lower case, values without leading, trailing or doubled spaces. */
  readonly headers: Readonly<Record<string, string>>;
  /** SHA-256 of the body, 64 lower-case hex digits. */
  readonly payloadHash: string;
}

/** The payload hash of a request without a body. */
export const EMPTY_HASH = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** One part of a path or a query, with everything but RFC 3986's unreserved characters percent-encoded. */
export function encodePart(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** A query as the signature wants it: encoded and in the order of the names. */
export function encodeQuery(query: Readonly<Record<string, string>>): string {
  return Object.entries(query)
    .map(([name, value]) => `${encodePart(name)}=${encodePart(value)}`)
    .sort()
    .join('&');
}

const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();

/** Signs requests to S3 in one region. */
export class Signer {
  readonly #region: string;
  /** The signing key lives for a day, and its four HMACs are half the cost of a signature. */
  #cached: { readonly secret: string; readonly day: string; readonly key: Buffer } | undefined;

  constructor(region: string) {
    this.#region = region;
  }

  /** The request's headers with those that the signature adds. */
  sign(request: SignableRequest, credentials: S3Credentials, now: Date): Record<string, string> {
    const time = now.toISOString().replace(/[-:]|\.\d{3}/g, '');
    const day = time.slice(0, 8);
    const headers: Record<string, string> = {
      ...request.headers,
      'x-amz-content-sha256': request.payloadHash,
      'x-amz-date': time,
    };
    if (credentials.sessionToken !== undefined) headers['x-amz-security-token'] = credentials.sessionToken;
    const names = Object.keys(headers).sort();
    const signedHeaders = names.join(';');
    const canonicalHeaders = names.map((name) => `${name}:${headers[name] ?? ''}\n`).join('');
    const canonical = `${request.method}\n${request.path}\n${request.query}\n${canonicalHeaders}\n${signedHeaders}\n${request.payloadHash}`;
    const scope = `${day}/${this.#region}/s3/aws4_request`;
    const digest = createHash('sha256').update(canonical).digest('hex');
    const signature = hmac(
      this.#key(credentials.secretAccessKey, day),
      `AWS4-HMAC-SHA256\n${time}\n${scope}\n${digest}`,
    );
    headers['authorization'] =
      `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature.toString('hex')}`;
    return headers;
  }

  #key(secret: string, day: string): Buffer {
    if (this.#cached?.secret !== secret || this.#cached.day !== day) {
      const key = hmac(hmac(hmac(hmac(`AWS4${secret}`, day), this.#region), 's3'), 'aws4_request');
      this.#cached = { secret, day, key };
    }
    return this.#cached.key;
  }
}
