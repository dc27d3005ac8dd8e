/** The policy as a truth table: every access, operation, grant, fact and way in, with the counts, so that no case is left out. */
import { describe, expect, test } from '@jest/globals';
import { NAMED_TYPES, type ObjectName, type ObjectRef } from '../../src/core/object.ts';
import type { Operation } from '../../src/core/operation.ts';
import { decide, factsNeeded, STALE_LOCK_MS, type Decision, type Facts } from '../../src/core/policy.ts';
import { ACCESS_LEVELS, type Access, type Via, type Grant, type Uploader } from '../../src/core/principal.ts';

const NAME = 'ab'.repeat(32) as ObjectName;
const REFS: readonly ObjectRef[] = [{ type: 'config' }, ...NAMED_TYPES.map((type) => ({ type, name: NAME }))];
const WAYS_IN: readonly Via[] = ['ssh', 'stdio', 'admin'];

/** 31: greet, create-repository, a list of each of 5 types, and four operations on each of 6 kinds of object. */
const OPERATIONS: readonly Operation[] = [
  { kind: 'greet' },
  { kind: 'create-repository' },
  ...NAMED_TYPES.map((type): Operation => ({ kind: 'list', type, version: 2 })),
  ...REFS.flatMap((ref): Operation[] => [
    { kind: 'stat', ref },
    { kind: 'load', ref },
    { kind: 'save', ref, size: 1 },
    { kind: 'remove', ref },
  ]),
];

const AGES = [-1, 0, STALE_LOCK_MS, STALE_LOCK_MS + 1, NaN];
const UPLOADERS: readonly (Uploader | undefined)[] = [
  undefined,
  ...['appsrv', 'other'].flatMap((client) => WAYS_IN.map((via) => ({ client, via, session: 's' }))),
];

const DAY_MS = 24 * 60 * 60 * 1000;
const SNAPSHOTS: readonly Facts[] = [
  { kind: 'snapshot', snapshot: undefined },
  ...[-1, 0, DAY_MS - 1, DAY_MS, NaN].flatMap((ageMs) =>
    [true, false, undefined].map((newest): Facts => ({
      kind: 'snapshot',
      snapshot: { ageMs, newest, arrived: new Date('2026-11-27T03:04:05Z') },
    })),
  ),
];

/** 57: none, a repository that is there or not, no lock, a lock of 5 ages by 7 origins, snapshots that are left or not, no snapshot, and one of 5 ages by 3 places. */
const FACTS: readonly Facts[] = [
  { kind: 'none' },
  { kind: 'repository', exists: true },
  { kind: 'repository', exists: false },
  { kind: 'lock', lock: undefined },
  ...AGES.flatMap((ageMs) =>
    UPLOADERS.map((uploader): Facts => ({ kind: 'lock', lock: { ageMs, ...(uploader && { uploader }) } })),
  ),
  { kind: 'left', snapshots: 0 },
  { kind: 'left', snapshots: 1 },
  ...SNAPSHOTS,
];

interface Case {
  readonly access: Access;
  readonly addKeys: boolean;
  readonly via: Via;
  readonly operation: Operation;
  readonly facts: Facts;
}

const CASES: readonly Case[] = ACCESS_LEVELS.flatMap((access) =>
  [false, true].flatMap((addKeys) =>
    WAYS_IN.flatMap((via) =>
      OPERATIONS.flatMap((operation) => FACTS.map((facts) => ({ access, addKeys, via, operation, facts }))),
    ),
  ),
);

const decideCase = ({ access, addKeys, via, operation, facts }: Case): Decision =>
  decide({ client: 'appsrv', via }, { access, addKeys }, operation, facts);

/** `allowed`, or the reason for which it is denied. */
const verdict = (each: Case): string => {
  const decision = decideCase(each);
  return decision.allow ? 'allowed' : decision.reason;
};

const isRead = ({ operation: { kind } }: Case): boolean =>
  kind === 'greet' || kind === 'list' || kind === 'stat' || kind === 'load';
const touches = ({ operation }: Case, kind: Operation['kind'], type?: string): boolean =>
  operation.kind === kind && (type === undefined || ('ref' in operation && operation.ref.type === type));
const verdicts = (which: (each: Case) => boolean): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const each of CASES.filter(which)) counts[verdict(each)] = (counts[verdict(each)] ?? 0) + 1;
  return counts;
};

// What follows sums up to all cases: each of 3 accesses has 2 grants x 3 ways in x 31 operations x 57 facts.
describe('every case', () => {
  test('is in the table once', () => {
    expect(OPERATIONS).toHaveLength(31);
    expect(FACTS).toHaveLength(57);
    expect(CASES).toHaveLength(3 * 2 * 3 * 31 * 57);
    expect(
      new Set(CASES.map((each) => JSON.stringify(each, (_key, value: unknown) => (value !== value ? 'NaN' : value))))
        .size,
    ).toBe(CASES.length);
  });

  test('full access: everything, but index and data (2 operations) only when it is known that no snapshot was left', () => {
    const full = ({ access }: Case): boolean => access === 'full';
    const removesData = (each: Case): boolean => touches(each, 'remove', 'index') || touches(each, 'remove', 'data');
    expect(verdicts((each) => full(each) && !removesData(each))).toEqual({ allowed: 6 * 29 * 57 });
    expect(verdicts((each) => full(each) && removesData(each))).toEqual({
      allowed: 6 * 2,
      'snapshot-left': 6 * 2 * 56,
    });
  });

  test('read-only: reading (18 operations), and not one of the 13 that change something', () => {
    const readOnly = ({ access }: Case): boolean => access === 'read-only';
    expect(verdicts((each) => readOnly(each) && isRead(each))).toEqual({ allowed: 6 * 18 * 57 });
    expect(verdicts((each) => readOnly(each) && !isRead(each))).toEqual({ 'read-only': 6 * 13 * 57 });
  });

  describe('append-only', () => {
    const append = (which: (each: Case) => boolean): Record<string, number> =>
      verdicts((each) => each.access === 'append-only' && which(each));

    test('the parts below are the whole', () => {
      expect(18 + 1 + 5 + 1 + 5 + 1).toBe(OPERATIONS.length);
    });
    test('reading (18 operations): always', () => {
      expect(append(isRead)).toEqual({ allowed: 6 * 18 * 57 });
    });
    test('creating the repository: always', () => {
      expect(append((each) => touches(each, 'create-repository'))).toEqual({ allowed: 6 * 1 * 57 });
    });
    test('saving anything but keys (5 types): always', () => {
      expect(append((each) => touches(each, 'save') && !touches(each, 'save', 'keys'))).toEqual({
        allowed: 6 * 5 * 57,
      });
    });
    test('saving keys: with addKeys always, without it only when it is known that there is no repository yet', () => {
      expect(append((each) => touches(each, 'save', 'keys') && each.addKeys)).toEqual({ allowed: 3 * 57 });
      expect(append((each) => touches(each, 'save', 'keys') && !each.addKeys)).toEqual({
        allowed: 3,
        'key-added': 3 * 56,
      });
      for (const each of CASES)
        if (each.access === 'append-only' && touches(each, 'save', 'keys') && !each.addKeys)
          expect(verdict(each) === 'allowed').toBe(each.facts.kind === 'repository' && !each.facts.exists);
    });
    test('removing anything but locks (5 types): never', () => {
      expect(append((each) => touches(each, 'remove') && !touches(each, 'remove', 'locks'))).toEqual({
        'append-only': 6 * 5 * 57,
      });
    });
    test('removing locks: none there, or stale, or its own', () => {
      // Of the 57 facts: 1 of no lock, 7 of a stale one, and of the other 4 ages those whose origin is the client's own:
      // 2 of 7 by a client's way in, 1 of 7 for the admin.
      const allowed = 2 * (2 * (1 + 7 + 4 * 2) + (1 + 7 + 4 * 1));
      expect(append((each) => touches(each, 'remove', 'locks'))).toEqual({
        allowed,
        'lock-of-another': 6 * 57 - allowed,
      });
    });
  });
});

describe('removing a lock, append-only', () => {
  const remove = (via: Via, facts: Facts): string =>
    verdict({
      access: 'append-only',
      addKeys: false,
      via,
      operation: { kind: 'remove', ref: { type: 'locks', name: NAME } },
      facts,
    });
  const lock = (ageMs: number, client?: string, via: Via = 'ssh'): Facts => ({
    kind: 'lock',
    lock: { ageMs, ...(client !== undefined && { uploader: { client, via, session: 's' } }) },
  });
  const minutes = (count: number): number => count * 60_000;

  test.each<[string, Via, Facts, string]>([
    ['its own', 'ssh', lock(0, 'appsrv'), 'allowed'],
    ['its own, made through the other way in', 'stdio', lock(0, 'appsrv', 'ssh'), 'allowed'],
    ['its own, of the other way in again', 'ssh', lock(0, 'appsrv', 'stdio'), 'allowed'],
    ["the admin's on its own repository", 'ssh', lock(0, 'appsrv', 'admin'), 'lock-of-another'],
    ["the client's, by the admin without full access", 'admin', lock(0, 'appsrv', 'ssh'), 'lock-of-another'],
    ["the admin's, by the admin", 'admin', lock(0, 'appsrv', 'admin'), 'allowed'],
    ["another client's", 'ssh', lock(0, 'other'), 'lock-of-another'],
    ['a client whose name only differs in case', 'ssh', lock(0, 'Appsrv'), 'lock-of-another'],
    ["of unknown origin (restic's own, by the side of the gateway)", 'ssh', lock(0), 'lock-of-another'],
    ["another's, 29 minutes old", 'ssh', lock(minutes(29), 'other'), 'lock-of-another'],
    ["another's, 30 minutes old to the millisecond", 'ssh', lock(minutes(30), 'other'), 'lock-of-another'],
    ["another's, a millisecond older", 'ssh', lock(minutes(30) + 1, 'other'), 'allowed'],
    ["another's, from the future", 'ssh', lock(-minutes(60), 'other'), 'lock-of-another'],
    ['gone already', 'ssh', { kind: 'lock', lock: undefined }, 'allowed'],
    ['nothing looked up', 'ssh', { kind: 'none' }, 'lock-of-another'],
    ['something else looked up', 'ssh', { kind: 'repository', exists: false }, 'lock-of-another'],
  ])('%s', (_name, via, facts, expected) => {
    expect(remove(via, facts)).toBe(expected);
  });
});

describe('the floor, and deferred removals', () => {
  const WRITERS: readonly Grant[] = [
    { access: 'full', addKeys: false },
    { access: 'append-only', addKeys: false, removals: 'deferred' },
  ];
  const remove = (grant: Grant, ref: ObjectRef, facts: Facts, via: Via = 'ssh'): Decision =>
    decide({ client: 'appsrv', via }, grant, { kind: 'remove', ref }, facts);
  const snapshot: ObjectRef = { type: 'snapshots', name: NAME };

  test.each(WRITERS)(
    '$access: a snapshot goes that is old enough and none of the newest, or that is not there',
    (grant) => {
      for (const facts of FACTS) {
        const { allow } = remove({ ...grant, protectMs: DAY_MS }, snapshot, facts);
        const known = facts.kind === 'snapshot' ? facts.snapshot : undefined;
        const gone = facts.kind === 'snapshot' && known === undefined;
        expect({ facts, allow }).toEqual({ facts, allow: gone || (known?.ageMs === DAY_MS && known.newest === false) });
        expect(remove(grant, snapshot, facts)).toEqual({ allow: true });
      }
    },
  );

  test('full access: all else as without a floor', () => {
    const full: Grant = { access: 'full', addKeys: false };
    for (const ref of REFS.filter(({ type }) => type !== 'snapshots'))
      for (const facts of FACTS)
        expect(remove({ ...full, protectMs: DAY_MS }, ref, facts)).toEqual(remove(full, ref, facts));
  });

  test('deferred: index and data go; no key and no config does; a lock as ever; and nothing more may be saved', () => {
    const deferred: Grant = { access: 'append-only', addKeys: false, removals: 'deferred', protectMs: DAY_MS };
    const refused: Grant = { access: 'append-only', addKeys: false, removals: 'refused' };
    for (const facts of FACTS) {
      for (const type of ['index', 'data'] as const)
        expect(remove(deferred, { type, name: NAME }, facts)).toEqual(
          remove({ access: 'full', addKeys: false }, { type, name: NAME }, facts),
        );
      for (const ref of REFS.filter(({ type }) => type === 'keys' || type === 'config'))
        expect(remove(deferred, ref, facts)).toMatchObject({ allow: false, reason: 'append-only' });
      expect(remove(deferred, { type: 'locks', name: NAME }, facts)).toEqual(
        remove(refused, { type: 'locks', name: NAME }, facts),
      );
      for (const ref of REFS) {
        const save: Operation = { kind: 'save', ref, size: 1 };
        const by = { client: 'appsrv', via: 'ssh' } as const;
        expect(decide(by, deferred, save, facts)).toEqual(decide(by, refused, save, facts));
      }
    }
  });

  test('read-only stays so, whatever stands beside it', () => {
    for (const ref of REFS)
      for (const facts of FACTS)
        expect(remove({ access: 'read-only', addKeys: true, removals: 'deferred' }, ref, facts)).toMatchObject({
          allow: false,
          reason: 'read-only',
        });
  });

  test('the store is asked for the snapshot only where there is a floor and the snapshot could go', () => {
    const needed = (grant: Partial<Grant>, ref = snapshot): string =>
      factsNeeded({ access: 'full', addKeys: false, protectMs: DAY_MS, ...grant }, { kind: 'remove', ref });
    expect(needed({})).toBe('snapshot');
    expect(needed({ access: 'append-only', removals: 'deferred' })).toBe('snapshot');
    expect(needed({ protectMs: undefined })).toBe('none');
    expect(needed({ access: 'append-only' })).toBe('none');
    expect(needed({ access: 'read-only', removals: 'deferred' })).toBe('none');
    for (const type of ['index', 'data'] as const) {
      expect(needed({ protectMs: undefined }, { type, name: NAME })).toBe('left');
      expect(needed({ access: 'append-only', removals: 'deferred' }, { type, name: NAME })).toBe('left');
      expect(needed({ access: 'append-only' }, { type, name: NAME })).toBe('none');
    }
    expect(needed({}, { type: 'keys', name: NAME })).toBe('none');
    expect(needed({ access: 'append-only', removals: 'deferred' }, { type: 'locks', name: NAME })).toBe('lock');
  });

  test.each<[string, Facts, Via, string]>([
    ['young', SNAPSHOTS[4] as Facts, 'ssh', 'arrived recently, and cannot be removed before 2026-11-28 03:05 UTC'],
    [
      'young, to the admin',
      SNAPSHOTS[4] as Facts,
      'admin',
      'arrived recently, and cannot be removed before 2026-11-28 03:05 UTC; --override-protect removes it anyway',
    ],
    [
      'new',
      SNAPSHOTS[10] as Facts,
      'stdio',
      'is one of the newest 3, and cannot be removed until newer ones have come',
    ],
    ['not looked up', { kind: 'none' }, 'ssh', 'cannot be looked up'],
  ])('says of one that is %s until when it stays', (_which, facts, via, line) => {
    const [grant] = WRITERS as [Grant];
    expect(remove({ ...grant, protectMs: DAY_MS }, snapshot, facts, via)).toEqual({
      allow: false,
      reason: 'protected',
      clientMessage: `protected: snapshot ${NAME.slice(0, 8)} ${line}`,
    });
  });

  test('a time that no calendar has is no reason to fail', () => {
    const arrived = new Date(Number.NaN);
    const facts: Facts = { kind: 'snapshot', snapshot: { arrived, ageMs: 0, newest: undefined } };
    expect(remove({ access: 'full', addKeys: false, protectMs: 1e300 }, snapshot, facts).allow).toBe(false);
  });
});

describe('which facts are looked up', () => {
  test('by default, facts are needed in two cases of append-only access and two of full access, and the store is asked in the former', () => {
    const asked = ACCESS_LEVELS.flatMap((access) =>
      [false, true].flatMap((addKeys) =>
        OPERATIONS.flatMap((operation) => {
          const kind = factsNeeded({ access, addKeys }, operation);
          return kind === 'none' || !('ref' in operation)
            ? []
            : [`${access}${addKeys ? ' addKeys' : ''}: ${operation.kind} ${operation.ref.type} needs ${kind}`];
        }),
      ),
    );
    expect(asked).toEqual([
      'append-only: save keys needs repository',
      'append-only: remove locks needs lock',
      'append-only addKeys: remove locks needs lock',
      ...['full', 'full addKeys'].flatMap((who) => [
        `${who}: remove data needs left`,
        `${who}: remove index needs left`,
      ]),
    ]);
  });

  test('facts that are not asked for change nothing', () => {
    for (const each of CASES) {
      const needed = factsNeeded(each, each.operation);
      if (needed === 'none') expect(verdict(each)).toBe(verdict({ ...each, facts: { kind: 'none' } }));
    }
  });

  test('facts that were asked for and are missing deny', () => {
    for (const each of CASES) {
      const needed = factsNeeded(each, each.operation);
      if (needed !== 'none' && each.facts.kind !== needed) expect(decideCase(each).allow).toBe(false);
    }
  });
});

describe('what is outside the types is denied', () => {
  test.each(['owner', '', 'FULL', 'append', undefined, '__proto__', 'toString'])(
    'access %j, for every operation',
    (access) => {
      const grant = { access, addKeys: true } as unknown as Grant;
      for (const operation of OPERATIONS)
        for (const facts of FACTS)
          expect(decide({ client: 'appsrv', via: 'ssh' }, grant, operation, facts)).toMatchObject({
            allow: false,
            reason: 'no-such-rule',
          });
    },
  );

  test.each(['rename', '', 'constructor'])('operation %j, for every access', (kind) => {
    for (const access of ACCESS_LEVELS)
      expect(
        decide({ client: 'appsrv', via: 'ssh' }, { access, addKeys: true }, { kind } as unknown as Operation, {
          kind: 'none',
        }),
      ).toMatchObject({ allow: false, reason: 'no-such-rule' });
  });
});

test('every denial says in one plain line what is not allowed and under which rule', () => {
  const reported = new Map<string, string>();
  for (const each of CASES) {
    const decision = decideCase(each);
    if (decision.allow) continue;
    reported.set(decision.reason, decision.clientMessage);
  }
  expect(Object.fromEntries(reported)).toEqual({
    'read-only': 'read-only: this key may not write, not even a lock; use restic with --no-lock',
    'append-only':
      'append-only: this key may not remove anything; that is for the admin, on the gateway host: restic-gateway restic appsrv -- COMMAND',
    'lock-of-another': 'append-only: this lock belongs to someone else and is under 30 minutes old',
    'key-added':
      'append-only: this key may not add repository passwords; that is for the admin, on the gateway host: restic-gateway restic appsrv -- COMMAND',
    'snapshot-left':
      'a snapshot could not be removed, so its data is kept: this run removes nothing more; run prune again on its own',
  });
});
