/** What a checkpoint holds, as the shape it is held to: what the rules and the page take from it is what `reduce.ts` could have made. */
import { placeShape } from '../audit/position-shape.ts';
import {
  count,
  either,
  flag,
  like,
  listOf,
  moment,
  only,
  pairOf,
  record,
  sum,
  tableOf,
  text,
  type Shape,
} from '../core/shape.ts';
import { ANOMALY_RULES, type AnomalyRule } from '../ports/audit-sink.ts';
import { LONGEST_WORD, MODEL_VERSION, type ClientRecord, type RepositoryRecord } from './model.ts';

/** Ids, names, reasons and addresses as they stand in the audit; whoever prints them makes them printable. */
const word = text(LONGEST_WORD);
const isOrdinary = (rule: AnomalyRule): rule is Exclude<AnomalyRule, 'late'> => rule !== 'late';

// What is taken back when a change failed may be below nothing for ever, in an audit that lacks lines: a sum.
const figures = {
  ...{ session: word, via: word, start: moment },
  ...{ added: sum, objects: sum, snapshots: sum, removed: sum, denied: count, failed: count },
};
const removed = { snapshots: count, objects: count, bytes: count };
const removedByClients = { snapshots: count, old: count, bytes: count };
const peer = { from: word, key: word };

const client: Shape<ClientRecord> = record(
  {
    ...{ first: moment, sessions: count, snapshots: sum, arrived: sum },
    arrivals: listOf(record({ at: moment, session: word, object: word }, { gone: only(true) })),
    hour: record({ hour: sum, snapshots: count }),
    days: listOf(
      record(
        {
          ...{ day: like(/^\d{4}-\d\d-\d\d$/), added: sum, read: count, snapshots: count },
          ...{ denied: tableOf(word, count), gaps: pairOf(count, count), busiestHour: count },
        },
        { size: sum, removed: record(removed), removedByAdmin: record(removed) },
      ),
    ),
    open: listOf(
      record(
        {
          ...{ ...figures, earlyKeys: count, pending: listOf(record({ object: word, size: count })) },
          removing: listOf(record({ object: word, bytes: count }, { arrived: moment })),
        },
        peer,
      ),
    ),
    latest: listOf(record({ ...figures, end: moment, outcome: word, bytesIn: count, bytesOut: count }, peer)),
    addresses: listOf(record({ value: word, first: moment, last: moment })),
    keys: listOf(record({ value: word, first: moment, last: moment })),
    refusals: listOf(
      record({ at: moment, last: moment, count, reason: word }, { session: word, operation: word, object: word }),
    ),
    anomalies: listOf(
      record(
        {
          ...{ id: word, rule: only(...ANOMALY_RULES.filter(isOrdinary)), at: moment, last: moment, count },
          facts: tableOf(word, either(word, isFinite)),
        },
        { session: word, counted: word, reported: only(true), acknowledged: only(true) },
      ),
    ),
    removals: listOf(record({ session: word, via: word, at: moment, last: moment, ...removed })),
    moves: listOf(record({ session: word, object: word, removed: sum }, { day: text(10), gone: only(true) })),
    forged: listOf(word),
    reportedLate: listOf(word),
  },
  { usualGap: count, firstSnapshot: moment, probe: record({ at: moment, session: word, failed: count }) },
);

const objects = record({ created: sum, bytes: sum, removed: count });
const repository: Shape<RepositoryRecord> = record(
  {
    ...{ begun: flag, packs: objects, others: objects, first: moment, held: sum },
    past: record({ arrived: sum, gone: sum }),
    days: listOf(
      record({
        ...{ day: like(/^\d{4}-\d\d-\d\d$/), held: count, size: count, arrived: sum, gone: sum },
        removed: record(removedByClients),
      }),
    ),
    hours: listOf(record({ hour: sum, ...removedByClients })),
  },
  { by: word },
);

/** The file's first line: what it is of, up to where, and how many lines of each kind come after it. */
export const headShape = record({
  v: only(MODEL_VERSION),
  audit: text(4096),
  position: placeShape,
  latest: moment,
  clients: count,
  repositories: count,
});

/** One of the lines of clients; `client` is the id. */
export const clientShape = record({ client: word, record: client });
/** One of the lines of repositories; `repository` is `repositoryKey`. */
export const repositoryShape = record({ repository: text(2 * LONGEST_WORD + 1), record: repository });

/** JSON has no others, but for those too large. */
function isFinite(value: unknown): value is number {
  return Number.isFinite(value);
}
