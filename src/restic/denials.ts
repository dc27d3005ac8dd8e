/**
 * The denials and failures of a session on their way into the audit, which a client must not be able to fill: beyond a number at once and
 * a rate after that they are counted by reason, and a summary follows with the next one that is written, or at the session's end.
 */
import { createAllowance } from '../core/allowance.ts';
import type { AuditEvent } from '../ports/audit-sink.ts';

/** Lines at once, and each second after that: thirty a minute. */
const BURST = 100;
const PER_SECOND = 0.5;

/** Something that a client was refused or that failed. */
type Trouble = Extract<AuditEvent, { kind: 'denied' | 'failed' }>;

/** Writes a session's denials and failures. */
export interface Denials {
  /** Writes one or counts it. @returns whether it was written @throws GatewayError `audit-unavailable` */
  record(event: Trouble): Promise<boolean>;
  /** Writes the summary of what was only counted, if anything. @throws GatewayError `audit-unavailable` */
  conclude(): Promise<void>;
}

/**
 * @param write - writes one event to the audit
 * @param now - a clock that only goes forward, in ms
 */
export function createDenials(
  write: (event: AuditEvent) => Promise<void>,
  now: () => number = () => performance.now(),
): Denials {
  const allowance = createAllowance(BURST, PER_SECOND, now);
  let counted = new Map<string, number>();

  const conclude = async (): Promise<void> => {
    if (counted.size === 0) return;
    const reasons = Object.fromEntries(counted);
    const count = [...counted.values()].reduce((sum, each) => sum + each, 0);
    counted = new Map();
    await write({ kind: 'more-denied', count, reasons });
  };

  return {
    record: async (event) => {
      if (!allowance.take()) {
        counted.set(event.reason, (counted.get(event.reason) ?? 0) + 1);
        return false;
      }
      await conclude();
      await write(event);
      return true;
    },
    conclude,
  };
}
