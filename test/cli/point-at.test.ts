/** The caret stands under the place, and no secret beside it. */
import { expect, test } from '@jest/globals';
import { pointAt } from '../../src/cli/point-at.ts';

const at = (text: string, line: number, column: number, path = ''): readonly string[] =>
  pointAt(text.split('\n'), { path, line, column, message: 'wrong' });

test('the caret stands under the place', () => {
  expect(at('a: 1\nquotas: 3', 2, 1)).toEqual(['    quotas: 3', '    ^']);
  expect(at('  a:\tb: c', 1, 8)).toEqual(['    ' + '  a: b: c', '    ' + '       ^']);
  const [shown = '', caret = ''] = at(`a: ${'x, '.repeat(100)}WRONG`, 1, 304);
  expect(shown.slice(caret.indexOf('^'))).toBe('WRONG');
});

test.each([
  ['a secret in its line', 'secretAccessKey: hush', 1, ''],
  ['a secret below its key', 'secretAccessKey: |\n\n  hush', 3, ''],
  ['a secret by its path', 'a:\n  hush', 2, 'stores.a.secretAccessKey'],
  ['the body of a private key', '-----BEGIN OPENSSH PRIVATE KEY-----\nhush', 2, ''],
  ['a long word where none belongs', `bucket: ${'hush'.repeat(10)}`, 1, ''],
  ['a line that is not there', 'a: 1', 7, ''],
])('nothing is shown of %s', (_what, text, line, path) => {
  expect(at(text, line, 1, path).join('\n')).not.toContain('hush');
});
