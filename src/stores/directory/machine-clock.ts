/** How long this machine runs: time that nobody sets, and that all of its processes share. */
import { bootId } from '../../state/processes.ts';

/** A moment in it. */
interface MachineMoment {
  /** Which run of the machine; undefined where the system has no id for it, and then moments of other processes cannot be compared. */
  readonly boot: string | undefined;
  /** In ms; it stands still while the machine sleeps. */
  readonly ms: number;
}

/** Now. */
export function machineMoment(): MachineMoment {
  return { boot: bootId(), ms: Math.round(Number(process.hrtime.bigint() / 1_000_000n)) };
}
