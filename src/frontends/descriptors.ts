/**
 * Keeps a listener from running out of file descriptors: some are kept in reserve, and given up for it when there are no others.
 *
 * A listener does not say that it cannot accept. libuv keeps one descriptor, by which it accepts what waits and closes it without a word; once
 * something else has taken that one, it tries again for ever, in a loop that never rests, and says nothing either (uv__server_io,
 * uv__emfile_trick). So it is tried here whether there is one: at each connection, which may have taken the last, and now and then.
 */
import { closeSync, openSync } from 'node:fs';

/** Descriptors kept in reserve. */
const RESERVE = 4;
/** How often it is tried without a connection, in ms. */
const LOOK_MS = 1000;

/** Looks until it is told to stop. */
interface DescriptorReserve {
  /** Whether there is none left but for the reserve, which has been given up then: what comes is to be closed, so that it lasts. */
  isShort(): boolean;
  stop(): void;
}

/** @param onShort - called each time that there is none, with the system's word for it */
export function keepDescriptors(onShort: (code: string) => void): DescriptorReserve {
  const reserve: number[] = [];
  const release = (): void => {
    for (const descriptor of reserve.splice(0)) closeSync(descriptor);
  };
  const open = (): number => openSync('/dev/null', 'r');
  const isShort = (): boolean => {
    try {
      while (reserve.length < RESERVE) reserve.push(open());
      closeSync(open());
      return false;
    } catch (error) {
      release();
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EMFILE' && code !== 'ENFILE') return false;
      onShort(code);
      return true;
    }
  };
  isShort();
  const timer = setInterval(isShort, LOOK_MS).unref();
  return {
    isShort,
    stop: () => {
      clearInterval(timer);
      release();
    },
  };
}
