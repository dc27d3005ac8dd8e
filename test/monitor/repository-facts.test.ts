/** What is known of repositories by their files in `state`, as others go on replacing them. */
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { scrubState } from '../../src/maintenance/scrub-state.ts';
import { createRepositoryFacts } from '../../src/monitor/repository-facts.ts';
import { tempDir } from '../support/lab.ts';

const finding = { key: 'data/aa', problem: 'damaged', detail: 'its bytes hash to others' } as const;
const result = (findings: number) => ({
  ...{ v: 1 as const, store: 'store', prefix: 'appsrv', quick: false, objects: 9, bytes: 90, foreign: 0 },
  ...{ started: '2026-11-26T20:00:00.000Z', finished: '2026-11-26T21:00:00.000Z', foreignKeys: [] },
  findings: Array.from({ length: findings }, () => finding),
});

test.each([
  ['of a few', false],
  ['of many', true],
])('%s is what the files say now, whoever has looked before', async (_words, many) => {
  const state = tempDir();
  const repository = { store: 'store', prefix: 'appsrv' };
  const scrubs = scrubState(state, repository);
  const factsOf = createRepositoryFacts();
  const look = async () => {
    const lookAt = await factsOf(state, many);
    return lookAt(repository);
  };
  const none = { scrub: undefined, unfinishedScrub: undefined, trash: undefined, extended: undefined };
  expect(await look()).toEqual(none);

  const parts = { config: { objects: 1, bytes: 2, findings: [finding] } };
  await scrubs.writeProgress({ v: 1, started: '2026-11-26T20:00:00.000Z', quick: true, parts });
  expect((await look()).unfinishedScrub).toMatchObject({ quick: true, objects: 1, bytes: 2, findings: 1 });
  await scrubs.finish(result(30));
  for (const again of [1, 2]) {
    const { scrub, unfinishedScrub } = await look();
    expect([again, unfinishedScrub]).toEqual([again, undefined]);
    expect(scrub).toMatchObject({ findings: 30, objects: 9 });
    // The first of them.
    expect(scrub?.found).toHaveLength(20);
  }
  await scrubs.finish(result(0));
  expect((await look()).scrub).toMatchObject({ findings: 0, found: [] });

  const [name = ''] = readdirSync(path.join(state, 'scrub'));
  const file = path.join(state, 'scrub', name);
  writeFileSync(file, '{');
  expect(await look()).toEqual(none);
  rmSync(file);
  expect(await look()).toEqual(none);
  await scrubs.finish(result(1));
  expect((await look()).scrub).toMatchObject({ findings: 1 });
});
