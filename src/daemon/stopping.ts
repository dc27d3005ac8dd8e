/** The signals that stop the daemon: the first lets sessions finish, the second does not, the third is the system's own. */

/** Waits for signals to stop. */
interface StopSignals {
  /** Resolves with the first. */
  readonly first: Promise<NodeJS.Signals>;
  /** Resolves with the second. */
  readonly second: Promise<NodeJS.Signals>;
}

/** From now on the first two of SIGTERM and SIGINT do not end this process by themselves. */
export function catchStopSignals(): StopSignals {
  let onSecond: (signal: NodeJS.Signals) => void = () => undefined;
  const second = new Promise<NodeJS.Signals>((resolve) => (onSecond = resolve));
  const first = new Promise<NodeJS.Signals>((resolve) => {
    let received = 0;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (++received === 1) {
        resolve(signal);
        return;
      }
      onSecond(signal);
      process.off('SIGTERM', onSignal).off('SIGINT', onSignal);
    };
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  });
  return { first, second };
}

/** Waits until sessions have ended, their time is over, or a second signal has come. */
export async function drained(ended: Promise<void>, seconds: number, second: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, seconds * 1000);
  });
  await Promise.race([ended, late, second]);
  clearTimeout(timer);
}
