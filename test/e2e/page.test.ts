/** The page in a real browser, after real sessions through both ways in: what it shows, that it runs nothing, and that everybody can use it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { hostname } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { freePort, generateKey, lab, makeTree, restic, sshClientArgs, tempDir, type KeyFiles } from '../support/lab.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore } from '../support/stores.ts';

const EVIL = `<img src=x onerror="document.title='owned'"></td><script>document.title='owned'</script>`;
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let gateway: RunningGateway;
let browser: Browser;
let key: KeyFiles;
let root: string;
/** What any page has said in its console, and every request that was not for a page itself. */
const heard: string[] = [];

beforeAll(async () => {
  const directory = tempDir();
  key = await generateKey();
  const port = await freePort();
  root = `http://127.0.0.1:${port}/`;
  const [type = '', blob = ''] = key.publicLine.split(' ');
  gateway = await startGateway(directory, {
    stores: { main: await freshStore('directory') },
    clients: {
      appsrv: { keys: [`${type} ${blob} ${EVIL}`], repository: { store: 'main' }, expectEvery: '26h', quota: '1GB' },
      dbsrv: { keys: [(await generateKey()).publicLine], repository: { store: 'main' } },
      'new-host': { keys: [(await generateKey()).publicLine], repository: { store: 'main' } },
    },
    metrics: { listen: `127.0.0.1:${port}` },
  });
  const tree = path.join(directory, 'tree');
  await makeTree(tree, { files: 20, bytes: 3_000_000, seed: 'page' });
  const { port: sshPort, knownHosts, configFile } = gateway;
  const sites = {
    appsrv: { 'rclone.program': [lab().ssh, ...sshClientArgs({ port: sshPort, key, knownHosts })].join(' ') },
    dbsrv: { 'rclone.program': `${process.execPath} ${GATEWAY}`, 'rclone.args': `stdio -c ${configFile}` },
  };
  for (const client of ['appsrv', 'dbsrv'] as const)
    for (const args of [['init'], ['backup', tree]]) {
      const target = { repo: `rclone:${client}`, options: sites[client], password: 'secret', timeoutMs: 120_000 };
      expect((await restic(lab().resticNewest, target, args)).code).toBe(0);
    }
  // The sandbox of Chromium does not work for root, and loopback is all that it visits.
  browser = await chromium.launch({ executablePath: lab().chromium, args: ['--no-sandbox'] });
});

afterAll(async () => {
  await browser.close();
  await gateway.stop();
});

/** Opens one of the pages; what goes wrong there is heard. */
async function open(where: string, options: BrowserContextOptions = {}): Promise<Page> {
  const page = await browser.newPage(options);
  page.on('console', (message) => heard.push(`${where}: ${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => heard.push(`${where}: ${error.message}`));
  page.on('request', (request) => {
    if (!request.isNavigationRequest()) heard.push(`${where}: loads ${request.url()}`);
  });
  await page.goto(`${root}${where}`);
  return page;
}

/** The rows of the tables, as they are read. */
async function rows(page: Page, table = 'table'): Promise<string[]> {
  const texts = await page.locator(`${table} tbody tr`).allTextContents();
  return texts.map((text) => text.replace(/\s+/g, ' '));
}

test('one glance says which backups are OK, and of each client what it did', async () => {
  const page = await open('');
  expect(await page.title()).toBe(`1 of 3 needs a look · restic-gateway on ${hostname()}`);
  expect(await page.locator('h1').textContent()).toBe('1 of 3 needs a look');
  const [first, second, third] = await rows(page);
  expect([first, second, third]).toEqual([
    expect.stringMatching(/Never yet ?new-host ?No snapshot has arrived/),
    expect.stringMatching(/OK ?appsrv.*ago.*expected every 1 d 2 h.* MiB.* % of 953\.7 MiB/),
    expect.stringMatching(/OK ?dbsrv.*ago.*~.* MiB/),
  ]);
  const time = await page.locator('tr:has-text("appsrv") time').first().getAttribute('datetime');
  expect(Math.abs(Date.now() - Date.parse(time ?? ''))).toBeLessThan(600_000);

  await page.getByRole('link', { name: 'appsrv' }).click();
  expect(new URL(page.url()).pathname).toBe('/clients/appsrv');
  const sessions = await rows(page, 'section[aria-labelledby=sessions] table');
  expect(sessions).toHaveLength(2);
  expect(sessions[0]).toMatch(/ssh, 127\.0\.0\.1 ?\d\.\d MiB/);
  // The key's comment is text, and what it says has not happened.
  expect(await page.getByText(EVIL).count()).toBe(1);
  expect(await page.locator('img, script').count()).toBe(0);
  expect(await page.title()).toBe(`appsrv · restic-gateway on ${hostname()}`);
  await page.getByRole('link', { name: 'All clients' }).click();
  expect(page.url()).toBe(root);
  await page.close();
});

test('an attack shows while it goes on, and what to do about it', async () => {
  const session = startStdio(['dbsrv', '-c', gateway.configFile]);
  const object = 'ab'.repeat(32);
  expect((await session.request('DELETE', `/snapshots/${object}`)).status).toBe(403);
  // An overview is given again for a moment.
  let page = await open('');
  for (const end = Date.now() + 120_000; Date.now() < end;) {
    if ((await page.title()).startsWith('2 of 3')) break;
    await page.reload();
  }
  expect(await page.title()).toBe(`2 of 3 need a look · restic-gateway on ${hostname()}`);
  expect((await rows(page))[0]).toMatch(/Needs a look ?dbsrv ?Once it tried to remove backups, and was refused\./);
  await page.close();

  page = await open('clients/dbsrv');
  const running = await page.locator('tr.running').textContent();
  expect(running?.replace(/\s+/g, ' ')).toMatch(/stdio.*running/);
  expect(await page.locator('section[aria-labelledby=open]').textContent()).toContain('If nobody ran forget or prune');
  const refused = await rows(page, 'section[aria-labelledby=refused] table');
  expect(refused).toEqual([
    expect.stringMatching(/append-only.*its key can add and not remove.*1/),
    expect.stringMatching(new RegExp(`append-only.*remove.*snapshots/${object}.*1`)),
  ]);
  await page.close();
  session.end();
  await session.exited;
});

const WIDE = { width: 1360, height: 900 };
const PHONE = { width: 390, height: 844 };
const look = (colorScheme: 'light' | 'dark', viewport: typeof WIDE, ...pages: string[]) =>
  pages.map((where) => ({ colorScheme, viewport, where }));
const LOOKS = [
  ...(['light', 'dark'] as const).flatMap((scheme) => [
    ...look(scheme, WIDE, '', 'clients/dbsrv'),
    ...look(scheme, PHONE, '', 'clients/dbsrv', 'clients/nobody'),
  ]),
  ...look('light', { width: 1000, height: 800 }, '', 'clients/dbsrv'),
  ...look('light', { width: 320, height: 640 }, '', 'clients/dbsrv'),
];

/** These run in the browser, whose types the tests do not know. */
const OPEN_ALL = 'document.querySelectorAll("details").forEach((one) => { one.open = true; })';
const RUN_AXE = `axe.run().then(({ violations, passes }) => ({
  violations: violations.map(({ id, help, nodes }) => [id, help, nodes.map(({ html }) => html)]),
  contrast: passes.some(({ id }) => id === 'color-contrast'),
}))`;
const LOOK_BEYOND = `({
  page: document.documentElement.scrollWidth - innerWidth,
  cut: [...document.querySelectorAll('main *')].filter((one) => {
    const box = one.closest('section, .hero, dl') ?? document.body;
    return !one.closest('svg, thead') && one.getBoundingClientRect().right > box.getBoundingClientRect().right + 1;
  }).map((one) => one.outerHTML.slice(0, 200)),
})`;
const FOCUSED = `(({ id, textContent }, { outlineStyle }) => ({ id, text: textContent.trim(), outlineStyle }))(
  document.activeElement, getComputedStyle(document.activeElement))`;
const BACKGROUND = 'getComputedStyle(document.body).backgroundColor';
/** What would get past the escaping: resolves to what the policy kept from it. */
const BREAK_IN = `new Promise((resolve) => {
  const blocked = [];
  const tell = () => resolve({ blocked: blocked.sort(), title: document.title });
  document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => {
    blocked.push(effectiveDirective);
    if (blocked.length === 3) tell();
  });
  const script = document.createElement('script');
  script.textContent = "document.title = 'owned'";
  const image = document.createElement('img');
  image.src = '/healthz';
  document.body.append(script, image);
  document.body.setAttribute('style', 'color: red');
  setTimeout(tell, 10000);
})`;

test.each(LOOKS)(
  'is read by everybody: $colorScheme, $viewport.width wide, /$where',
  async ({ colorScheme, viewport, where }) => {
    const page = await open(where, { colorScheme, viewport });
    await page.evaluate(OPEN_ALL);
    // Contrast, names, landmarks, tables and the rest of WCAG 2.2 that a program can see.
    await page.evaluate(AXE);
    expect(await page.evaluate(RUN_AXE)).toEqual({ violations: [], contrast: true });
    // Nothing beyond the edge of the screen, nor cut off by the box around it.
    expect(await page.evaluate(LOOK_BEYOND)).toEqual({ page: 0, cut: [] });
    await page.close();
  },
);

describe('the keyboard', () => {
  test('skips to the content, and reaches every link with a frame around it', async () => {
    const page = await open('', { viewport: WIDE });
    await page.keyboard.press('Tab');
    expect(await page.evaluate(FOCUSED)).toMatchObject({ text: 'Skip to the content' });
    const visible = await page.locator('.skip').boundingBox();
    expect(visible?.x).toBeGreaterThanOrEqual(0);
    await page.keyboard.press('Enter');
    expect(await page.evaluate(FOCUSED)).toMatchObject({ id: 'content' });
    const reached: string[] = [];
    for (let tabs = 0; tabs < 3; tabs++) {
      await page.keyboard.press('Tab');
      const { text, outlineStyle } = await page.evaluate<{ text: string; outlineStyle: string }>(FOCUSED);
      expect(outlineStyle).toBe('solid');
      reached.push(text);
    }
    expect(reached.sort()).toEqual(['appsrv', 'dbsrv', 'new-host']);
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/clients\//);
    await page.close();
  });
});

test('its style is let in, and nothing else would be', async () => {
  const [light, dark] = [await open('', { colorScheme: 'light' }), await open('', { colorScheme: 'dark' })];
  expect(await light.evaluate(BACKGROUND)).toBe('rgb(244, 246, 249)');
  expect(await dark.evaluate(BACKGROUND)).toBe('rgb(14, 18, 24)');
  await Promise.all([light.close(), dark.close()]);
  const page = await browser.newPage();
  await page.goto(root);
  expect(await page.evaluate(BREAK_IN)).toEqual({
    blocked: ['img-src', 'script-src-elem', 'style-src-attr'],
    title: expect.stringMatching(/^\d of 3/),
  });
  await page.close();
});

test('nothing that was opened has loaded or said anything else', async () => {
  // What the browser itself says of a page that is not there.
  await (await open('clients/nobody')).close();
  const missing = /^clients\/nobody: error: Failed to load resource.*404/;
  expect(heard.filter((line) => !missing.test(line))).toEqual([]);
  expect(heard.some((line) => missing.test(line))).toBe(true);
});

test('asks for the token where there is one, as the password of whatever user', async () => {
  const directory = tempDir();
  const port = await freePort();
  const where = `http://127.0.0.1:${port}/`;
  const token = 'a-token-of-the-tests-0123456789';
  const other = await startGateway(
    directory,
    {
      stores: { main: await freshStore('directory') },
      clients: { 'new-host': { keys: [(await generateKey()).publicLine], repository: { store: 'main' } } },
      metrics: { listen: `127.0.0.1:${port}`, token: '${PAGE_TOKEN}' },
    },
    { PAGE_TOKEN: token },
  );
  try {
    for (const path of ['', 'help', 'clients/new-host', 'clients/nobody'])
      expect((await fetch(`${where}${path}`)).status).toBe(401);
    const page = await browser.newPage({ httpCredentials: { username: 'anybody', password: token } });
    await page.goto(where);
    expect(await page.title()).toBe(`The backup needs a look · restic-gateway on ${hostname()}`);
    await page.close();
  } finally {
    await other.stop();
  }
});
