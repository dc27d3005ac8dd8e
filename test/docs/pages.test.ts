/** The pages of the documentation: their size, their links, and that each block of code in them is run or says why not. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { pages, parsePage, readPage, ROOT, whyNotRun } from '../support/doc-fences.ts';

/** What test/e2e/docs.test.ts runs, each by its language; the rest must say why it is not run. */
const RUN = new Set(['sh', 'yaml', 'crontab', 'sshd_config']);
const MARKERS = /^(?:not run: .{10,}|run as: .+|run(?:: (?:in the background|on the client))?|prometheus(?:: .+)?)$/;

const read = (page: string): string => readFileSync(path.join(ROOT, page), 'utf8');

test.each(pages())('%s: every block of code is run, or says why it is not', (page) => {
  const { fences, unfenced } = readPage(page);
  expect({ page, unfenced }).toEqual({ page, unfenced: [] });
  for (const fence of fences) {
    const { line, language, marker } = fence;
    const where = `${page}:${line}`;
    if (marker !== undefined) expect({ where, marker }).toEqual({ where, marker: expect.stringMatching(MARKERS) });
    const isKnown = RUN.has(language) || whyNotRun(fence) !== undefined;
    expect({ where, language, isKnown }).toEqual({ where, language, isKnown: true });
  }
});

test('a block without a word, indented code and an open fence would show', () => {
  const { fences, unfenced } = parsePage('x.md', 'a\n\n    indented\n\n```text\nout\n```\n\n```sh\nopen\n');
  expect({ fences: fences.map(whyNotRun), unfenced }).toEqual({ fences: [undefined], unfenced: [3, 9] });
});

/** As GitHub makes anchors of headings. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replaceAll(/[^\p{L}\p{N}\- _]/gu, '')
    .trim()
    .replaceAll(' ', '-');

function anchors(page: string): ReadonlySet<string> {
  const text = read(page).replaceAll(/^ *```[^]*?^ *```$/gm, '');
  return new Set([...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => anchorOf(heading)));
}

test.each(pages())('%s: every link leads somewhere', (page) => {
  const text = read(page).replaceAll(/^ *```[^]*?^ *```$/gm, '');
  const broken = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => {
      if (/^https?:/.test(target)) return false;
      const [file = '', anchor] = target.split('#');
      const other = file === '' ? page : path.join(path.dirname(page), file);
      if (!existsSync(path.join(ROOT, other))) return true;
      return anchor !== undefined && !anchors(other).has(anchor);
    });
  expect(broken).toEqual([]);
});

test('the index leads to every page', () => {
  const index = read('docs/README.md');
  const missing = pages().filter(
    (page) =>
      page.startsWith('docs/') && page !== 'docs/README.md' && !index.includes(`(${page.slice('docs/'.length)})`),
  );
  expect(missing).toEqual([]);
});

test('every term of the glossary is used on another page or in the code', () => {
  const terms = [...read('docs/glossary.md').matchAll(/^\| ([^|]+?) +\|/gm)].slice(2).map(([, term = '']) => term);
  expect(terms.length).toBeGreaterThanOrEqual(40);
  const sources = readdirSync(path.join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => `src/${file}`);
  const text = [...pages().filter((page) => page !== 'docs/glossary.md'), ...sources].map(read).join('\n');
  // Without what tells two meanings apart, and without an ending: `retained`, `locks`
  const stem = (term: string): string => term.replace(/ \(.*/, '').replace(/e?d?$/, '');
  expect(terms.filter((term) => !new RegExp(`\\b${stem(term)}`, 'i').test(text))).toEqual([]);
});

test('the README is read in five minutes', () => {
  expect(read('README.md').split(/\s+/).length).toBeLessThanOrEqual(1300);
});
