/** The page of 1, 30, 300 and 5000 clients in a real browser, by the listener itself. PAGE_SHOTS names a directory for screenshots. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { chromium, type Browser, type Page } from 'playwright-core';
import type { Log } from '../../src/ports/log.ts';
import { openWebListener, type WebListener } from '../../src/web/listener.ts';
import { lab } from '../support/lab.ts';
import { manyClients, routesFor } from '../support/many-clients.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SHOTS = process.env['PAGE_SHOTS'];
const silent = () => undefined;
const log = { debug: silent, info: silent, warn: silent, error: silent } as unknown as Log;

let browser: Browser;
const listeners = new Map<number, WebListener>();

beforeAll(async () => {
  for (const count of [1, 30, 300, 5000]) {
    const routes = routesFor(manyClients(count, Date.now()));
    listeners.set(
      count,
      await openWebListener({ listen: { host: '127.0.0.1', port: 0 }, token: undefined, routes, log }),
    );
  }
  browser = await chromium.launch({ executablePath: lab().chromium, args: ['--no-sandbox'] });
});

afterAll(async () => {
  await browser.close();
  for (const one of listeners.values()) await one.close();
});

const rootOf = (count: number): string => `http://127.0.0.1:${listeners.get(count)?.address.port ?? 0}/`;

/** These run in the browser, whose types the tests do not know. */
const RUN_AXE = `axe.run().then(({ violations }) =>
  violations.map(({ id, help, nodes }) => [id, help, nodes.map(({ html }) => html).slice(0, 3)]))`;
const BEYOND = `({
  page: document.documentElement.scrollWidth - innerWidth,
  cut: [...document.querySelectorAll('main *')].filter((one) => {
    const box = one.closest('section, .hero, dl, form') ?? document.body;
    return !one.closest('svg, thead, pre') && one.getBoundingClientRect().right > box.getBoundingClientRect().right + 1;
  }).map((one) => one.outerHTML.slice(0, 200)),
})`;

const WIDE = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };
const look = (count: number, viewport: typeof WIDE, scheme: 'light' | 'dark', where = '') => ({
  ...{ count, viewport, scheme, where },
});
const LOOKS = [
  look(1, PHONE, 'dark'),
  look(30, WIDE, 'light'),
  look(300, WIDE, 'dark'),
  look(300, PHONE, 'light'),
  look(300, WIDE, 'light', '?find=db-03'),
  look(300, WIDE, 'dark', 'help'),
  look(300, PHONE, 'light', 'help'),
  look(300, PHONE, 'dark', 'clients/laptop-018'),
  look(300, WIDE, 'light', 'clients/web-001'),
  // The others for whoever looks at them.
  ...(SHOTS === undefined
    ? []
    : [
        ...[look(1, WIDE, 'light'), look(1, WIDE, 'dark'), look(1, PHONE, 'light'), look(30, WIDE, 'dark')],
        ...[look(30, PHONE, 'light'), look(30, PHONE, 'dark'), look(300, WIDE, 'light'), look(300, PHONE, 'dark')],
        ...[look(300, PHONE, 'light', '?find=db-03'), look(300, WIDE, 'light', 'clients/build-005')],
      ]),
];

async function open(count: number, where: string, options: Parameters<Browser['newPage']>[0] = {}): Promise<Page> {
  const page = await browser.newPage(options);
  await page.goto(`${rootOf(count)}${where}`);
  return page;
}

test.each(LOOKS)(
  'is read by everybody: $count clients, $scheme, $viewport.width wide, /$where',
  async (look) => {
    const { count, viewport, scheme, where } = look;
    const page = await open(count, where, { viewport, colorScheme: scheme });
    if (SHOTS !== undefined) {
      const name = `${count}-${where.replace(/\W+/g, '-') || 'overview'}-${scheme}-${viewport.width}.png`;
      await page.screenshot({ path: path.join(SHOTS, name), fullPage: true });
    }
    expect(await page.evaluate(BEYOND)).toEqual({ page: 0, cut: [] });
    await page.evaluate(AXE);
    expect(await page.evaluate(RUN_AXE)).toEqual([]);
    await page.close();
  },
  60_000,
);

test('of 300 clients, one is found by its name alone, without a script', async () => {
  const page = await open(300, '', { viewport: WIDE, javaScriptEnabled: false });
  // What needs a look can be seen, and what is OK is behind one line.
  expect(await page.getByRole('link', { name: 'build-005' }).isVisible()).toBe(true);
  expect(await page.getByRole('link', { name: 'web-001' }).isVisible()).toBe(false);
  await page.getByText('260 clients are OK').click();
  expect(await page.getByRole('link', { name: 'web-001' }).isVisible()).toBe(true);

  await page.getByLabel('Find a client').fill('FILES-220');
  await page.keyboard.press('Enter');
  await page.waitForURL(/\?find=FILES-220$/);
  expect(await page.locator('tbody tr').count()).toBe(1);
  await page.getByRole('link', { name: 'files-220' }).click();
  expect(await page.locator('h1').textContent()).toBe('files-220');
  await page.close();
});

test('5000 clients are as much to send as 80, and gzip makes a tenth of it', async () => {
  const get = async (encoding: string) => {
    const answer = await fetch(`${rootOf(5000)}?page=50`, { headers: { 'accept-encoding': encoding } });
    return {
      coding: answer.headers.get('content-encoding'),
      text: await answer.text(),
      length: Number(answer.headers.get('content-length')),
    };
  };
  const plain = await get('identity');
  const packed = await get('gzip');
  expect([plain.coding, packed.coding]).toEqual([null, 'gzip']);
  expect(packed.text).toContain('clients are OK, ');
  expect(plain.length).toBeLessThan(200 * 1024);
  expect(packed.length * 10).toBeLessThan(plain.length);
});
