/** The short way through a config finds what the long way finds, or says nothing: held over texts made to be nearly simple. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readDocument } from '../../src/config/document.ts';
import { formatPath, type Path } from '../../src/config/problems.ts';
import { readSimpleDocument } from '../../src/config/simple-document.ts';
import { keyLine, yaml } from './samples.ts';

// Every value carries its path, so that paths are compared as well.
const replace = (value: string, path: Path): string => `${formatPath(path)}=${value}`;

/** Whether the short way answers; what it answers is what the long way does. */
function agrees(text: string): boolean {
  const simple = readSimpleDocument(text, replace);
  if (simple === undefined) return false;
  const document = readDocument(text, replace);
  expect(document.problems).toEqual([]);
  expect(simple).toEqual(document.value);
  expect(JSON.stringify(simple)).toBe(JSON.stringify(document.value));
  return true;
}

const README = readFileSync(resolve(import.meta.dirname, '../../README.md'), 'utf8');
const SHOWN = (/^```yaml\n(.*?)^```$/ms.exec(README)?.[1] ?? '').replace(/ssh-ed25519 \S+…/g, keyLine(1));

const USUAL = yaml`
  ---
  # A gateway – with umlauts äöü in its comments.
  listen: "0.0.0.0:2222"   # quoted

  hostKeys:
  - /etc/ssh/key
  - '/etc/ssh/other key'
  stores:
      ceph: { type: s3, bucket: b.c-d, endpoint: https://s3.example.com:9000, accessKeyId: "\${ID}" }
      local:
          type: directory
          path: ~/x
          # between
  clients:
      app-1:
          keys: [ ${keyLine(1, 'Jane Doe <jane@example.com> (2021)')}, "${keyLine(2)}" , ]
          from: [10.0.0.0/8, "::1"]
          access:
          repository: {store: ceph, prefix: a/b=c@d_e}
          expires: 2027-12-31T00:00:00Z
      b: {}
  audit: { file: "" }
`;

describe('the short way', () => {
  test('is enough for what people write', () => {
    expect(agrees(USUAL)).toBe(true);
    expect(SHOWN).toContain('clients:');
    expect(agrees(SHOWN)).toBe(true);
  });

  test.each([
    ['nothing', ''],
    ['a comment', '# a'],
    ['a list', '- a'],
    ['a word', 'a'],
    ['a tab', 'a:\tb'],
    ['a tab in a comment', '# a\tb\na: b'],
    ['a carriage return in a comment', '# a\rb: c\na: b'],
    ['the line ends of Windows', 'a: b\r\nc: d'],
    ['a byte order mark', '\ufeffa: b'],
    ['a key twice', 'a: b\na: c'],
    ['a key twice in braces', 'a: {b: c, b: d}'],
    ['a name of every object', 'constructor: a'],
    ['an anchor', 'a: &b c'],
    ['an alias', 'a: *b'],
    ['a tag', 'a: !b c'],
    ['a merge', '<<: a'],
    ['a value of two lines', 'a: b\n  c'],
    ['a quoted value of two lines', 'a: "b\n  c"'],
    ['a list of two lines', 'a: [b,\n  c]'],
    ['a block', 'a: |\n  b'],
    ['an escape', 'a: "\\n"'],
    ['a doubled quote', "a: 'b''c'"],
    ['letters beyond ASCII in a value', 'a: ä'],
    ['two documents', 'a: b\n---\nc: d'],
    ['an end of document', 'a: b\n...'],
    ['a directive', '%YAML 1.2\n---\na: b'],
    ['a section in a list', 'a:\n  - b: c'],
    ['a list in a list', 'a:\n  - - b'],
    ['an empty item', 'a:\n  -\n  - b'],
    ['a wrong indentation', 'a:\n    b: c\n  d: e'],
    ['a deeper line after a value', 'a: b\n  c: d'],
    ['an open bracket', 'a: [b'],
    ['a comma too many', 'a: [b,,c]'],
    ['a comment that is none', 'a: [b]#c'],
    ['a colon in a value', 'a: b: c'],
    ['a pair in a list', 'a: [b: c]'],
    ['a set', 'a: {b, c}'],
    ['a variable in braces without quotes', 'a: [${b}]'],
    ['a very long key', `${'a'.repeat(1100)}: b`],
    ['many levels', `a: ${'['.repeat(50)}${']'.repeat(50)}`],
  ])('leaves %s to the long way', (_name, text) => {
    expect(readSimpleDocument(text, replace)).toBeUndefined();
  });
});

describe('both ways agree', () => {
  const pieces = fc.constantFrom(
    ...[
      'a',
      'b-c',
      'd.e',
      '0',
      '~',
      'null',
      '$',
      '${A}',
      '/x',
      'a b',
      'a:b',
      '::',
      '.',
      '...',
      '---',
      '--',
      '-',
      '- ',
      '-  x',
    ],
    ...[
      ': ',
      ':',
      ' :',
      ', ',
      ',',
      ' , ',
      '[',
      ']',
      '[]',
      '{',
      '}',
      '{}',
      '[ ',
      ' ]',
      '{ ',
      ' }',
      '{a: ',
      '"',
      "'",
      '"x"',
      "'y'",
    ],
    ...[
      ' #',
      '# c',
      ' # c',
      '#',
      '&a',
      '*a',
      '!t',
      '|',
      '>',
      '?',
      '? ',
      '@',
      '`',
      '%',
      '\\',
      '\t',
      'ä',
      '=',
      '+',
      '<<',
      ' ',
      '  ',
    ],
  );
  const lines = fc
    .tuple(
      fc.constantFrom('', '', '  ', '  ', '    ', ' ', '      '),
      fc.oneof(
        fc.array(pieces, { maxLength: 5 }).map((parts) => parts.join('')),
        fc
          .tuple(
            fc.constantFrom('a', 'b', 'c', 'key'),
            fc.constantFrom(':', ': ', ':  '),
            fc.array(pieces, { maxLength: 4 }),
          )
          .map(([key, colon, parts]) => `${key}${colon}${parts.join('')}`),
        fc
          .tuple(fc.constantFrom('- ', '-  '), fc.array(pieces, { maxLength: 3 }))
          .map(([dash, parts]) => dash + parts.join('')),
        fc.constantFrom('a:', 'b:', 'c:', '- x', 'a: [x, y]', 'b: { x: y }', '# c', ''),
      ),
    )
    .map((parts) => parts.join(''));

  test('on texts of simple lines and nearly simple ones', () => {
    let answered = 0;
    fc.assert(
      fc.property(fc.array(lines, { maxLength: 6 }), (text) => {
        if (agrees(text.join('\n'))) answered++;
      }),
      { numRuns: 5000 },
    );
    expect(answered).toBeGreaterThan(0);
  });

  test('on one line after a key', () => {
    let answered = 0;
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 8 }), (parts) => {
        if (agrees(`a: ${parts.join('')}`)) answered++;
      }),
      { numRuns: 5000 },
    );
    expect(answered).toBeGreaterThan(0);
  });

  test('on a config that is changed in one place', () => {
    let answered = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(USUAL, SHOWN),
        fc.nat({ max: 2500 }),
        fc.oneof(pieces, fc.constantFrom('\n', '\n  ', '\n\n'), fc.string({ unit: 'binary', maxLength: 2 })),
        fc.nat({ max: 4 }),
        (config, at, put, gone) => {
          const place = at % config.length;
          if (agrees(config.slice(0, place) + put + config.slice(place + gone))) answered++;
        },
      ),
      { numRuns: 3000 },
    );
    expect(answered).toBeGreaterThan(0);
  });
});
