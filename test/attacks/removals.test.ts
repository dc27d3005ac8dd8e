/**
 * Whoever may remove, and by whatever they do in whatever order: what was there before they came can be brought back for as long as the
 * trash keeps it. A client of deferred removals is in an intruder's hands, beside an admin who goes on forgetting, pruning and purging.
 */
import { existsSync, readdirSync, readFileSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { onTrash, openClientMaintenance } from '../../src/client-maintenance.ts';
import { batchName, parseBatchName } from '../../src/core/trash.ts';
import { purgeTrash, restoreTrash } from '../../src/maintenance/trash.ts';
import { sample, sha256 } from '../support/restic-client.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
const PROTECT_MS = 2 * DAY_MS;
const TRASH_MS = 14 * DAY_MS;
const SIGNAL = new AbortController().signal;

let stack: Stack;
const clients = ['a', 'b', 'c'];
beforeAll(async () => {
  const thrifty = { removals: 'deferred', protectMs: PROTECT_MS, trashMs: TRASH_MS, maxSessions: 1000 } as const;
  stack = await startStack(Object.fromEntries(clients.map((name) => [name, thrifty])));
});
afterAll(() => stack.close());

/** Numbers from 0 to below 1 that follow from a seed (Tommy Ettinger's mulberry32). */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** What stands in a snapshot here: which packs it needs. */
interface Backup {
  readonly name: string;
  readonly body: Buffer;
  readonly packs: readonly string[];
}

/** A repository of one client, and what is done with it. Its packs are random bytes; a snapshot and an index name packs. */
class Repository {
  readonly #client: string;
  readonly #home: string;
  /** Everything that was ever uploaded, to be uploaded again. */
  readonly #bodies = new Map<string, Buffer>();
  readonly backups: Backup[] = [];

  constructor(client: string) {
    this.#client = client;
    this.#home = path.dirname(stack.file(client, 'config'));
  }

  connect(via: 'ssh' | 'admin' = 'ssh'): Promise<StackClient> {
    return stack.connect(this.#client, { via });
  }

  /** The keys of a type that are there. */
  keys(type: string): string[] {
    const top = path.join(this.#home, type);
    if (!existsSync(top)) return [];
    const names =
      type === 'data' ? readdirSync(top).flatMap((shard) => readdirSync(path.join(top, shard))) : readdirSync(top);
    return names.map((name) => `${type}/${name}`);
  }

  #file(key: string): string {
    const [type = '', name = ''] = key.split('/');
    return path.join(this.#home, type === 'data' ? `data/${name.slice(0, 2)}/${name}` : key);
  }

  async put(client: StackClient, type: string, body: Buffer): Promise<string> {
    const key = `${type}/${sha256(body)}`;
    this.#bodies.set(key, body);
    expect((await client.request('POST', `/${key}`, { body })).status).toBe(200);
    return key;
  }

  /** @param base - packs of others that it needs, too */
  async backUp(client: StackClient, base: readonly string[] = []): Promise<Backup> {
    const fresh = [await this.put(client, 'data', sample(300).body), await this.put(client, 'data', sample(300).body)];
    await this.put(client, 'index', Buffer.from(JSON.stringify(fresh)));
    const packs = [...fresh, ...base];
    const body = Buffer.from(JSON.stringify({ packs, salt: sample().name }));
    const backup = { name: await this.put(client, 'snapshots', body), body, packs };
    this.backups.push(backup);
    return backup;
  }

  /** As restic's prune: index anew, then the old index and the packs that no snapshot needs. */
  async prune(client: StackClient): Promise<void> {
    const kept = new Set(this.backups.filter(({ name }) => this.has(name)).flatMap(({ packs }) => packs));
    const packs = this.keys('data').filter((key) => kept.has(key));
    const index = await this.put(client, 'index', Buffer.from(JSON.stringify(packs)));
    const old = [
      ...this.keys('index').filter((key) => key !== index),
      ...this.keys('data').filter((key) => !kept.has(key)),
    ];
    for (const key of old) if ((await this.remove(client, key)) !== 200) return;
  }

  async remove(client: StackClient, key: string): Promise<number> {
    return (await client.request('DELETE', `/${key}`)).status;
  }

  has(key: string): boolean {
    return existsSync(this.#file(key));
  }

  holds(key: string, body: Buffer): boolean {
    return this.has(key) && readFileSync(this.#file(key)).equals(body);
  }

  /** One that was uploaded once, whoever removed it since. */
  async putAgain(client: StackClient, key: string): Promise<void> {
    const body = this.#bodies.get(key);
    if (body !== undefined) await client.request('POST', `/${key}`, { body });
  }

  /** Whether restic could restore it: it is there, and so are its packs, and an index that knows each. */
  restores({ name, body, packs }: Backup): boolean {
    const known = new Set(
      this.keys('index').flatMap((key) => JSON.parse(readFileSync(this.#file(key), 'utf8')) as string[]),
    );
    const whole = (key: string): boolean => known.has(key) && this.holds(key, this.#bodies.get(key) ?? Buffer.alloc(0));
    return this.holds(name, body) && packs.every(whole) && this.keys('keys').length > 0 && this.has('config');
  }

  /** Lets time pass: all that the storage has recorded is so much older. */
  pass(ms: number): void {
    const shift = (file: string, side: string): void => {
      const time = new Date(Math.floor(statSync(file).mtimeMs) - ms);
      utimesSync(file, time, time);
      if (!existsSync(side)) return;
      const { mtimeNs } = statSync(file, { bigint: true });
      const record = JSON.parse(readFileSync(side, 'utf8')) as Record<string, unknown>;
      writeFileSync(
        side,
        JSON.stringify({ ...record, modifiedNs: String(mtimeNs), time: time.toISOString(), boot: 'another' }),
      );
    };
    const own = path.join(this.#home, '.restic-gateway');
    for (const type of ['data', 'index', 'snapshots', 'keys'])
      for (const key of this.keys(type)) {
        const file = this.#file(key);
        shift(file, path.join(own, 'origin', `${path.relative(this.#home, file)}.json`));
      }
    const trash = path.join(own, 'trash');
    if (!existsSync(trash)) return;
    for (const name of readdirSync(trash)) {
      const batch = parseBatchName(name);
      if (batch === undefined) throw new Error(`what is ${name}?`);
      const top = path.join(trash, name);
      for (const entry of readdirSync(top, { recursive: true, withFileTypes: true })) {
        const file = path.join(entry.parentPath, entry.name);
        if (entry.isFile() && !entry.name.endsWith('.json')) shift(file, `${file}.origin.json`);
      }
      renameSync(top, path.join(trash, batchName(new Date(batch.removed.getTime() - ms), batch.session, batch.by)));
    }
  }

  async purge(): Promise<void> {
    const opened = await openClientMaintenance(stack.config, this.#client);
    const request = { before: new Date(Date.now() - TRASH_MS), may: () => true, gently: false };
    await onTrash(opened, SIGNAL, (work) => purgeTrash(work, request));
    await opened.maintenance.close();
  }

  async restore(since: Date): Promise<void> {
    const opened = await openClientMaintenance(stack.config, this.#client);
    await onTrash(opened, SIGNAL, (work) => restoreTrash(work, { since }));
    await opened.maintenance.close();
  }
}

const SEEDS = process.env['REMOVALS_SEED'] === undefined ? [1, 2, 3] : [Number(process.env['REMOVALS_SEED'])];

describe.each(SEEDS.map((seed, place) => [seed, clients[place % clients.length] ?? 'a'] as const))(
  'seed %d',
  (seed, name) => {
    test('backups, forged ones, forgets, prunes, purges and kills in any order: what was there comes back', async () => {
      const random = dice(seed);
      const upTo = (count: number): number => Math.floor(random() * count);
      const oneOf = <T>(all: readonly T[]): T | undefined => all[upTo(all.length)];
      const repository = new Repository(name);
      const done: string[] = [];

      const first = await repository.connect();
      await repository.put(first, 'keys', sample().body);
      expect((await first.request('POST', '/config', { body: Buffer.from('config') })).status).toBe(200);

      /** The admin's timer, by arrival: the newest five and whatever is protected stay. */
      const forget = async (): Promise<void> => {
        const admin = await repository.connect('admin');
        const there = repository.backups.filter((backup) => repository.has(backup.name));
        for (const backup of there.slice(0, -5)) await repository.remove(admin, backup.name);
        admin.close();
        const pruning = await repository.connect('admin');
        await repository.prune(pruning);
        pruning.close();
      };

      // Honest weeks.
      for (let day = 0; day < 15; day++) {
        const client = await repository.connect();
        const last = repository.backups.at(-1);
        await repository.backUp(client, random() < 0.7 ? last?.packs.slice(0, 3) : []);
        client.close();
        if (random() < 0.2) await forget();
        if (random() < 0.2) await repository.purge();
        repository.pass(DAY_MS);
      }
      const good = repository.backups.filter((backup) => repository.has(backup.name));
      expect(good.filter((backup) => !repository.restores(backup))).toEqual([]);
      expect(good.length).toBeGreaterThanOrEqual(5);

      // Someone has its key and password. So long ago that was by what the storage has recorded since:
      let begunMs = 0;
      const began = Date.now();
      let client = await repository.connect();
      const last = good.at(-1)?.name ?? '';
      const steps: Readonly<Record<string, () => Promise<unknown>>> = {
        // Ruined content; some of it leans on what is there.
        forge: () => repository.backUp(client, random() < 0.5 ? oneOf(good)?.packs : []),
        'remove anything': async () => {
          const all = ['data', 'index', 'snapshots', 'keys'].flatMap((type) => repository.keys(type));
          for (let times = upTo(6); times >= 0; times--)
            await repository.remove(client, oneOf([...all, 'config']) ?? 'config');
        },
        'forget much and prune': async () => {
          for (const key of repository.keys('snapshots')) if (random() < 0.7) await repository.remove(client, key);
          await repository.prune(client);
        },
        'remove everything': async () => {
          const all = ['snapshots', 'index', 'data', 'keys'].flatMap((type) => repository.keys(type));
          await Promise.all([...all, 'config'].map((key) => repository.remove(client, key)));
        },
        'prune in another session': async () => {
          const another = await repository.connect();
          await repository.prune(another);
          another.close();
        },
        'put some back': async () => {
          for (let times = upTo(4); times >= 0; times--) {
            const backup = oneOf(repository.backups);
            for (const key of [...(backup?.packs ?? []), backup?.name ?? '']) await repository.putAgain(client, key);
          }
        },
        'break off in the middle': async () => {
          const all = ['snapshots', 'index', 'data'].flatMap((type) => repository.keys(type));
          const removals = all.map((key) => repository.remove(client, key).catch(() => 0));
          await Promise.race(removals);
          client.close();
          await Promise.all([...removals, client.served.ended]);
          client = await repository.connect();
        },
        'connect again': async () => {
          client.close();
          client = await repository.connect();
        },
        forget,
        purge: () => repository.purge(),
        'hours pass': () => {
          const ms = HOUR_MS * (1 + upTo(18));
          if (begunMs + ms < TRASH_MS - DAY_MS) {
            begunMs += ms;
            repository.pass(ms);
          }
          return Promise.resolve();
        },
      };
      const names = Object.keys(steps);
      for (let step = 0; step < 40; step++) {
        const which = oneOf(names) ?? '';
        done.push(which);
        await steps[which]?.();
        // The last one came a day before: it is protected for another.
        if (begunMs < DAY_MS) expect({ done, last: repository.has(last) }).toEqual({ done, last: true });
        expect({ done, config: repository.has('config'), keys: repository.keys('keys').length }).toEqual({
          ...{ done, config: true, keys: 1 },
        });
      }
      client.close();
      await repository.restore(new Date(began - begunMs - 60_000));
      const lost = good.filter((backup) => !repository.restores(backup)).map(({ name: key }) => key);
      expect({ seed, done, lost }).toEqual({ seed, done, lost: [] });
    });
  },
);
