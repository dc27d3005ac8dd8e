/**
 * Why a session is refused reaches the person at restic, every time. restic reads what ssh says in a goroutine of its own, and drops what it
 * has not read when ssh exits: a refusal that is told and ended at once is often lost, most often with restic 0.14.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { lab, restic } from '../support/lab.ts';
import { openSite, type Site, type WayIn } from '../support/sites.ts';
import { freshStore } from '../support/stores.ts';

const WAYS = ['ssh server', 'sshd, authorized_keys'] as const satisfies readonly WayIn[];
const TRIES = { 'ssh server': 30, 'sshd, authorized_keys': 9 } as const;
const AT_ONCE = 3;

describe.each(WAYS)('by %s', (way) => {
  let site: Site;
  beforeAll(async () => {
    site = await openSite(way, {
      stores: { main: await freshStore('directory') },
      clients: { appsrv: { repository: { store: 'main' }, disabled: true } },
    });
  });
  afterAll(() => site.close());

  test('each restic 0.14 that is refused says why', async () => {
    const target = { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') } };
    const said: string[] = [];
    const one = async (): Promise<void> => {
      while (said.length < TRIES[way]) {
        said.push('');
        const index = said.length - 1;
        said[index] = (await restic(lab().resticDebian, target, ['snapshots'])).stderr;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    const silent = said.filter((text) => !text.includes('client appsrv is disabled'));
    expect(silent).toEqual([]);
  });
});
