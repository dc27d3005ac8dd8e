/** Memory of the server side: one busy session, many idle ones, and many that upload a little. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { alternate, type Sample } from '../alternate.ts';
import type { Group } from '../group.ts';
import type { Bench, Findings, Measure, Row } from '../measure.ts';
import { rowOfOne, rowsAgainstRclone } from '../rows.ts';
import { createSessions, makePacks, type Pack, type Session } from '../session.ts';
import { openSite, type Backend, type System, type SystemName } from '../site.ts';
import { freshStorage } from '../storage.ts';
import { download, STREAMS, upload } from '../transfer.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** What the machine must keep free: past it, no more sessions are opened. */
const RESERVE = 3 * 1024 * MIB;
/** sshd by itself turns down more than ten logins at a time. */
const LOGINS_AT_ONCE = 4;

/** Memory. */
export const memory: Measure = {
  name: 'memory',
  about: 'memory of 1, 50, 200 and 500 sessions, idle and uploading, and of busy ones (quick: up to 20)',
  quick: false,
  run: measure,
};

async function measure(bench: Bench): Promise<Findings> {
  const { lab, rounds, quick, waysIn } = bench;
  const systems = ['rclone', ...waysIn] as const;
  const counts = quick ? [1, 20] : [1, 50, 200, 500];
  const busy = quick ? 3 : 8;
  const notes = new Set<string>();
  let backend: Backend = await freshStorage(lab, 's3');

  const turn = async (name: SystemName, round: number): Promise<Sample> => {
    const sample: Record<string, number> = {};
    const stage = async (label: string, work: (open: Opener, system: System) => Promise<void>): Promise<void> => {
      bench.say(`round ${round + 1} of ${rounds}: ${name}, ${label}`);
      await withFreshSystem(bench, backend, name, work);
    };
    await stage('idle sessions', async (open, { group }) => {
      for (const count of counts) {
        const reached = (await open(count)).length;
        if (reached < count) {
          notes.add(`${name}: ${count} sessions do not fit into this machine's memory; ${reached} were open`);
          sample['furtherIdle'] = (group.memory() - (sample['idle1'] ?? NaN)) / (reached - 1);
          return;
        }
        await sleep(1000);
        sample[`idle${count}`] = group.memory();
        sample['furtherIdle'] = (group.memory() - (sample['idle1'] ?? NaN)) / Math.max(1, count - 1);
      }
    });
    // The quick run leaves this out: the next stage says more with fewer sessions.
    if (!quick)
      await stage('sessions with a small upload each', async (open, { group }) => {
        for (const count of counts) {
          const sessions = await open(count);
          if (sessions.length < count) return;
          const packs = makePacks(count, MIB);
          sample[`upload${count}`] = await peakOf(group, () =>
            Promise.all(sessions.map((session, index) => upload([session], packs.slice(index, index + 1)))),
          );
        }
      });
    await stage('busy sessions', async (open, { group }) => {
      const turnOver = (sessions: readonly Session[], packs: readonly Pack[]): Promise<number> =>
        peakOf(group, async () => {
          await upload(sessions, packs);
          await download(sessions, packs);
        });
      const perSession = STREAMS * (quick ? 1 : 2);
      sample['busy1'] = await turnOver(await open(1), makePacks(perSession, 16 * MIB));
      sample['busyMany'] = await turnOver(await open(busy), makePacks(perSession * busy, 16 * MIB));
      sample['furtherBusy'] = (sample['busyMany'] - sample['busy1']) / (busy - 1);
    });
    return sample;
  };

  const samples = await alternate(systems, rounds, turn, async (round) => {
    if (round > 0) backend = await freshStorage(lab, 's3');
  });
  const all = systems.flatMap((system) => samples[system]);
  const measured = (name: string): boolean => all.every((sample) => name in sample);
  const figures = (what: string, name: string, atMost: number): Row[] =>
    systems.map((system) =>
      rowOfOne(
        what,
        system,
        'bytes',
        samples[system],
        (sample) => sample[name] ?? NaN,
        system === 'ssh' ? { atMost } : undefined,
      ),
    );
  return {
    rows: [
      ...figures('each further idle session', 'furtherIdle', 256 * KIB),
      ...figures('each further busy session', 'furtherBusy', 16 * MIB),
      ...rowsAgainstRclone(
        samples,
        waysIn,
        [
          { name: 'busy1', what: '1 busy session' },
          { name: 'busyMany', what: `${busy} busy sessions` },
          ...counts.map((count) => ({ name: `idle${count}`, what: `${sessionsText(count)}, idle` })),
          ...counts.map((count) => ({
            name: `upload${count}`,
            what: `${sessionsText(count)} with a small upload each`,
          })),
        ].filter(({ name }) => measured(name)),
      ),
    ],
    notes: [...notes],
    raw: samples,
  };
}

function sessionsText(count: number): string {
  return count === 1 ? '1 session' : `${count} sessions`;
}

/** Opens sessions until there are so many, or the machine's memory is used up, and gives all that are open. */
type Opener = (count: number) => Promise<readonly Session[]>;

async function withFreshSystem(
  { lab, configExtra }: Bench,
  backend: Backend,
  name: SystemName,
  work: (open: Opener, system: System) => Promise<void>,
): Promise<void> {
  const site = await openSite({ lab, backend, systems: [name], clients: 1, configExtra });
  const factory = await createSessions(lab);
  const system = site.systems[name];
  const opened: Session[] = [];
  let begun = 0;
  const login = async (count: number): Promise<void> => {
    while (begun < count && available() > RESERVE) {
      begun += 1;
      const session = await factory.open(system.session(0));
      opened.push(session);
      await session.request('GET', '/file-1', [404]);
    }
  };
  try {
    await work(async (count) => {
      await Promise.all(Array.from({ length: LOGINS_AT_ONCE }, () => login(count)));
      return opened;
    }, system);
  } finally {
    await Promise.all(opened.map((session) => session.close()));
    factory.close();
    await site.close();
  }
}

/** The most memory that the group was seen to have while something went on. */
async function peakOf(group: Group, work: () => Promise<unknown>): Promise<number> {
  let peak = 0;
  let over = false;
  const watch = async (): Promise<void> => {
    while (!over) {
      const started = performance.now();
      peak = Math.max(peak, group.memory());
      // Looking at many processes takes time itself.
      await sleep(Math.max(50, 4 * (performance.now() - started)));
    }
  };
  const watching = watch();
  try {
    await work();
  } finally {
    over = true;
    await watching;
  }
  return peak;
}

function available(): number {
  return Number(/MemAvailable:\s+(\d+) kB/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) * KIB;
}
