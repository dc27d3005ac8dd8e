/**
 * Holds bytes to a rate, over all sessions of a client and all processes of the machine.
 *
 * What all share is one moment, up to which the time of the wire is taken. Whoever needs bytes takes the next short turn, waits for it to
 * come, and moves as many bytes as fit into it: so those who are idle take nothing from the others, and nobody has to know of anybody.
 */
import { takeTurn, type SharedTime } from '../core/schedule.ts';
import type { Clock } from './clock.ts';

/** The length of a turn, in ms: short, so that the turns of many mix and a changed rate counts at once; not so short that it costs. */
const TURN_MS = 100;
/** Turns that may be caught up on when time was lost, in ms. */
const SLACK_MS = 2 * TURN_MS;
/** Bytes that one moves at a time at least: what one frame of HTTP/2 holds. */
const LEAST_PIECE = 16 * 1024;
/** The longest that one waits for a turn. It is reached when some hundred processes wait, or when the clock was set back. */
const LONGEST_MS = 60_000;
/** The most that may be owed for bytes that were discarded, in ms of the rate. */
const MOST_OWED_MS = 10_000;

/** A flow of bytes. */
interface Pacer {
  /** @returns undefined when they may go at once, else a promise for when they may, or for when the signal aborts */
  take(bytes: number, signal: AbortSignal): Promise<void> | undefined;
  /** The most bytes to take at once; Infinity for no limit. */
  piece(): number;
  /** Counts bytes that have moved already. */
  owe(bytes: number): void;
}

interface Waiting {
  readonly bytes: number;
  granted: boolean;
  go: () => void;
}

/**
 * @param rate - bytes a second as of now; undefined for no limit
 * @param sharedTime - shared by all who share the rate
 */
export function createPacer(rate: () => number | undefined, sharedTime: SharedTime, clock: Clock): Pacer {
  /** Bytes of turns that have come and were not used up; below zero for what is owed. */
  let credit = 0;
  const queue: Waiting[] = [];
  /** Calls off the turn that is waited for; its time stays taken. */
  let callOff: (() => void) | undefined;

  const pump = (): void => {
    for (let [first] = queue; first !== undefined; [first] = queue) {
      const perSecond = rate();
      if (perSecond === undefined) credit = 0;
      else if (credit < first.bytes) {
        const turn = (perSecond * TURN_MS) / 1000;
        const wait = takeTurn(sharedTime, clock.now(), { costMs: TURN_MS, burstMs: SLACK_MS, longestMs: LONGEST_MS });
        // Where no turn is to be had, it is tried again.
        const [waitMs, bytes] = wait === undefined ? [LONGEST_MS, 0] : [wait, turn];
        if (waitMs > 0) {
          callOff = clock.after(waitMs, () => {
            callOff = undefined;
            credit += bytes;
            pump();
          });
          return;
        }
        credit += bytes;
        continue;
      } else credit -= first.bytes;
      queue.shift();
      first.granted = true;
      first.go();
    }
  };

  return {
    take: (bytes, signal) => {
      if (queue.length === 0 && rate() === undefined) return undefined;
      const waiting: Waiting = { bytes, granted: false, go: () => undefined };
      queue.push(waiting);
      if (queue.length === 1 && callOff === undefined) pump();
      if (waiting.granted) return undefined;
      return new Promise((resolve) => {
        const leave = (): void => {
          queue.splice(queue.indexOf(waiting), 1);
          if (queue.length === 0) {
            callOff?.();
            callOff = undefined;
          }
          resolve();
        };
        waiting.go = () => {
          signal.removeEventListener('abort', leave);
          resolve();
        };
        if (signal.aborted) leave();
        else signal.addEventListener('abort', leave, { once: true });
      });
    },
    piece: () => {
      const perSecond = rate();
      return perSecond === undefined ? Infinity : Math.max(LEAST_PIECE, Math.floor((perSecond * TURN_MS) / 1000));
    },
    owe: (bytes) => {
      const perSecond = rate();
      if (perSecond !== undefined)
        credit = Math.max(Math.min(credit, -(perSecond * MOST_OWED_MS) / 1000), credit - bytes);
    },
  };
}
