/** The time of day and the day of the week in a time zone, for quiet hours and the weekly digest. Pure. */

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** Making one takes longer than using it a thousand times. */
const formats = new Map<string, Intl.DateTimeFormat>();

/** @param zone - an IANA name; undefined: the machine's @returns minutes since midnight, and the day from 0 for Sunday */
function localTime(now: number, zone: string | undefined): { readonly minutes: number; readonly day: number } {
  const date = new Date(now);
  if (zone === undefined) return { minutes: date.getHours() * 60 + date.getMinutes(), day: date.getDay() };
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en', {
      ...{ timeZone: zone, hourCycle: 'h23', weekday: 'short', hour: '2-digit', minute: '2-digit' },
    });
    formats.set(zone, format);
  }
  const parts = new Map(format.formatToParts(date).map(({ type, value }) => [type, value]));
  return {
    minutes: Number(parts.get('hour')) * 60 + Number(parts.get('minute')),
    day: ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'].indexOf(parts.get('weekday') ?? ''),
  };
}

/** Whether a moment is between two times of day, of which the second may be on the next day. */
export function isWithin(
  now: number,
  { from, to }: { readonly from: number; readonly to: number },
  zone: string | undefined,
): boolean {
  const { minutes } = localTime(now, zone);
  return from < to ? minutes >= from && minutes < to : minutes >= from || minutes < to;
}

/** The newest moment at which it was this day of the week and this time of day, in ms; an hour off where the clock was changed since. */
export function latestMoment(now: number, day: number, minutes: number, zone: string | undefined): number {
  const local = localTime(now, zone);
  const passed = ((local.day - day + 7) % 7) * DAY_MS + (local.minutes - minutes) * MINUTE_MS;
  return now - (passed < 0 ? passed + 7 * DAY_MS : passed) - (now % MINUTE_MS);
}
