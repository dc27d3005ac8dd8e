/** What the gateway itself costs, for sizing a machine: cores by throughput and by request, memory by configured client. */
import { alternate, type Sample } from '../alternate.ts';
import type { Bench, Findings, Measure } from '../measure.ts';
import { rowOfOne } from '../rows.ts';
import { createSessions, makePacks } from '../session.ts';
import { openSite } from '../site.ts';
import { freshStorage } from '../storage.ts';
import { download, upload } from '../transfer.ts';

const MIB = 1024 * 1024;
/** Clients in the config who never come. */
const BYSTANDERS = 10_000;

/** Costs. */
export const cost: Measure = {
  name: 'cost',
  about: 'cores that the gateway takes for throughput, requests and logins, memory for configured clients',
  quick: false,
  run: measure,
};

async function measure(bench: Bench): Promise<Findings> {
  const { lab, rounds, quick, configExtra } = bench;
  const packs = makePacks(quick ? 32 : 64, 16 * MIB);
  const [requests, logins] = quick ? [1000, 20] : [5000, 100];

  const turn = async (_system: 'ssh', round: number): Promise<Sample> => {
    bench.say(`round ${round + 1} of ${rounds}`);
    const backend = await freshStorage(lab, 's3');
    const open = (bystanders: number) =>
      openSite({ lab, backend, systems: ['ssh'] as const, clients: 1, bystanders, configExtra });
    const factory = await createSessions(lab);
    try {
      const crowded = await open(BYSTANDERS);
      const crowd = crowded.systems.ssh.group.memory();
      await crowded.close();

      const site = await open(0);
      const { ssh } = site.systems;
      const { group } = ssh;
      const command = ssh.session(0);
      const alone = group.memory();
      /** CPU seconds of the gateway while `work` runs. */
      const costOf = async (work: () => Promise<unknown>): Promise<number> => {
        await group.settle();
        const before = group.cpuSeconds();
        await work();
        await group.settle();
        return group.cpuSeconds() - before;
      };
      try {
        const session = await factory.open(command);
        await session.request('GET', '/file-1', [404]);
        const amount = packs.length * 16;
        // Not measured: Node compiles what runs hot.
        await upload([session], packs.slice(0, 8));
        const up = await costOf(() => upload([session], packs.slice(8)));
        const down = await costOf(() => download([session], packs));
        const request = await costOf(async () => {
          const [pack] = packs;
          for (let count = 0; count < requests; count++) await session.request('HEAD', `/data/${pack?.name}`, [200]);
        });
        const login = await costOf(async () => {
          for (let count = 0; count < logins; count++) {
            const one = await factory.open(command);
            await one.request('GET', '/file-1', [404]);
            await one.close();
          }
        });
        await session.close();
        return {
          up: (up / (amount - 128)) * 100,
          down: (down / amount) * 100,
          request: (request / requests) * 1000,
          login: login / logins,
          client: (crowd - alone) / BYSTANDERS,
        };
      } finally {
        await site.close();
      }
    } finally {
      factory.close();
    }
  };

  const samples = await alternate(['ssh'] as const, rounds, turn);
  const row = (what: string, name: string, unit: 'ratio' | 'bytes') =>
    rowOfOne(what, 'ssh', unit, samples.ssh, (sample) => sample[name] ?? NaN);
  return {
    rows: [
      row('cores for 100 MiB/s up', 'up', 'ratio'),
      row('cores for 100 MiB/s down', 'down', 'ratio'),
      row('cores for 1,000 requests a second (HEAD of a pack)', 'request', 'ratio'),
      row('cores for a session opened each second', 'login', 'ratio'),
      row('memory for each client in the config', 'client', 'bytes'),
    ],
    raw: samples,
  };
}
