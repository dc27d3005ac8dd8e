/** The template that escapes by default. */
import { expect, test } from '@jest/globals';
import { html } from '../../src/page/html.ts';

test.each([
  ['<script>alert(1)</script>', '&lt;script&gt;alert(1)&lt;/script&gt;'],
  [`" onload='x' &amp;`, '&quot; onload=&#39;x&#39; &amp;amp;'],
  ['right\u202eto left, zero\u200b, bell\u0007, line\u2028', 'right\ufffdto left, zero\ufffd, bell\ufffd, line\ufffd'],
  ['half of a pair \ud83d', 'half of a pair \ufffd'],
  ['Käse ≠ 🧀', 'Käse ≠ 🧀'],
])('text is text: %j', (text, escaped) => {
  expect(html`<p title="${text}">${text}</p>`.toString()).toBe(`<p title="${escaped}">${escaped}</p>`);
});

test('markup of its own, lists, numbers and nothing', () => {
  const items = ['<a>', 2].map((one) => html`<li>${one}</li>`);
  expect(html`${items}${undefined}${0}`.toString()).toBe('<li>&lt;a&gt;</li><li>2</li>0');
});

test('what only looks like markup is not taken for it', () => {
  const forged = { toString: () => '<b>', map: () => ['<b>'] } as unknown as string[];
  expect(html`${forged}`.toString()).not.toContain('<b>');
  expect(html`${[{ toString: () => '<b>' } as unknown as string]}`.toString()).not.toContain('<b>');
});
