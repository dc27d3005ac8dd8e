/** What a checkpoint holds, as the shape it is held to: what the rules and the page take from it is what `reduce.ts` could have made. */
import * as v from 'valibot';
import { placeShape } from '../audit/place-shape.ts';
import { ANOMALY_RULES, type AnomalyRule } from '../ports/audit-sink.ts';
import { count, moment } from '../state/shapes.ts';
import { LONGEST_WORD, MODEL_VERSION, type ClientRecord, type RepositoryRecord } from './model.ts';

/** Ids, names, reasons and addresses as they stand in the audit; whoever prints them makes them printable. */
const word = v.pipe(v.string(), v.maxLength(LONGEST_WORD));
/** What is taken back when a change failed is more or less than nothing for a moment, or for ever in an audit that lacks lines. */
const sum = v.pipe(v.number(), v.safeInteger());
const isOrdinary = (rule: AnomalyRule): rule is Exclude<AnomalyRule, 'late'> => rule !== 'late';
const optional = v.exactOptional;

const figures = {
  session: word,
  door: word,
  from: optional(word),
  key: optional(word),
  start: moment,
  added: sum,
  objects: sum,
  snapshots: sum,
  removed: sum,
  denied: count,
  failed: count,
};

const open = v.object({
  ...figures,
  earlyKeys: count,
  pending: v.array(v.object({ object: word, size: count })),
});
const ended = v.object({ ...figures, end: moment, outcome: word, bytesIn: count, bytesOut: count });

const day = v.object({
  day: v.pipe(v.string(), v.regex(/^\d{4}-\d\d-\d\d$/)),
  added: sum,
  read: count,
  snapshots: count,
  denied: v.record(word, count),
  gaps: v.tuple([count, count]),
  busiestHour: count,
  size: optional(sum),
});

const seen = v.object({ value: word, first: moment, last: moment });

const refusal = v.object({
  at: moment,
  last: moment,
  count,
  session: optional(word),
  operation: optional(word),
  object: optional(word),
  reason: word,
});

const anomaly = v.object({
  id: word,
  rule: v.picklist(ANOMALY_RULES.filter(isOrdinary)),
  at: moment,
  last: moment,
  count,
  session: optional(word),
  facts: v.record(word, v.union([word, v.pipe(v.number(), v.finite())])),
  told: optional(v.literal(true)),
  acknowledged: optional(v.literal(true)),
});

const client: v.GenericSchema<unknown, ClientRecord> = v.object({
  first: moment,
  sessions: count,
  snapshots: sum,
  arrived: sum,
  usualGap: optional(count),
  firstSnapshot: optional(moment),
  arrivals: v.array(v.object({ at: moment, session: word, object: word, gone: optional(v.literal(true)) })),
  hour: v.object({ hour: v.pipe(v.number(), v.safeInteger()), snapshots: count }),
  days: v.array(day),
  open: v.array(open),
  latest: v.array(ended),
  addresses: v.array(seen),
  keys: v.array(seen),
  refusals: v.array(refusal),
  anomalies: v.array(anomaly),
  toldLate: v.array(word),
});

const objects = v.object({ created: sum, bytes: sum, removed: count });
const repository: v.GenericSchema<unknown, RepositoryRecord> = v.object({
  begun: v.boolean(),
  packs: objects,
  others: objects,
});

/** The file's second line. */
export const checkpointShape = v.object({
  v: v.literal(MODEL_VERSION),
  audit: v.string(),
  place: placeShape,
  latest: moment,
  clients: v.array(v.tuple([word, client])),
  repositories: v.array(v.tuple([word, repository])),
});
