/**
 * Time to read what was said last on stderr before its channel ends. restic reads what ssh says in a goroutine of its own, and drops what it
 * has not read when ssh exits: a line and the end in one packet are often the end alone.
 *
 * Source: restic, internal/backend/rclone/backend.go: `cmd.Wait` closes the pipe that the goroutine reads.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { within } from '../core/waiting.ts';

/** How long whoever has it is given to read it, in ms. */
export const HEARD_MS = 200;
/** How long a peer may take to have it, in ms. */
const MOST_MS = 2000;

/** What was said on one channel. */
interface Hearing {
  /** Something was just said. */
  readonly said: () => void;
  /** Resolves when the last of it can have been read; undefined when it is long since. Never rejects. */
  readonly heard: () => Promise<void> | undefined;
  /** Does something then, or at once. What it throws is nobody's: its connection is going. */
  readonly after: (then: () => void) => void;
}

/** @param reached - resolves when the peer has what was sent before */
export function createHearing(reached: () => Promise<void>): Hearing {
  let last: Promise<void> | undefined;
  return {
    said: () => {
      const now = within(MOST_MS, reached())
        .then(() => sleep(HEARD_MS))
        .finally(() => {
          if (last === now) last = undefined;
        });
      last = now;
    },
    heard: () => last,
    after: (then) => {
      const go = (): void => {
        try {
          then();
        } catch {
          // See above.
        }
      };
      if (last === undefined) go();
      else void last.then(go);
    },
  };
}
