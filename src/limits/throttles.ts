/** The rates that clients are held to: one set for each client, which all of its sessions in this process share. */
import { join } from 'node:path';
import type { ClientConfig } from '../config/types.ts';
import { getOrMake } from '../core/get-or-make.ts';
import type { SharedTime } from '../core/schedule.ts';
import type { Throttle } from '../ports/throttle.ts';
import { CLOCK, type Clock } from './clock.ts';
import { createCountedRate } from './counted-rate.ts';
import { createPacer } from './pacer.ts';

/** Requests a second. restic makes a tenth of it; who makes so many only uses up what others need. */
const REQUESTS = 1000;
/** For so long a client may have been idle to make requests at once that it did not make then, in ms: 30,000 by default. */
const REQUESTS_BURST_MS = 30_000;

/** Small objects an hour: a run of restic makes five or so, and a lock every five minutes. */
const SMALL_OBJECTS = 5000;
/** As above: 20,000 at once by default, enough for whoever copies thousands of snapshots. */
const SMALL_OBJECTS_BURST_MS = 4 * 3_600_000;
/** Objects under this many bytes are small. A pack has 16 MiB, but for the last of a run. */
const SMALL_BYTES = 1024 * 1024;

/** What a client's rates are as of now. */
export type ClientRates = Pick<ClientConfig, 'bandwidth' | 'requests' | 'smallObjects'>;

/** The throttles of the clients. */
interface Throttles {
  /** The client's; `rates` of the first call for a client stays the one that is asked. */
  of(client: string, rates: () => ClientRates | undefined): Throttle;
}

/**
 * @param state - the state directory of this machine, absolute
 * @param openShared - opens a moment that all processes share, kept in a file
 */
export function createThrottles(
  state: () => string,
  openShared: (file: string) => SharedTime,
  clock: Clock = CLOCK,
): Throttles {
  const throttles = new Map<string, Throttle>();
  return {
    of: (client, rates) =>
      getOrMake(throttles, client, () =>
        createThrottle(rates, (name) => openShared(join(state(), 'rates', client, name)), clock),
      ),
  };
}

function createThrottle(
  rates: () => ClientRates | undefined,
  openShared: (name: string) => SharedTime,
  clock: Clock,
): Throttle {
  const bandwidth = (direction: 'upload' | 'download') => () => rates()?.bandwidth?.[direction];
  const upload = createPacer(bandwidth('upload'), openShared('upload'), clock);
  const download = createPacer(bandwidth('download'), openShared('download'), clock);
  const perSecond = (): number => rates()?.requests ?? REQUESTS;
  const perHour = (): number => rates()?.smallObjects ?? SMALL_OBJECTS;
  // In this process alone: so often, nothing can be asked of the system.
  const requests = createCountedRate(
    { costMs: () => 1000 / perSecond(), burstMs: REQUESTS_BURST_MS, code: 'too-many-requests' },
    ownTime(),
    clock,
  );
  const objects = createCountedRate(
    { costMs: () => 3_600_000 / perHour(), burstMs: SMALL_OBJECTS_BURST_MS, code: 'too-many-objects' },
    openShared('small-objects'),
    clock,
  );
  return {
    upload: (bytes, signal) => upload.take(bytes, signal),
    download: (bytes, signal) => download.take(bytes, signal),
    piece: (direction) => (direction === 'upload' ? upload : download).piece(),
    discarded: (bytes) => {
      upload.owe(bytes);
    },
    request: (signal) => requests.take(signal),
    object: (size, signal) => (size < SMALL_BYTES ? objects.take(signal) : undefined),
    describe: (rate) => {
      switch (rate) {
        case 'upload':
        case 'download':
          return `${sizeInWords(bandwidth(rate)() ?? 0)}/s`;
        case 'requests':
          return `${perSecond()}/s`;
        case 'small-objects':
          return `${perHour()}/h`;
      }
    },
  };
}

function ownTime(): SharedTime {
  let at = 0;
  return {
    read: () => at,
    move: (to) => {
      at = to;
    },
  };
}

/** `50MiB`, `2.5MB`: by the unit that takes the fewest digits. */
function sizeInWords(bytes: number): string {
  const units = [1024, 1000].flatMap((base) =>
    ['G', 'M', 'K'].map((letter, index) => [base ** (3 - index), `${letter}${base === 1024 ? 'i' : ''}B`] as const),
  );
  const words = units
    .filter(([size]) => bytes >= size)
    .map(([size, unit]) => `${Number((bytes / size).toFixed(3))}${unit}`)
    .sort((a, b) => a.length - b.length);
  return words[0] ?? `${bytes}B`;
}
