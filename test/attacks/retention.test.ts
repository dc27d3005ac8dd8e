/**
 * An intruder with a client's key and password forges the times of snapshots, so that the admin's retention drops the good ones. What the
 * shipped timer runs goes by when snapshots arrived.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { setArrival } from '../support/arrivals.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { lab, makeTree, restic, run, sameTree, tempDir, type Outcome } from '../support/lab.ts';
import { lightenKeys, lightenLocalKeys } from '../support/light-key.ts';
import { restoreAll } from '../support/restored.ts';
import { openSite } from '../support/sites.ts';
import { freshStore, secretFile } from '../support/stores.ts';

const DAY = 24 * 60 * 60 * 1000;
const UNIT = path.resolve(import.meta.dirname, '../../scripts/packaging/examples/restic-gateway-retention@.service');

/** The rules that the intruder's forged times steer best where they go by what snapshots claim. */
const RETENTION = { 'keep-within-daily': '14d', 'keep-within-weekly': '2m', 'keep-within-monthly': '1y' };

/** What the timer runs, as arguments of the gateway. */
const timer = [...readFileSync(UNIT, 'utf8').matchAll(/^ExecStart=\S+restic-gateway (.*)$/gm)].map(([, words = '']) =>
  words.replaceAll('%i', 'appsrv').split(/\s+/),
);

/** As `backup --time` takes it. */
const written = (time: Date): string => time.toISOString().slice(0, 19).replace('T', ' ');

// Each restic once and each store: what restic writes does not depend on the store.
test.each([
  ['directory', 'resticDebian'],
  ['s3', 'resticTrixie'],
  ['s3', 'resticNewest'],
] as const)(
  'on %s with %s: thirteen forged snapshots, the timer, and every good one restores',
  async (kind, version) => {
    const binary = lab()[version];
    const store = await freshStore(kind);
    const site = await openSite('ssh server', {
      stores: { main: store },
      clients: {
        appsrv: {
          repository: { store: 'main' },
          // On S3 an object cannot be set back to be as old as it claims by the storage's own clock.
          ...{ retention: RETENTION, protect: '1s', passwordFile: secretFile('password') },
        },
      },
    });
    const client = (...args: string[]): Promise<Outcome> =>
      restic(
        binary,
        {
          repo: 'rclone:x',
          options: { 'rclone.program': site.program('appsrv') },
          env: { TZ: 'UTC', RESTIC_FROM_PASSWORD: 'password' },
        },
        args,
      );
    const good = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await client(...args);
      expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
      return stdout;
    };
    const gateway = (...args: string[]): Promise<Outcome> =>
      run(process.execPath, [GATEWAY, ...args], {
        env: {
          ...{ TZ: 'UTC', RESTIC_PASSWORD_FILE: secretFile('password'), RESTIC_CACHE_DIR: tempDir() },
          RESTIC_GATEWAY_RESTIC: binary,
        },
        timeoutMs: 300_000,
      });
    const source = path.join(tempDir(), 'source');
    await makeTree(source, { files: 3, bytes: 20_000, seed: 'good' });
    // Made at home, and brought in one session: what comes is the same as from so many backups.
    const home = path.join(tempDir(), 'home');
    const atHome = async (...args: string[]): Promise<void> => {
      const { code, stderr } = await restic(binary, { repo: home, env: { TZ: 'UTC' } }, args);
      expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    };
    const backUp = async (content: string, time: Date): Promise<void> => {
      writeFileSync(path.join(source, 'state'), content);
      await atHome('backup', source, '--host', 'appsrv', '--tag', content, '--time', written(time));
    };
    const bring = (): Promise<string> => good('copy', '--from-repo', home);

    interface Listed {
      readonly id: string;
      readonly original?: string;
      readonly tags: readonly string[];
    }
    const list = async (): Promise<readonly Listed[]> => JSON.parse(await good('snapshots', '--json')) as Listed[];
    const ids = async (): Promise<readonly string[]> => (await list()).map(({ id }) => id);

    try {
      await good('init');
      await atHome('init');
      await lightenKeys(store, 'appsrv');
      await lightenLocalKeys(home);
      const now = Date.now();
      // Six nights and five months, and one that a later one of its night stands for.
      const nights = [6, 5, 4, 3, 2, 1];
      const months = [160, 130, 100, 70, 40];
      const times = [...months, ...nights].map((days) => new Date(now - days * DAY));
      for (const time of times) await backUp(`good ${time.toISOString()}`, time);
      const earlier = new Date(Math.floor((times[1]?.getTime() ?? 0) / DAY) * DAY);
      await backUp('superseded', earlier);
      await bring();
      const brought = await list();
      const before = brought.map(({ id }) => id);
      const tagged = (content: string): Listed => {
        const found = brought.find(({ tags }) => tags[0] === content);
        if (found === undefined) throw new Error(`${content} was not brought`);
        return found;
      };
      const kept = times.map((time) => {
        const content = `good ${time.toISOString()}`;
        return { ...tagged(content), content, time };
      });
      const dropped = tagged('superseded').id;
      for (const { id, time } of [...kept, { id: dropped, time: earlier }])
        await setArrival(store, 'appsrv', `snapshots/${id}`, time);

      // The intruder: 16:30 on each of the last seven days, and the end of each of the last six months.
      const today = new Date(new Date(now).toISOString().slice(0, 10)).getTime();
      const days = Array.from({ length: 7 }, (_, day) => new Date(today - (day + 1) * DAY + 16.5 * 60 * 60 * 1000));
      const ends = Array.from({ length: 6 }, (_, month) => {
        const at = new Date(now);
        return new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() - month, 1) - 1000);
      });
      for (const [index, time] of [...days, ...ends].entries()) await backUp(`ruined ${index}`, time);
      await bring();
      const forged = (await ids()).filter((id) => !before.includes(id));
      expect(forged).toHaveLength(13);

      expect(timer.map(([command]) => command)).toEqual(['forget', 'restic']);
      for (const args of timer) {
        const at = args.indexOf('--');
        const [own, rest] = at < 0 ? [args, []] : [args.slice(0, at), args.slice(at)];
        const { code, stdout, stderr } = await gateway(...own, '-c', site.configFile, ...rest);
        expect({ args, code, stderr: code === 0 ? '' : stderr + stdout }).toEqual({ args, code: 0, stderr: '' });
      }

      const left = await ids();
      // A claim of yesterday evening is within a day of its arrival: it is today's last, and takes no other day's place.
      expect([...left].sort()).toEqual([...kept.map(({ id }) => id), ...forged].sort());
      const restored = await restoreAll(binary, { program: site.program('appsrv') });
      for (const { original = '', content } of kept) {
        const target = restored.get(original) ?? '';
        writeFileSync(path.join(source, 'state'), content);
        expect(await sameTree(source, path.join(target, source))).toBe(true);
      }
      const lines = site.audit();
      const removed = lines.filter(
        ({ event, object }) => event === 'remove' && String(object).startsWith('snapshots/'),
      );
      expect(removed.map(({ object }) => object)).toEqual([`snapshots/${dropped}`]);
      const told = lines.filter(({ event }) => event === 'forged-time').map(({ object }) => String(object).slice(10));
      expect(told.length).toBeGreaterThanOrEqual(12);
      for (const id of told) expect(forged).toContain(id);

      // The same again has nothing to do, and says each of them once.
      const again = await gateway('forget', 'appsrv', '--json', '-c', site.configFile);
      const answer = JSON.parse(again.stdout) as { removed: number; apart: readonly unknown[] };
      expect([again.code, answer.removed, answer.apart.length]).toEqual([0, 0, told.length]);
      expect(site.audit().filter(({ event }) => event === 'forged-time')).toHaveLength(told.length);
    } finally {
      await site.close();
    }
  },
);
