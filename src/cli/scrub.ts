/** `restic-gateway scrub CLIENT|--all`: reads every object of a repository and checks it against its name. */
import type { GatewayConfig } from '../config/types.ts';
import { parseRate } from '../config/values.ts';
import { openClientMaintenance } from '../client-maintenance.ts';
import { scrub, type ScrubProgressReport } from '../maintenance/scrub.ts';
import type { ScrubResult } from '../maintenance/scrub-state.ts';
import { GatewayError } from '../core/errors.ts';
import { openProgress, type Progress } from './progress.ts';
import { sayError, sayWarning } from './failure.ts';
import { jsonLine } from './json.ts';
import { chooseClients } from './choose-clients.ts';
import { parseOption } from './option.ts';
import { loadOwnConfig } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';
import { counted, formatBytes, formatDuration, printable, prose, styled, table } from './terminal.ts';

/** Options as the command line gives them. */
interface ScrubArguments {
  readonly client: string | undefined;
  readonly all: boolean;
  readonly quick: boolean;
  readonly restart: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly bandwidth: string | undefined;
  readonly config: string | undefined;
}

/**
 * Scrubs one repository or all.
 * @returns the exit status: 0 when everything is OK, 1 when something was found or it was stopped
 * @throws GatewayError
 */
export async function runScrub(given: ScrubArguments): Promise<number> {
  refuseInForcedCommand();
  const bytesPerSecond =
    given.bandwidth === undefined ? undefined : parseOption('--bandwidth', given.bandwidth, parseRate);
  const config = await loadOwnConfig(given.config);
  const stop = new AbortController();
  const onSignal = (): void => {
    stop.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  let status = 0;
  for (const client of chooseClients(given, config)) {
    const result = await scrubOne(client, config, { ...given, bytesPerSecond, signal: stop.signal });
    if (result === undefined) {
      sayError(new GatewayError('client-gone', { detail: 'stopped; the same command goes on from here' }), client);
      return 1;
    }
    if (!given.quiet || result.findings.length > 0)
      process.stdout.write(given.json ? jsonLine('scrub', scrubJson(client, result)) : report(client, result));
    if (result.findings.length > 0) status = 1;
  }
  return status;
}

async function scrubOne(
  client: string,
  config: GatewayConfig,
  options: {
    readonly quick: boolean;
    readonly restart: boolean;
    readonly quiet: boolean;
    readonly bytesPerSecond: number | undefined;
    readonly signal: AbortSignal;
  },
): Promise<ScrubResult | undefined> {
  const { repository, maintenance, scrubs } = await openClientMaintenance(config, client);
  const bar = openProgress(`${client}: listing what is there`);
  const tell = describeProgress(client);
  try {
    return await scrub({
      ...options,
      ...{
        repository,
        maintenance,
        state: scrubs,
        progress: (at) => {
          tell(bar, at);
        },
      },
      resuming: (started) => {
        if (!options.quiet) sayWarning(`${client}: goes on with the scrub that began at ${started}`, '');
      },
    });
  } finally {
    bar.clear();
    await maintenance.close();
  }
}

/** As `status --json` has the last scrub of a client. */
function scrubJson(client: string, result: ScrubResult): object {
  const { store, prefix, quick, objects, bytes, started, finished, findings: found, foreign, foreignKeys } = result;
  return {
    ...{ client, repository: { store, prefix }, good: found.length === 0, quick, objects, bytes },
    ...{ start: started, end: finished, findings: found.length, found, foreign, foreignKeys },
  };
}

function report(client: string, result: ScrubResult): string {
  const { objects, bytes, findings, started, finished, quick } = result;
  const time = formatDuration(Date.parse(finished) - Date.parse(started));
  const how = quick ? 'looked at, contents not read' : 'read';
  const head = `${client}: ${objects} objects, ${formatBytes(bytes)} ${how} in ${time}: `;
  if (findings.length === 0)
    return (
      prose(`${head}all good`).replace(/all good$/m, styled(process.stdout, 'green', 'all good')) +
      describeForeign(result)
    );
  const rows = findings.map(({ key, problem, detail }) => [problem, key, detail]);
  const count = styled(process.stdout, 'red', counted(findings.length, 'problem'));
  return `${head}${count}\n${table([{ title: 'problem' }, { title: 'file', cut: { to: 20, at: 'middle' } }, { title: 'what', cut: { to: 16, at: 'end' } }], rows)}${describeForeign(result)}`;
}

/** Names once what is not restic's: a disk's `lost+found`, say. */
function describeForeign({ foreign, foreignKeys }: ScrubResult): string {
  if (foreign === 0) return '';
  const more = foreign > foreignKeys.length ? ` and ${foreign - foreignKeys.length} more` : '';
  const names = foreignKeys.map((key) => printable(key)).join(', ');
  return prose(`Not part of the repository, and not read: ${names}${more}. restic ignores them.`);
}

/** A line that says how far a scrub is. */
function describeProgress(client: string): (line: Progress, at: ScrubProgressReport) => void {
  const began = performance.now();
  return ({ show }, { bytes, totalBytes, bytesNow }) => {
    show(() => {
      const perMs = bytesNow / (performance.now() - began);
      const left = perMs > 0 ? `, ${formatDuration(Math.max(0, totalBytes - bytes) / perMs)} left` : '';
      const share = totalBytes === 0 ? 100 : Math.min(100, Math.floor((100 * bytes) / totalBytes));
      return `${client}: ${share} %, ${formatBytes(bytes)} of ${formatBytes(totalBytes)}, ${formatBytes(perMs * 1000)}/s${left}`;
    });
  };
}
