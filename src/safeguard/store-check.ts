/**
 * Whether a store may take what append-only clients bring: shown by a live trial, which is repeated once a day and whose outcome the
 * processes of this machine share, so that a session costs the reading of one small file.
 */
import { createHash } from 'node:crypto';
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { S3StoreConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { flag, moment, record, text } from '../core/shape.ts';
import type { Storage, StoreCheckResult } from '../ports/repository-store.ts';
import { readShape, replaceStateFile } from '../state/state-file.ts';

const SHAPE = record({
  ...{ store: text(64), time: moment },
  ...{ neverOverwrites: flag, keepsVersions: flag, keepsPacks: flag },
});

/** What a trial has shown, as far as it matters to whether the store is used. */
type Shown = Pick<StoreCheckResult, 'neverOverwrites' | 'keepsVersions' | 'keepsPacks'>;

/** For how long an outcome holds, in ms: a bucket's versioning, or its server, may change. */
const LASTS_MS = 24 * 60 * 60 * 1000;
/** For how long a store that did not pass is not tried again, in ms; whoever has put it right need not wait for long. */
const REFUSED_MS = 10_000;
/** What is shared takes some 200. */
const MOST_BYTES = 4096;

/** Proves one store. */
export class StoreCheck {
  readonly #config: S3StoreConfig;
  readonly #storage: Storage;
  readonly #file: string;
  #known: { readonly time: number; readonly shown: Shown } | undefined;
  /** Why it does not keep packs. */
  #packs = '';
  #running: Promise<Shown> | undefined;

  /** @param state - the directory that the processes of this machine share */
  constructor(config: S3StoreConfig, storage: Storage, state: string) {
    this.#config = config;
    this.#storage = storage;
    // Its secret is not in it. What is tried with another key, or in another bucket, is another store.
    this.#file = join(
      state,
      'store-checks',
      `${createHash('sha256').update(JSON.stringify(config)).digest('hex')}.json`,
    );
  }

  /**
   * What is known of the store, or what a trial shows now.
   * @param anew - tries it whatever is known
   * @throws GatewayError `store-unsafe` for a store that would let backups be overwritten, `store-failed` for one that does not keep packs; why it cannot be tried
   */
  async shown({ anew = false }: { readonly anew?: boolean } = {}): Promise<Shown> {
    const known = anew ? undefined : this.#fresh();
    const shown = known ?? (await (this.#running ??= this.#find(anew)));
    if (!this.#accepts(shown)) throw this.#refusal(shown);
    return shown;
  }

  #fresh(): Shown | undefined {
    if (this.#known === undefined) return undefined;
    const { time, shown } = this.#known;
    return holds(time, this.#accepts(shown) ? LASTS_MS : REFUSED_MS) ? shown : undefined;
  }

  async #find(anew: boolean): Promise<Shown> {
    try {
      const shared = anew ? undefined : await this.#read();
      if (shared !== undefined) {
        this.#known = shared;
        return shared.shown;
      }
      // Each of its waits has its time limit; several callers may wait for it.
      const check = await this.#storage.check([], { signal: new AbortController().signal });
      const { neverOverwrites, keepsVersions, keepsPacks } = check;
      const known = { time: Date.now(), shown: { neverOverwrites, keepsVersions, keepsPacks } };
      this.#packs = check.checks.find(({ what }) => what === 'keeps packs')?.detail ?? '';
      this.#known = known;
      await this.#share(known);
      return known.shown;
    } finally {
      this.#running = undefined;
    }
  }

  #accepts(shown: Shown): boolean {
    return this.#isSafe(shown) && shown.keepsPacks;
  }

  #isSafe({ neverOverwrites, keepsVersions }: Shown): boolean {
    return neverOverwrites || (this.#config.conditionalWrites === 'versioned' && keepsVersions);
  }

  #refusal(shown: Shown): GatewayError {
    const { name, conditionalWrites } = this.#config;
    const { keepsVersions } = shown;
    if (this.#isSafe(shown))
      return new GatewayError('store-failed', {
        detail: `store ${name} does not keep packs, so nothing is stored in it: ${this.#packs}; restic-gateway check --live tries it again`,
      });
    const wanted = conditionalWrites === 'versioned';
    const versioned = wanted ? 'switch versioning on for the bucket' : 'set conditionalWrites: versioned for the store';
    const advice =
      keepsVersions || wanted ? versioned : 'give the bucket versioning and the store conditionalWrites: versioned';
    return new GatewayError('store-unsafe', {
      detail:
        `store ${name} does not honour If-None-Match: an upload would replace what is there, so append-only clients cannot store anything in it; ` +
        `use a storage that honours it, or ${advice} (docs/s3.md); restic-gateway check --live tries it again`,
    });
  }

  /** Undefined when there is nothing that is readable, recent and good enough. */
  async #read(): Promise<{ readonly time: number; readonly shown: Shown } | undefined> {
    const kept = await readShape(this.#file, MOST_BYTES, SHAPE);
    if (kept === undefined || !holds(kept.time, LASTS_MS)) return undefined;
    const { time, neverOverwrites, keepsVersions, keepsPacks } = kept;
    const shown = { neverOverwrites, keepsVersions, keepsPacks };
    return this.#accepts(shown) ? { time, shown } : undefined;
  }

  /** Replaces what is shared as a whole. Where nothing can be written, each process tries for itself. */
  async #share({ time, shown }: { readonly time: number; readonly shown: Shown }): Promise<void> {
    try {
      // What was shared before no longer counts, whatever it said.
      if (!this.#accepts(shown)) await unlink(this.#file);
      else await replaceStateFile(this.#file, JSON.stringify({ store: this.#config.name, time, ...shown }));
    } catch {
      // Said above.
    }
  }
}

/** A time in the future is that of a clock that was wrong. */
function holds(time: number, lastsMs: number): boolean {
  const age = Date.now() - time;
  return age >= 0 && age < lastsMs;
}
