/** What commands cost with 10,000 clients in the config, compared with 10. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GATEWAY } from '../lab.ts';
import type { Bench, Findings, Measure, Row } from '../measure.ts';

const FEW = 10;
const MANY = 10_000;
const AIM = { atMost: 2 };
/** A config that has just changed is read as a whole. */
const SETTLED_MS = 2500;
const SHAPES = ['one file', 'clientsDirectory'] as const;

/** CPU time of each command, 10,000 against 10. */
export const growth: Measure = {
  name: 'growth',
  about: 'CPU time of commands with 10,000 clients in the config, compared with 10',
  quick: false,
  run: measure,
};

async function measure(bench: Bench): Promise<Findings> {
  const directory = mkdtempSync(path.join(tmpdir(), 'growth-'));
  const rows: Row[] = [];
  const raw: Record<string, unknown> = {};
  try {
    for (const shape of SHAPES) {
      const [few, many] = [
        config(path.join(directory, 'few'), FEW, shape),
        config(path.join(directory, 'many'), MANY, shape),
      ];
      const samples = new Map<string, { few: number; many: number }[]>();
      for (let round = 0; round < bench.rounds; round++) {
        bench.say(`round ${round + 1} of ${bench.rounds}: ${shape}`);
        await sleep(SETTLED_MS);
        // The first login after a change reads the whole, for those after it.
        for (const file of [few, many]) cpuSeconds(file, COMMANDS[0][1](round));
        for (const [name, words] of COMMANDS) {
          const sample = { few: cpuSeconds(few, words(round)), many: cpuSeconds(many, words(round)) };
          samples.set(name, [...(samples.get(name) ?? []), sample]);
        }
      }
      for (const [name, all] of samples) {
        const values = all.map((one) => one.many / one.few);
        rows.push({
          what: `CPU of ${name}, ${shape}`,
          of: '10,000 clients against 10',
          unit: 'ratio',
          values,
          aim: AIM,
        });
      }
      raw[shape] = Object.fromEntries(samples);
      for (const one of ['few', 'many']) rmSync(path.join(directory, one), { recursive: true });
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return { rows, raw };
}

/** Those that change nothing come first. */
const COMMANDS: readonly [
  readonly [string, (round: number) => readonly string[]],
  ...(readonly [string, (round: number) => readonly string[]])[],
] = [
  ['authorized-keys --key', () => ['authorized-keys', '--type', 'ssh-ed25519', '--key', keyOf(7).split(' ')[1] ?? '']],
  ['stdio CLIENT', () => ['stdio', 'c7']],
  ['client show', () => ['client', 'show', 'c7']],
  ['client disable', (round) => ['client', round % 2 === 0 ? 'disable' : 'enable', 'c8']],
];

/** The command's own CPU time and that of what it starts, in seconds. */
function cpuSeconds(file: string, words: readonly string[]): number {
  const script = 'TIMEFORMAT="%3U %3S"; { time "$@" >/dev/null 2>/dev/null </dev/null; } 2>&1';
  const command = [process.execPath, GATEWAY, ...words, '-c', file];
  const { status, stdout } = spawnSync('bash', ['-c', script, 'bash', ...command], { encoding: 'utf8' });
  const [user = NaN, system = NaN] = stdout.trim().split(' ').map(Number);
  if (status !== 0 || Number.isNaN(user + system)) throw new Error(`${words.join(' ')} ended with ${status}`);
  return user + system;
}

function keyOf(n: number): string {
  const seed = createHash('sha256').update(String(n)).digest();
  const wire = Buffer.concat([Buffer.from('\0\0\0\x0bssh-ed25519\0\0\0\x20', 'latin1'), seed]);
  return `ssh-ed25519 ${wire.toString('base64')} host-${n}`;
}

/** @returns the config's file */
function config(directory: string, clients: number, shape: (typeof SHAPES)[number]): string {
  for (const one of ['store', 'state', 'clients.d']) mkdirSync(path.join(directory, one), { recursive: true });
  const entry = (n: number): string =>
    `  c${n}:\n    keys:\n      - ${keyOf(n)}\n    repository: { store: main }\n    quota: 500GiB\n    maxSessions: 5\n`;
  const entries = Array.from({ length: clients }, (_, n) => entry(n));
  const head = 'stores: { main: { type: directory, path: ./store } }\naudit: { file: ./audit.jsonl }\n';
  const file = path.join(directory, 'gateway.yaml');
  writeFileSync(
    file,
    shape === 'one file' ? `${head}clients:\n${entries.join('')}` : `${head}clientsDirectory: clients.d\n`,
  );
  if (shape !== 'one file')
    for (const [n, one] of entries.entries())
      writeFileSync(path.join(directory, 'clients.d', `c${n}.yaml`), `clients:\n${one}`);
  return file;
}
