/**
 * `restic-gateway forget CLIENT|--all`: removes the snapshots that the config's `retention` does not keep, by when they arrived.
 *
 * It runs as whoever calls it, who reads the password; storage, audit log and `state` are touched by `snapshot-records` and by what serves
 * restic, both as the gateway's user.
 */
import { spawn } from 'node:child_process';
import { isDeepStrictEqual } from 'node:util';
import { loadConfig } from '../config/load.ts';
import { protectionOf, repositoryIdentity } from '../config/repositories.ts';
import { parseGroupBy } from '../config/retention.ts';
import type { ClientConfig, GatewayConfig, RetentionPolicy } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { claimsOtherTime, selectDays, selectSnapshots, type ArrivedSnapshot } from '../retention/select.ts';
import { noSuch } from '../config/problems.ts';
import { sayError } from './failure.ts';
import { UsageError } from './command-line/usage-error.ts';
import { runAdminRestic } from './admin-restic.ts';
import { withoutPasswords, withoutSshd } from './admin-run.ts';
import { describePlan, planAsJson, removedIds, type ForgetOutcome, type ForgetPlan } from './forget-report.ts';
import { parseOption } from './option.ts';
import { chooseConfigFile, sayConfigFile } from './own-user.ts';
import { ownProgram, refuseInForcedCommand } from './program.ts';
import { withProgress } from './progress.ts';
import { findPassword, type RepositoryPassword } from './repository-password.ts';
import { holdRequest } from './restic-hold.ts';
import { parseSnapshots } from './restic-snapshots.ts';
import { ANSWER, type RecordsAnswer, type RecordsRequest, type SnapshotRecord } from './snapshot-records.ts';

/** Options as the command line gives them. */
interface ForgetArguments {
  readonly client: string | undefined;
  readonly all: boolean;
  readonly dryRun: boolean;
  readonly prune: boolean;
  readonly withoutPassword: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly groupBy: string | undefined;
  /** Ids, or their beginnings, or `all`. */
  readonly acceptTime: readonly string[];
  /** As `holdRequest`. */
  readonly holdClient: string | false | undefined;
  readonly endSessions: boolean;
  readonly config: string | undefined;
}

/** What restic says of 200,000 snapshots. */
const MOST_LISTED_BYTES = 256 * 2 ** 20;
/** Of one run of restic: Linux takes 2 MiB of arguments. */
const IDS_AT_ONCE = 1000;

/**
 * Works on one client, or on all that have a `retention`, one after the other.
 * @returns the exit status: 1 when something failed
 * @throws GatewayError `usage`, `invalid-config`
 */
export async function runForget(given: ForgetArguments): Promise<number> {
  refuseInForcedCommand({ takesInput: true });
  const hold = holdRequest(['forget'], given);
  const groupBy = given.groupBy === undefined ? undefined : parseOption('--group-by', given.groupBy, parseGroupBy);
  const config = loadConfig(chooseConfigFile(given.config));
  sayConfigFile(config.file);
  const clients = choose(given, config);
  let status = 0;
  for (const { client, policy } of clients) {
    const work: Work = { given, config, client, hold, policy: { ...policy, ...(groupBy && { 'group-by': groupBy }) } };
    try {
      if (!(await forgetOne(work))) status = 1;
    } catch (error) {
      if (clients.length === 1) throw error;
      sayError(error, client.name);
      status = 1;
    }
  }
  return status;
}

interface Work {
  readonly given: ForgetArguments;
  readonly config: GatewayConfig;
  readonly client: ClientConfig;
  readonly policy: RetentionPolicy;
  readonly hold: ReturnType<typeof holdRequest>;
}

interface Chosen {
  readonly client: ClientConfig;
  readonly policy: RetentionPolicy;
}

function choose({ client, all, acceptTime }: ForgetArguments, config: GatewayConfig): readonly Chosen[] {
  const { clients, file } = config;
  if (all === (client !== undefined)) throw new UsageError('name a client, or say --all');
  if (all && acceptTime.length > 0) throw new UsageError('for --accept-time, name the client');
  const named = client === undefined ? undefined : clients[client];
  if (client !== undefined && named === undefined) throw noSuch('client', client, clients, file);
  const chosen = new Map<string, Chosen>();
  for (const one of named === undefined ? Object.values(clients) : [named]) {
    const place = repositoryIdentity(config, one.repository);
    if (one.retention !== undefined && !chosen.has(place)) chosen.set(place, { client: one, policy: one.retention });
  }
  if (chosen.size === 0)
    throw new GatewayError('usage', {
      detail: `${client ?? 'no client'} has ${client === undefined ? 'a' : 'no'} retention in ${file}; write one, such as retention: { keep-daily: 30, keep-monthly: 24 }`,
    });
  // The snapshots of one repository have one policy, whoever of its clients is named.
  for (const [place, { client: one, policy }] of chosen)
    for (const other of Object.values(clients))
      if (repositoryIdentity(config, other.repository) === place && !isDeepStrictEqual(other.retention, policy))
        throw new GatewayError('usage', {
          detail: `clients ${one.name} and ${other.name} share a repository and do not have the same retention; give both the same`,
        });
  return [...chosen.values()];
}

/** @returns whether all went well */
async function forgetOne(work: Work): Promise<boolean> {
  const { given, client } = work;
  const password = given.withoutPassword ? undefined : await findPassword(client, !given.all);
  try {
    return await forgetWith(work, password);
  } finally {
    password?.end();
  }
}

async function forgetWith(work: Work, password: RepositoryPassword | undefined): Promise<boolean> {
  const { given, client } = work;
  const plan = password === undefined ? await planDays(work) : await planSnapshots(work, password);
  if (!given.json && !given.quiet) process.stdout.write(describePlan(client.name, plan));
  if (given.dryRun) {
    if (given.json) process.stdout.write(planAsJson(client.name, plan, undefined));
    else if (!given.quiet) process.stdout.write('Nothing was changed: this is a dry run.\n');
    return true;
  }
  const outcome = password === undefined ? await removeDays(work, plan) : await removeSnapshots(work, plan, password);
  if (given.json) process.stdout.write(planAsJson(client.name, plan, outcome));
  else if (!given.quiet) process.stdout.write(describeOutcome(client.name, plan, outcome));
  if (outcome.failed !== undefined) sayError(new GatewayError('store-failed', { detail: outcome.failed }), client.name);
  return outcome.failed === undefined;
}

function describeOutcome(client: string, { by }: ForgetPlan, { removed, pruned }: ForgetOutcome): string {
  const count = `${client}: ${removed} snapshot${removed === 1 ? '' : 's'} removed`;
  if (by === 'days' && removed > 0)
    return `${count}, to the trash. Their data still takes its space until a prune, which needs the password: restic-gateway restic ${client} -- prune\n`;
  return `${count}${pruned === true ? ', and what nothing uses any more' : ''}\n`;
}

async function planSnapshots(work: Work, password: RepositoryPassword): Promise<ForgetPlan> {
  const { given, config, client, policy } = work;
  const list = (): ReturnType<typeof runAdminRestic> =>
    runAdminRestic({
      ...{ client: client.name, file: config.file, env: password.env, output: { mostBytes: MOST_LISTED_BYTES } },
      args: ['snapshots', '--json', '--no-lock'],
    });
  // A command that finds the password may ask for one of its own.
  const isQuiet = Object.values(password.env).some((value) => value !== undefined);
  const { code, output } = await (isQuiet ? withProgress(`${client.name}: reading the snapshots`, list) : list());
  if (code !== 0)
    throw new GatewayError('store-failed', { detail: 'restic could not read the snapshots; nothing was changed' });
  const read = parseSnapshots(output);
  const records = new Map((await askRecords(work, { do: 'read' })).snapshots.map((record) => [record.id, record]));
  const snapshots = read.flatMap((one): ArrivedSnapshot[] => {
    // It was removed since restic read it.
    const record = records.get(one.id);
    if (record === undefined) return [];
    const { arrived, stored, began, client: by, accepted } = record;
    const times = {
      arrived: new Date(arrived),
      stored: new Date(stored),
      began: began === undefined ? undefined : new Date(began),
    };
    return [{ ...one, ...times, accepted, client: by }];
  });
  const accepting = chooseAccepted(snapshots, given.acceptTime);
  const judged = snapshots.map((one) => (accepting.has(one.id) ? { ...one, accepted: true } : one));
  const { protectMs } = protectionOf(config, client.repository);
  const plan = selectSnapshots(judged, { policy, protectMs, now: new Date() });
  const forged = plan.apart.map(({ id, claimed }) => ({ id, claimed: claimed.toISOString() }));
  if (!given.dryRun && (forged.length > 0 || accepting.size > 0))
    await askRecords(work, { do: 'note', forged, accepted: [...accepting] });
  return { by: 'snapshots', ...plan };
}

/** The snapshots that `--accept-time` names, which claim another time. @throws GatewayError `usage` for what names none, or several */
function chooseAccepted(snapshots: readonly ArrivedSnapshot[], named: readonly string[]): ReadonlySet<string> {
  const others = snapshots.filter((one) => !one.accepted && claimsOtherTime(one));
  if (named.includes('all')) return new Set(others.map(({ id }) => id));
  return new Set(
    named.map((beginning) => {
      const found = others.filter(({ id }) => beginning.length >= 4 && id.startsWith(beginning));
      const [one, ...more] = found;
      if (one === undefined || more.length > 0)
        throw new UsageError(
          `--accept-time ${beginning}: ${one === undefined ? 'no snapshot that is set apart begins so' : 'several snapshots begin so; write more of it'}`,
        );
      return one.id;
    }),
  );
}

async function planDays(work: Work): Promise<ForgetPlan> {
  const { given, config, client, policy } = work;
  const { protectMs, trashMs } = protectionOf(config, client.repository);
  if (given.acceptTime.length > 0 || given.groupBy !== undefined)
    throw new GatewayError('usage', {
      detail: 'what snapshots say can be read with the password only; name it with passwordFile',
    });
  if (trashMs === undefined)
    throw new GatewayError('usage', {
      detail: `there is no password for ${client.name}, and without one forget needs a trash; name passwordFile, or give trash a time`,
    });
  const groups = new Map<string, SnapshotRecord[]>();
  for (const record of (await askRecords(work, { do: 'read' })).snapshots) {
    const by = record.client ?? '';
    groups.set(by, [...(groups.get(by) ?? []), record]);
  }
  const options = { policy, protectMs, now: new Date() };
  return {
    by: 'days',
    groups: [...groups].map(([by, records]) => ({
      client: by === '' ? `${client.name} (by no gateway)` : by,
      ...selectDays(
        records.map(({ id, arrived, stored }) => ({
          id,
          arrived: new Date(arrived),
          stored: new Date(stored),
          client: by,
        })),
        options,
      ),
    })),
    apart: [],
  };
}

async function removeDays(work: Work, plan: ForgetPlan): Promise<ForgetOutcome> {
  const ids = removedIds(plan);
  if (ids.length === 0) return { removed: 0 };
  const { kept } = await askRecords(work, { do: 'remove', ids });
  const removed = ids.length - kept.length;
  return kept.length === 0
    ? { removed }
    : { removed, failed: `the storage keeps ${kept.length} snapshots until their retention ends (Object Lock)` };
}

/** What was cut off is completed by the same again: what is still there is still to go, and prune removes what nothing uses. */
async function removeSnapshots(work: Work, plan: ForgetPlan, password: RepositoryPassword): Promise<ForgetOutcome> {
  const { given, config, client, hold } = work;
  const run = async (...args: string[]): Promise<number> => {
    const { code } = await runAdminRestic({
      ...{ client: client.name, file: config.file, env: password.env, hold },
      args: [...args, ...(given.quiet ? ['--quiet'] : [])],
      output: given.json ? 'stderr' : 'inherit',
    });
    return code;
  };
  const ids = removedIds(plan);
  let removed = 0;
  for (let at = 0; at < ids.length; at += IDS_AT_ONCE) {
    const part = ids.slice(at, at + IDS_AT_ONCE);
    const code = await run('forget', ...part);
    if (code !== 0)
      return {
        removed,
        failed: `restic forget ended with ${code}, and nothing was pruned; the same command completes it`,
      };
    removed += part.length;
  }
  if (!given.prune) return { removed };
  const code = await run('prune');
  return code === 0
    ? { removed, pruned: true }
    : { removed, pruned: false, failed: `restic prune ended with ${code}; the same command completes it` };
}

/** What the gateway's user knows and does. */
async function askRecords(work: Work, request: RecordsRequest): Promise<RecordsAnswer> {
  const doing = { read: 'looking when snapshots arrived', note: 'writing the audit log', remove: 'removing snapshots' };
  return withProgress(`${work.client.name}: ${doing[request.do]}`, () => askUser(work, request));
}

async function askUser({ config, client }: Work, request: RecordsRequest): Promise<RecordsAnswer> {
  const [program = '', ...script] = ownProgram();
  const child = spawn(program, [...process.execArgv, ...script, 'snapshot-records', client.name, '-c', config.file], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: withoutPasswords(withoutSshd()),
  });
  // Whoever ends before it has read everything says why by its status.
  child.stdin.on('error', () => undefined);
  child.stdin.end(JSON.stringify(request));
  const chunks: Buffer[] = [];
  let bytes = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MOST_LISTED_BYTES) child.kill('SIGTERM');
    else chunks.push(chunk);
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => {
      resolve(status ?? 1);
    });
  });
  let answer: unknown;
  if (code === 0 && bytes <= MOST_LISTED_BYTES)
    try {
      answer = JSON.parse(Buffer.concat(chunks).toString());
    } catch {
      answer = undefined;
    }
  if (!ANSWER(answer))
    throw new GatewayError('store-failed', {
      detail: "the repository's own records could not be used (see above); nothing more was changed",
    });
  return answer;
}
