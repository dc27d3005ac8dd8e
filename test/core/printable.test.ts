/** What peers, storages and files say, made fit for a terminal, a log and a page. */
import { describe, expect, test } from '@jest/globals';
import { isPrintable, printable, printableJson, printableLines, printableValue } from '../../src/core/printable.ts';

/** What steers a terminal, begins a line, or turns the order of reading. */
const TRICKS = [
  ['a control sequence of C1', '\u009b2J'],
  ['an escape', '\u001b[31m'],
  ['a line break', '\n'],
  ['a carriage return', '\r'],
  ['a bell', '\u0007'],
  ['DEL', '\u007f'],
  ['an override of direction', '\u202e'],
  ['an isolate of direction', '\u2066'],
  ['a mark of direction', '\u200f'],
  ['a line separator', '\u2028'],
  ['a paragraph separator', '\u2029'],
  ['NEL', '\u0085'],
  ['a byte order mark', '\ufeff'],
  ['a soft hyphen', '\u00ad'],
  ['a lone high surrogate', '\ud800'],
  ['a lone low surrogate', '\udc00'],
  ['a tag beyond the first plane', '\u{e0041}'],
  ['private use', '\ue000'],
] as const;

describe.each(TRICKS)('%s', (_what, trick) => {
  const said = `a${trick}b`;

  test('is replaced in a text, and seen', () => {
    expect(printable(said)).toMatch(/^a\ufffd[[0-9A-Zm]*b$/);
    expect([isPrintable(said), isPrintable(printable(said))]).toEqual([false, true]);
  });

  test('is escaped in JSON, which says the same', () => {
    const json = printableJson(JSON.stringify({ said }));
    expect(json).toMatch(/^[ -~]*$/);
    expect(JSON.parse(json)).toEqual({ said });
  });

  test('is replaced wherever it is in a value', () => {
    const text = JSON.stringify(printableValue({ [said]: [said, { deep: said }], other: 1, when: new Date(0) }));
    expect(text.match(/\ufffd/g)).toHaveLength(3);
    expect(text).toContain('1970-01-01T00:00:00.000Z');
  });
});

test('words of every language stay as they are', () => {
  for (const text of ['plain', 'Grüße, żółć', '日本語', 'مرحبا', '🦊', ''])
    expect([printable(text), isPrintable(text)]).toEqual([text, true]);
});

test('what is too long is cut, and that is said; one’s own line breaks stay', () => {
  expect(printable('x'.repeat(5000))).toBe(`${'x'.repeat(2000)}… (cut from 5000 characters)`);
  expect(printable('abcdef', 3)).toBe('abc… (cut from 6 characters)');
  expect(printable(`${'x'.repeat(1999)}\u{1f98a}`)).toHaveLength(2000 + '… (cut from 2001 characters)'.length);
  expect(printableLines('one\ntwo\u009b')).toBe('one\ntwo\ufffd');
});

test('a value nested without end is cut', () => {
  const endless: Record<string, unknown> = {};
  endless['self'] = endless;
  expect(JSON.stringify(printableValue(endless))).toContain('…');
});
