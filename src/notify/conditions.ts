/** What is wrong now, as notifications have it: each thing with a key that stays the same as long as it lasts. Pure. */
import type { NotifyEvent, NotifySeverity } from '../config/notify.ts';
import type { ClientConfig } from '../config/types.ts';
import type { ClientStatus } from '../monitor/client-status.ts';
import type { GatewayProblem } from '../monitor/gateway-problems.ts';

/** Something that is wrong. */
export interface Condition {
  /** The same in every process, after every restart and under every name of its client. */
  readonly key: string;
  readonly event: NotifyEvent;
  /** What it is in one word: the rule of an anomaly, the kind of a problem of the gateway, else the event. */
  readonly rule: string;
  readonly severity: NotifySeverity;
  /** Whose it is; undefined: the gateway's. */
  readonly client?: { readonly id: string; readonly name: string };
  /** When it began, in ms since 1970; undefined: when it was first seen. */
  readonly since?: number;
  /** Sentences: what is wrong, and what to do. */
  readonly what: string;
  readonly advice: string;
  /** How bad it is in figures: once this has grown, it is told again. */
  readonly level?: number;
  /** It is told only once it has lasted for so long, in ms. */
  readonly afterMs?: number;
  /** The target that it is about, which is not told. */
  readonly target?: string;
}

/** What is known of everything. */
export interface Knowledge {
  readonly statuses: readonly ClientStatus[];
  readonly clients: Readonly<Record<string, Pick<ClientConfig, 'id'>>>;
  readonly problems: readonly Trouble[];
}

/** What is wrong with the gateway; beside what its processes leave in `state`, what `serve` itself knows. */
export type Trouble = Pick<GatewayProblem, 'urgent' | 'words' | 'target'> & {
  readonly kind: GatewayProblem['kind'] | 'audit-unreadable' | 'no-safe-store';
};

/** A client that was just added gets this long, in ms, for its first backup. */
const NEVER_AFTER_MS = 2 * 86_400_000;
/** From here on the next backup may not fit: as in `status`. */
const QUOTA_SHARE = 0.95;

/** What may be over in a moment is told once it has lasted for so long, in ms. */
const BRIEF_MS = 2 * 60_000;
/** What keeps the gateway from doing its work, or from knowing how it is done. */
const CRITICAL: ReadonlySet<Trouble['kind']> = new Set(['audit-lost', 'audit-unreadable', 'no-safe-store']);

/** All that is wrong. */
export function conditionsOf({ statuses, clients, problems }: Knowledge): readonly Condition[] {
  const ofClients = statuses.flatMap((one) => {
    const client = { id: clients[one.client]?.id ?? one.client, name: one.client };
    return clientConditions(one).map((each) => ({ ...each, key: `${each.key}/${client.id}`, client }));
  });
  return [...ofClients, ...problems.filter(({ urgent }) => urgent).map(gatewayCondition)];
}

type Unkeyed = Omit<Condition, 'client'>;

function clientConditions(one: ClientStatus): readonly Unkeyed[] {
  const found: Unkeyed[] = [];
  const look = `See restic-gateway status ${one.client}.`;
  for (const { id, rule, at, note, what, advice } of one.anomalies) {
    if (note === true) continue;
    // Of a client that may not come in, nothing is expected.
    if (rule === 'late' && one.state === 'disabled') continue;
    const late = rule === 'late';
    found.push({
      ...{ key: id, event: late ? 'late' : 'anomaly', rule, severity: late ? 'warning' : 'critical' },
      ...{ since: at.getTime(), what, advice },
    });
  }
  if (one.state === 'never')
    found.push({
      ...{ key: 'never', event: 'late', rule: 'never', severity: 'warning', afterMs: NEVER_AFTER_MS },
      what: one.reasons[0] ?? 'No snapshot has arrived since the audit began.',
      advice: 'See whether its backup is set up; disable the client if it is not meant to be yet.',
    });
  if (one.state === 'disabled') return found;
  const { scrub, extended, quota } = one;
  if (scrub !== undefined && scrub.findings > 0)
    found.push({
      ...{ key: 'scrub', event: 'scrub', rule: 'scrub', severity: 'critical', level: scrub.findings },
      since: scrub.finished.getTime(),
      what: `The scrub found ${scrub.findings} ${scrub.findings === 1 ? 'file that is' : 'files that are'} not as they should be.`,
      advice: `${look} docs/recovery.md says how to repair a repository.`,
    });
  if (extended !== undefined && (extended.failed > 0 || !extended.complete))
    found.push({
      ...{ key: 'retention', event: 'retention', rule: 'retention', severity: 'warning' },
      what: `The retention of what is in use was not renewed${extended.problem === undefined ? '' : `: ${extended.problem}`}`,
      advice: `${look} It is tried again; restic-gateway extend ${one.client} tries it now.`,
    });
  if (quota?.used !== undefined && quota.used >= QUOTA_SHARE * quota.limit)
    found.push({
      ...{ key: 'quota', event: 'quota', rule: 'quota', severity: 'warning' },
      what: 'The quota is nearly used up: the next backup may not fit.',
      advice: `${look} Raise its quota, or remove what is not needed with forget.`,
    });
  return found;
}

function gatewayCondition({ kind, words, target }: Trouble): Condition {
  const copy = kind === 'audit-copy';
  return {
    key: `gateway/${kind}${target === undefined ? '' : `/${target}`}`,
    ...{ event: copy ? 'copy' : 'gateway', rule: kind },
    severity: CRITICAL.has(kind) ? 'critical' : 'warning',
    ...{ what: words, advice: '' },
    ...((kind === 'audit-unreadable' || kind === 'no-safe-store') && { afterMs: BRIEF_MS }),
    ...(target !== undefined && { target }),
  };
}
