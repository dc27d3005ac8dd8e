/** Moments as people write them on a command line: in this machine's zone unless another is written, as they are printed. */
import { UsageError } from './command-line/usage-error.ts';
import { readDuration } from '../config/values.ts';
import type { GatewayError } from '../core/errors.ts';

const MOMENT =
  /^(\d{4}-\d\d-\d\d)(?:[T ]([01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,3})?)?(?: ?(Z|UTC|[+-](?:0\d|1[0-4]):[0-5]\d))?)?$/;

/**
 * A moment: `2h` (so long ago; also s, m, d, w), `now`, `today`, `yesterday` (their beginning), a day such as `2026-11-25` (its beginning)
 * or a time such as `2026-11-25T18:00`, to the millisecond at most, with a zone (`Z`, `UTC`, `+01:00`) if it is not this machine's.
 * @param option - the option that it was given to, for the error
 * @throws UsageError
 */
export function parseTime(text: string, option: string, now: Date = new Date()): Date {
  if (text === 'now') return new Date(now);
  // Not so many milliseconds ago: a day may have 23 hours, or 25.
  const midnight = (daysAgo: number): Date => new Date(now.getFullYear(), now.getMonth(), now.getDate() - daysAgo);
  if (text === 'today') return midnight(0);
  if (text === 'yesterday') return midnight(1);
  const ago = readDuration(text);
  if (!Number.isNaN(ago)) return valid(new Date(now.getTime() - ago), option);
  const [, day, hour, zone] = MOMENT.exec(text) ?? [];
  if (day === undefined)
    throw new UsageError(`${option} must be a time such as 2h, 7d, yesterday, 2026-11-25 or 2026-11-25T18:00`);
  // The 30th of February would become the 2nd of March.
  if (
    valid(new Date(`${day}T00:00:00Z`), option)
      .toISOString()
      .slice(0, 10) !== day
  )
    throw noSuchDay(option);
  if (hour === undefined) return new Date(`${day}T00:00:00`);
  const local = text.replace(/ ?(?:Z|UTC|[+-]\d\d:\d\d)$/, '').replace(' ', 'T');
  return new Date(`${local}${zone === undefined ? '' : zone === 'UTC' ? 'Z' : zone}`);
}

function valid(date: Date, option: string): Date {
  if (Number.isNaN(date.getTime())) throw noSuchDay(option);
  return date;
}

function noSuchDay(option: string): GatewayError {
  return new UsageError(`${option}: there is no such day`);
}
