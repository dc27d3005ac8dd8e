/** How long it takes until a session is open: to the first answer at all, and to the first that needs the storage. */
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { alternate, valuesOf, type Sample } from '../alternate.ts';
import type { Bench, Findings, Measure } from '../measure.ts';
import { rowsAgainstRclone } from '../rows.ts';
import { createSessions, type Sessions } from '../session.ts';
import { openSite, type SystemName } from '../site.ts';
import { median, ratios } from '../statistics.ts';
import { freshStorage } from '../storage.ts';

const SYSTEMS = ['rclone', 'ssh', 'stdio'] as const;

/** Opening sessions, over SSH and without it. */
export const session: Measure = {
  name: 'session',
  about: 'opening a session, S3 behind: over SSH, and the forced command by itself',
  quick: true,
  run: measure,
};

async function measure(bench: Bench): Promise<Findings> {
  const { lab, rounds, quick, configExtra } = bench;
  const backend = await freshStorage(lab, 's3');
  const site = await openSite({ lab, backend, systems: SYSTEMS, clients: 1, configExtra });
  const sessions = await createSessions(lab);

  const turn = async (name: SystemName, round: number): Promise<Sample> => {
    bench.say(`round ${round + 1} of ${rounds}: ${name}`);
    const system = site.systems[name];
    const times = quick ? 5 : 11;
    const overSsh = await openings(sessions, times, system.session(0));
    if (name === 'ssh') return named(overSsh, undefined);
    const { argv, env } = system.program(0);
    const alone = named(overSsh, await openings(sessions, times, argv, env));
    return name === 'stdio' ? { ...alone, bareNode: bareNode(times) } : alone;
  };

  try {
    // There is something for HEAD to find, as there is in all runs of restic but the first.
    for (const name of SYSTEMS) {
      const opened = await sessions.open(site.systems[name].session(0));
      await opened.request('POST', '/?create=true', [200]);
      await opened.request('POST', '/config', [200], { body: [Buffer.alloc(155, 1)] });
      await opened.close();
    }
    const samples = await alternate(SYSTEMS, rounds, turn);
    return {
      rows: [
        ...rowsAgainstRclone(
          samples,
          ['ssh', 'stdio'],
          [
            {
              name: 'sshFirst',
              what: 'ssh started to first answer',
              aims: { ssh: { atMost: 0.6 }, stdio: { atMost: 1 } },
            },
            { name: 'sshStorage', what: 'ssh started to first answer from the storage' },
          ],
        ),
        ...rowsAgainstRclone(
          samples,
          ['stdio'],
          [
            {
              name: 'aloneFirst',
              what: 'forced command alone: started to first answer',
              aims: { stdio: { atMost: 1 } },
            },
            { name: 'aloneStorage', what: 'forced command alone: … from the storage', aims: { stdio: { atMost: 1 } } },
          ],
        ),
        {
          what: 'Node with HTTP/2 loaded and nothing of ours: its whole run, to rclone’s first answer',
          of: 'Node',
          unit: 'ratio',
          values: ratios(valuesOf(samples.stdio, 'bareNode'), valuesOf(samples.rclone, 'aloneFirst')),
        },
      ],
      raw: samples,
    };
  } finally {
    sessions.close();
    await site.close();
  }
}

interface Opening {
  readonly first: number;
  readonly storage: number;
}

/** Medians over `times` sessions, one after the other. */
async function openings(
  sessions: Sessions,
  times: number,
  argv: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Opening> {
  const all: Opening[] = [];
  for (let time = 0; time < times; time++) {
    const started = performance.now();
    const opened = await sessions.open(argv, env);
    // restic's own first request.
    await opened.request('GET', `/file-${randomInt(2 ** 47)}`, [404]);
    const first = (performance.now() - started) / 1000;
    await opened.request('HEAD', '/config', [200]);
    all.push({ first, storage: (performance.now() - started) / 1000 });
    await opened.close();
  }
  return { first: median(all.map((each) => each.first)), storage: median(all.map((each) => each.storage)) };
}

/** What no forced command in Node can be faster than, in seconds: the median of `times`. */
function bareNode(times: number): number {
  const all = Array.from({ length: times }, () => {
    const started = performance.now();
    spawnSync(process.execPath, ['-e', "require('node:http2')"]);
    return (performance.now() - started) / 1000;
  });
  return median(all);
}

function named(overSsh: Opening, alone: Opening | undefined): Sample {
  return {
    sshFirst: overSsh.first,
    sshStorage: overSsh.storage,
    ...(alone === undefined ? {} : { aloneFirst: alone.first, aloneStorage: alone.storage }),
  };
}
