/**
 * What a probe tells the gateway of its own result: in the command of a last session, which the audit records and which decides nothing. A
 * server that is no gateway of ours takes it for a command like any other.
 */

const WORDS = 'serve restic --stdio restic-gateway-probe';
/** What the audit keeps of a command, in bytes, less what stands before the checks. */
const MOST_CHECKS = 150;

/** How a probe ended. */
interface ProbeReport {
  readonly held: number;
  readonly failed: number;
  /** The first of those that do not hold, in words. */
  readonly checks: string;
}

/** The command that tells it. */
export function writeProbeReport(held: number, failures: readonly string[]): string {
  const checks = failures.join('; ').replace(/[^ -~]/g, '?');
  const shown = checks.length > MOST_CHECKS ? `${checks.slice(0, MOST_CHECKS)}...` : checks;
  return `${WORDS} held=${held} failed=${failures.length}${shown === '' ? '' : `: ${shown}`}`;
}

/** What a command tells; undefined for any other. */
export function readProbeReport(command: string): ProbeReport | undefined {
  const [, held, failed, checks = ''] =
    /^serve restic --stdio restic-gateway-probe held=(\d{1,4}) failed=(\d{1,4})(?:: (.+))?$/s.exec(command) ?? [];
  return held === undefined ? undefined : { held: Number(held), failed: Number(failed), checks };
}
