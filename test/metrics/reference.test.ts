/** What is exported is what docs/metrics.md says, and the alert rules and the dashboard ask for nothing else. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { createExporter } from '../../src/metrics/exporter.ts';
import { measuredStore } from '../../src/metrics/measured-store.ts';
import { createProcessMeter, type ProcessMeter } from '../../src/metrics/process-meter.ts';
import { GatewayError } from '../../src/core/errors.ts';
import type { ClientStatus } from '../../src/monitor/client-status.ts';
import type { StoreMeter } from '../../src/ports/meter.ts';
import type { Content, RepositoryStore } from '../../src/ports/repository-store.ts';
import { parseMetrics } from '../support/metrics.ts';

const DOCS = path.resolve(import.meta.dirname, '../../docs');
const NOW = new Date();

/** One of which everything is known. */
const STATUS: ClientStatus = {
  ...{ client: 'appsrv', state: 'attention', reasons: [], access: 'append-only', snapshots: 2, arrived: 10 },
  repository: { store: 'main', prefix: 'appsrv' },
  ...{ lastSnapshot: { at: NOW, session: 's' }, lateAt: NOW, arrivedLately: 10, days: [], running: [], latest: [] },
  ...{ size: { bytes: 10, by: 'counted' }, quota: { limit: 100, used: 10 } },
  denials: { total: 1, byReason: { 'append-only': 1 } },
  ...{ refusals: [], addresses: [], keys: [], removals: [], purgeHeld: true },
  removedLately: {
    byClient: { snapshots: 1, objects: 2, bytes: 3 },
    byAdmin: { snapshots: 4, objects: 5, bytes: 6 },
  },
  trash: { at: NOW, snapshots: 1, objects: 2, bytes: 3, purgeAt: NOW },
  scrub: { finished: NOW, quick: false, objects: 1, bytes: 1, findings: 0, found: [] },
  extended: { at: NOW, objects: 1, renewed: 1, failed: 0, complete: true },
  anomalies: [
    { id: 'a', rule: 'denied-delete', at: NOW, last: NOW, count: 1, what: '', advice: '' },
    { id: 'b', rule: 'denied-delete', at: NOW, last: NOW, count: 1, what: '', advice: '' },
  ],
};

async function scrape(
  meters: Readonly<Record<string, ProcessMeter>>,
  statuses: () => Promise<readonly ClientStatus[]> = () => Promise.resolve([STATUS]),
  { clients = 1, most }: { readonly clients?: number; readonly most?: number } = {},
): Promise<string> {
  const answer = createExporter({
    version: '1.2.3 (abc)',
    served: async () => ({
      processes: new Map(
        await Promise.all(Object.entries(meters).map(async ([name, meter]) => [name, await meter.figures()] as const)),
      ),
      ended: [],
    }),
    statuses,
    isReady: () => Promise.resolve(true),
    problems: () => Promise.resolve(new Set<string>()),
    knownClient: (name) => name === 'appsrv' || name.startsWith('many-'),
    ...{ clientCount: () => clients, mostWithSeries: () => most },
  });
  return String((await answer()).body);
}

const meter = (): ProcessMeter =>
  createProcessMeter({ clients: ['appsrv'], stores: ['main'] }, () => ({ used: 3, total: 4 }));

let text: string;
let types: ReadonlyMap<string, string>;
/** The labels of each metric. */
let labels: ReadonlyMap<string, ReadonlySet<string>>;

beforeAll(async () => {
  const one = meter();
  const session = one.session('appsrv');
  session.begin({ bytesIn: 1, bytesOut: 2 });
  session.operation('save', 'ok');
  session.denied('append-only');
  session.end('client-ended');
  one.refused('appsrv', 'expired');
  one.store('main').answered('create', 0.02);
  one.store('main').failed('create', 'store-timeout');
  text = await scrape({ main: one });
  types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]));
  const found = new Map<string, Set<string>>();
  for (const sample of parseMetrics(text)) {
    const family = types.has(sample.name) ? sample.name : sample.name.replace(/_(?:bucket|sum|count)$/, '');
    const known = found.get(family) ?? new Set();
    for (const label of Object.keys(sample.labels)) if (label !== 'le') known.add(label);
    found.set(family, known);
  }
  labels = found;
});

test('docs/metrics.md lists every metric of the gateway with its type and its labels', () => {
  const listed = [
    ...readFileSync(path.join(DOCS, 'metrics.md'), 'utf8').matchAll(
      /^\| `(restic_gateway_\w+)` +\| (\w+) +\| (?:`([\w, ]+)`)? *\|/gm,
    ),
  ].map(([, name, type, names = '']) => ({ name, type, labels: names.split(', ').filter(Boolean).sort() }));
  const exported = [...types]
    .filter(([name]) => name.startsWith('restic_gateway_'))
    .map(([name, type]) => ({ name, type, labels: [...(labels.get(name) ?? [])].sort() }));
  const byName = (a: { name?: string | undefined }, b: { name?: string | undefined }): number =>
    String(a.name) < String(b.name) ? -1 : 1;
  expect(listed.sort(byName)).toEqual(exported.sort(byName));
});

test('every metric has a value once there is something to tell, and a conventional name', () => {
  for (const [name, type] of types) {
    if (!name.startsWith('restic_gateway_')) continue;
    expect([...labels.keys()]).toContain(name);
    expect(name.endsWith('_total')).toBe(type === 'counter');
  }
});

/** The metrics and labels that an expression of PromQL names that are not exported. */
function unknownIn(expression: string): string[] {
  const wrong: string[] = [];
  const allLabels = new Set(['instance', 'job', 'le', ...[...labels.values()].flatMap((set) => [...set])]);
  for (const [, name = '', selector = ''] of expression.matchAll(
    /\b((?:restic_gateway|process|nodejs)_\w+)(?:\{([^}]*)\})?/g,
  )) {
    const family = types.has(name) ? name : name.replace(/_(?:bucket|sum|count)$/, '');
    if (!types.has(family)) wrong.push(name);
    for (const [, label = ''] of selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g))
      if (!['instance', 'job'].includes(label) && labels.get(family)?.has(label) !== true)
        wrong.push(`${name}{${label}}`);
  }
  for (const [, names = ''] of expression.matchAll(/\b(?:by|on)\s*\(([^)]*)\)/g))
    for (const label of names.split(',').map((each) => each.trim())) if (!allLabels.has(label)) wrong.push(label);
  return wrong;
}

test('the alert rules ask for what is exported, and say what to do', () => {
  const { groups } = parse(readFileSync(path.join(DOCS, 'monitoring/alerts.yaml'), 'utf8')) as {
    groups: { name: string; rules: Record<string, unknown>[] }[];
  };
  const rules = groups.flatMap((group) => group.rules);
  expect(rules.length).toBeGreaterThan(5);
  expect(new Set(rules.map((rule) => rule['alert'])).size).toBe(rules.length);
  for (const rule of rules) {
    expect(rule).toEqual({
      alert: expect.stringMatching(/^Restic\w+$/),
      expr: expect.any(String),
      ...('for' in rule && { for: expect.stringMatching(/^\d+[mhd]$/) }),
      labels: { severity: expect.stringMatching(/^(?:info|warning|critical)$/) },
      annotations: { summary: expect.any(String), description: expect.any(String) },
    });
    expect({ rule: rule['alert'], unknown: unknownIn(String(rule['expr'])) }).toEqual({
      rule: rule['alert'],
      unknown: [],
    });
  }
});

test('the dashboard asks for what is exported', () => {
  const dashboard = JSON.parse(readFileSync(path.join(DOCS, 'monitoring/dashboard.json'), 'utf8')) as {
    templating: { list: { definition?: string }[] };
    panels: { id: number; title: string; targets: { expr: string }[] }[];
  };
  const expressions = [
    ...dashboard.templating.list.flatMap(({ definition }) => (definition === undefined ? [] : [definition])),
    ...dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
  ];
  expect(expressions.length).toBeGreaterThan(20);
  for (const expression of expressions)
    expect({ expression, unknown: unknownIn(expression) }).toEqual({ expression, unknown: [] });
  expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
});

test('the check itself sees what is not there', () => {
  expect(unknownIn('rate(restic_gateway_nothing_total{client="a"}[5m])')).toEqual([
    'restic_gateway_nothing_total',
    'restic_gateway_nothing_total{client}',
  ]);
  expect(unknownIn('sum by (via) (restic_gateway_client_state{via="ssh"})')).toEqual([
    'restic_gateway_client_state{via}',
  ]);
  expect(unknownIn('sum by (nobody) (up)')).toEqual(['nobody']);
});

describe('figures', () => {
  const valueOf = (body: string, line: string): number =>
    Number(
      body
        .split('\n')
        .find((one) => one.startsWith(`${line} `))
        ?.split(' ')[1],
    );

  test('of all processes add up, and each has its own of the machine', async () => {
    const all = { 'worker-1': meter(), 'worker-2': meter() };
    for (const [index, one] of Object.values(all).entries()) {
      one.session('appsrv').operation('save', 'ok');
      for (let times = 0; times <= index; times++) one.store('main').answered('create', 0.02);
    }
    const body = await scrape(all);
    expect(valueOf(body, 'restic_gateway_operations_total{client="appsrv",operation="save",result="ok"}')).toBe(2);
    expect(valueOf(body, 'restic_gateway_store_duration_seconds_count{store="main",operation="create"}')).toBe(3);
    expect(body.match(/^process_start_time_seconds\{process="(.*)"\}/gm)).toHaveLength(3);
    expect(body.match(/^nodejs_eventloop_lag_p99_seconds\{process="(.*)"\}/gm)).toHaveLength(3);
  });

  test('of who is not in the config are left out', async () => {
    const one = meter();
    one.session('other').operation('save', 'ok');
    expect(await scrape({ main: one })).not.toContain('other');
  });

  test('of the bytes of a session grow while it runs, and are counted once', async () => {
    const one = meter();
    const counts = { bytesIn: 0, bytesOut: 0 };
    const session = one.session('appsrv');
    session.begin(counts);
    const seen: number[] = [];
    for (const end of [false, false, true]) {
      counts.bytesIn += 10;
      if (end) session.end('client-ended');
      seen.push(valueOf(await scrape({ main: one }), 'restic_gateway_received_bytes_total{client="appsrv"}'));
    }
    expect(seen).toEqual([10, 20, 30]);
    // Of one that has ended nothing is looked at any more.
    counts.bytesIn += 10;
    expect(valueOf(await scrape({ main: one }), 'restic_gateway_received_bytes_total{client="appsrv"}')).toBe(30);
  });

  test('are told once to all who ask at the same time, and anew to who asks later', async () => {
    let asked = 0;
    const answer = createExporter({
      version: '1.2.3',
      served: () => Promise.resolve({ processes: new Map(), ended: [] }),
      statuses: () => {
        asked++;
        return Promise.resolve([]);
      },
      isReady: () => Promise.resolve(true),
      problems: () => Promise.resolve(new Set<string>()),
      knownClient: () => true,
      ...{ clientCount: () => 1, mostWithSeries: () => undefined },
    });
    await Promise.all([answer(), answer(), answer()]);
    expect(asked).toBe(1);
    await answer();
    expect(asked).toBe(2);
  });

  const many = (count: number, more: (index: number) => Partial<ClientStatus> = () => ({})): ClientStatus[] =>
    Array.from({ length: count }, (_, index) => ({ ...STATUS, client: `many-${index}`, state: 'ok', ...more(index) }));

  test('with more clients than the config says, those who need a look alone have their own', async () => {
    const all = many(6, (index) => ({
      state: (['ok', 'late', 'attention', 'never', 'disabled', 'ok'] as const)[index] ?? 'ok',
      quota: { limit: 100, used: index === 5 ? 85 : 5 },
    }));
    const counter = meter();
    for (const name of ['many-0', 'many-4']) counter.session(name).operation('save', 'ok');
    const told = (): Promise<readonly ClientStatus[]> => Promise.resolve(all);
    const each = await scrape({ main: counter }, told, { clients: 6, most: 6 });
    const few = await scrape({ main: counter }, told, { clients: 6, most: 5 });
    const named = (body: string): string[] =>
      [...new Set(parseMetrics(body).flatMap(({ labels: { client } }) => (client === undefined ? [] : [client])))]
        .filter((name) => name !== 'appsrv')
        .sort();
    expect(named(each)).toEqual(all.map(({ client }) => client));
    expect(named(few)).toEqual(['many-1', 'many-2', 'many-3', 'many-5']);
    for (const body of [each, few]) {
      expect(valueOf(body, 'restic_gateway_clients{state="ok"}')).toBe(2);
      expect(valueOf(body, 'restic_gateway_clients{state="late"}')).toBe(1);
    }
    expect(valueOf(few, 'restic_gateway_operations_total{operation="save",result="ok"}')).toBe(2);
  });

  test('of thousands of clients leave others their turn, and are made once for all who ask', async () => {
    const all = many(1500);
    let [asked, turns, making] = [0, 0, true];
    const answer = createExporter({
      version: '1.2.3',
      served: () => Promise.resolve({ processes: new Map(), ended: [] }),
      statuses: () => {
        asked++;
        return Promise.resolve(all);
      },
      ...{ isReady: () => Promise.resolve(true), problems: () => Promise.resolve(new Set<string>()) },
      ...{ knownClient: () => true, clientCount: () => 1500, mostWithSeries: () => undefined },
    });
    const turn = (): void => {
      turns += 1;
      if (making) setImmediate(turn);
    };
    turn();
    const [one, two] = await Promise.all([answer(), answer()]);
    making = false;
    expect(one).toBe(two);
    expect(asked).toBe(1);
    const samples = parseMetrics(String(one.body));
    expect(samples.filter(({ name }) => name === 'restic_gateway_client_snapshots_total')).toHaveLength(1500);
    // 50,000 samples, in turns of some ms.
    expect(turns).toBeGreaterThan(3);
  });

  test('have what stands in the audit log as text, whatever it is', async () => {
    const byReason = { 'a"b\\c\nd{e}': 3 };
    const body = await scrape({ main: meter() }, () =>
      Promise.resolve([{ ...STATUS, denials: { total: 3, byReason } }]),
    );
    expect(valueOf(body, 'restic_gateway_client_denials_week{client="appsrv",reason="a\\"b\\\\c\\nd{e}"}')).toBe(3);
    expect(parseMetrics(body).find(({ name }) => name.endsWith('denials_week'))?.value).toBe(3);
  });

  test('of clients are left out, and that is told, when the audit cannot be read', async () => {
    const body = await scrape({ main: meter() }, () => Promise.reject(new GatewayError('audit-unavailable')));
    expect(valueOf(body, 'restic_gateway_audit_read')).toBe(0);
    expect(parseMetrics(body).filter(({ name }) => name.startsWith('restic_gateway_client_'))).toEqual([]);
  });
});

describe('a measured store', () => {
  const ref = { type: 'config' } as const;
  const signal = new AbortController().signal;

  function measured(store: Partial<RepositoryStore>): {
    store: RepositoryStore;
    reported: string[];
    seconds: number[];
  } {
    const reported: string[] = [];
    const seconds: number[] = [];
    const counts: StoreMeter = {
      answered: (operation, took) => {
        reported.push(operation);
        seconds.push(took);
      },
      failed: (operation, code) => reported.push(`${operation} ${code}`),
    };
    return { store: measuredStore(store as RepositoryStore, counts), reported, seconds };
  }
  const fails = (code: 'store-timeout' | 'not-found' | 'client-gone') => () => Promise.reject(new GatewayError(code));

  test.each([
    ['store-timeout', ['stat store-timeout', 'stat'].reverse()],
    ['not-found', ['stat']],
    ['client-gone', []],
  ] as const)('that throws %s', async (code, expected) => {
    const { store, reported } = measured({ stat: fails(code) });
    await expect(store.stat(ref, { signal })).rejects.toMatchObject({ code });
    expect(reported).toEqual(expected);
  });

  test('waits for no client', async () => {
    const { store, reported, seconds } = measured({
      create: async (_ref, { body }) => {
        for await (const chunk of body) expect(chunk).toHaveLength(1);
        return 'created';
      },
    });
    const began = performance.now();
    const slow = async function* (): AsyncGenerator<Uint8Array> {
      for (let count = 0; count < 3; count++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        yield Buffer.from('x');
      }
    };
    const content: Content = { size: 3, sha256: '', body: slow() };
    expect(await store.create(ref, content, { client: 'a', via: 'ssh', session: 's' }, { signal })).toBe('created');
    const whole = (performance.now() - began) / 1000;
    expect(reported).toEqual(['create']);
    expect(whole - (seconds[0] ?? NaN)).toBeGreaterThan(0.14);
  });

  test('that fails in mid-way', async () => {
    // eslint-disable-next-line require-yield, @typescript-eslint/require-await
    const broken = async function* (): AsyncGenerator<never> {
      throw new GatewayError('store-failed');
    };
    const { store, reported } = measured({
      load: () => Promise.resolve({ size: 1, first: 0, length: 1, body: broken() }),
      list: () => broken(),
    });
    const read = async (body: AsyncIterable<unknown>): Promise<void> => {
      for await (const one of body) expect(one).toBeUndefined();
    };
    const { body } = await store.load(ref, undefined, { signal });
    await expect(read(body)).rejects.toMatchObject({ code: 'store-failed' });
    await expect(read(store.list('data', { signal }))).rejects.toMatchObject({ code: 'store-failed' });
    expect(reported).toEqual(['load', 'load store-failed', 'list store-failed']);
  });

  test('lets go of what is left early', async () => {
    let left = 0;
    const endless = async function* (): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield await Promise.resolve(Buffer.from('x'));
      } finally {
        left++;
      }
    };
    const { store } = measured({
      load: () => Promise.resolve({ size: 1, first: 0, length: 1, body: endless() }),
      create: async (_ref, { body }) => {
        for await (const chunk of body) if (chunk.length > 0) break;
        return 'exists';
      },
    });
    for await (const chunk of (await store.load(ref, undefined, { signal })).body) if (chunk.length > 0) break;
    await store.create(
      ref,
      { size: 1, sha256: '', body: endless() },
      { client: 'a', via: 'ssh', session: 's' },
      { signal },
    );
    expect(left).toBe(2);
  });
});
