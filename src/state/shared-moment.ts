/**
 * A moment that all processes of this machine share: the time of an empty file. To read or move it is one call of the system and takes no
 * lock, so of two who move it at the very same time one is lost, which a rate can bear.
 */
import { mkdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Moment } from '../core/schedule.ts';

/** @param file - absolute; made when it is first moved. Where that cannot be done, the moment is this process's alone. */
export function openSharedMoment(file: string): Moment {
  let own = 0;
  const move = (to: number): void => {
    // In seconds, with a fraction.
    utimesSync(file, to / 1000, to / 1000);
  };
  return {
    read: () => {
      try {
        return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
      } catch {
        return own;
      }
    },
    move: (to) => {
      own = to;
      try {
        try {
          move(to);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
          mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
          writeFileSync(file, '', { mode: 0o600 });
          move(to);
        }
      } catch {
        // A full or lost disk: the limits of this process still hold.
      }
    },
  };
}
