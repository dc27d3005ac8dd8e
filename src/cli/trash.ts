/** `restic-gateway trash list|restore|purge`: what was removed from a client's repository and can still be brought back. */
import { setMaxListeners } from 'node:events';
import type { GatewayConfig } from '../config/types.ts';
import { readDuration } from '../config/values.ts';
import { GatewayError } from '../core/errors.ts';
import {
  onTrash,
  openClientMaintenance,
  purgeClientTrash,
  trashMsOf,
  type OpenedMaintenance,
} from '../client-maintenance.ts';
import type { PurgeCounts, TrashSelection } from '../maintenance/trash-work.ts';
import { readTrash, restoreTrash, type TrashContents } from '../maintenance/trash.ts';
import { openMonitor } from '../monitor/monitor.ts';
import { removalsAreHeld } from '../monitor/purge-hold.ts';
import { openProgress, print, watched, withProgress } from './progress.ts';
import { sayError, sayWarning } from './failure.ts';
import { jsonLine } from './json.ts';
import { UsageError } from './command-line/usage-error.ts';
import { chooseClients } from './choose-clients.ts';
import { loadOwnConfig } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';
import { formatBytes, formatDuration, prose, table } from './terminal.ts';
import { parseTime } from './time.ts';

/** Options that all of them have, as the command line gives them. */
interface TrashArguments {
  readonly json: boolean;
  readonly config: string | undefined;
}

/** Shows what is in the trash. @returns the exit status @throws GatewayError */
export async function runTrashList(given: TrashArguments & { readonly client: string }): Promise<number> {
  const { client, json } = given;
  return withClient(given, client, async (opened, config, signal) => {
    const contents = await readTrash(opened.maintenance, signal);
    const keptMs = trashMsOf(config, opened.repository);
    await opened.trash.write(contents, new Date(), keptMs);
    if (json) print(jsonLine('trash', { client, trashMs: keptMs, ...contents }));
    else {
      const versions = describeVersions(contents).trimEnd();
      print(describe(client, contents, keptMs) + (versions === '' ? '' : prose(versions)));
    }
    return 0;
  });
}

function describe(client: string, { sessions, objects, bytes, strangers }: TrashContents, keptMs: number): string {
  const lines: string[] = [];
  if (sessions.length === 0) lines.push(`${client}: the trash is empty\n`);
  else {
    const right = true;
    lines.push(
      prose(
        `${client}: ${objects} objects, ${formatBytes(bytes)} in the trash, each for ${formatDuration(keptMs)} after its removal`,
      ),
      table(
        [
          { title: 'removed' },
          { title: 'last', rank: 1 },
          { title: 'by', rank: 3 },
          { title: 'session', cut: { to: 12, at: 'middle' } },
          { title: 'snapshots', right, rank: 4 },
          { title: 'objects', right, rank: 2 },
          { title: 'bytes', right, rank: 5 },
          { title: 'purged from', rank: 6 },
        ],
        sessions.map((one) => [
          ...[one.first, one.last, one.by ?? '-', one.session ?? '-', String(one.snapshots)],
          ...[String(one.objects), formatBytes(one.bytes)],
          one.session === undefined ? 'not by the gateway' : new Date(one.first.getTime() + keptMs),
        ]),
      ),
      prose(`To bring back what was removed since a time: restic-gateway trash restore ${client} --since TIME`),
    );
  }
  if (strangers > 0) lines.push(`${strangers} files there were put by no gateway; nothing is done with them.\n`);
  return lines.join('');
}

/** What is to be said where the storage keeps versions, or may. */
function describeVersions({ versions, noted }: TrashContents): string {
  if (versions === 'none') return '';
  if (versions === 'denied')
    return noted
      ? 'The bucket keeps what is removed as older versions, and does not let them be listed, so they are not in this list: grant s3:ListBucketVersions to the key of this config, or use a config with another key.\n'
      : 'If the bucket keeps versions (versioning, Object Lock), what is removed stays there as older versions, which it does not let be listed (s3:ListBucketVersions): they are not in this list.\n';
  const { objects, bytes, olderObjects, olderBytes } = versions;
  const lines = [
    `The bucket keeps versions: ${objects} of these objects, ${formatBytes(bytes)}, are older versions that it keeps in their place.\n`,
    olderObjects > 0 &&
      `It keeps ${olderObjects} more, ${formatBytes(olderBytes)}, of what is in the repository again.\n`,
  ];
  return lines.filter((line) => line !== false).join('');
}

/** Brings back what was removed. @returns the exit status: 1 when something could not be moved @throws GatewayError */
export async function runTrashRestore(
  given: TrashArguments & {
    readonly client: string;
    readonly since: string | undefined;
    readonly session: string | undefined;
    readonly all: boolean;
  },
): Promise<number> {
  const { client, json } = given;
  const selection = readSelection(given);
  return withClient(given, client, async (opened, config, signal) => {
    const counts = await onTrash(opened, signal, (work) => restoreTrash(work, selection));
    const left = await readTrash(opened.maintenance, signal);
    await opened.trash.write(left, new Date(), trashMsOf(config, opened.repository));
    if (json) print(jsonLine('trash-restore', { client, good: counts.retained + counts.taken === 0, ...counts }));
    else {
      print(`${client}: ${counts.moved} objects are back in the repository.\n`);
      if (counts.taken > 0)
        print(
          `${counts.taken} stayed in the trash, as something else has their place; see restic-gateway scrub ${client}.\n`,
        );
      if (counts.denied)
        print(
          'The bucket keeps more as older versions, and does not let them be listed: grant s3:ListBucketVersions to the key of this config, or use a config with another key; then run it again.\n',
        );
      if (counts.moved > 0) print(`Verify it: restic-gateway restic ${client} -- check\n`);
    }
    return counts.retained + counts.taken === 0 && !counts.denied ? 0 : 1;
  });
}

function readSelection({
  since,
  session,
  all,
}: {
  readonly since: string | undefined;
  readonly session: string | undefined;
  readonly all: boolean;
}): TrashSelection {
  if ([since, session, all || undefined].filter((one) => one !== undefined).length !== 1)
    throw new UsageError('say one of --since TIME, --session ID and --all');
  if (since !== undefined) return { since: parseTime(since, '--since') };
  return session === undefined ? 'all' : { session };
}

/** Purges what is old enough. @returns the exit status: 1 when the storage retains something, or one of several failed @throws GatewayError */
export async function runTrashPurge(
  given: TrashArguments & {
    readonly client: string | undefined;
    readonly all: boolean;
    readonly olderThan: string | undefined;
    readonly quiet: boolean;
  },
): Promise<number> {
  refuseInForcedCommand();
  const { client, json, quiet } = given;
  const olderThanMs = given.olderThan === undefined ? undefined : readDuration(given.olderThan);
  if (Number.isNaN(olderThanMs)) throw new UsageError('--older-than must be a duration such as 14d or 12h');
  const config = await loadOwnConfig(given.config);
  const chosen = chooseClients(given, config);
  const say = (_fields: unknown, message: string): void => {
    sayWarning(message);
  };
  const monitor = openMonitor({ config, log: { info: say, warn: say, error: say }, watch: false });
  const signal = stopped();
  let status = 0;
  try {
    for (const name of chosen)
      try {
        const held = async (): Promise<boolean> => {
          const { repository } = config.clients[name] ?? {};
          return repository === undefined || removalsAreHeld(monitor, config, repository);
        };
        const { left, ...counts } = await withProgress(`${name}: listing the trash`, (progress) =>
          purgeClientTrash(config, name, {
            ...{ olderThanMs, held, gently: false, signal },
            watch: (maintenance) => watched(maintenance, name, progress),
          }),
        );
        const { objects, bytes } = left;
        if (json)
          print(
            jsonLine('trash-purge', {
              ...{ client: name, good: counts.retained === 0 },
              ...{ ...counts, left: { objects, bytes } },
            }),
          );
        else if (!quiet || counts.objects + counts.retained + counts.waiting > 0 || counts.denied)
          print(
            `${name}: ${counts.objects} objects, ${formatBytes(counts.bytes)} purged; ${objects} objects, ${formatBytes(bytes)} left\n` +
              whatWaits(name, counts),
          );
        if (counts.retained > 0) status = 1;
      } catch (error) {
        // One repository that cannot be reached must not keep the others full.
        if (client !== undefined || signal.aborted) throw error;
        sayError(error, name);
        status = 1;
      }
  } finally {
    await monitor.close();
  }
  return status;
}

function whatWaits(name: string, { retained, hidden, denied, waiting }: PurgeCounts): string {
  const lines = [
    retained > 0 &&
      `${retained} more the storage keeps until their retention or legal hold ends, and with them what was removed later`,
    hidden > 0 &&
      `${hidden} of them the bucket keeps as older versions, which this key may not remove; a lifecycle rule of the bucket can`,
    denied &&
      'The bucket keeps older versions of what was removed, and refused to remove one without telling of a retention or legal hold: this key may not (s3:DeleteObjectVersion), as is good for the key of a gateway. Let a lifecycle rule of the bucket remove them, or use a config with another key',
    waiting > 0 &&
      `what clients removed waits, and what was removed after it: an anomaly is open; see restic-gateway status ${name}, then --acknowledge it`,
  ];
  return lines.map((line) => (line === false ? '' : `${line}\n`)).join('');
}

/** Aborted by SIGINT and SIGTERM. */
function stopped(): AbortSignal {
  const stop = new AbortController();
  const onSignal = (): void => {
    stop.abort(new GatewayError('client-gone', { detail: 'stopped; the same command completes what was begun' }));
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  // Each move under way listens.
  setMaxListeners(0, stop.signal);
  return stop.signal;
}

async function withClient(
  given: TrashArguments,
  client: string,
  work: (opened: OpenedMaintenance, config: GatewayConfig, signal: AbortSignal) => Promise<number>,
): Promise<number> {
  refuseInForcedCommand();
  const config = await loadOwnConfig(given.config);
  const opened = await openClientMaintenance(config, client);
  const bar = openProgress(`${client}: listing the trash`);
  try {
    const maintenance = watched(opened.maintenance, client, bar);
    return await work({ ...opened, maintenance }, config, stopped());
  } finally {
    bar.clear();
    await opened.maintenance.close();
  }
}
