/**
 * The ledgers of a gateway that shares a database. While that is away, uploads are counted in a file on this machine, from what was in use
 * last; what they come to is kept in a file for each process, and is counted in once the database is back.
 */
import { randomBytes } from 'node:crypto';
import { appendFile, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { asGatewayError, messageOf } from '../core/errors.ts';
import { getOrMake } from '../core/get-or-make.ts';
import { like, only, record, sum, text } from '../core/shape.ts';
import type { Ledger, Ledgers, OpenLedger } from '../ports/ledger.ts';
import type { Log } from '../ports/log.ts';
import { ledgerId, readKnownUsage, writeKnownUsage } from '../state/known-usage.ts';
import { isRunning, ownProcess } from '../state/processes.ts';
import { parseJson, readStateFile } from '../state/state-file.ts';
import { DatabaseAway, openDatabase, type Database, type DatabaseConfig } from './connection.ts';
import { gatewayName } from './gateway-name.ts';
import { readKept } from './kept.ts';
import { ledgerProcess, openSharedLedger } from './ledger.ts';

/** Connections of one process; more uploads than this wait for one another, a few ms each. */
const MOST_CONNECTIONS = 4;
/** How often it is tried whether the database is back, and processes with uploads under way say that they go on, in ms. */
const RETRY_MS = 1000;
/** How often what is in use is written down for when the database is away, in ms. */
const KNOWN_MS = 5000;
/** What none of those files has more of: an outage with a million uploads. */
const MOST_PENDING_BYTES = 128 * 1024 * 1024;

/** What an upload or a removal has come to, and how a token of the database has ended. */
const CHANGED = record({ ledger: like(/^[0-9a-f]{32}$/), bytes: sum });
const SETTLED = record({
  ledger: like(/^[0-9a-f]{32}$/),
  token: text(200),
  end: only<'stored' | 'failed'>('stored', 'failed'),
});

/**
 * Opens nothing before it is needed.
 * @param openLocal - the ledger in files of this machine
 */
export function openSharedLedgers(
  { config, state, log }: { readonly config: DatabaseConfig; readonly state: string; readonly log: Log },
  openLocal: OpenLedger,
): Ledgers {
  const database = openDatabase(config, MOST_CONNECTIONS, 'quotas', log);
  const known = readKept(state);
  // Another process has just found that out.
  if (known?.isFresh === true && known.away !== undefined) database.setAway(known.away.why);
  const own = ledgerProcess(database, gatewayName(config));
  const pending = openPending(state, gatewayName(config), database, log);
  let underWay = 0;
  const tend = async (): Promise<void> => {
    // No upload waits for a database that is away.
    if (database.away() !== undefined) await database.probe();
    await pending.flush();
    if (underWay > 0) await own.beat();
  };
  let tending = false;
  const timer = setInterval(() => {
    if (tending) return;
    tending = true;
    void tend()
      .catch(() => undefined)
      .finally(() => (tending = false));
  }, RETRY_MS).unref();

  const open: Ledgers['open'] = (_state, identity, measure) => {
    const id = ledgerId(identity);
    const shared = openSharedLedger(database, id, own, measure);
    const directory = join(state, 'usage-away', id);
    let local: Ledger | undefined;
    /** In bytes; of those that the file of this machine has. */
    const localSizes = new Map<string, number>();
    let used: number | undefined;
    let written = -Infinity;
    let tokens = 0;
    const next = (): string => `${own.id}-${id.slice(0, 8)}-${++tokens}`;

    const openAway = (): Ledger =>
      (local ??= openLocal(directory, async () => used ?? (await readKnownUsage(state, identity)) ?? measure()));
    /** The database counts again. */
    const isBack = async (now: number): Promise<void> => {
      used = Math.max(0, now);
      if (performance.now() - written < KNOWN_MS) return;
      written = performance.now();
      // What was counted without it begins anew the next time.
      if (localSizes.size === 0) {
        const before = local;
        local = undefined;
        await before?.close().catch(() => undefined);
        await rm(directory, { recursive: true, force: true }).catch(() => undefined);
      }
      await writeKnownUsage(state, identity, used);
    };
    const reserve: Ledger['reserve'] = async (size, limit, key) => {
      const token = next();
      try {
        // What this machine has counted by itself comes first, or it would be missing.
        await pending.flush();
        const now = await shared.take(token, size, limit, key);
        if (now === undefined) return undefined;
        await isBack(now);
      } catch (error) {
        if (!(error instanceof DatabaseAway)) throw error;
        if (error.mayHaveRun) await pending.settle(id, token, 'failed');
        const given = await openAway().reserve(size, limit, key);
        if (given === undefined) return undefined;
        localSizes.set(given, size);
        underWay += 1;
        return given;
      }
      underWay += 1;
      return token;
    };
    return {
      reserve,
      settle: async (token, end) => {
        underWay -= 1;
        const size = localSizes.get(token);
        if (size !== undefined) {
          localSizes.delete(token);
          if (end === 'stored') await pending.change(id, size);
          await local?.settle(token, end);
          return;
        }
        try {
          await shared.settle([token], end);
        } catch (error) {
          if (!(error instanceof DatabaseAway)) throw error;
          await pending.settle(id, token, end);
        }
      },
      removed: async (size) => {
        const change = next();
        try {
          await shared.change(change, -size);
        } catch (error) {
          if (!(error instanceof DatabaseAway)) throw error;
          // What may have been done already is left to the next count: too much counted is safe.
          if (!error.mayHaveRun) await pending.change(id, -size);
          await local?.removed(size);
        }
      },
      claimCount: (claimMs) => shared.claimCount(claimMs).catch(() => false),
      watch: () => shared.watch(),
      close: async () => {
        await local?.close();
      },
    };
  };
  return {
    open,
    close: async () => {
      clearInterval(timer);
      await pending.flush().catch(() => undefined);
      await database.close();
    },
  };
}

/**
 * What the database is yet to be told: lines in files of each process, which another one takes over when that has ended. A file is told as a
 * whole, once, and nothing is written to it from then on.
 */
function openPending(state: string, gateway: string, database: Database, log: Log) {
  const directory = join(state, 'usage-pending');
  const { pid, begun } = ownProcess();
  const own = `${pid}.${begun}-${randomBytes(4).toString('hex')}`;
  let number = 1;
  /** Whether there may be some: files of others that have ended are looked for once. */
  let some = true;
  let last: Promise<unknown> = Promise.resolve();
  const inOrder = <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(work);
    last = done.catch(() => undefined);
    return done;
  };
  const note = (line: object): Promise<void> =>
    inOrder(async () => {
      some = true;
      try {
        await mkdir(directory, { recursive: true, mode: 0o700 });
        await appendFile(join(directory, `${own}-${number}`), `${JSON.stringify(line)}\n`, { mode: 0o600 });
      } catch (error) {
        throw asGatewayError(error);
      }
    });
  const tell = async (name: string): Promise<void> => {
    const path = join(directory, name);
    const content = await readStateFile(path, MOST_PENDING_BYTES).catch((error: unknown) => {
      // Whatever somebody has put there must not keep anyone from storing.
      log.error({ err: error }, `what was counted while the database was away cannot be read: ${messageOf(error)}`);
    });
    if (content === undefined) return;
    const lines = String(content).split('\n').map(parseJson);
    const bytes = new Map<string, number>();
    const ended = new Map<string, string[]>();
    for (const line of lines) {
      if (CHANGED(line)) bytes.set(line.ledger, (bytes.get(line.ledger) ?? 0) + line.bytes);
      if (SETTLED(line)) getOrMake(ended, `${line.end} ${line.ledger}`, (): string[] => []).push(line.token);
    }
    const ledger = (id: string) => openSharedLedger(database, id, NO_PROCESS, NO_STORE);
    for (const [id, sum] of bytes) await ledger(id).change(`${gateway}/${name}/${id}`, sum);
    for (const [which, tokens] of ended) {
      const [end = '', id = ''] = which.split(' ');
      await ledger(id).settle(tokens, end === 'stored' ? 'stored' : 'failed');
    }
    await rm(path, { force: true });
    if (bytes.size > 0) log.info({}, 'what was counted while the database was away is counted in');
  };
  return {
    settle: (ledger: string, token: string, end: 'stored' | 'failed') => note({ ledger, token, end }),
    change: (ledger: string, bytes: number) => note({ ledger, bytes }),
    /** Tells it. @throws DatabaseAway */
    flush: async (): Promise<void> => {
      if (!some || database.away() !== undefined) return;
      await inOrder(async () => {
        if (!some) return;
        some = false;
        number += 1;
        try {
          for (const name of await readdir(directory).catch(() => [] as string[])) {
            const [, other, since] = /^(\d+)\.(\d+)-[0-9a-f]+-\d+$/.exec(name) ?? [];
            if (other === undefined || name === `${own}-${number}`) continue;
            if (name.startsWith(own) || !isRunning({ pid: Number(other), begun: Number(since) })) await tell(name);
          }
        } catch (error) {
          some = true;
          throw error;
        }
      });
    },
  };
}

const NO_PROCESS = { id: '', beat: () => Promise.resolve() };
const NO_STORE = (): Promise<number> => Promise.reject(new Error('nothing is counted here'));
