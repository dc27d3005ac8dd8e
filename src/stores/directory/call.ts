/** How every call on a directory store is bounded, and what its errors become. */
import { asGatewayError, GatewayError } from '../../core/errors.ts';
import { bounded, type Steps } from './bounded.ts';
import { errnoOf, storeFailure } from './failures.ts';
import { assertRoot, BodyFailure } from './files.ts';

/** For how long the file system may give no sign of life. */
export const IO_LIMIT_MS = 60_000;

/** Runs work within the store's bounds; whatever it throws becomes a `GatewayError`, except for what a client's body threw. */
export type Call = <T>(
  doing: string,
  signal: AbortSignal,
  work: (steps: Steps) => Promise<T>,
  discard?: (value: T) => void,
) => Promise<T>;

/** @param limitMs - for how long the file system may give no sign of life before a call ends as `store-timeout` */
export function makeCall(root: string, limitMs: number): Call {
  return (doing, signal, work, discard) =>
    bounded(
      { doing, signal, limitMs },
      async (steps) => {
        try {
          return await work(steps);
        } catch (error) {
          if (error instanceof BodyFailure) throw error.cause;
          const errno = errnoOf(error);
          if (errno === undefined || error instanceof GatewayError) throw asGatewayError(error);
          if (errno === 'ENOENT' || errno === 'ENOTDIR') await assertRoot(steps, root);
          throw storeFailure(doing, error);
        }
      },
      discard,
    );
}
