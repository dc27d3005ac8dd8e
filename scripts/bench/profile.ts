/** `scripts/bench/profile`: runs the gateway with Node's CPU profiler while restic does one thing, and says where the time goes. */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { buildWhenStale } from './build.ts';
import { sweepGroups } from './group.ts';
import { openLab } from './lab.ts';
import { digest, readProfiles } from './profile-report.ts';
import { restic } from './restic.ts';
import { openSite } from './site.ts';
import { freshStorage } from './storage.ts';
import { makeTree } from './tree.ts';

const USAGE = `usage: scripts/bench/profile backup|restore|list [OPTIONS]

Shares of CPU time, by module and by function, of the gateway's processes.

  --store s3|directory  what is behind it (s3)
  --via ssh|stdio       by which way in (ssh)
  --size MIB            how much is backed up or restored (512)
  --top N               how many functions to name (25)`;

const MIB = 1024 * 1024;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      store: { type: 'string', default: 's3' },
      via: { type: 'string', default: 'ssh' },
      size: { type: 'string', default: '512' },
      top: { type: 'string', default: '25' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [what] = positionals;
  const { store, via: wayIn } = values;
  const [size, top] = [Number(values.size), Number(values.top)];
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  if (
    positionals.length !== 1 ||
    (what !== 'backup' && what !== 'restore' && what !== 'list') ||
    (store !== 's3' && store !== 'directory') ||
    (wayIn !== 'ssh' && wayIn !== 'stdio') ||
    !(size >= 1) ||
    !(top >= 1)
  )
    throw new Error(USAGE);

  buildWhenStale();
  sweepGroups();
  const lab = await openLab((line) => {
    process.stderr.write(`${line}\n`);
  });
  try {
    const source = path.join(lab.fastDirectory('source', 2 * size * MIB), 'tree');
    makeTree(source, 8, size * MIB);
    const backend = await freshStorage(lab, store);
    const options = { lab, backend, systems: [wayIn], clients: 1, shared: true } as const;
    const backup = ['backup', '--quiet', source];

    const before = await openSite(options);
    await restic(lab, before.systems[wayIn], 0, ['init']);
    if (what !== 'backup') await restic(lab, before.systems[wayIn], 0, backup);
    await before.close();

    const profiles = lab.directory('profiles');
    const nodeArgs = ['--cpu-prof', `--cpu-prof-dir=${profiles}`, '--cpu-prof-interval=500'];
    const site = await openSite({ ...options, nodeArgs });
    const system = site.systems[wayIn];
    if (what === 'backup') await restic(lab, system, 0, backup);
    else if (what === 'restore')
      await restic(lab, system, 0, [
        'restore',
        '--quiet',
        'latest',
        '--target',
        lab.fastDirectory('target', size * MIB),
      ]);
    else for (let time = 0; time < 20; time++) await restic(lab, system, 0, ['list', 'packs', '--no-lock']);
    await system.group.settle();
    const cpuSeconds = system.group.cpuSeconds();
    await site.close();
    console.log(digest(readProfiles(profiles), top, cpuSeconds));
    return 0;
  } finally {
    await lab.close();
    sweepGroups();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`profile: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
