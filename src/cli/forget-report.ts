/** What `restic-gateway forget` prints: what stays, what goes and why, as `restic forget` does it; for people and as JSON. */
import type { ArrivedSnapshot, Kept, SealedSnapshot, Selection, SnapshotGroup } from '../retention/select.ts';
import { jsonLine } from './json.ts';
import { printable, prose, styled, table, type Column } from './terminal.ts';

/** What is to become of one client's snapshots. */
export type ForgetPlan =
  | ({ readonly by: 'snapshots' } & Selection)
  /** Without the password; one group for each client whose sessions brought them. */
  | {
      readonly by: 'days';
      readonly groups: readonly (Pick<SnapshotGroup<SealedSnapshot>, 'kept' | 'removed'> & {
        readonly client: string;
      })[];
      readonly apart: readonly [];
    };

/** What came of it. `pruned` is undefined where that was not tried. */
export interface ForgetOutcome {
  readonly removed: number;
  readonly pruned?: boolean;
  /** Half a sentence; undefined when all went well. */
  readonly failed?: string;
}

/** Ids of what is to go. */
export function removedIds({ groups }: ForgetPlan): readonly string[] {
  return groups.flatMap(({ removed }) => removed.map(({ id }) => id));
}

const idOf = (id: string): string => id.slice(0, 8);
const plural = (count: number): string => `${count} snapshot${count === 1 ? '' : 's'}`;

/** The plan, for people. */
export function describePlan(client: string, plan: ForgetPlan): string {
  const lines =
    plan.by === 'snapshots' ? plan.groups.map((group) => describeGroup(client, group)) : plan.groups.map(describeDays);
  if (plan.apart.length > 0) lines.push(describeApart(client, plan.apart));
  return lines.length === 0 ? `${client}: there are no snapshots\n` : lines.join('\n');
}

function describeGroup(client: string, { host, paths, tags, kept, removed }: SnapshotGroup): string {
  const parts = [
    host !== undefined && `host ${host}`,
    paths && `paths ${paths.join(', ')}`,
    tags && tags.length > 0 && `tags ${tags.join(', ')}`,
  ].filter((part) => typeof part === 'string');
  const head = prose(`${client}: ${printable(parts.length === 0 ? 'all snapshots' : parts.join('; '))}`);
  const columns: readonly Column[] = [
    { title: 'ID' },
    { title: 'ARRIVED' },
    { title: 'HOST', rank: 1, cut: { to: 8, at: 'middle' } },
    { title: 'PATHS', rank: 2, cut: { to: 8, at: 'middle' } },
  ];
  const cells = (snapshot: ArrivedSnapshot): (string | Date)[] => [
    ...[idOf(snapshot.id), snapshot.arrived, snapshot.host, snapshot.paths.join(', ')],
  ];
  return head + described(columns, kept, removed, cells);
}

function describeDays({
  client,
  kept,
  removed,
}: Extract<ForgetPlan, { readonly by: 'days' }>['groups'][number]): string {
  const head = prose(`${printable(client)}: whole days, by when snapshots arrived`);
  const columns = [{ title: 'ID' }, { title: 'ARRIVED' }];
  return head + described(columns, kept, removed, ({ id, arrived }) => [idOf(id), arrived]);
}

function described<S>(
  columns: readonly Column[],
  kept: readonly Kept<S>[],
  removed: readonly S[],
  cells: (snapshot: S) => readonly (string | Date)[],
): string {
  const rows = kept.map(({ snapshot, reasons }) => [...cells(snapshot), reasons.join(', ')]);
  const keep =
    rows.length === 0
      ? ''
      : `keep ${plural(rows.length)}:\n${table([...columns, { title: 'REASONS', cut: { to: 12, at: 'end' } }], rows)}`;
  if (removed.length === 0) return keep;
  return `${keep}remove ${plural(removed.length)}:\n${table(columns, removed.map(cells))}`;
}

/** More would push everything else off the screen; `--json` has them all. */
const MOST_APART = 20;

function describeApart(client: string, apart: readonly ArrivedSnapshot[]): string {
  const columns: readonly Column[] = [
    ...[{ title: 'ID' }, { title: 'ARRIVED', rank: 3 }, { title: 'CLAIMS' }],
    { title: 'HOST', rank: 2, cut: { to: 8, at: 'middle' } },
    { title: 'PATHS', rank: 1, cut: { to: 8, at: 'middle' } },
  ];
  const rows = apart
    .slice(0, MOST_APART)
    .map(({ id, arrived, claimed, host, paths }) => [idOf(id), arrived, claimed, host, paths.join(', ')]);
  const more = apart.length > MOST_APART ? `and ${apart.length - MOST_APART} more\n` : '';
  const warning = `Warning: ${client}: ${plural(apart.length)} set apart, because what they claim is more than a day from when they arrived. They stay, and count for no rule:`;
  return (
    prose(warning).replace(/^Warning/, styled(process.stdout, 'yellow', 'Warning')) +
    table(columns, rows) +
    more +
    prose(
      `If they are an import of yours: restic-gateway forget ${client} --accept-time ID…|all; if not, look at: restic-gateway status ${client}`,
    )
  );
}

/** Plan and outcome as one line of JSON. `outcome` is undefined for a dry run. */
export function planAsJson(client: string, plan: ForgetPlan, outcome: ForgetOutcome | undefined): string {
  const snapshot = (one: SealedSnapshot | ArrivedSnapshot): object => ({
    ...{ id: one.id, arrived: one.arrived.toISOString() },
    ...('claimed' in one && { claimed: one.claimed.toISOString(), host: one.host, paths: one.paths, tags: one.tags }),
  });
  const { failed, ...counts } = outcome ?? {};
  return jsonLine('forget', {
    ...{ client, good: failed === undefined, by: plan.by },
    groups: plan.groups.map(({ kept, removed, ...key }) => ({
      ...key,
      keep: kept.map((one) => ({ ...snapshot(one.snapshot), reasons: one.reasons })),
      remove: removed.map(snapshot),
    })),
    apart: plan.apart.map(snapshot),
    dryRun: outcome === undefined,
    ...counts,
    ...(failed !== undefined && { message: failed }),
  });
}
