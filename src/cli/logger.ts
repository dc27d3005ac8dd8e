/** The log of the daemon, on stderr: for people on a terminal, plain lines with severities in systemd's journal, JSON lines otherwise. */
import { pino } from 'pino';
import { asGatewayError, messageOf } from '../core/errors.ts';
import { printable, printableLines, printableValue } from '../core/printable.ts';
import type { Log } from '../ports/log.ts';
import { isJournal, journalLines } from './journal.ts';

/** Makes the log. Writes are synchronous, so that the last words before an end are not lost. */
export async function createLog(): Promise<Log> {
  if (isJournal()) return journalLog();
  const destination = process.stderr.isTTY
    ? (await import('pino-pretty')).default({
        destination: 2,
        sync: true,
        ignore: 'pid,hostname',
        translateTime: 'SYS:HH:MM:ss',
      })
    : pino.destination({ dest: 2, sync: true });
  const logger = pino(
    { base: null, timestamp: pino.stdTimeFunctions.isoTime, serializers: { err: asItIs } },
    destination,
  );
  return {
    info: (fields, message) => {
      logger.info(fit(fields), printable(message));
    },
    warn: (fields, message) => {
      logger.warn(fit(fields), printable(message));
    },
    error: (fields, message) => {
      logger.error(fit(fields), printable(message));
    },
  };
}

/** One line each, which says what its message does not say already; only a defect has more. */
function journalLog(): Log {
  const destination = pino.destination({ dest: 2, sync: true });
  const write =
    (severity: keyof Log): Log[keyof Log] =>
    (fields, message) => {
      const known = fit(fields) as Readonly<Record<string, unknown>>;
      const { stack, ...err } = (known['err'] ?? {}) as Readonly<Record<string, unknown>>;
      const said = printable(message);
      const fieldsOf: Readonly<Record<string, unknown>> = { ...known, ...err, err: '', message: '' };
      const more = Object.entries(fieldsOf).flatMap(([name, value]) => {
        if (value === undefined || value === '' || (Array.isArray(value) && value.length === 0)) return [];
        const words = typeof value === 'string' ? value : JSON.stringify(value);
        return says(said, words) ? [] : [`${name}=${words}`];
      });
      const lines = `${said}${more.length === 0 ? '' : ` (${more.join(', ')})`}`;
      destination.write(`${journalLines(severity, typeof stack === 'string' ? `${lines}\n${stack}` : lines)}\n`);
    };
  return { info: write('info'), warn: write('warn'), error: write('error') };
}

/** Whether a message has a value in it, as a word or as a long part of one. */
function says(message: string, value: string): boolean {
  return (value.length > 6 && message.includes(value)) || message.split(/[\s,;:()]+/).includes(value);
}

/** What is logged was said by peers and storages too: here it becomes printable, whoever logs it. */
function fit(fields: Readonly<Record<string, unknown>>): object {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [
      name,
      name === 'err' ? describeError(value) : printableValue(value instanceof Error ? value.message : value),
    ]),
  );
}

/** pino has a serializer of its own for `err`, which would take what is fit already for something else. */
function asItIs(value: unknown): unknown {
  return value;
}

/** A known failure is its code and its causes' words; only a defect shows where it came from. */
function describeError(error: unknown): unknown {
  const failure = asGatewayError(error);
  const { cause } = failure;
  const words = cause === undefined ? failure.message : messageOf(cause);
  return {
    code: failure.code,
    message: printableLines(failure.message),
    ...(words === failure.message ? {} : { cause: printableLines(words) }),
    ...(failure.code === 'internal' && cause instanceof Error ? { stack: printableLines(cause.stack ?? '') } : {}),
  };
}
