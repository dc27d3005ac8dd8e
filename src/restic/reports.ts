/**
 * What a session's requests that are refused or fail come to: a line in the audit, one line to the person for each kind, and the answer.
 */
import type { ServerHttp2Stream } from 'node:http2';
import { createAllowance } from '../core/allowance.ts';
import { asGatewayError, GatewayError } from '../core/errors.ts';
import { objectKey, type ObjectRef } from '../core/object.ts';
import type { Operation } from '../core/operation.ts';
import type { AuditEvent } from '../ports/audit-sink.ts';
import type { Counts, HandlerContext } from './context.ts';
import { respondError } from './responses.ts';
import { isOpen } from './streams.ts';

/** How many failed saves are remembered, to tell restic's own clean-up from an attack. */
const REMEMBERED_FAILURES = 1000;

/** Lines of the log about an audit that takes nothing, over all sessions: a client that goes on asking must not fill the log. */
const unrecorded = createAllowance(20, 0.1, () => performance.now());

/** An answer that the policy or append-only itself refuses; already in the audit when thrown. */
class Denied extends GatewayError {
  constructor(code: 'denied' | 'protected', line: string) {
    super(code, { detail: line });
  }
}

/** A refusal, as the audit has it. */
type Refusal = Extract<AuditEvent, { kind: 'denied' }>;

/** Reports of one session. */
export interface Reports {
  /** Says one plain line to the person, once a session for each topic. */
  notifyOnce(topic: string, line: string): void;
  /** Records a refusal. @returns what to throw @throws GatewayError `audit-unavailable` */
  deny(refusal: Refusal, line: string): Promise<GatewayError>;
  /** Whether restic has failed to save this object, which it removes then. */
  hasFailedToSave(ref: ObjectRef): boolean;
  /** Records, says and answers why a request was not served. @param operation - undefined when it could not be parsed */
  fail(stream: ServerHttp2Stream, operation: Operation | undefined, thrown: unknown): Promise<void>;
}

/** Makes the reports of one session. @param counts - where refusals are counted */
export function createReports({ identity, records, log, meter, notify }: HandlerContext, counts: Counts): Reports {
  const { principal } = identity;
  const about = { session: identity.session, client: principal.client };
  const reported = new Set<string>();
  const failedSaves = new Set<string>();

  const notifyOnce = (topic: string, line: string): void => {
    if (reported.has(topic)) return;
    reported.add(topic);
    notify(line);
  };

  const count = (reason: string): void => {
    counts.denied++;
    meter?.denied(reason);
  };

  const report = async (operation: Operation | undefined, error: GatewayError): Promise<void> => {
    const ref = operation !== undefined && 'ref' in operation ? { ref: operation.ref } : {};
    const reason = error.code;
    if (operation === undefined) {
      count(reason);
      await records.record(identity, { kind: 'denied', operation: 'request', reason });
    } else if (isFailure(error)) {
      const { kind } = operation;
      const failed = { kind: 'failed', operation: kind, ...ref, reason, detail: error.message } as const;
      const written = await records.record(identity, failed);
      notifyOnce(reason, `${error.clientMessage}.`);
      if (written) log.error({ err: error, ...about, operation: kind }, error.message);
    } else if (error.status !== 404 && operation.kind === 'save') {
      count(reason);
      await records.record(identity, { kind: 'denied', operation: 'save', ...ref, reason });
      notifyOnce(reason, `${error.clientMessage}.`);
    } else if (reason === 'retained') {
      // The audit has its `remove-failed`.
      notifyOnce(reason, `${error.clientMessage}.`);
    }
  };

  return {
    notifyOnce,
    deny: async (refusal, line) => {
      await records.record(identity, refusal);
      count(refusal.reason);
      return new Denied(refusal.reason === 'protected' ? 'protected' : 'denied', line);
    },
    hasFailedToSave: (ref) => failedSaves.has(objectKey(ref)),
    fail: async (stream, operation, thrown) => {
      let error = asGatewayError(thrown);
      if (operation?.kind === 'save' && failedSaves.size < REMEMBERED_FAILURES)
        failedSaves.add(objectKey(operation.ref));
      try {
        if (!(error instanceof Denied) && isOpen(stream)) await report(operation, error);
      } catch (second) {
        // The audit cannot take the failure itself: the client hears so, and nothing was changed.
        error = asGatewayError(second);
        notifyOnce(error.code, `${error.clientMessage}.`);
        if (unrecorded.take()) log.error({ err: second, ...about }, error.message);
      }
      respondError(stream, error);
    },
  };
}

/** Whether an error is of the gateway or its storage, and not the client's. */
export function isFailure({ code, status }: GatewayError): boolean {
  return status >= 500 && code !== 'quota-exceeded';
}
