/** `restic-gateway client apply` and `client export`: many clients at once, as a `clients:` block says them. */
import { dirname } from 'node:path';
import { applyClients, chosenEntries, writtenClients, type ClientDifference } from '../../config/apply-clients.ts';
import { clientText, flowText } from '../../config/client-text.ts';
import { readGivenClients } from '../../config/given-clients.ts';
import { MOST_CONFIG_BYTES, readSmallFile, readUpTo } from '../../config/small-file.ts';
import { GatewayError, messageOf } from '../../core/errors.ts';
import { UsageError } from '../command-line/usage-error.ts';
import { jsonLine } from '../json.ts';
import { chooseConfigFile } from '../own-user.ts';
import { refuseInForcedCommand } from '../program.ts';
import { printable } from '../terminal.ts';

/** The longest value that is shown, in characters. */
const MOST_SHOWN = 60;
/** A `serve` that is to lose more than this part of its clients waits for a word. */
const MANY = 1 / 10;

interface ApplyOptions {
  readonly config: string | undefined;
  /** A file; `-`: stdin. */
  readonly file: string;
  readonly prune: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** @returns 0, whether or not anything changes */
export async function runApply(options: ApplyOptions): Promise<number> {
  refuseInForcedCommand();
  const { prune, dryRun, json, quiet } = options;
  const file = chooseConfigFile(options.config);
  const name = options.file === '-' ? 'stdin' : options.file;
  const given = readGivenClients(read(options.file), name, dirname(file));
  // What lists nobody may be cut off.
  if (prune && given.size === 0) throw new UsageError(`${name} has no client, and --prune would remove all of them`);
  const { differences, unchanged } = await applyClients(file, given, { prune, dryRun });
  if (json)
    for (const { client, change, file: where, keys } of differences)
      process.stdout.write(
        jsonLine('client-change', { client, change, file: where, keys: keys.map(({ key }) => key), dryRun }),
      );
  if (json || quiet) return 0;
  process.stdout.write(differences.map(lineOf).join(''));
  const counts = (['added', 'changed', 'removed'] as const).flatMap((change) => {
    const count = differences.filter((one) => one.change === change).length;
    return count === 0 ? [] : `${count} ${change}`;
  });
  const said = counts.length === 0 ? 'nothing to change' : `${dryRun ? 'would be: ' : ''}${counts.join(', ')}`;
  process.stderr.write(`${said}; ${unchanged} unchanged\n`);
  if (!dryRun && counts.length > 0) process.stderr.write(`${next(differences, unchanged)}\n`);
  return 0;
}

function next(differences: readonly ClientDifference[], unchanged: number): string {
  const removed = differences.filter(({ change }) => change === 'removed').length;
  const before = unchanged + differences.filter(({ change }) => change !== 'added').length;
  if (removed > 1 && removed > before * MANY)
    return 'that takes many clients away, so a running serve waits for: restic-gateway reload --force';
  return 'a running serve takes this up by itself; whether it has, says: restic-gateway reload';
}

function lineOf({ client, change, keys }: ClientDifference): string {
  const what = keys.map(({ key, before, after }) => `    ${key}: ${shown(before)} -> ${shown(after)}\n`);
  return `${change} ${client}\n${what.map((line) => printable(line.slice(0, -1)) + '\n').join('')}`;
}

function shown(value: Parameters<typeof flowText>[0] | undefined): string {
  if (value === undefined) return '(none)';
  const text = flowText(value);
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text;
}

interface ExportOptions {
  readonly config: string | undefined;
  readonly client: readonly string[];
  readonly json: boolean;
}

/** @returns 0 */
export function runExport({ config, client, json }: ExportOptions): number {
  refuseInForcedCommand();
  const entries = chosenEntries(writtenClients(chooseConfigFile(config)), client);
  if (json) process.stdout.write(jsonLine('clients', { clients: Object.fromEntries(entries) }));
  else if (entries.size === 0) process.stdout.write('clients: {}\n');
  else process.stdout.write(`clients:\n${[...entries].map(([name, entry]) => clientText(name, entry, 2)).join('')}`);
  return 0;
}

function read(file: string): Buffer {
  try {
    return file === '-' ? readUpTo(0, MOST_CONFIG_BYTES, 1024 * 1024) : readSmallFile(file, MOST_CONFIG_BYTES);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new GatewayError('usage', {
      detail: `${file === '-' ? 'stdin' : file} cannot be read (${code ?? messageOf(error)})`,
      cause: error,
    });
  }
}
