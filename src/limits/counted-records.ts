/** What each client may cause in the audit; the numbers are docs/limits.md's. */
import { join } from 'node:path';
import { getOrMake } from '../core/get-or-make.ts';
import { timedId } from '../core/timed-id.ts';
import type { ClientConfig } from '../config/types.ts';
import type { Via } from '../core/principal.ts';
import { takeTurn, type SharedTime } from '../core/schedule.ts';
import type { AuditSink } from '../ports/audit-sink.ts';
import type { CountedEvent, CountedRecords } from '../ports/counted-records.ts';
import type { Log } from '../ports/log.ts';
import { CLOCK, type Clock } from './clock.ts';

const HOUR_MS = 3_600_000;

/** So many at once, and so many an hour after that. */
interface Allowance {
  readonly burst: number;
  readonly perHour: number;
}

/** Sessions that were refused, line by line. */
const REFUSED: Allowance = { burst: 20, perHour: 12 };
/** Denials, failures and throttles, line by line. */
const TROUBLE: Allowance = { burst: 100, perHour: 60 };
/** Lines that report what was only counted. */
const SUMMARIES: Allowance = { burst: 3, perHour: 12 };
/** Changes that failed after they were announced. */
const FAILURES: Allowance = { burst: 500, perHour: 600 };

/** Sessions an hour by default; two hours' worth at once. */
const SESSIONS = 1000;
const SESSIONS_BURST_HOURS = 2;

/** How often it is checked whether something counted is to be reported, and how long it may be known to this process alone, in ms. */
const LOOK_MS = 60_000;
const KEEP_MS = 1000;

/** Counts that all processes share, as `state/shared-tally.ts` keeps them. */
interface Tally {
  add(counts: ReadonlyMap<string, number>): boolean;
  any(): boolean;
  take(): Promise<{ readonly counts: ReadonlyMap<string, number>; readonly settled: () => Promise<void> }>;
}

/** What is kept outside of this process. */
interface Shared {
  /** Opens a moment that all processes share. @param file - absolute */
  sharedTime(file: string): SharedTime;
  /** Opens counts that all processes share. @param directory - absolute */
  tally(directory: string): Tally;
  /** The names of what is in a directory; none where there is none. */
  tallied(directory: string): readonly string[];
}

/** The records of all clients. */
export interface AllCountedRecords {
  of(client: string): CountedRecords;
  /** Keeps what was counted, and stops looking. */
  close(): Promise<void>;
}

/** What counted records need. */
interface CountedRecordsOptions {
  readonly state: () => string;
  /** One of the config's, as of now. */
  readonly client: (name: string) => ClientConfig | undefined;
  /** Where lines go, as of now. */
  readonly audit: () => AuditSink;
  readonly shared: Shared;
  readonly log: Log;
  readonly clock?: Clock;
}

/** The counted records of all clients, by this process. */
export function createCountedRecords(options: CountedRecordsOptions): AllCountedRecords {
  const { state, client, shared, clock = CLOCK } = options;
  const all = new Map<string, CountedRecords>();
  const process: Process = { ...options, clock, via: 'ssh' };

  const of = (name: string): CountedRecords => getOrMake(all, name, () => recordsOf(name, process));

  /** Of other processes, too: a forced command may have been the last of its client. */
  const summarizeAll = async (): Promise<void> => {
    const names = new Set([...all.keys(), ...shared.tallied(join(state(), 'counted'))]);
    await Promise.all([...names].filter((name) => client(name) !== undefined).map((name) => of(name).conclude()));
  };
  const look = setInterval(() => void summarizeAll(), LOOK_MS);
  look.unref();

  return {
    of,
    close: async () => {
      clearInterval(look);
      await summarizeAll();
    },
  };
}

/** What the records of all clients have in common. */
interface Process extends Required<CountedRecordsOptions> {
  /** The way in of this process's sessions, for the lines that belong to none of them. */
  via: Exclude<Via, 'admin'>;
}

function recordsOf(name: string, process: Process): CountedRecords {
  const { state, client, audit, shared, log, clock } = process;
  const sharedTimes = new Map<string, SharedTime>();
  const sharedTime = (kind: string): SharedTime =>
    getOrMake(sharedTimes, kind, () => shared.sharedTime(join(state(), 'rates', name, kind)));
  const take = (kind: string, { burst, perHour }: Allowance): boolean => {
    const costMs = HOUR_MS / perHour;
    return takeTurn(sharedTime(kind), clock.now(), { costMs, burstMs: burst * costMs, longestMs: 0 }) !== undefined;
  };
  const tally = shared.tally(join(state(), 'counted', name));
  const failures = sharedTime('audit-failures');
  /** Counted and not kept yet. */
  let counted = new Map<string, number>();
  let keeping: (() => void) | undefined;
  let summarizing: Promise<void> = Promise.resolve();

  const count = (what: string): void => {
    counted.set(what, (counted.get(what) ?? 0) + 1);
    keeping ??= clock.after(KEEP_MS, keep);
  };
  const keep = (): void => {
    keeping?.();
    keeping = undefined;
    if (tally.add(counted)) counted = new Map();
  };

  /** Reports what was counted, by whichever process, if it is time to. */
  const summarize = async (): Promise<void> => {
    keep();
    const config = client(name);
    if (config === undefined || (counted.size === 0 && !tally.any())) return;
    if (!take('audit-summaries', SUMMARIES)) return;
    const { counts: others, settled } = await tally.take().catch(() => NOTHING);
    const counts = new Map(others);
    for (const [what, many] of counted) counts.set(what, (counts.get(what) ?? 0) + many);
    counted = new Map();
    const { id, access, repository } = config;
    const left = new Map(counts);
    try {
      for (const kind of ['more-refused', 'more-denied'] as const) {
        const reasons = Object.fromEntries(
          [...counts]
            .filter(([what]) => what.startsWith(`${kind}/`))
            .map(([what, many]) => [what.slice(kind.length + 1), many]),
        );
        const sum = Object.values(reasons).reduce((total, many) => total + many, 0);
        if (sum > 0)
          await audit().append(
            {
              session: timedId(),
              principal: { client: name, ...(id !== name && { id }), via: process.via },
              access,
              repository,
            },
            { kind, count: sum, reasons },
          );
        for (const reason of Object.keys(reasons)) left.delete(`${kind}/${reason}`);
      }
    } finally {
      // What the audit did not take is reported another time.
      for (const [what, many] of left) counted.set(what, (counted.get(what) ?? 0) + many);
      keep();
      await settled();
    }
  };

  const perHour = (): number => client(name)?.sessions ?? SESSIONS;
  const failureMs = HOUR_MS / FAILURES.perHour;
  return {
    record: async (identity, event) => {
      const { principal } = identity;
      if (principal.via !== 'admin') {
        process.via = principal.via;
        const refused = event.kind === 'session-refused';
        if (!take(refused ? 'audit-refused' : 'audit-trouble', refused ? REFUSED : TROUBLE)) {
          count(countedAs(event));
          return false;
        }
      }
      await audit().append(identity, event);
      return true;
    },
    session: () => take('sessions', { burst: SESSIONS_BURST_HOURS * perHour(), perHour: perHour() }),
    get sessionRate() {
      return `${perHour()}/h`;
    },
    attempt: () => {
      const ahead = failures.read() - clock.now();
      // As long as few have failed, only those that do fail count; later each one does until it has come about.
      const strict = ahead > (FAILURES.burst * failureMs) / 2;
      if (strict && ahead + failureMs > FAILURES.burst * failureMs) return undefined;
      const move = (ms: number): void => {
        failures.move(Math.max(failures.read(), clock.now()) + ms);
      };
      if (strict) move(failureMs);
      return {
        settle: (outcome) => {
          if (outcome === 'failed' && !strict) move(failureMs);
          else if (outcome === 'done' && strict) move(-failureMs);
        },
      };
    },
    // One after the other, so that whoever closes waits for all.
    conclude: () =>
      (summarizing = summarizing.then(summarize).catch((error: unknown) => {
        log.error({ err: error, client: name }, 'what was only counted could not be written to the audit');
      })),
  };
}

const NOTHING = { counts: new Map<string, number>(), settled: () => Promise.resolve() };

/** By what it is counted: the summary's kind, and the reason. */
function countedAs(event: CountedEvent): string {
  switch (event.kind) {
    case 'session-refused':
      return `more-refused/${event.reason}`;
    case 'denied':
    case 'failed':
      return `more-denied/${event.reason}`;
    case 'throttled':
      return 'more-denied/throttled';
  }
}
