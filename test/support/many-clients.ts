/** Made-up clients by the hundred, each with an audit of its own, as the monitor would tell of them. */
import type { ClientConfig } from '../../src/config/types.ts';
import { assess, type Knowledge } from '../../src/monitor/assess.ts';
import type { ClientStatus } from '../../src/monitor/client-status.ts';
import { emptyClient, emptyModel, repositoryKey } from '../../src/monitor/model.ts';
import { addLine } from '../../src/monitor/reduce.ts';
import { pageRoutes } from '../../src/page/page.ts';
import type { WebRoute } from '../../src/ports/web.ts';
import { DAY, HOUR, nightly, sessionLines, type HistoryLine } from './audit-history.ts';
import { testClient } from './test-client.ts';

/** A client and how it stands. */
export type Standing = readonly [ClientConfig, ClientStatus];

/** A client of that name that did this, as of a time; nothing when it is left out. */
export function standing(
  now: number,
  name: string,
  lines: readonly HistoryLine[] = [],
  config: Partial<ClientConfig> = {},
  more: Partial<Knowledge> = {},
): Standing {
  const client = testClient(name, config);
  const model = emptyModel();
  for (const line of lines) addLine(model, line);
  const knowledge: Knowledge = {
    record: model.clients.get(name) ?? emptyClient(),
    repository: model.repositories.get(repositoryKey(client.repository)),
    ...{ live: [], used: undefined, scrub: undefined, unfinishedScrub: undefined },
    ...more,
  };
  return [client, assess(client, knowledge, new Date(now))];
}

const KINDS = ['web', 'db', 'mail', 'files', 'build', 'laptop'];

/** How many are made by an audit of their own; what comes after is like one of these, under another name. */
const MADE = 300;

/** Clients as a site has them: each 30th needs a look for another reason, and the others are OK. */
export function manyClients(count: number, now: number): readonly Standing[] {
  const made = Array.from({ length: Math.min(count, MADE) }, (_, index) => {
    const name = `${KINDS[index % KINDS.length] ?? ''}-${String(index + 1).padStart(3, '0')}`;
    const repository = { store: 'store', prefix: `clients/${name}` };
    const story = { client: name, prefix: repository.prefix, from: `192.0.2.${index % 250}` };
    const first = sessionLines(now - 20 * DAY, { ...story, init: true, packs: 40, packSize: 2 ** 26, snapshots: 1 });
    const lines = [...first, ...nightly(now - 19 * DAY - 4 * HOUR, 20, story)];
    const scrub = {
      finished: new Date(now - 3 * DAY),
      quick: false,
      objects: 400,
      bytes: 2 ** 31,
      findings: 0,
      found: [],
    };
    const denied = { event: 'denied', operation: 'remove', reason: 'append-only', object: `data/${'ab'.repeat(32)}` };
    switch (index % 30) {
      case 4:
        return standing(now, name, [...lines, ...sessionLines(now - HOUR, { ...story, also: [denied] })], {
          repository,
        });
      case 11:
        return standing(now, name, lines.slice(0, -40), { repository, expectEvery: 26 * HOUR });
      case 17:
        return standing(now, name, [], { repository });
      case 23:
        return standing(now, name, lines, { repository, disabled: true });
      case 8:
        return standing(now, name, lines, { repository, quota: 2 ** 33 }, { scrub, used: 2 ** 32 });
      default:
        return standing(now, name, lines, { repository, expectEvery: 26 * HOUR }, { scrub });
    }
  });
  return Array.from({ length: count }, (_, index) => {
    const like = made[index % MADE];
    if (like === undefined) throw new Error('there is none');
    if (index < MADE) return like;
    const [config, one] = like;
    const name = `${KINDS[index % KINDS.length] ?? ''}-${index + 1}`;
    return [
      { ...config, name },
      { ...one, client: name },
    ];
  });
}

/** The routes of the page for these clients. */
export function routesFor(
  clients: readonly Standing[],
  statuses?: () => Promise<readonly ClientStatus[]>,
  reading: () => number | undefined = () => undefined,
): readonly WebRoute[] {
  const byName = new Map(clients.map(([{ name }, one]) => [name, one]));
  const config = Object.assign(
    Object.create(null) as Record<string, ClientConfig>,
    Object.fromEntries(clients.map(([client]) => [client.name, client])),
  );
  return pageRoutes({
    monitor: {
      statuses: statuses ?? (() => Promise.resolve([...byName.values()])),
      status: (name) => Promise.resolve(byName.get(name)),
      reading,
    },
    config: () => ({ clients: config }) as never,
    problems: () => Promise.resolve([]),
    about: { host: 'gw1.example.org', version: '0.1.0' },
  });
}
