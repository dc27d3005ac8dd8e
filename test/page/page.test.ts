/** The pages as they are answered: what they say of how clients stand, and when that cannot be told. */
import { createHash } from 'node:crypto';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import type { ClientConfig } from '../../src/config/types.ts';
import { GatewayError } from '../../src/core/errors.ts';
import type { Knowledge } from '../../src/monitor/assess.ts';
import type { ClientStatus } from '../../src/monitor/client-status.ts';
import { ANOMALY_RULES } from '../../src/ports/audit-sink.ts';
import type { WebAnswer } from '../../src/ports/web.ts';
import { DAY, HOUR, nightly, sessionLines, type HistoryLine } from '../support/audit-history.ts';
import { manyClients, routesFor, standing, type Standing } from '../support/many-clients.ts';

/** Yesterday, two hours after the last night's backup. */
const NOW = Math.floor(Date.now() / DAY) * DAY - 20 * HOUR;
const EVIL = '<img src=x onerror=alert(1)>"\u202e';

/** A client of that name that did this; nothing when it is left out. */
const status = (
  name: string,
  lines: readonly HistoryLine[] = [],
  config: Partial<ClientConfig> = {},
  more: Partial<Knowledge> = {},
): Standing => standing(NOW, name, lines, config, more);

const nights = (client: string): HistoryLine[] => nightly(NOW - 13 * DAY - 4 * HOUR, 14, { client });
const ok = (name: string): Standing => status(name, nights(name));

/** Answers as the listener would be answered. */
function answers(
  clients: readonly Standing[],
  statuses?: () => Promise<ClientStatus[]>,
  reading?: () => number | undefined,
) {
  const routes = routesFor(clients, statuses, reading);
  return async (path: string, query = ''): Promise<WebAnswer & { readonly body: string }> => {
    for (const route of routes) {
      const parts = route.path.exec(path)?.slice(1);
      if (parts === undefined) continue;
      const answer = await route.answer({ parts, query: new URLSearchParams(query) });
      return { ...answer, body: String(answer.body) };
    }
    throw new Error(`there is no route for ${path}`);
  };
}

const textOf = (body: string): string =>
  body
    .replace(/<style>[^]*?<\/style>|<svg[^]*?<\/svg>|<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
const headline = async (clients: readonly Standing[]): Promise<string> =>
  textOf(/<h1>([^]*?)<\/h1>/.exec((await answers(clients)('/')).body)?.[1] ?? '');

afterEach(() => {
  jest.useRealTimers();
});

describe('the overview', () => {
  test.each<[string, readonly Standing[]]>([
    ['No clients yet', []],
    ['The backup is OK', [ok('a')]],
    ['All 2 backups are OK', [ok('a'), ok('b'), status('off', [], { disabled: true })]],
    ['1 of 2 needs a look', [ok('a'), status('new')]],
    [
      '2 of 3 need a look',
      [ok('a'), status('new'), status('late', nights('late').slice(0, 40), { expectEvery: HOUR })],
    ],
    ['The backup needs a look', [status('new')]],
    ['All clients are disabled', [status('a', [], { disabled: true }), status('b', [], { disabled: true })]],
  ])('says: %s', async (words, clients) => {
    expect(await headline(clients)).toBe(words);
  });

  test('has the worst first, in words', async () => {
    const attacked = [
      ...nights('attacked'),
      ...sessionLines(NOW - HOUR, {
        client: 'attacked',
        also: [{ event: 'denied', operation: 'remove', reason: 'append-only', object: `data/${'ab'.repeat(32)}` }],
      }),
    ];
    const clients = [
      status('off', [], { disabled: true }),
      ok('good'),
      status('new'),
      status('late', nights('late'), { expectEvery: HOUR }),
      status('attacked', attacked),
    ];
    const { body } = await answers(clients)('/');
    const rows = [...body.matchAll(/<tr role="row" class="\w+">([^]*?)<\/tr>/g)].map(([, row = '']) => textOf(row));
    expect(rows).toEqual([
      expect.stringMatching(/^Needs a look attacked Once it tried to remove backups, and was refused\. /),
      expect.stringMatching(/^Late late No snapshot for .* late since /),
      expect.stringMatching(/^Never yet new No snapshot has arrived since the audit began\. /),
      expect.stringMatching(/^OK good \d+ .* ago .* in \d+ .* by what is usual ~70\.0 MiB \+/),
      expect.stringMatching(/^Disabled off It is disabled in the config\. /),
    ]);
    expect(body).toContain('href="clients/attacked"');
  });

  test('asks the monitor once for many readers', async () => {
    let asked = 0;
    const get = answers([], () => {
      asked += 1;
      return Promise.resolve([]);
    });
    await Promise.all([get('/'), get('/'), get('/')]);
    await get('/');
    expect(asked).toBe(1);
  });

  test('loads itself anew when it is asked to alone', async () => {
    const get = answers([ok('a')]);
    expect((await get('/')).body).not.toContain('http-equiv');
    const { body } = await get('/', 'refresh=60');
    expect(body).toContain('<meta http-equiv="refresh" content="60" />');
    expect(body).toContain('<a href="?">stop</a>');
    expect((await get('/', 'refresh=1')).body).not.toContain('http-equiv');
  });
});

describe('the page of a client', () => {
  test('shows text of whatever making as text', async () => {
    const key = { type: 'ssh-ed25519' as const, blob: '', fingerprint: 'SHA256:one', comment: EVIL };
    const evil = sessionLines(NOW - HOUR, {
      ...{ client: 'a', from: EVIL, key: EVIL, via: EVIL as 'ssh' },
      also: [{ event: 'denied', operation: EVIL, reason: EVIL, object: EVIL }],
    });
    const found = [{ key: EVIL, problem: EVIL, detail: EVIL }];
    const scrub = { finished: new Date(NOW), quick: false, objects: 1, bytes: 1, findings: 1, found };
    const clients = [status('a', [...nights('a'), ...evil], { keys: [key] }, { scrub })];
    const get = answers(clients);
    for (const { body } of [await get('/clients/a'), await get('/')]) {
      expect(body).not.toMatch(/<img|\u202e/);
      expect(body).not.toMatch(/ onerror=[^&]*>[^&]/);
    }
    // The comment, the address twice, the key, the session's way in, what was refused and why, the finding.
    expect(
      (await get('/clients/a')).body.split('&lt;img src=x onerror=alert(1)&gt;&quot;\ufffd').length,
    ).toBeGreaterThan(9);
  });

  test('shows what each session added, what was refused, and what to do', async () => {
    const session = sessionLines(NOW - HOUR, {
      ...{ client: 'a', packs: 2, snapshots: 1 },
      also: [{ event: 'denied', operation: 'save', reason: 'overwrite', object: 'data/aa' }],
    });
    const text = textOf((await answers([status('a', [...nights('a'), ...session])])('/clients/a')).body);
    const id = String(session[0]?.['session']);
    expect(text).toMatch(new RegExp(`${id} 5 min 0 s ssh, 192\\.0\\.2\\.7 2\\.0 MiB 4 1 2\\.0 KiB – 0? ?`));
    expect(text).toMatch(/overwrite other content under a name that is taken 1/);
    expect(text).toMatch(new RegExp(`overwrite save data/aa 1 ${id}`));
    expect(text).toContain('run scrub, and if it finds nothing, treat the machine as broken into');
    expect(text).toContain('restic-gateway status a --acknowledge');
  });

  test('shows what was removed, until when the trash keeps it and what brings it back', async () => {
    const removed = (via: 'admin' | 'ssh', hours: number): HistoryLine[] =>
      sessionLines(NOW - hours * HOUR, {
        ...{ client: 'a', via },
        also: [0, 1].map((n) => ({ event: 'remove', object: `snapshots/${n}`, size: 300, arrived: '' })),
      });
    const [byAdmin, byClient] = [removed('admin', 2), removed('ssh', 1)];
    const trash = { at: NOW - HOUR / 2, snapshots: 4, objects: 4, bytes: 1200, oldest: NOW - 2 * HOUR };
    const a = status('a', [...nights('a'), ...byAdmin, ...byClient], { trashMs: 14 * DAY }, { trash });
    const text = textOf((await answers([a])('/clients/a')).body);
    const until = new Date(NOW - 2 * HOUR + 14 * DAY).toISOString().slice(0, 10);
    expect(text).toContain('In 7 days, the admin removed 2 snapshots, 2 objects in all, 600 B.');
    expect(text).toMatch(
      / ago , the trash held 4 snapshots, 4 objects in all, 1\.2 KiB\. The oldest of it is purged after/,
    );
    for (const [by, lines] of [['the admin', byAdmin] as const, ['the client', byClient] as const])
      expect(text).toMatch(
        new RegExp(
          `${by} 2 2 600 B ${until} [\\d:]+ restic-gateway trash restore a --session ${String(lines[0]?.['session'])}`,
        ),
      );
    expect(textOf((await answers([ok('b')])('/clients/b')).body)).not.toContain('removed');
  });

  test('is not found for a name that the config does not have', async () => {
    const get = answers([ok('a')]);
    expect(await get('/clients/b')).toMatchObject({ status: 404, body: expect.stringContaining('has no client b.') });
    expect((await get('/clients/__proto__')).status).toBe(404);
  });
});

test('its policy lets its own style in and nothing else', async () => {
  const { body, headers } = await answers([ok('a')])('/');
  const style = /<style>([^]*)<\/style>/.exec(body)?.[1] ?? '';
  const hash = createHash('sha256').update(style).digest('base64');
  expect(headers).toEqual({
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': `default-src 'none'; style-src 'sha256-${hash}'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'`,
  });
  expect(body).not.toMatch(/<script|\son[a-z]+=|\sstyle=/);
});

describe('with many clients', () => {
  const summaries = (body: string): string[] =>
    [...body.matchAll(/<summary>([^]*?)<\/summary>/g)].map(([, words = '']) => textOf(words));
  const names = (body: string): string[] => [...body.matchAll(/href="clients\/([^"]+)"/g)].map(([, name = '']) => name);

  test('those that need nothing are folded away, and the others come first', async () => {
    const { body } = await answers(manyClients(60, NOW))('/');
    expect(summaries(body)).toEqual(['52 clients are OK', '2 clients are disabled']);
    const shown = body.split('<details')[0] ?? '';
    expect(names(shown).sort()).toEqual(
      ['build-005', 'laptop-012', 'laptop-018', 'build-035', 'laptop-042', 'laptop-048'].sort(),
    );
    expect(body).not.toMatch(/<details[^>]* open/);
  });

  test.each([
    ['a part of a name', 'BUILD-0', 10],
    ['a repository', 'clients/db-00', 2],
    ['an address', '192.0.2.7', 1],
    ['nothing that is there', '<img src=x>"', 0],
    ['a very long one', 'x'.repeat(9000), 0],
  ])('one is found by %s, and what is found is not folded', async (_, find, count) => {
    const { body } = await answers(manyClients(60, NOW))('/', `find=${encodeURIComponent(find)}&refresh=60`);
    expect(names(body)).toHaveLength(count);
    expect(body).toContain(`${count === 0 ? 'No client' : count === 1 ? '1 client' : `${count} clients`} found for`);
    expect(body).not.toContain('<img');
    expect(body).not.toMatch(/<details(?![^>]* open)/);
    // It goes on loading itself anew, for the same.
    expect(body).toContain('<input type="hidden" name="refresh" value="60"');
    expect(body.length).toBeLessThan(200_000);
  });

  test('200 of them are three pages, each client on one of them, and the worst on the first', async () => {
    const clients = manyClients(30, NOW);
    const many = Array.from({ length: 200 }, (_, index): Standing => {
      const [config, one] = clients[index % 30] ?? ok('a');
      return [
        { ...config, name: `c${index}` },
        { ...one, client: `c${index}` },
      ];
    });
    const get = answers(many);
    const pages = await Promise.all(['', 'page=2', 'page=3'].map(async (query) => names((await get('/', query)).body)));
    expect(pages.map((one) => one.length)).toEqual([80, 80, 40]);
    expect(new Set(pages.flat()).size).toBe(200);
    expect((await get('/')).body).toContain('<a href="?page=2">Next page</a>');
    expect((await get('/')).body).toContain('173 clients are OK, 59 of them on this page');
    for (const query of ['page=9', 'page=0', 'page=-1', 'page=1e9', 'page=x'])
      expect((await get('/', query)).body).toMatch(/Page [13] of 3/);
  });

  test('those in one state are shown alone, with what else was asked for, and no other word is a state', async () => {
    const get = answers(manyClients(60, NOW));
    const { body } = await get('/', 'refresh=60&page=2');
    expect(body).toContain('<a href="?state=late&amp;refresh=60" >');
    const late = (await get('/', 'state=late&refresh=60')).body;
    expect(names(late).sort()).toEqual(['laptop-012', 'laptop-042']);
    expect(textOf(late)).toContain('2 clients late. Show all');
    expect(late).toContain('<a href="?refresh=60" aria-current="true">');
    expect(late).toContain('<input type="hidden" name="state" value="late" />');
    expect(names((await get('/', 'state=late&find=042')).body)).toEqual(['laptop-042']);
    const ok = (await get('/', 'state=ok')).body;
    expect(names(ok)).toHaveLength(52);
    expect(ok).not.toMatch(/<details(?![^>]* open)/);
    for (const state of ['<img src=x>', '__proto__', 'x'.repeat(9000)]) {
      const odd = (await get('/', `state=${encodeURIComponent(state)}`)).body;
      expect(names(odd)).toHaveLength(60);
      expect(odd).not.toContain('<img');
      expect(odd).not.toContain('x'.repeat(201));
    }
  });

  test('a page of 3000 that all need a look has 200 KiB at most', async () => {
    const [[config, one] = ok('a')] = manyClients(5, NOW).slice(4);
    const many = Array.from({ length: 3000 }, (_, index): Standing => {
      const name = `a-rather-long-name-of-a-client-${index}`;
      return [
        { ...config, name },
        { ...one, client: name },
      ];
    });
    const { body } = await answers(many)('/');
    expect(names(body)).toHaveLength(80);
    expect(body.length).toBeLessThan(200 * 1024);
  });

  test('an overview is made once for all who look at the same time', async () => {
    const route = routesFor(manyClients(3, NOW))[0];
    const ask = () => route?.answer({ parts: [], query: new URLSearchParams() });
    const [one, other] = await Promise.all([ask(), ask()]);
    expect(one).toBe(other);
  });
});

describe('the plots', () => {
  test('survive the first backup: the scale ends at what is usual, and what is cut is marked and said', async () => {
    const lines = [
      ...sessionLines(NOW - 30 * DAY, { client: 'a', init: true, packs: 50, packSize: 2 ** 30, snapshots: 1 }),
      ...nightly(NOW - 27 * DAY - 4 * HOUR, 28, { client: 'a' }),
    ];
    const { body } = await answers([status('a', lines)])('/clients/a');
    const added = /<figcaption>(Added on each day[^<]*)<[^]*?<\/figure>/.exec(body);
    expect(added?.[1]).toMatch(/at most 50\.0 GiB; 1 day above 6\.\d MiB cut off$/);
    expect(added?.[0]).toContain('class="beyond"');
    const heights = [...(added?.[0] ?? '').matchAll(/h[\d.]+v([\d.]+)z/g)].map(([, tall]) => Number(tall));
    // The first day's bar is at the top, and each night's can be seen.
    expect(heights[0]).toBe(146);
    expect(Math.min(...heights)).toBeGreaterThan(100);
  });

  test('are not cut where nothing is far above the rest', async () => {
    expect((await answers([ok('a')])('/clients/a')).body).not.toContain('class="beyond"');
  });
});

test('what the last scrub counted is the size where the audit does not reach back', async () => {
  const scrub = { finished: new Date(NOW - DAY), quick: true, objects: 4, bytes: 3 * 2 ** 20, findings: 0, found: [] };
  const late = nights('a').filter(({ object }) => object !== 'config');
  expect(textOf((await answers([status('a', late)])('/clients/a')).body)).toContain('A scrub counts it');
  const text = textOf((await answers([status('a', late, {}, { scrub })])('/clients/a')).body);
  expect(text).toMatch(/Size 3\.0 MiB, counted by the last scrub, [\d a-z]+ ago/);
});

describe('a client that never came', () => {
  test('is told what to run', async () => {
    const text = textOf((await answers([status('new')])('/clients/new')).body);
    expect(text).toContain('restic -o rclone.program="ssh restic-gateway-new" init');
    expect(text).toContain('It has not connected since the audit began.');
  });

  test('has come, and left nothing', async () => {
    const lines = sessionLines(NOW - HOUR, { client: 'new' });
    expect(textOf((await answers([status('new', lines)])('/clients/new')).body)).toContain(
      'It has connected, last at ',
    );
  });
});

describe('the help', () => {
  test('has every state and every rule, and every link of every page leads somewhere', async () => {
    const clients = manyClients(60, NOW);
    const get = answers(clients);
    const { body: help } = await get('/help');
    expect((await get('/clients/build-005')).body).toContain('href="../help#broken-into"');
    const ids = new Set([...help.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id));
    for (const rule of ANOMALY_RULES) expect(ids).toContain(rule);
    for (const state of ['attention', 'late', 'never', 'ok', 'disabled']) expect(ids).toContain(`state-${state}`);

    const root = 'http://gateway/';
    for (const where of ['', 'help', 'clients/none', ...clients.map(([{ name }]) => `clients/${name}`)]) {
      const { body } = await get(`/${where}`);
      for (const [, href = ''] of body.matchAll(/<a [^>]*href="([^"]*)"/g)) {
        const target = new URL(href.replaceAll('&amp;', '&'), `${root}${where}`);
        const answer = await get(target.pathname, target.search.slice(1));
        expect([where, href, answer.status]).toEqual([where, href, target.pathname === '/clients/none' ? 404 : 200]);
        if (target.hash !== '') expect(answer.body).toContain(` id="${target.hash.slice(1)}"`);
      }
    }
  });

  test('every page says which gateway it is of', async () => {
    const get = answers([ok('a')]);
    for (const where of ['/', '/help', '/clients/a', '/clients/b']) {
      const { body } = await get(where);
      expect(body).toContain(' · restic-gateway on gw1.example.org</title>');
      expect(textOf(body)).toContain('restic-gateway 0.1.0 on gw1.example.org .');
    }
  });
});

describe('when it cannot be told', () => {
  test('the audit cannot be read', async () => {
    const broken = new GatewayError('audit-unavailable', { detail: 'the audit /x/audit.jsonl cannot be read: EACCES' });
    const { status, body } = await answers([], () => Promise.reject(broken))('/');
    expect([status, textOf(body)]).toEqual([
      503,
      expect.stringContaining(
        'The status of the backups is not known now the audit /x/audit.jsonl cannot be read: EACCES',
      ),
    ]);
  });

  test('the audit takes long to be read', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate'] });
    const answer = answers([], () => new Promise(() => undefined))('/');
    await jest.advanceTimersByTimeAsync(5000);
    const { status, headers, body } = await answer;
    expect([status, headers['retry-after']]).toEqual([503, '10']);
    expect(body).toContain('<meta http-equiv="refresh" content="10" />');
    expect(textOf(body)).toContain('The audit is being read');
  });

  test('of a long audit that is being read, how far that is is told at once', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate'] });
    const never = (): Promise<never> => new Promise(() => undefined);
    const answer = answers([], never, () => 0.379)('/');
    await jest.advanceTimersByTimeAsync(400);
    const { status, body } = await answer;
    expect(status).toBe(503);
    expect(textOf(body)).toContain('The audit is being read: 37 %');
  });
});
