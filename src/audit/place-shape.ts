/** A place in the audit as it stands in a file, and as nothing else is taken for one: reading goes on there. */
import * as v from 'valibot';
import { count, line } from '../state/shapes.ts';
import type { Place } from './follow.ts';
import { MOST_LINE_BYTES } from './lines.ts';

/** A line without an end is cut at the end of the piece that made it too long. */
const MOST_CUT_BYTES = 2 * MOST_LINE_BYTES;

export const placeShape: v.GenericSchema<unknown, Place> = v.pipe(
  v.object({
    first: v.pipe(v.string(), v.regex(/^[0-9TZ]{0,24}-[0-9a-f]{16}$/)),
    offset: count,
    lines: count,
    last: v.object({
      length: v.pipe(count, v.maxValue(MOST_CUT_BYTES)),
      hash: v.pipe(v.string(), v.regex(/^[\w-]{22}$/)),
      time: line(100),
    }),
  }),
  // Of a packed file the offset is not kept.
  v.check(({ offset, last }) => offset === 0 || last.length <= offset),
);
