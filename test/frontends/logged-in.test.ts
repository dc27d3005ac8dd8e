/** What a client may ask for over all workers, of which each knows its own connections alone. */
import { expect, test } from '@jest/globals';
import { createLoggedInConnections } from '../../src/frontends/logged-in.ts';
import { NO_SIBLINGS } from '../../src/ports/siblings.ts';
import { openFiles } from '../../src/state/open-files.ts';
import { testClient } from '../support/test-client.ts';

const ALONE = {
  files: openFiles(),
  processes: 1,
  siblings: NO_SIBLINGS,
  givesWayMs: 60_000,
  onShortage: () => undefined,
};

test.each([1, 2, 3])(
  'with %i processes, a client asks for some 300 sessions at once, not for as many in each',
  (processes) => {
    const client = testClient('appsrv', { maxSessions: 10 });
    const all = Array.from({ length: processes }, () => createLoggedInConnections({ ...ALONE, processes }));
    let taken = 0;
    for (const one of all) for (let asked = 0; asked < 1000; asked++) taken += Number(one.mayOpen(client));
    expect(taken).toBeGreaterThanOrEqual(300);
    expect(taken).toBeLessThan(330);
  },
);
