/** Where the gateway counts what it does, for the metrics; nobody counts where there are none. */
import type { ErrorCode } from '../core/errors.ts';
import type { Operation } from '../core/operation.ts';
import type { EndReason } from './audit-sink.ts';

/**
 * How a request ended. `absent`: there is no such object. `denied`: refused for what the client asked or may not. `failed`: by the storage's
 * or the gateway's fault. `gone`: the client did not wait.
 */
export type OperationResult = 'ok' | 'absent' | 'denied' | 'failed' | 'gone';

/** Counts one session. */
export interface SessionMeter {
  /** It is served from now on. @param counts - content bytes so far, which go on growing */
  begin(counts: { readonly bytesIn: number; readonly bytesOut: number }): void;
  /** One request, or `request` for one that could not be parsed. */
  operation(kind: Operation['kind'] | 'request', result: OperationResult): void;
  /** As in the audit. */
  denied(reason: string): void;
  end(reason: EndReason): void;
}

/** The calls of `RepositoryStore`. */
export type StoreOperation = 'create' | 'load' | 'stat' | 'remove' | 'list';

/** Counts the calls to one store. */
export interface StoreMeter {
  /** @param seconds - how long the store took to answer */
  answered(operation: StoreOperation, seconds: number): void;
  failed(operation: StoreOperation, code: ErrorCode): void;
}

/** Counts. */
export interface Meter {
  session(client: string): SessionMeter;
  /** A session that was not let in, as in the audit. */
  refused(client: string, reason: string): void;
  /** @param name - in the config */
  store(name: string): StoreMeter;
}
