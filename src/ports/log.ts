/** Words for the person who runs the gateway; what clients did belongs to the audit instead. */
import { createAllowance } from '../core/allowance.ts';

/** A logger by level; `fields` are structured and hold no secrets. pino fits as it is. */
export interface Log {
  info(fields: Readonly<Record<string, unknown>>, message: string): void;
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
  error(fields: Readonly<Record<string, unknown>>, message: string): void;
}

/** Logs nothing: for processes whose stderr belongs to somebody else. */
export const SILENT: Log = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** Lines about defects, of all sessions of this process: whoever has found one must not fill the log with it. One each ten seconds, then. */
const defects = createAllowance(20, 0.1, () => performance.now());
let dropped = 0;

/** Logs what was thrown that nobody had foreseen, or counts it when there was much of it; never throws. */
export function reportDefect(
  log: Log,
  error: unknown,
  fields: Readonly<Record<string, unknown>>,
  message: string,
): void {
  if (!defects.take()) {
    dropped += 1;
    return;
  }
  const before = dropped === 0 ? {} : { dropped };
  dropped = 0;
  try {
    log.error({ err: error, ...fields, ...before }, message);
  } catch {
    // A log that cannot be written is no reason to end anything.
  }
}
