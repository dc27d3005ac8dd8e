/** Processes at one port, linked as the primary links them: what each counts by itself holds over all. */
import { describe, expect, test } from '@jest/globals';
import type { Socket } from 'node:net';
import { linkSiblings, type Said } from '../../src/daemon/siblings.ts';
import { createLoggedInConnections } from '../../src/frontends/logged-in.ts';
import { createPenalties } from '../../src/frontends/penalties.ts';
import { shareOpenFiles } from '../../src/state/open-files.ts';
import { testClient } from '../support/test-client.ts';

/** @returns so many, each of which hears at once what another one says, unless that one is gone */
function linked(count: number) {
  const gone = new Set<number>();
  const all = Array.from({ length: count }, (_, from) =>
    linkSiblings((said: Said) => {
      if (gone.has(from)) return;
      for (const [id, one] of all.entries())
        if (id !== from && !gone.has(id) && (said.kind === 'news' || said.to === id))
          one.hear({ kind: 'said', from, said });
    }),
  );
  for (const [id, one] of all.entries())
    for (let from = 0; from < count; from++) if (from !== id) one.hear({ kind: 'came', from });
  return {
    all,
    end: (from: number) => {
      gone.add(from);
      for (const [id, one] of all.entries()) if (id !== from) one.hear({ kind: 'gone', from });
    },
  };
}

describe('connections that have logged in', () => {
  const client = testClient('appsrv', { maxSessions: 10 });
  /** A connection, silent for so long, and what became of it. */
  function connection(silentMs = 0) {
    let close = (): void => undefined;
    const state = { destroyed: false, refused: false };
    const socket = {
      get destroyed() {
        return state.destroyed;
      },
      destroy: () => {
        state.destroyed = true;
        close();
      },
      once: (_event: string, listener: () => void) => (close = listener),
    } as unknown as Socket;
    const one = {
      socket,
      silentMs: () => silentMs,
      sessionsEnded: () => Promise.resolve(),
      refuse: () => {
        state.refused = true;
        socket.destroy();
      },
    };
    return { one, state };
  }
  function processes(count: number) {
    const { all, end } = linked(count);
    const files = shareOpenFiles(1024);
    const of = all.map((siblings) =>
      createLoggedInConnections({
        ...{ files, processes: count, siblings, givesWayMs: 60_000 },
        onShortage: () => undefined,
      }),
    );
    return { of, end };
  }
  /** Lets what was asked of the others be answered. */
  const answered = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  test.each([1, 2, 3])('over %i processes, a client has as many as in one', async (count) => {
    const { of } = processes(count);
    const tried = Array.from({ length: 60 }, () => connection());
    const outcomes: string[] = [];
    for (const [index, { one }] of tried.entries()) {
      outcomes.push(of[index % count]?.accept(client, one) ?? '');
      await answered();
    }
    const open = tried.filter(({ state }, index) => outcomes[index] === 'accepted' && !state.destroyed).length;
    expect(open).toBe(20);
  });

  test('one that is silent gives way to one at another process, and no second one does', async () => {
    const { of } = processes(3);
    const silent = Array.from({ length: 20 }, () => connection(100_000));
    for (const { one } of silent) expect(of[0]?.accept(client, one)).toBe('accepted');
    const { one, state } = connection();
    expect(of[2]?.accept(client, one)).toBe('accepted');
    await answered();
    expect(state).toEqual({ destroyed: false, refused: false });
    expect(silent.filter((each) => each.state.destroyed)).toHaveLength(1);
    // And for a session.
    expect(await of[1]?.makeRoom(client)).toBe(true);
    expect(silent.filter((each) => each.state.destroyed)).toHaveLength(2);
  });

  test('those of a process that has died count no more, and one that comes later hears of those that there are', async () => {
    const { of, end } = processes(2);
    for (let index = 0; index < 20; index++) expect(of[0]?.accept(client, connection().one)).toBe('accepted');
    end(0);
    for (let index = 0; index < 20; index++) {
      expect(of[1]?.accept(client, connection().one)).toBe('accepted');
      await answered();
    }
    expect(of[1]?.accept(client, connection().one)).toBe('refused');
  });
});

test('an address that fails at one process waits at the others, too, and is forgiven at all', () => {
  const all = linked(3).all.map((siblings) => createPenalties(10_000, () => 0, siblings));
  for (let failures = 0; failures < 6; failures++) all[failures % 3]?.failed('192.0.2.1');
  expect(all.map((each) => each.of('192.0.2.1'))).toEqual([4000, 4000, 4000]);
  expect(all.map((each) => each.of('192.0.2.2'))).toEqual([0, 0, 0]);
  all[1]?.end('192.0.2.1');
  expect(all.map((each) => each.of('192.0.2.1'))).toEqual([0, 0, 0]);
});
