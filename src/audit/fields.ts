/**
 * What a line of the audit holds, for the reference in docs/audit-reference.md: the compiler holds these tables to the events, and a test
 * the reference to these tables and both to lines that a gateway has written.
 */
import type { AuditEvent } from '../ports/audit-sink.ts';

/** Whether a field is in every line of its kind. */
type Presence = 'always' | 'sometimes';

type Kind = AuditEvent['kind'];
type EventOf<E, K> = E extends { readonly kind: infer Kinds } ? (K extends Kinds ? E : never) : never;
type LineName<F> = F extends 'ref' ? 'object' : F;
/** Distributed over what a kind may be, so that a field of one of its forms counts. */
type PresenceOf<E, F extends keyof E> = undefined extends E[F] ? 'sometimes' : 'always';
type FieldsOf<E> = { readonly [F in Exclude<keyof E, 'kind'> as LineName<F>]: PresenceOf<E, F> };

const PURGED = { batch: 'always', objects: 'always', bytes: 'always' } as const;
/** Of what came of work with Object Lock. */
const LOCKED = { objects: 'always', changed: 'always', failed: 'always', complete: 'always' } as const;

/** The fields of every kind of event, beside those of all lines. */
export const EVENT_FIELDS = {
  'session-start': { overrideProtect: 'sometimes' },
  'session-end': {
    ...{ reason: 'always', bytesIn: 'always', bytesOut: 'always', objectsCreated: 'always' },
    ...{ objectsRemoved: 'always', denied: 'always', durationMs: 'always' },
  },
  'session-refused': { reason: 'always', detail: 'always' },
  'more-refused': { count: 'always', reasons: 'always' },
  create: { object: 'always', size: 'always', sha256: 'always' },
  'create-failed': { object: 'always', reason: 'always' },
  remove: { object: 'always', size: 'sometimes', arrived: 'sometimes' },
  'remove-failed': { object: 'always', reason: 'always' },
  quarantine: { object: 'always' },
  'quarantine-failed': { object: 'always', reason: 'always' },
  restore: { object: 'always' },
  'restore-failed': { object: 'always', reason: 'always' },
  extend: { until: 'always' },
  hold: {},
  release: {},
  ...{ extended: LOCKED, held: LOCKED, released: LOCKED },
  ...{ purge: PURGED, purged: PURGED },
  denied: { operation: 'always', object: 'sometimes', reason: 'always' },
  'more-denied': { count: 'always', reasons: 'always' },
  throttled: { reason: 'always', limit: 'always' },
  failed: { operation: 'always', object: 'sometimes', reason: 'always', detail: 'always' },
  anomaly: { rule: 'always', anomaly: 'always', detail: 'always' },
  'anomaly-acknowledged': { rule: 'always', anomaly: 'always' },
  'forged-time': { object: 'always', claimed: 'always', arrived: 'always' },
  'time-accepted': { object: 'always' },
  'audit-lost': { detail: 'always' },
  'copy-late': { copy: 'always', detail: 'always' },
  'copy-caught-up': { copy: 'always', lateMs: 'always' },
} as const satisfies { readonly [K in Kind]: FieldsOf<EventOf<AuditEvent, K>> };

/** The fields that lines of all kinds may have. */
export const COMMON_FIELDS = {
  ...{ time: 'always', v: 'always', prev: 'always', prior: 'sometimes', joined: 'sometimes' },
  ...{ event: 'always', session: 'sometimes', client: 'sometimes', id: 'sometimes', via: 'always' },
  ...{ key: 'sometimes', ca: 'sometimes', keyId: 'sometimes', serial: 'sometimes' },
  ...{ from: 'sometimes', fromPort: 'sometimes', user: 'sometimes', command: 'sometimes' },
  ...{ access: 'sometimes', store: 'sometimes', prefix: 'sometimes' },
} as const satisfies Readonly<Record<string, Presence>>;

/** Every kind of event, as `event` says it. */
export const EVENT_KINDS = Object.keys(EVENT_FIELDS) as readonly Kind[];
