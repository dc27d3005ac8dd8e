/**
 * The last net: what was thrown where nobody catches is logged, and costs at most the session that it came from. Sessions have nets of their
 * own (src/restic/session.ts); what falls through to here came from outside of them all, or from Node itself.
 */
import { reportDefect, type Log } from '../ports/log.ts';

/** For a process that serves many: from now on a defect no longer ends it. */
export function surviveDefects(log: Log): void {
  onDefect((error) => {
    reportDefect(log, error, {}, 'a defect outside of any session; the gateway continues');
  });
}

/** Calls `report` for what nobody has caught, instead of ending the process. What it throws itself is lost. */
export function onDefect(report: (error: unknown) => void): void {
  const safely = (error: unknown): void => {
    try {
      report(error);
    } catch {
      // There is nobody left to report it to.
    }
  };
  process.on('uncaughtException', safely);
  process.on('unhandledRejection', safely);
}
