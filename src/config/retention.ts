/**
 * The keys of retention: which snapshots stay, for how long nobody can remove one, and how long what was removed can be brought back.
 *
 * The words of `retention` are those of `restic forget` (restic's manual, "Removing snapshots according to a policy"), and so are the forms
 * of their values. `keep-tag` is not among them: a tag is set by the client, who could keep or drop snapshots by it.
 */
import * as v from 'valibot';
import { invalid } from './problems.ts';
import { parseDurationOrNone, parseWhole } from './values.ts';
import { anyText, oneOf, optional, parsed, section, withDefault } from './words.ts';

/** A length of time by the calendar, as restic's rules have it. Each part is a whole number from 0. */
export interface CalendarSpan {
  readonly years: number;
  readonly months: number;
  readonly days: number;
  readonly hours: number;
}

/** What snapshots can be grouped by. */
export type GroupKey = 'host' | 'paths' | 'tags';

const MOST_KEPT = 1_000_000;

/** How many a rule keeps. */
export function parseKept(text: string): number | 'unlimited' {
  if (text === 'unlimited') return text;
  try {
    return parseWhole(text, 1, MOST_KEPT);
  } catch {
    throw invalid(`must be a whole number from 1 to ${MOST_KEPT}, or unlimited`);
  }
}

const SPAN = /^(?:\d{1,5}[ymdh])+$/;
const PARTS = { y: 'years', m: 'months', d: 'days', h: 'hours' } as const;

/** A length of time as restic writes it: `1y6m14d2h`, where m are months. Of a unit that stands twice, the last counts, as in restic. */
export function parseCalendarSpan(text: string): CalendarSpan {
  const span = { years: 0, months: 0, days: 0, hours: 0 };
  if (SPAN.test(text))
    for (const [, number, unit] of text.matchAll(/(\d+)([ymdh])/g))
      span[PARTS[unit as keyof typeof PARTS]] = Number(number);
  if (Object.values(span).every((part) => part === 0))
    throw invalid(
      'must be a length of time as restic writes it, of years, months, days and hours, such as 30d, 2m or 1y6m14d2h',
    );
  return span;
}

const GROUP_KEYS: Readonly<Record<string, GroupKey>> = {
  ...{ host: 'host', hosts: 'host', path: 'paths', paths: 'paths', tag: 'tags', tags: 'tags' },
};

/** What is grouped by, as `restic forget --group-by` takes it; nothing for one group of all. */
export function parseGroupBy(text: string): readonly GroupKey[] {
  const words = text.split(',').filter((word) => word !== '');
  const keys = words.map((word) => (Object.hasOwn(GROUP_KEYS, word) ? GROUP_KEYS[word] : undefined));
  if (keys.includes(undefined))
    throw invalid('must be host, paths, tags or several of them with commas between, or ""');
  return [...new Set(keys as GroupKey[])];
}

const kept = parsed('1 – 1000000, `unlimited`', parseKept);
const span = parsed('years, months, days, hours: `1y6m14d2h`', parseCalendarSpan);
const period = parsed('time, `none`', parseDurationOrNone);

/** `retention`: restic's rules, at least one of them. */
export const RETENTION = v.pipe(
  section(
    {
      'keep-last': optional(kept, { about: 'the newest snapshots' }),
      'keep-hourly': optional(kept, { about: 'the last snapshot of an hour, for so many hours that have one' }),
      'keep-daily': optional(kept, { about: 'the same of days' }),
      'keep-weekly': optional(kept, { about: 'the same of weeks (ISO 8601)' }),
      'keep-monthly': optional(kept, { about: 'the same of months' }),
      'keep-yearly': optional(kept, { about: 'the same of years' }),
      'keep-within': optional(span, { about: 'all that arrived within that time before the newest one' }),
      'keep-within-hourly': optional(span, { about: 'within that time, the last snapshot of each hour' }),
      'keep-within-daily': optional(span, { about: 'the same of days' }),
      'keep-within-weekly': optional(span, { about: 'the same of weeks' }),
      'keep-within-monthly': optional(span, { about: 'the same of months' }),
      'keep-within-yearly': optional(span, { about: 'the same of years' }),
      'group-by': withDefault(parsed('`host`, `paths`, `tags`, with commas', parseGroupBy, anyText), 'host,paths', {
        about: 'each group is thinned out by itself; `""` is one group of all',
      }),
    },
    { 'keep-tag': 'is not a rule here: tags are set by the client, who could keep or drop snapshots by them' },
  ),
  // A key that is no rule is reported by itself.
  v.check((rules) => Object.keys(rules).some((key) => key !== 'group-by'), 'needs a rule, such as keep-daily: 30'),
);
/** `protect`: in ms. */
export const PROTECT = period;
/** `trash`: in ms. */
export const TRASH = period;
export const REMOVALS = oneOf(['refused', 'deferred']);

/** Which snapshots stay. Counts are from 1. */
export type RetentionPolicy = Readonly<v.InferOutput<typeof RETENTION>>;

/** What a client, its store or `defaults` say of removals. */
interface Said {
  readonly retention?: RetentionPolicy | undefined;
  readonly protect?: number | 'none' | undefined;
  readonly trash?: number | 'none' | undefined;
  readonly removals?: 'refused' | 'deferred' | undefined;
}

/** What holds for one client. */
export interface RemovalRules {
  /** Undefined: `forget` removes nothing. */
  readonly retention?: RetentionPolicy;
  /** How long after its arrival a snapshot cannot be removed, in ms; undefined: it can be at once. */
  readonly protectMs?: number;
  /** How long what is removed can be brought back, in ms; undefined: removed is gone. */
  readonly trashMs?: number;
  /** `deferred` only with access append-only, with a trash, and where no other client has the repository. */
  readonly removals: 'refused' | 'deferred';
}

const FORTNIGHT = 14 * 24 * 60 * 60 * 1000;

/**
 * What holds for a client: what it says itself, then what its store does, then `defaults`.
 * @returns `problem` where that cannot be together
 */
export function removalRules(
  client: Said & { readonly access: string; readonly shared: boolean },
  store: Pick<Said, 'protect' | 'trash'>,
  defaults: Said,
): {
  readonly rules: RemovalRules;
  readonly problem?: { readonly key?: 'removals' | 'trash'; readonly message: string };
} {
  const retention = client.retention ?? defaults.retention;
  const trash = client.trash ?? store.trash ?? defaults.trash ?? FORTNIGHT;
  const appends = client.access === 'append-only';
  const removals = client.removals ?? (appends && !client.shared ? defaults.removals : undefined) ?? 'refused';
  // Wherever snapshots are thinned out.
  const usual = retention === undefined && removals === 'refused' ? 'none' : FORTNIGHT;
  const protect = client.protect ?? store.protect ?? defaults.protect ?? usual;
  const rules = {
    ...(retention && { retention }),
    ...(protect !== 'none' && { protectMs: protect }),
    ...(trash !== 'none' && { trashMs: trash }),
    removals,
  };
  if (removals === 'refused') return { rules };
  if (!appends)
    return {
      rules,
      problem: {
        key: 'removals',
        message: `"deferred" is for access append-only; with access ${client.access}, remove this line`,
      },
    };
  if (client.shared)
    return {
      rules,
      problem: {
        key: 'removals',
        message:
          '"deferred" is for a repository of one client, who thins out its own backups; with shared: true, remove this line',
      },
    };
  if (trash !== 'none') return { rules };
  const message =
    'removals: deferred needs a trash to move things to; give trash a time such as 14d, or write removals: refused';
  const key = client.trash !== undefined ? 'trash' : client.removals !== undefined ? 'removals' : undefined;
  return { rules, problem: { ...(key && { key }), message } };
}
