/**
 * The one error type of the gateway, and the one table that says which HTTP status an error becomes and what a person is told.
 */

/** How each kind of failure is answered. `status` is HTTP (RFC 9110, 507: RFC 4918); `tell` is one plain line for a person. */
const TABLE = {
  'invalid-request': { status: 400, clientMessage: 'the request is not one that restic makes' },
  'content-mismatch': { status: 400, clientMessage: 'the content does not hash to its name; nothing was stored' },
  'incomplete-upload': {
    status: 400,
    clientMessage: 'the upload ended before its declared length; nothing was stored',
  },
  'client-gone': { status: 400, clientMessage: 'the client went away before the answer' },
  denied: { status: 403, clientMessage: 'this key may not do that' },
  'already-exists': {
    status: 403,
    clientMessage: 'the name is taken by other content; append-only means nothing is overwritten',
  },
  retained: {
    status: 403,
    clientMessage: 'the storage forbids removing it, most likely by a retention or legal hold; nothing was removed',
  },
  protected: {
    status: 403,
    clientMessage: 'the snapshot arrived too recently, or is one of the newest; nothing was removed',
  },
  'not-found': { status: 404, clientMessage: 'there is no such object' },
  'method-not-allowed': { status: 405, clientMessage: 'that method is not allowed here' },
  'length-required': { status: 411, clientMessage: 'an upload must declare its length' },
  'too-large': { status: 413, clientMessage: 'the object is larger than its type may be' },
  'range-not-satisfiable': { status: 416, clientMessage: 'the requested range lies outside the object' },
  'store-failed': { status: 502, clientMessage: 'the storage behind the gateway failed' },
  'store-lost': {
    status: 502,
    clientMessage: "the storage lost a confirmed upload, so this backup does not count; tell the gateway's admin",
  },
  'store-unavailable': { status: 503, clientMessage: 'the storage behind the gateway cannot be reached' },
  'store-misconfigured': {
    status: 502,
    clientMessage: 'the storage behind the gateway refuses its credentials or bucket',
  },
  'store-timeout': { status: 504, clientMessage: 'the storage behind the gateway did not answer in time' },
  'store-full': { status: 507, clientMessage: 'the storage behind the gateway is full' },
  'quota-exceeded': {
    status: 507,
    clientMessage: 'the repository would outgrow its quota; ask the admin of the gateway',
  },
  'too-many-locks': {
    status: 403,
    clientMessage: 'this client holds as many locks as it may; wait for its other runs to end',
  },
  'held-by-admin': {
    status: 423,
    clientMessage: 'the admin is working on this repository; new runs wait while restic retries, and may then fail',
  },
  'too-many-requests': {
    status: 429,
    clientMessage: 'this client makes more requests than it may; try again in a while',
  },
  'too-many-objects': {
    status: 429,
    clientMessage: 'this client stores more small objects than it may; try again in a while',
  },
  'too-many-failures': {
    status: 429,
    clientMessage: 'too many changes by this client have failed recently; try again in a while',
  },
  'state-unavailable': {
    status: 503,
    clientMessage: 'the gateway cannot keep count of what is stored, so nothing is changed',
  },
  'store-unsafe': {
    status: 507,
    clientMessage: 'the storage behind the gateway may overwrite backups, so nothing is stored; tell its admin',
  },
  'audit-unavailable': { status: 503, clientMessage: 'the audit log cannot be written, so nothing is changed' },
  'shutting-down': { status: 503, clientMessage: 'the gateway is shutting down' },
  'session-refused': { status: 403, clientMessage: 'the session is refused' },
  'invalid-config': { status: 500, clientMessage: 'the configuration is not valid' },
  usage: { status: 500, clientMessage: 'the command line is not understood' },
  internal: { status: 500, clientMessage: 'the gateway failed; its audit says why' },
} as const satisfies Record<string, { readonly status: number; readonly clientMessage: string }>;

/** Every kind of failure that the gateway knows. */
export type ErrorCode = keyof typeof TABLE;

/** What `GatewayError` takes beside its code. */
interface ErrorDetails {
  /** What exactly went wrong, for the log, the audit and the admin; never a secret. */
  readonly detail?: string;
  /** The error beneath, kept for the log. */
  readonly cause?: unknown;
}

/** The only error that crosses a boundary between rooms. Whatever else is thrown is a defect and is answered as `internal`. */
export class GatewayError extends Error {
  override readonly name = 'GatewayError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, { detail, cause }: ErrorDetails = {}) {
    super(detail === undefined ? TABLE[code].clientMessage : detail, cause === undefined ? undefined : { cause });
    this.code = code;
  }

  /** The HTTP status that answers it. */
  get status(): number {
    return TABLE[this.code].status;
  }

  /** One plain line for a person at the client: no path, no secret, nothing of the storage. */
  get clientMessage(): string {
    return TABLE[this.code].clientMessage;
  }
}

/** Any thrown value as a `GatewayError`; what is not one becomes `internal`, with the original as its cause. */
export function asGatewayError(error: unknown): GatewayError {
  if (error instanceof GatewayError) return error;
  return new GatewayError('internal', { detail: messageOf(error), cause: error });
}

/** The words of any thrown value. Not by `instanceof`: an error may come from another realm (a worker, a test's sandbox). */
export function messageOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string'
    ? error.message
    : String(error);
}

/** True for a `GatewayError` of the given code. */
export function isGatewayError(error: unknown, code: ErrorCode): boolean {
  return error instanceof GatewayError && error.code === code;
}

/** The error codes with their answers, for the reference in the docs and the test that holds it. */
export const ERROR_TABLE: Readonly<Record<ErrorCode, { readonly status: number; readonly clientMessage: string }>> =
  TABLE;
