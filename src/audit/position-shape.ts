/** A place in the audit as it stands in a file; nothing else is taken for one, since reading goes on there. */
import { count, like, line, record, type Shape } from '../core/shape.ts';
import type { Position } from './follow.ts';
import { MOST_LINE_BYTES } from './lines.ts';

/** A line without an end is cut at the end of the piece that made it too long. */
const MOST_CUT_BYTES = 2 * MOST_LINE_BYTES;

const members: Shape<Position> = record({
  first: like(/^[0-9TZ]{0,24}-[0-9a-f]{16}$/),
  offset: count,
  lines: count,
  last: record({ length: count, hash: like(/^[\w-]{22}$/), time: line(100) }),
});

export const placeShape: Shape<Position> = (value): value is Position => {
  if (!members(value)) return false;
  const { offset, last } = value;
  // Of a packed file the offset is not kept.
  return last.length <= MOST_CUT_BYTES && (offset === 0 || last.length <= offset);
};
