/** `npm run bench`: measures the gateway against OpenSSH with rclone, in turns on the same machine, and says how they compare. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { parse } from 'yaml';
import { buildWhenStale } from './build.ts';
import { killGroups, sweepGroups } from './group.ts';
import { openLab, ROOT } from './lab.ts';
import { describeMachine, machineLine } from './machine.ts';
import type { Measure } from './measure.ts';
import { backups } from './measures/backup.ts';
import { cost } from './measures/cost.ts';
import { growth } from './measures/growth.ts';
import { lists } from './measures/list.ts';
import { loads } from './measures/load.ts';
import { memory } from './measures/memory.ts';
import { scrub } from './measures/scrub.ts';
import { session } from './measures/session.ts';
import { plot } from './plot.ts';
import { meets, table, type Section } from './report.ts';

const MEASURES: readonly Measure[] = [session, ...backups, ...lists, ...loads, scrub, memory, cost, growth];
const RESULTS = path.join(ROOT, '.lab/bench');

const USAGE = `usage: npm run bench -- [OPTIONS]

Measures the gateway against OpenSSH with rclone, in turns, and prints ratios; .lab/bench gets the raw values and a plot.

  --quick              small sizes and the essential measures: under three minutes
  --only NAME          only the measures whose names begin so; may be given again
  --both-ways-in       with --quick: the forced command too
  --rounds N           turns of each system: 5, quick 2
  --config-extra YAML  added to the gateway's config, as '{ workers: 2 }'
  --list               names the measures`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      'both-ways-in': { type: 'boolean', default: false },
      only: { type: 'string', multiple: true, default: [] },
      rounds: { type: 'string' },
      'config-extra': { type: 'string', default: '{}' },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const { quick, only } = values;
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  if (values.list) {
    for (const { name, about, quick: essential } of MEASURES)
      console.log(`${name.padEnd(18)}${essential ? '* ' : '  '}${about}`);
    console.log('* part of --quick');
    return 0;
  }
  const rounds = Number(values.rounds ?? (quick ? 2 : 5));
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds needs a number from 1');
  const configExtra: unknown = parse(values['config-extra']);
  if (typeof configExtra !== 'object' || configExtra === null || Array.isArray(configExtra))
    throw new Error("--config-extra needs YAML of keys and values, as '{ workers: 2 }'");
  const chosen = MEASURES.filter(({ name, quick: essential }) =>
    only.length === 0 ? essential || !quick : only.some((each) => name.startsWith(each)),
  );
  if (chosen.length === 0) throw new Error(`no measure is called ${only.join(' or ')}; --list names them`);

  buildWhenStale();
  sweepGroups();
  const say = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
  const lab = await openLab(say);
  const interruption = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => {
      if (interruption.signal.aborted) return;
      interruption.abort();
      say('stopping');
      killGroups();
      void lab.close().then(() => {
        process.exit(130);
      });
    });
  try {
    const machine = await describeMachine(lab.peers);
    say(machineLine(machine));
    const sections: (Section & { raw: unknown; notes: readonly string[]; loadAverage: readonly number[] })[] = [];
    for (const measure of chosen) {
      const { name, about } = measure;
      say(`\n${name}: ${about}`);
      const waysIn = quick && !values['both-ways-in'] ? (['ssh'] as const) : (['ssh', 'stdio'] as const);
      const bench = { lab, quick, rounds, waysIn, configExtra: configExtra as Record<string, unknown>, say };
      const {
        rows,
        raw,
        notes = [],
      } = await measure.run({
        ...bench,
        say: (line) => {
          say(`  ${line}`);
        },
      });
      sections.push({ measure: name, rows, notes, raw, loadAverage: loadavg() });
    }
    const line = machineLine(machine);
    console.log(`\n${line}\n\n${table(sections)}`);
    for (const note of sections.flatMap(({ notes }) => notes)) console.log(`note: ${note}`);
    mkdirSync(RESULTS, { recursive: true });
    const name = path.join(RESULTS, new Date().toISOString().replace(/[-:]|\.\d+/g, ''));
    const results = sections.map((section) => ({
      ...section,
      rows: section.rows.map((row) => ({ ...row, met: meets(row) })),
    }));
    writeFileSync(`${name}.json`, `${JSON.stringify({ machine, quick, rounds, configExtra, results }, null, 2)}\n`);
    writeFileSync(`${name}.svg`, plot(sections, line));
    console.log(`\nraw values and plot: ${path.relative(process.cwd(), name)}.json, .svg`);
    return 0;
  } catch (error) {
    if (!interruption.signal.aborted) throw error;
    return 130;
  } finally {
    await lab.close();
    sweepGroups();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  if (process.env['RESTIC_GATEWAY_DEBUG'] !== undefined && error instanceof Error)
    process.stderr.write(`${error.stack ?? ''}\n`);
  process.exitCode = 1;
}
