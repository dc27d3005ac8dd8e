/** The lines of the gateway that the troubleshooting page explains are lines that the gateway says. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';

const ROOT = path.resolve(import.meta.dirname, '../..');
const PAGE = readFileSync(path.join(ROOT, 'docs/troubleshooting.md'), 'utf8');
const SOURCE = readdirSync(path.join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => readFileSync(path.join(ROOT, 'src', file), 'utf8').replaceAll("\\'", "'"))
  .join('\n');

/** The first cells of the tables below a heading, which are lines. */
function linesBelow(heading: string): string[] {
  const [text = ''] = (PAGE.split(`\n## ${heading}\n`)[1] ?? '').split('\n## ');
  return [...text.matchAll(/^\| `(.+?)` /gm)].map(([, line = '']) => line);
}

test.each([...linesBelow('On the client, from the gateway'), ...linesBelow('On the gateway host')])('%s', (line) => {
  const pieces = line
    .split('…')
    .map((piece) => piece.trim())
    .filter((piece) => piece.length > 3);
  expect(pieces.length).toBeGreaterThan(0);
  expect(pieces.filter((piece) => !SOURCE.includes(piece))).toEqual([]);
});

test('every way to refuse a session has its line there', () => {
  const lines = [
    ...readFileSync(path.join(ROOT, 'src/core/admission.ts'), 'utf8').matchAll(
      /line: `client \$\{client\} ([^$`]{8,})/g,
    ),
  ];
  expect(lines.length).toBeGreaterThan(1);
  for (const [, words = ''] of lines) expect([words, PAGE.includes(words.trim())]).toEqual([words, true]);
});
