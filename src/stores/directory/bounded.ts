/**
 * Puts an end to calls on a file system that hangs and to calls for a client who is gone.
 *
 * A system call on a hung file system (a lost NFS server) cannot be interrupted. The caller gets an error in time all the same; the work
 * itself goes on once the file system answers, far enough to clean up behind itself.
 */
import { GatewayError } from '../../core/errors.ts';

/** How long a call may take. */
interface Bounds {
  /** What is being done, for the error: `reading keys/abcd…`. */
  readonly doing: string;
  readonly signal: AbortSignal;
  /** For how long the file system may give no sign of life, in ms. */
  readonly limitMs: number;
}

/** What the work does its waiting with. Each throws when the call has been given up, so that the work ends at its next step. */
export interface Steps {
  /** One operation on the file system, bounded by the limit. */
  io<T>(operation: () => Promise<T>): Promise<T>;
  /** The same for a `finally`: also runs when the call has been given up. */
  cleanUp<T>(operation: () => Promise<T>): Promise<T>;
  /** Waiting for the client, who has time limits of his own: bounded by the signal alone. */
  client<T>(promise: Promise<T>): Promise<T>;
  /**
   * The change is made. From here on the signal is not heeded any more, though the limit is; and the work goes on to its end even if it has
   * been given up, so that nothing stays half done.
   */
  committed(): void;
}

/**
 * Runs the work within bounds. When it is given up, the promise rejects at once, and the work runs on by itself to its next step, where
 * it fails and cleans up; if it was past its last step, its result goes to `discard`.
 *
 * @throws what the work throws; GatewayError `store-timeout` past the limit; on the signal its reason, if that is a GatewayError, else
 * `store-failed`
 */
export function bounded<T>(
  { doing, signal, limitMs }: Bounds,
  work: (steps: Steps) => Promise<T>,
  discard: (value: T) => void = () => undefined,
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(cancelled(signal));
      return;
    }
    let ended = false;
    let why: GatewayError | undefined;
    let mustFinish = false;
    let waitingForIo = 0;
    let stopWaitingForClient: ((error: GatewayError) => void) | undefined;

    const end = (): void => {
      ended = true;
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    };
    const giveUp = (error: GatewayError): void => {
      why = error;
      end();
      reject(error);
      stopWaitingForClient?.(error);
    };
    const onAbort = (): void => {
      giveUp(cancelled(signal));
    };
    const timer = setTimeout(() => {
      if (waitingForIo > 0)
        giveUp(
          new GatewayError('store-timeout', {
            detail: `${doing}: the file system has not answered for ${Math.ceil(limitMs / 1000)} s; look at the disk or the mount`,
          }),
        );
    }, limitMs);
    signal.addEventListener('abort', onAbort);

    const run = async <R>(operation: () => Promise<R>): Promise<R> => {
      waitingForIo += 1;
      // A cleared timer would come to life again.
      if (!ended) timer.refresh();
      try {
        return await operation();
      } finally {
        waitingForIo -= 1;
        if (!ended) timer.refresh();
      }
    };
    const steps: Steps = {
      async io(operation) {
        if (why !== undefined && !mustFinish) throw why;
        return run(operation);
      },
      cleanUp: run,
      client(promise) {
        return new Promise((pass, fail) => {
          if (why === undefined) stopWaitingForClient = fail;
          else fail(why);
          // Also when it comes too late: a rejection that nobody hears ends the whole process.
          promise.then(pass, fail);
        });
      },
      committed() {
        mustFinish = true;
        signal.removeEventListener('abort', onAbort);
      },
    };
    work(steps).then(
      (value) => {
        end();
        if (why === undefined) resolve(value);
        else discard(value);
      },
      (error: unknown) => {
        end();
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- passed on as it was thrown
        reject(error);
      },
    );
  });
}

function cancelled(signal: AbortSignal): GatewayError {
  const reason: unknown = signal.reason;
  if (reason instanceof GatewayError) return reason;
  return new GatewayError('store-failed', { detail: 'the call was aborted', cause: reason });
}
