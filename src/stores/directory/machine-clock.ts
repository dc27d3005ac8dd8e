/** How long this machine runs: time that nobody sets, and that all of its processes share. */
import { readFileSync } from 'node:fs';

/** A moment in it. */
export interface MachineMoment {
  /** Which run of the machine; undefined where the system does not tell, and then moments of other processes cannot be compared. */
  readonly boot: string | undefined;
  /** In ms; it stands still while the machine sleeps. */
  readonly ms: number;
}

let boot: { readonly id: string | undefined } | undefined;

/** Now. */
export function machineMoment(): MachineMoment {
  boot ??= { id: readBoot() };
  return { boot: boot.id, ms: Math.round(Number(process.hrtime.bigint() / 1_000_000n)) };
}

function readBoot(): string | undefined {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return undefined;
  }
}
