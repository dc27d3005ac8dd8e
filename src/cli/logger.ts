/** The log of the daemon, on stderr: for people on a terminal, JSON lines otherwise. */
import { pino } from 'pino';
import { asGatewayError, messageOf } from '../core/errors.ts';
import type { Log } from '../ports/log.ts';

/** Makes the log. Writes are synchronous, so that the last words before an end are not lost. */
export async function createLog(): Promise<Log> {
  const destination = process.stderr.isTTY
    ? (await import('pino-pretty')).default({
        destination: 2,
        sync: true,
        ignore: 'pid,hostname',
        translateTime: 'SYS:HH:MM:ss',
      })
    : pino.destination({ dest: 2, sync: true });
  const logger = pino(
    { base: null, timestamp: pino.stdTimeFunctions.isoTime, serializers: { err: describeError } },
    destination,
  );
  return {
    info: (fields, message) => {
      logger.info(fields, message);
    },
    warn: (fields, message) => {
      logger.warn(fields, message);
    },
    error: (fields, message) => {
      logger.error(fields, message);
    },
  };
}

/** A known failure is its code and its causes' words; only a defect shows where it came from. */
function describeError(error: unknown): unknown {
  const failure = asGatewayError(error);
  const { cause } = failure;
  const words = cause === undefined ? failure.message : messageOf(cause);
  return {
    code: failure.code,
    message: failure.message,
    ...(words === failure.message ? {} : { cause: words }),
    ...(failure.code === 'internal' && cause instanceof Error ? { stack: cause.stack } : {}),
  };
}
