/** `restic-gateway gateways`: which gateways share the database, whom they refuse, and whether they agree. */
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError, messageOf } from '../core/errors.ts';
import { connectOnce, drop, prepare, type Connection } from '../database/connection.ts';
import { gatewayName } from '../database/gateway-name.ts';
import { readKept } from '../database/kept.ts';
import { forget, lift, readGateways, readRevocations, say, type Gateway } from '../database/membership.ts';
import { commonDigest, subjectsOf, type Revocation } from '../database/subjects.ts';
import { sayWarning } from './failure.ts';
import { jsonLine } from './json.ts';
import { loadOwnConfig } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';
import { print } from './progress.ts';
import { formatDuration, printable, prose, styled, table, type Column } from './terminal.ts';

/** A gateway that has not been heard of for this long, in ms, is away. */
const AWAY_MS = 10_000;
/** Clocks that are further apart, in ms, are told. */
const CLOCK_MS = 2000;

interface GatewaysArguments {
  readonly config: string | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly lift: string | undefined;
  readonly forget: string | undefined;
}

/**
 * @returns the exit status: 1 when a gateway is away, has another config or a wrong clock
 * @throws GatewayError `usage`, `state-unavailable` when the database is away
 */
export async function runGateways(given: GatewaysArguments): Promise<number> {
  refuseInForcedCommand();
  const config = await loadOwnConfig(given.config);
  const { database } = config;
  if (database === undefined)
    throw new GatewayError('usage', {
      detail: `there is no database in ${config.file}, so this gateway is alone; docs/high-availability.md shows how several share one`,
    });
  return withDatabase(config, async (client) => {
    if (given.lift !== undefined) return liftClient(client, config, given.lift, given);
    if (given.forget !== undefined) return forgetGateway(client, given.forget, given);
    const gateways = await readGateways(client);
    const revocations = await readRevocations(client);
    return show(gateways, revocations, commonDigest(config), given);
  });
}

async function withDatabase<T>(config: GatewayConfig, work: (client: Connection) => Promise<T>): Promise<T> {
  const { database } = config;
  if (database === undefined) throw new GatewayError('usage');
  let client: Connection | undefined;
  try {
    client = await connectOnce(database, 'restic-gateway gateways');
    await prepare(client);
    return await work(client);
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    throw new GatewayError('state-unavailable', { detail: `the database is away: ${messageOf(error)}`, cause: error });
  } finally {
    if (client !== undefined) drop(client);
  }
}

/** Why the database cannot be used; undefined when it can. */
export async function whyAway(config: GatewayConfig): Promise<string | undefined> {
  try {
    await withDatabase(config, () => Promise.resolve());
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/**
 * After a change of the config: tells the other gateways, also where no `serve` runs that would. What cannot be told now is told by the next
 * process that serves a client.
 */
export async function tellOthers(config: GatewayConfig): Promise<void> {
  const { database } = config;
  if (database === undefined) return;
  try {
    await withDatabase(config, (client) => say(client, gatewayName(database), subjectsOf(config, new Date()), false));
  } catch (error) {
    sayWarning(`the other gateways could not be told yet: ${messageOf(error)}`, '');
  }
}

/** Says that other gateways still refuse a client that is enabled here. */
export function warnOfOthers(config: GatewayConfig, name: string): void {
  const { database, clients } = config;
  const id = clients[name]?.id;
  if (database === undefined || id === undefined) return;
  const others = (readKept(config.state)?.revocations ?? []).filter(
    ({ subject, gateway }) => subject === `client/${id}` && gateway !== gatewayName(database),
  );
  if (others.length > 0)
    sayWarning(
      `${others.map(({ gateway }) => gateway).join(', ')} still refuses ${name}, so nobody gets in; enable it there, or run restic-gateway gateways --lift ${name}`,
      '',
    );
}

async function liftClient(
  client: Connection,
  { clients }: GatewayConfig,
  name: string,
  { json, quiet }: Pick<GatewaysArguments, 'json' | 'quiet'>,
): Promise<number> {
  const known = clients[name];
  const subjects =
    known === undefined
      ? [`client/${name}`]
      : [
          `client/${known.id}`,
          ...known.keys.map(({ fingerprint }) => `key/${fingerprint}`),
          ...known.principals.map((principal) => `principal/${principal}`),
        ];
  const lifted = await lift(client, subjects);
  if (json) for (const one of lifted) print(revocationLine(one));
  else if (!quiet)
    print(
      lifted.length === 0
        ? `no gateway refuses ${printable(name)}\n`
        : prose(
            `taken back: ${lifted.map(({ subject, gateway }) => `${printable(subject)} by ${printable(gateway)}`).join(', ')}. A gateway whose own config refuses it goes on to, until that is changed.`,
          ),
    );
  return 0;
}

async function forgetGateway(
  client: Connection,
  name: string,
  { quiet }: Pick<GatewaysArguments, 'quiet'>,
): Promise<number> {
  const there = (await readGateways(client)).find((one) => one.name === name);
  if (there === undefined) throw new GatewayError('usage', { detail: `there is no gateway ${printable(name)}` });
  if (there.agoMs < AWAY_MS)
    throw new GatewayError('usage', { detail: `gateway ${printable(name)} runs; stop it first, or it comes back` });
  const refused = (await readRevocations(client)).filter(({ gateway }) => gateway === name);
  await forget(client, name);
  if (!quiet)
    print(
      prose(
        `forgot gateway ${printable(name)}${refused.length === 0 ? '' : `; no longer refused because of it: ${refused.map(({ subject }) => printable(subject)).join(', ')}`}`,
      ),
    );
  return 0;
}

const COLUMNS: readonly Column[] = [
  { title: 'GATEWAY', cut: { to: 12, at: 'middle' } },
  { title: 'STATE' },
  { title: 'SEEN', right: true },
  { title: 'CONFIG' },
  { title: 'CLOCK', right: true, rank: 2 },
  { title: 'VERSION', rank: 1, cut: { to: 8, at: 'end' } },
];

function show(
  gateways: readonly Gateway[],
  revocations: readonly Revocation[],
  own: string,
  { json, quiet }: Pick<GatewaysArguments, 'json' | 'quiet'>,
): number {
  const looked = gateways.map((one) => ({
    ...one,
    state: one.agoMs < AWAY_MS ? ('up' as const) : ('away' as const),
    sameConfig: one.config === own,
    clockGood: Math.abs(one.clockMs) < CLOCK_MS,
  }));
  const isGood = (one: (typeof looked)[number]): boolean => one.state === 'up' && one.sameConfig && one.clockGood;
  const status = looked.every(isGood) ? 0 : 1;
  if (json) {
    for (const one of looked) {
      const { name, state, version, config, sameConfig, clockMs, started, seen } = one;
      const good = isGood(one);
      print(jsonLine('gateway', { gateway: name, good, state, version, config, sameConfig, clockMs, started, seen }));
    }
    for (const one of revocations) print(revocationLine(one));
    return status;
  }
  if (quiet && status === 0) return 0;
  const rows = looked.map(({ name, state, agoMs, sameConfig, clockGood, clockMs, version }) => [
    printable(name),
    { text: state, style: state === 'up' ? ('green' as const) : ('red' as const) },
    `${formatDuration(agoMs)} ago`,
    sameConfig ? 'same' : { text: 'another', style: 'red' as const },
    clockGood ? clockText(clockMs) : { text: clockText(clockMs), style: 'red' as const },
    printable(version),
  ]);
  print(table(COLUMNS, rows));
  if (revocations.length > 0) {
    print(`\n${styled(process.stdout, 'bold', 'Refused by all')}\n`);
    for (const { subject, gateway, reason, since } of revocations)
      print(prose(`${printable(subject)}: ${reason} on ${printable(gateway)} since ${since.toISOString()}`, '  '));
  }
  return status;
}

function revocationLine({ subject, gateway, reason, since }: Revocation): string {
  return jsonLine('revocation', { subject, gateway, reason, since });
}

function clockText(ms: number): string {
  return `${ms > 0 ? '+' : ''}${ms} ms`;
}
