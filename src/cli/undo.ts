/** `restic-gateway undo CLIENT`: takes back what sessions of a client added to its repository, into quarantine. */
import { GatewayError } from '../core/errors.ts';
import { idOf } from '../core/principal.ts';
import { openClientMaintenance, type OpenedMaintenance } from '../client-maintenance.ts';
import {
  finishTakingOut,
  inQuarantines,
  readQuarantines,
  restore,
  takeOut,
  type MoveCounts,
  type QuarantineWork,
} from '../maintenance/quarantine.ts';
import type { Quarantine } from '../maintenance/manifest.ts';
import { planUndo, type ArrivedObject, type UndoPlan, type UndoSelection } from '../maintenance/undo-plan.ts';
import { openProgress, print, watched } from './progress.ts';
import { jsonLine } from './json.ts';
import { UsageError } from './command-line/usage-error.ts';
import { loadOwnConfig } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';
import { formatBytes, printable, prose, styled, table } from './terminal.ts';
import { parseTime } from './time.ts';

/** Options as the command line gives them. */
interface UndoArguments {
  readonly client: string;
  readonly session: string | undefined;
  readonly since: string | undefined;
  readonly dryRun: boolean;
  readonly yes: boolean;
  readonly force: boolean;
  readonly list: boolean;
  readonly restore: string | undefined;
  readonly json: boolean;
  readonly config: string | undefined;
}

/**
 * Shows, takes out, lists or brings back.
 * @returns the exit status: 1 when something could not be moved
 * @throws GatewayError
 */
export async function runUndo(given: UndoArguments): Promise<number> {
  refuseInForcedCommand();
  const { client } = given;
  if (given.yes && given.dryRun) throw new UsageError('say either --yes or --dry-run');
  const selection = readSelection(given);
  const config = await loadOwnConfig(given.config);
  const bar = openProgress(`${client}: listing what is there`);
  const { maintenance, ...rest } = await openClientMaintenance(config, client);
  const opened = { ...rest, maintenance: watched(maintenance, client, bar) };
  const stop = new AbortController();
  const onSignal = (): void => {
    stop.abort(new GatewayError('client-gone', { detail: 'stopped; the same command completes what was begun' }));
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  try {
    if (given.list) return await showQuarantines(opened, given, stop.signal);
    if (given.restore !== undefined) return await bringBack(opened, given.restore, given, stop.signal);
    if (selection === undefined) throw usage();
    if (given.yes && !given.force && config.clients[client]?.disabled === false)
      throw new GatewayError('usage', {
        detail: `disable client ${client} first (restic-gateway client disable ${client}), so that its sessions end and add nothing meanwhile; or say --force`,
      });
    const plan = await planUndo(opened.maintenance, idOf(opened.principal), selection, stop.signal);
    if (given.json) print(given.yes ? '' : jsonLine('undo', planJson(client, plan)));
    else print(describe(client, plan));
    const made = plan.objects.find(({ key }) => key === 'config');
    if (made !== undefined)
      throw new GatewayError('usage', {
        detail: `session ${made.session} made the repository itself at ${made.arrived}; that is not undone: choose another session or a later time`,
      });
    if (given.yes) return await carryOut(opened, given, plan, stop.signal);
    if (plan.objects.length > 0 && !given.json)
      print(prose('Nothing was changed. With --yes it goes into quarantine, from where --restore brings it back.'));
    return 0;
  } finally {
    bar.clear();
    await opened.maintenance.close();
  }
}

function usage(): GatewayError {
  return new UsageError('say one of --session ID, --since TIME, --list and --restore UNDO-ID');
}

function readSelection({ session, since, list, restore: id }: UndoArguments): UndoSelection | undefined {
  if ([session, since, id, list ? '' : undefined].filter((one) => one !== undefined).length !== 1) throw usage();
  if (session !== undefined) return { session };
  return since === undefined ? undefined : { since: parseTime(since, '--since') };
}

function describe(client: string, { objects, resting, byAdmin, strangers }: UndoPlan): string {
  if (objects.length === 0) return prose(`${client}: nothing that came so is in the repository`);
  const sessions = new Set(objects.map(({ session }) => session));
  const types = [...new Set(objects.map(typeOf))];
  const rows = types.map((type) =>
    row(
      type,
      objects.filter((object) => typeOf(object) === type),
    ),
  );
  const title = { title: 'bytes', right: true };
  const lines = [
    prose(
      `${client}: added by ${sessions.size === 1 ? `session ${printable([...sessions].join(''))}` : `${sessions.size} sessions`}:`,
    ),
    table(
      [
        ...[{ title: 'type' }, { title: 'objects', right: true }, title],
        ...[
          { title: 'first', rank: 1 },
          { title: 'last', rank: 2 },
        ],
      ],
      [...rows, row('all', objects)],
    ),
  ];
  const warn = (text: string): void => {
    lines.push(prose(`Warning: ${text}`).replace(/^Warning/, styled(process.stdout, 'yellow', 'Warning')));
  };
  if (resting.length > 0) {
    warn(
      'these later snapshots of other sessions may rest on data of it; run restic check afterwards, and back up anew:',
    );
    lines.push(
      table(
        [{ title: 'snapshot', cut: { to: 8, at: 'end' } }, { title: 'arrived' }, { title: 'session', rank: 1 }],
        resting.map(({ key, arrived, session }) => [key.slice('snapshots/'.length), new Date(arrived), session]),
      ),
    );
  }
  if (byAdmin > 0)
    warn(`the admin's restic added ${byAdmin} objects since then: what a prune has moved into them is not taken back.`);
  if (strangers > 0) warn(`${strangers} objects since then came by no gateway; they stay.`);
  return lines.join('');
}

function row(type: string, objects: readonly ArrivedObject[]): readonly (string | Date)[] {
  const times = objects.map(({ arrived }) => arrived).sort();
  const bytes = objects.reduce((sum, { size }) => sum + size, 0);
  return [
    type,
    String(objects.length),
    formatBytes(bytes),
    ...[times[0], times.at(-1)].map((time) => (time === undefined ? '' : new Date(time))),
  ];
}

const typeOf = ({ key }: ArrivedObject): string => key.split('/')[0] ?? '';

function planJson(client: string, { objects, resting, ...rest }: UndoPlan): object {
  const arrived = (all: readonly ArrivedObject[]): readonly object[] =>
    all.map(({ size, ...one }) => ({ ...one, bytes: size }));
  return { client, objects: arrived(objects), resting: arrived(resting), ...rest };
}

async function carryOut(
  opened: OpenedMaintenance,
  { client, session, since, json }: UndoArguments,
  { objects }: UndoPlan,
  signal: AbortSignal,
): Promise<number> {
  const { maintenance } = opened;
  return changing(opened, signal, async (work) => {
    let status = 0;
    let rest = objects;
    for await (const unfinished of readQuarantines(maintenance, signal)) {
      if (unfinished.state !== 'moving') continue;
      const { id, selection: of } = unfinished;
      if (!json) print(prose(`Undo ${printable(id)} (${printable(of)}) had been cut off; it is completed first.`));
      status ||= reportMoved(client, id, await finishTakingOut(work, unfinished), json);
      const done = new Set(unfinished.objects.map(({ key }) => key));
      rest = rest.filter(({ key }) => !done.has(key));
    }
    const selection = session === undefined ? `--since ${since ?? ''}` : `--session ${session}`;
    const parts = inQuarantines(rest);
    for (const part of parts) {
      const { quarantine, counts } = await takeOut(work, { client, selection, objects: part });
      status ||= reportMoved(client, quarantine.id, counts, json);
      if (!json) print(prose(`To bring it back: restic-gateway undo ${client} --restore ${quarantine.id}`));
    }
    // What others point at went last.
    if (parts.length > 1 && !json) print('Of these, bring the last one back first.\n');
    return status;
  });
}

function reportMoved(client: string, id: string, counts: MoveCounts, json: boolean): number {
  const good = counts.retained + counts.taken === 0;
  if (json) print(jsonLine('quarantine-made', { client, good, quarantine: id, ...counts }));
  else print(prose(`${counts.moved} objects are in quarantine ${printable(id)}.`) + describeLeft(counts));
  return good ? 0 : 1;
}

function describeLeft({ hidden, retained, taken }: MoveCounts): string {
  const lines = [
    hidden > 0 &&
      `The storage keeps versions: ${hidden} of them are hidden by a delete marker, and take room until they expire.`,
    retained > 0 &&
      `${retained} are kept in place by Object Lock until their retention or legal hold ends; they are copied, not moved.`,
    taken > 0 && `${taken} stayed where they were, as another file has their place.`,
  ];
  return lines.map((line) => (line === false ? '' : prose(line))).join('');
}

async function bringBack(
  opened: OpenedMaintenance,
  id: string,
  { client, json }: UndoArguments,
  signal: AbortSignal,
): Promise<number> {
  return changing(opened, signal, async (work) => {
    const counts = await restore(work, id);
    const good = counts.retained + counts.taken === 0;
    if (json) print(jsonLine('quarantine-restored', { client, good, quarantine: id, ...counts }));
    else print(prose(`${counts.moved} objects are back in the repository.`) + describeLeft(counts));
    return good ? 0 : 1;
  });
}

function quarantineJson({ id, client, selection, made, state, objects }: Quarantine): object {
  return {
    client,
    quarantine: id,
    selection,
    at: made,
    state,
    objects: objects.map(({ size, ...one }) => ({ ...one, bytes: size })),
  };
}

async function changing(
  { principal, maintenance, repository, openAudit }: OpenedMaintenance,
  signal: AbortSignal,
  work: (work: QuarantineWork) => Promise<number>,
): Promise<number> {
  const audit = await openAudit();
  try {
    return await work({ maintenance, audit, repository, principal, signal });
  } finally {
    await audit.close();
  }
}

async function showQuarantines(
  { maintenance }: OpenedMaintenance,
  { json }: UndoArguments,
  signal: AbortSignal,
): Promise<number> {
  const rows: string[][] = [];
  for await (const quarantine of readQuarantines(maintenance, signal)) {
    const { id, client, selection, objects, state } = quarantine;
    // One at a time, so that no more than one is in memory.
    if (json) print(jsonLine('quarantine', quarantineJson(quarantine)));
    else rows.push([id, client, selection, String(objects.length), state]);
  }
  if (json) return 0;
  if (rows.length === 0) print('There are no quarantines.\n');
  else
    print(
      table(
        [
          { title: 'undo' },
          { title: 'client', rank: 1, cut: { to: 10, at: 'middle' } },
          { title: 'of', cut: { to: 12, at: 'middle' } },
          { title: 'objects', right: true },
          { title: 'state' },
        ],
        rows,
      ),
    );
  return 0;
}
