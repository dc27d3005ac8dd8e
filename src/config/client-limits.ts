/**
 * The keys that a client says for itself or `defaults` for all: its limits, and what of it is monitored. A new one is one line of `KEYS`, and
 * what holds where neither says it is in `clientLimits`.
 *
 * What a client may do (`access`, `addKeys`, `shared`), who it is (`keys`, `repository`, `id`, `role`) and whether it is let in (`expires`,
 * `disabled`) is not among them: each of these is read where the client stands, and one line must not change it for all.
 */
import * as v from 'valibot';
import { invalid } from './problems.ts';
import {
  parseAddressRange,
  parseBandwidth,
  parseDuration,
  parseShare,
  parseSize,
  parseTimes,
  parseWhole,
} from './values.ts';
import { listOf, optional, parsed, section } from './words.ts';

/** A whole number from `least` to `most`. */
export const whole = (least: number, most: number) =>
  parsed(`${least} – ${most}`, (text) => parseWhole(text, least, most));
const times = (unit: 's' | 'h', least: number) =>
  parsed(`number/${unit}, from ${least}/${unit}`, (text) => parseTimes(text, unit, least));

/** What `parse` reads, or a word that ends what `defaults` says for all. */
function orWord<T, const W extends string>(form: string, word: W, parse: (text: string) => T) {
  return parsed(`${form}, \`${word}\``, (text): T | W => {
    if (text === word) return word;
    try {
      return parse(text);
    } catch (error) {
      const { message } = error as Error;
      throw invalid(message.includes(';') ? message : `${message}, or ${word}`);
    }
  });
}

const rate = orWord('size/s, from 64KiB/s', 'none', parseBandwidth);
const bandwidth = v.pipe(
  section({
    upload: optional(rate, { about: 'from the client' }),
    download: optional(rate, { about: 'to the client' }),
  }),
  v.check((rates) => Object.keys(rates).length > 0, 'must have upload, download or both'),
);

/** One key, as it stands in a client and in `defaults`. @param unless - what holds where it is in neither */
function key<const T extends v.GenericSchema>(type: T, about: string, unless: string) {
  return {
    own: optional(type, { about, unless: 'as in `defaults`' }),
    all: optional(type, { about, unless }),
  };
}

const KEYS = {
  maxSessions: key(whole(1, 10_000), 'concurrent sessions, over all processes of the machine', '`10`'),
  quota: key(orWord('size', 'none', parseSize), 'how much the repository may hold', '`none`'),
  // A run of restic has one, or two for the moment in which it refreshes it.
  maxLocks: key(whole(1, 100_000), 'locks younger than 30 minutes that it may have', '`200`'),
  bandwidth: key(bandwidth, 'of all its sessions together', '`none`'),
  // Below these, an ordinary run of restic would be hindered.
  requests: key(times('s', 10), 'rate of its requests, in each process', '`1000/s`'),
  sessions: key(times('h', 60), 'rate of its new sessions', '`1000/h`'),
  smallObjects: key(times('h', 60), 'rate at which it may store objects under 1 MiB', '`5000/h`'),
  from: key(
    listOf(parsed('address or range', parseAddressRange)),
    'addresses it may connect from: `10.0.0.0/8`, `2001:db8::1`',
    'any',
  ),
  expectEvery: key(
    orWord('time', 'learned', parseDuration),
    'late without a snapshot, or for `role: probe` without a probe, for this long: [monitoring.md](monitoring.md#late-backups)',
    '`learned`; `26h` with `role: probe`',
  ),
  massRemoval: key(
    parsed('5% – 100%, `none`', (text) => parseShare(text, 5)),
    'an anomaly when more of its repository is removed in a day: [monitoring.md](monitoring.md#removals)',
    '`33%`',
  ),
} as const;

type Side<S extends 'own' | 'all'> = { -readonly [K in keyof typeof KEYS]: (typeof KEYS)[K][S] };

function side<const S extends 'own' | 'all'>(which: S): Side<S> {
  return Object.fromEntries(Object.entries(KEYS).map(([name, sides]) => [name, sides[which]])) as Side<S>;
}

/** The entries of the schema of a client. */
export const OWN_LIMITS = side('own');
/** Those of `defaults`. */
export const DEFAULT_LIMITS = side('all');

/** What a client or `defaults` says. */
type SaidLimits = v.InferOutput<v.ObjectSchema<Side<'own'>, undefined>>;

/** What holds for one client. Sizes in bytes, rates in bytes/s, times in ms. */
export interface ClientLimits {
  readonly maxSessions: number;
  readonly quota?: number;
  readonly maxLocks: number;
  readonly bandwidth?: { readonly upload?: number; readonly download?: number };
  /** Per second. */
  readonly requests?: number;
  /** Per hour. */
  readonly sessions?: number;
  readonly smallObjects?: number;
  /** Empty: anywhere. */
  readonly from: readonly string[];
  /** Undefined: learned. */
  readonly expectEvery?: number;
  /** Share of 1. */
  readonly massRemoval?: number | 'none';
}

/** What holds for a client: what it says itself, then `defaults`, each key as a whole. */
export function clientLimits(own: DeepReadonly<SaidLimits>, defaults: DeepReadonly<SaidLimits>): ClientLimits {
  const { maxSessions = 10, maxLocks = 200, from = [], quota, bandwidth: rates, ...rest } = { ...defaults, ...own };
  const { expectEvery, requests, sessions, smallObjects, massRemoval } = rest;
  const [upload, download] = [rates?.upload, rates?.download];
  return {
    ...{ maxSessions, maxLocks, from },
    ...(quota !== undefined && quota !== 'none' && { quota }),
    ...(rates !== undefined && {
      bandwidth: {
        ...(upload !== undefined && upload !== 'none' && { upload }),
        ...(download !== undefined && download !== 'none' && { download }),
      },
    }),
    ...(requests !== undefined && { requests }),
    ...(sessions !== undefined && { sessions }),
    ...(smallObjects !== undefined && { smallObjects }),
    ...(expectEvery !== undefined && expectEvery !== 'learned' && { expectEvery }),
    ...(massRemoval !== undefined && { massRemoval }),
  };
}

/** A client's entry without what `clientLimits` makes of it. */
export function withoutLimits<T extends object>(entry: T): Omit<T, keyof SaidLimits> {
  const others = Object.entries(entry).filter(([name]) => !Object.hasOwn(KEYS, name));
  return Object.fromEntries(others) as unknown as Omit<T, keyof SaidLimits>;
}

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;
