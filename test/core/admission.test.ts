/** Who is let in: each rule by itself, its edges, and which comes first. */
import { describe, expect, test } from '@jest/globals';
import { refuseAdmission, type AdmissionFacts, type AdmissionRule } from '../../src/core/admission.ts';

const END = new Date('2027-12-31T23:59:59.999Z');
const RULE: AdmissionRule = { disabled: false, expires: END, maxSessions: 2 };
const FACTS: AdmissionFacts = { now: new Date('2027-12-31T12:00:00Z'), open: 0, addressAllowed: true };

const reason = (rule: Partial<AdmissionRule>, facts: Partial<AdmissionFacts>): string =>
  refuseAdmission('appsrv', { ...RULE, ...rule }, { ...FACTS, ...facts })?.reason ?? 'let in';

describe('each rule', () => {
  test.each<[string, Partial<AdmissionRule>, Partial<AdmissionFacts>, string]>([
    ['nothing against it', {}, {}, 'let in'],
    ['disabled', { disabled: true }, {}, 'disabled'],
    ['the last moment', {}, { now: END }, 'let in'],
    ['a millisecond later', {}, { now: new Date(END.getTime() + 1) }, 'expired'],
    ['long ago', {}, { now: new Date('2099-01-01') }, 'expired'],
    ['another address', {}, { addressAllowed: false }, 'address'],
    ['the last session it may have', {}, { open: 1 }, 'let in'],
    ['one more', {}, { open: 2 }, 'max-sessions'],
    ['more than there may be', {}, { open: 3 }, 'max-sessions'],
  ])('%s', (_name, rule, facts, expected) => {
    expect(reason(rule, facts)).toBe(expected);
  });

  test('one that never expires', () => {
    const rule: AdmissionRule = { disabled: false, maxSessions: 1 };
    expect(refuseAdmission('appsrv', rule, { ...FACTS, now: new Date('9999-01-01') })).toBeUndefined();
  });
});

test('what lasts longest is told first', () => {
  const late = { now: new Date('2028-01-01'), open: 9, addressAllowed: false };
  expect(reason({ disabled: true }, late)).toBe('disabled');
  expect(reason({}, late)).toBe('expired');
  expect(reason({}, { ...late, now: FACTS.now })).toBe('address');
  expect(reason({}, { open: 9 })).toBe('max-sessions');
});

test('each refusal is one plain line that says whom to ask or what to do', () => {
  const line = (rule: Partial<AdmissionRule>, facts: Partial<AdmissionFacts>): string | undefined =>
    refuseAdmission('appsrv', { ...RULE, ...rule }, { ...FACTS, ...facts })?.line;
  expect([
    line({ disabled: true }, {}),
    line({}, { now: new Date('2028-01-01') }),
    line({}, { addressAllowed: false }),
    line({}, { open: 2 }),
  ]).toEqual([
    "client appsrv is disabled; ask the gateway's admin.",
    "the key of client appsrv expired on 2027-12-31; ask the gateway's admin.",
    "client appsrv may not connect from this address; ask the gateway's admin.",
    'client appsrv has 2 sessions open already, the most it may; wait for one to end.',
  ]);
});
