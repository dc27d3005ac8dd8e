/** What stands in files that the gateway's processes leave for each other, as shapes to hold them to: nothing else is taken from them. */
import * as v from 'valibot';
import { isPrintable } from '../core/printable.ts';
import { parseJson, readStateFile } from './state-file.ts';

/** A number of things, or of bytes. */
export const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** The farthest from 1970 that a `Date` can be, in ms. */
const FARTHEST_MS = 8.64e15;
/** A time in ms since 1970. */
export const moment = v.pipe(v.number(), v.safeInteger(), v.minValue(-FARTHEST_MS), v.maxValue(FARTHEST_MS));

/** A time as `toISOString` writes it, of a year of four digits. */
export const isoTime = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
  v.check((text) => !Number.isNaN(Date.parse(text))),
);

/** Text that is fit for a line of a terminal. @param longest - in characters */
export function line(longest: number) {
  return v.pipe(v.string(), v.maxLength(longest), v.check(isPrintable));
}

/**
 * What a file holds, if it has that shape; members that the shape does not name are left out. Undefined for a file that is not there or is
 * anything else: all that is read so can be made anew.
 * @param mostBytes - what none of its kind has more of
 */
export async function readShape<T>(
  file: string,
  mostBytes: number,
  shape: v.GenericSchema<unknown, T>,
): Promise<T | undefined> {
  const bytes = await readStateFile(file, mostBytes).catch(() => undefined);
  return bytes === undefined ? undefined : asShape(bytes.toString(), shape);
}

/** A text in JSON, if it has that shape. */
export function asShape<T>(text: string, shape: v.GenericSchema<unknown, T>): T | undefined {
  const found = v.safeParse(shape, parseJson(text), { abortEarly: true });
  return found.success ? found.output : undefined;
}
