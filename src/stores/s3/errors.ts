/**
 * Everything that can go wrong with the storage, in the gateway's terms. S3's and Node's names of errors are known here and nowhere else.
 *
 * Source: the S3 API reference, "List of error codes"; the codes of radosgw, MinIO and others for a full storage; Node's system errors.
 */
import { types } from 'node:util';
import { GatewayError, type ErrorCode } from '../../core/errors.ts';
import { printable } from '../../core/printable.ts';
import { BadAnswer, StoreTimeout, type HttpAnswer } from './transport.ts';
import { parseError } from './xml.ts';

/** An answer of the storage that is not what the request asked for. */
export class S3Refusal extends Error {
  readonly status: number;
  /** S3's word for it; empty when the answer has none (HEAD, a proxy's page). */
  readonly code: string;
  /** The region the bucket is in, where S3 tells. */
  readonly region: string | undefined;
  /** The storage's clock, where it tells. */
  readonly date: string | undefined;
  /** What the answer says of a proxy that it came through, empty where it says nothing. */
  readonly proxied: string;
  /** Whether the answer is a web page, or the head of one. */
  readonly page: boolean;

  constructor({ status, headers, text }: HttpAnswer) {
    const { code, message, region } = parseError(text);
    const id = headers['x-amz-request-id'];
    const page = isPage({ headers, text });
    // For the log of an admin: S3's message, cut to a line, and the id by which the storage's own support finds the request.
    const words = [
      String(status),
      code,
      shortLine(message),
      typeof id === 'string' ? `(request ${shortLine(id)})` : '',
      page ? '(a page for people: a proxy, a firewall or a captive portal may answer in its place)' : '',
    ];
    super(words.filter((word) => word !== '').join(' '));
    this.status = status;
    this.code = code;
    const bucketRegion = headers['x-amz-bucket-region'];
    this.region = region ?? (typeof bucketRegion === 'string' ? bucketRegion : undefined);
    this.date = headers.date;
    this.page = page;
    const { via, server } = headers as Partial<Record<string, string>>;
    const proxy = /nginx|openresty|haproxy|envoy|traefik|caddy|apache|cloudflare|squid/i.test(server ?? '')
      ? server
      : '';
    this.proxied = shortLine(via ?? proxy ?? '');
  }

  /** Whether S3 says that the object, and not something else, is missing. */
  get noSuchKey(): boolean {
    return this.status === 404 && this.code === 'NoSuchKey';
  }
}

/** Whether an answer is a web page, which S3 never gives; a few give an empty body that type, which is none. */
export function isPage({ headers, text }: Pick<HttpAnswer, 'headers' | 'text'>): boolean {
  if (/^\s*<(?:!doctype html|html)\b/i.test(text)) return true;
  const page = /^\s*(?:text\/html|application\/xhtml\+xml)\b/i.test(headers['content-type'] ?? '');
  return page && (text !== '' || headers['content-length'] !== '0');
}

/** The source of credentials had none; it was none of the storage's doing. */
export class NoCredentials extends Error {}

/** The names that a message to the admin needs. */
export interface StoreNames {
  /** The store's name in the config. */
  readonly store: string;
  readonly bucket: string;
  readonly region: string;
  /** Its URL, without the bucket. */
  readonly endpoint: string;
}

/** What an error means. */
interface Verdict {
  readonly error: GatewayError;
  /** Whether the same request may succeed in a moment. */
  readonly transient: boolean;
}

/** Judges whatever a request to the storage threw; a `GatewayError` stays what it is. */
export function judge(error: unknown, names: StoreNames): Verdict {
  if (error instanceof GatewayError) return { error, transient: false };
  const { code, detail, transient = false } = classify(error, names);
  return {
    error: new GatewayError(code, { detail: `store ${names.store}: ${detail}`, cause: error }),
    transient,
  };
}

interface Finding {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly transient?: boolean;
}

function classify(error: unknown, names: StoreNames): Finding {
  if (error instanceof S3Refusal) return classifyRefusal(error, names);
  if (error instanceof NoCredentials)
    return {
      code: 'store-misconfigured',
      detail: `no credentials (${shortLine(error.message)}); set accessKeyId and its secret, or give them to the AWS credential chain`,
    };
  if (error instanceof StoreTimeout) return { code: 'store-timeout', detail: `${names.endpoint}: ${error.message}` };
  if (error instanceof BadAnswer) return { code: 'store-failed', detail: `${names.endpoint}: ${error.message}` };
  return classifySystemError(error, names);
}

/** Codes that a provider answers when there is no more room, whatever the status. */
const FULL = /quota|storagefull|insufficientstorage|capexceeded|nospace/i;

function classifyRefusal(refusal: S3Refusal, { bucket, region, endpoint }: StoreNames): Finding {
  const { status, code } = refusal;
  const misconfigured = (detail: string): Finding => ({ code: 'store-misconfigured', detail });
  if (FULL.test(code) || status === 507)
    return { code: 'store-full', detail: `the bucket ${bucket} takes no more: ${refusal.message}` };
  switch (code) {
    case 'NoSuchBucket':
      return misconfigured(
        `the bucket ${bucket} does not exist at ${endpoint}; create it, or correct bucket, region or endpoint`,
      );
    case 'InvalidBucketName':
      return misconfigured(`${bucket} is not a valid name of a bucket at ${endpoint}; correct bucket`);
    case 'AccessDenied':
    case 'AllAccessDisabled':
    case 'AccountProblem':
      return misconfigured(
        `access to the bucket ${bucket} is denied; its key needs s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject there`,
      );
    case 'InvalidAccessKeyId':
      return misconfigured(`${endpoint} does not know the access key ID; correct accessKeyId`);
    case 'SignatureDoesNotMatch':
      return misconfigured(wrongSignature(endpoint, refusal));
    case 'KeyTooLongError':
      return misconfigured('the keys get too long for S3 (1,024 bytes); give the repository a shorter prefix');
    case 'EntityTooLarge':
      return misconfigured(tooLarge(endpoint, refusal));
    case 'MissingContentLength':
      return misconfigured(noLength(endpoint, refusal));
    case 'ExpiredToken':
    case 'InvalidToken':
    case 'TokenRefreshRequired':
      return misconfigured('the session token of the credentials has expired or is not valid; renew the credentials');
    case 'RequestTimeTooSkewed':
      return misconfigured(`this machine's clock is off${skew(refusal.date)}; set it, and keep it right by NTP`);
    case 'InvalidObjectState':
      return { code: 'store-failed', detail: 'the object lies in an archive tier; have the storage restore it first' };
    case 'XAmzContentSHA256Mismatch':
    case 'BadDigest':
      return { code: 'content-mismatch', detail: 'the storage found that the content does not have its hash' };
    case 'ConditionalRequestConflict':
    case 'OperationAborted':
    case 'SlowDown':
    case 'RequestLimitExceeded':
    case 'ServiceUnavailable':
      return {
        code: 'store-unavailable',
        detail: `${endpoint} asks to try again: ${refusal.message}`,
        transient: true,
      };
    case 'RequestTimeout':
      return { code: 'store-timeout', detail: `${endpoint} gave up waiting: ${refusal.message}`, transient: true };
  }
  if ((refusal.region !== undefined && refusal.region !== region && status < 500) || (status >= 300 && status < 400)) {
    const where = refusal.region === undefined ? 'elsewhere' : `in region ${refusal.region}`;
    return misconfigured(
      `the bucket ${bucket} is ${where}, not in region ${region} at ${endpoint}; correct region or endpoint`,
    );
  }
  switch (status) {
    case 407:
      return misconfigured(
        `the proxy wants credentials, or others, to reach ${endpoint}; put them into its URL (http://user:password@HOST:PORT)`,
      );
    case 413:
      return misconfigured(tooLarge(endpoint, refusal));
    case 411:
      return misconfigured(noLength(endpoint, refusal));
    case 417:
      return {
        code: 'store-unavailable',
        detail: `${endpoint} refused to be asked before an upload, and is not asked again: ${refusal.message}`,
      };
    case 408:
      return { code: 'store-timeout', detail: `${endpoint} gave up waiting: ${refusal.message}`, transient: true };
    case 400:
    case 421:
    case 431:
      // S3 itself says what is wrong with a request, and never by a page.
      if (code === '' && refusal.page)
        return misconfigured(
          `what answers at ${endpoint} does not take the request; see if its scheme (http, https) and port are right, and what a proxy before it allows: ${refusal.message}`,
        );
      break;
    case 401:
    case 403:
      return misconfigured(`${endpoint} refuses the credentials for the bucket ${bucket}: ${refusal.message}`);
    case 404:
      return misconfigured(
        `what answers at ${endpoint} does not know S3 or the bucket ${bucket}; correct endpoint: ${refusal.message}`,
      );
    case 405:
    case 501:
      return misconfigured(`${endpoint} lacks something that the gateway needs: ${refusal.message}`);
    case 429:
    case 502:
    case 503:
    case 504:
      return { code: 'store-unavailable', detail: `${endpoint} answered ${refusal.message}`, transient: true };
  }
  return {
    code: 'store-failed',
    detail: `${endpoint} answered ${refusal.message}`,
    transient: status >= 500 || code === 'InternalError',
  };
}

/** The connection could not be made or did not hold. */
const UNREACHABLE =
  /^(ECONNREFUSED|ECONNRESET|ECONNABORTED|EPIPE|ETIMEDOUT|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENETDOWN|EADDRNOTAVAIL|ENOTFOUND|EAI_AGAIN)$/;

/** OpenSSL's verification errors as Node names them, and TLS where there is none. */
const TLS = /CERT|SELF_SIGNED|UNABLE_TO|_TLS_|^ERR_SSL|^EPROTO/;

function classifySystemError(error: unknown, names: StoreNames): Finding {
  if (!types.isNativeError(error)) return { code: 'internal', detail: 'a value that is not an Error was thrown' };
  // All addresses of the host failed: the first one's error says why.
  if ('errors' in error && Array.isArray(error.errors)) return classifySystemError(error.errors[0], names);
  const { endpoint } = names;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const message = shortLine(error.message);
  if (UNREACHABLE.test(code))
    return { code: 'store-unavailable', detail: `${endpoint} cannot be reached: ${message}`, transient: true };
  if (TLS.test(code))
    return {
      code: 'store-misconfigured',
      detail: `TLS with ${endpoint} fails (${code}); correct the endpoint, or name the file of its CA's certificate as caFile of the store`,
    };
  if (code === 'EMFILE' || code === 'ENFILE')
    return {
      code: 'store-failed',
      detail: "too many open files; raise the gateway's limit (ulimit -n, LimitNOFILE=)",
      transient: true,
    };
  return { code: 'store-failed', detail: `${endpoint}: ${message}` };
}

/** The likelier cause first: what came through a proxy was most likely changed there, as `Host` and the path are signed. */
function wrongSignature(endpoint: string, { proxied }: S3Refusal): string {
  const secret = 'the secret access key does not belong to the access key ID; correct the secret';
  const passOn = 'pass on Host and the path as they are (nginx: proxy_set_header Host $http_host)';
  return proxied === ''
    ? `${secret}, or, if a proxy stands before ${endpoint}, have it ${passOn}`
    : `something before ${endpoint} (${proxied}) most likely changes the Host header or the path; have it ${passOn}. Or ${secret}`;
}

const tooLarge = (endpoint: string, { message }: S3Refusal): string =>
  `${endpoint}, or a proxy before it, takes no object of this size: raise its limit to 128 MiB, restic's largest pack (nginx: client_max_body_size): ${message}`;

const noLength = (endpoint: string, { message }: S3Refusal): string =>
  `a proxy before ${endpoint} takes the length off uploads; have it pass Content-Length on (nginx: proxy_request_buffering on): ${message}`;

function skew(date: string | undefined): string {
  const seconds = Math.round((Date.now() - Date.parse(date ?? '')) / 1000);
  return Number.isNaN(seconds) ? '' : ` by ${seconds} s`;
}

/** Text of the storage's making as one short line. */
function shortLine(text: string): string {
  return printable(text.replace(/\s+/g, ' '), 200);
}
