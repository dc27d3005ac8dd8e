/** Moments as people write them on a command line. As in the audit, all is UTC unless a zone is written. */
import { readDuration } from '../config/values.ts';
import { GatewayError } from '../core/errors.ts';

const DAY = 86_400_000;
const MOMENT =
  /^(\d{4}-\d\d-\d\d)(?:[T ]([01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,3})?)?(Z|[+-](?:0\d|1[0-4]):[0-5]\d)?)?$/;

/**
 * A moment: `2h` (so long ago; also s, m, d, w), `now`, `today`, `yesterday` (their beginning), a day such as `2026-11-25` (its beginning)
 * or a time such as `2026-11-25T18:00`, to the millisecond at most and with a zone if it is not UTC.
 * @param option - the option that it was given to, for the error
 * @throws GatewayError `usage`
 */
export function parseTime(text: string, option: string, now: Date = new Date()): Date {
  const midnight = Math.floor(now.getTime() / DAY) * DAY;
  if (text === 'now') return new Date(now);
  if (text === 'today') return new Date(midnight);
  if (text === 'yesterday') return new Date(midnight - DAY);
  const ago = readDuration(text);
  if (!Number.isNaN(ago)) return valid(new Date(now.getTime() - ago), option);
  const [, day, hour, zone] = MOMENT.exec(text) ?? [];
  if (day === undefined)
    throw new GatewayError('usage', {
      detail: `${option} must be a time such as 2h, 7d, yesterday, 2026-11-25 or 2026-11-25T18:00Z`,
    });
  // The 30th of February would become the 2nd of March.
  const start = valid(new Date(`${day}T00:00:00Z`), option);
  if (start.toISOString().slice(0, 10) !== day) throw noSuchDay(option);
  if (hour === undefined) return start;
  return new Date(`${text.replace(' ', 'T')}${zone === undefined ? 'Z' : ''}`);
}

function valid(date: Date, option: string): Date {
  if (Number.isNaN(date.getTime())) throw noSuchDay(option);
  return date;
}

function noSuchDay(option: string): GatewayError {
  return new GatewayError('usage', { detail: `${option}: there is no such day` });
}
