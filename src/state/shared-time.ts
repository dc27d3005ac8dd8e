/**
 * A moment that all processes of this machine share: the time of an empty file. To read or move it is one call of the system and takes no
 * lock, so of two who move it at the very same time one is lost, which a rate can bear.
 *
 * Moments are of a clock that nobody sets (`limits/clock.ts`), and that begins anew when the machine does. So the file's other time says in
 * which run of the machine it was moved: one from before counts as never moved.
 */
import { closeSync, constants, lstatSync, lutimesSync } from 'node:fs';
import { dirname } from 'node:path';
import type { SharedTime } from '../core/schedule.ts';
import { bootId } from './processes.ts';
import { openStateFileSync, withDirectory } from './state-file.ts';

/** The first 31 bits of the id of this run of the machine; 0 where it has none. */
function thisBoot(): number {
  return Number.parseInt(bootId()?.slice(0, 8) ?? '0', 16) >>> 1;
}

/** @param file - absolute; made when it is first moved. Where that cannot be done, the moment is this process's alone. */
export function openSharedTime(file: string): SharedTime {
  let own = 0;
  /** Whether it could not be kept in the file when it was last moved. */
  let alone = false;
  const move = (to: number): void => {
    // In seconds, with a fraction.
    lutimesSync(file, thisBoot(), to / 1000);
  };
  return {
    read: () => {
      try {
        const stats = lstatSync(file, { throwIfNoEntry: false });
        const kept = stats !== undefined && Math.round(stats.atimeMs / 1000) === thisBoot() ? stats.mtimeMs : 0;
        return alone ? Math.max(own, kept) : kept;
      } catch {
        return own;
      }
    },
    move: (to) => {
      own = to;
      try {
        alone = false;
        try {
          move(to);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
          const create = constants.O_WRONLY | constants.O_CREAT;
          closeSync(withDirectory(dirname(file), () => openStateFileSync(file, create, 0o600)).descriptor);
          move(to);
        }
      } catch {
        // A full or lost disk: the limits of this process still hold.
        alone = true;
      }
    },
  };
}
