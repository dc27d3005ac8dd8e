/** `restic-gateway notify`: whether those whom the gateway tells of problems can be reached. */
import { hostname } from 'node:os';
import type { NotifyTarget } from '../config/notify.ts';
import { noSuch } from '../config/problems.ts';
import { messageOf } from '../core/errors.ts';
import { timedId } from '../core/timed-id.ts';
import { testMessage } from '../notify/message.ts';
import { coveredClients } from '../notify/pings.ts';
import { isProblem } from '../notify/problems.ts';
import { openSender } from '../notify/send.ts';
import { readReach, type Reach } from '../notify/told.ts';
import { jsonLine } from './json.ts';
import { loadOwnConfig } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';
import { formatDuration, printable, prose, table, type Column } from './terminal.ts';

/**
 * Sends a test to a target. A ping is one of `log`, which changes no check's state.
 * @returns the exit status: 0 when it was taken, 1 when it was not
 * @throws GatewayError `usage`, `invalid-config`
 */
export async function runNotifyTest(given: {
  readonly target: string;
  readonly config: string | undefined;
  readonly json: boolean;
}): Promise<number> {
  refuseInForcedCommand();
  const config = await loadOwnConfig(given.config);
  const target = config.notify[given.target];
  if (target === undefined) throw noSuch('target', given.target, config.notify, config.file);
  const sender = openSender(target, new AbortController().signal);
  let problem: string | undefined;
  try {
    if (target.channel.type === 'ping') {
      const [client] = coveredClients(target, sender.pingUrl(), Object.keys(config.clients));
      const body = `restic-gateway ${hostname()}: a test`;
      await sender.ping({ kind: 'log', body, ...(client !== undefined && { client }) });
    } else await sender.send(testMessage(hostname(), Date.now(), timedId()));
  } catch (error) {
    problem = printable(messageOf(error));
  } finally {
    sender.close();
  }
  const { name, channel } = target;
  if (given.json) {
    const good = problem === undefined;
    process.stdout.write(
      jsonLine('notify-test', { target: name, type: channel.type, good, ...(problem !== undefined && { problem }) }),
    );
  } else if (problem === undefined) process.stdout.write(prose(`${name}: the test was taken (${channel.type})`));
  else process.stderr.write(prose(`restic-gateway: ${name}: the test was not taken: ${problem}`));
  return problem === undefined ? 0 : 1;
}

const COLUMNS: readonly Column[] = [
  { title: 'TARGET', cut: { to: 12, at: 'middle' } },
  { title: 'TYPE', rank: 3 },
  { title: 'EVENTS', rank: 1, cut: { to: 20, at: 'end' } },
  { title: 'LAST REACHED', right: true, rank: 4 },
  { title: 'PENDING', right: true, rank: 2 },
  { title: 'STATE', cut: { to: 20, at: 'end' } },
];

/**
 * Lists the targets.
 * @returns the exit status: 1 when one of them cannot be reached
 * @throws GatewayError `invalid-config`
 */
export async function runNotifyList(given: {
  readonly config: string | undefined;
  readonly json: boolean;
}): Promise<number> {
  refuseInForcedCommand();
  const { notify, state } = await loadOwnConfig(given.config);
  const now = Date.now();
  const found = await Promise.all(
    Object.values(notify).map(async (target) => ({ target, reach: await readReach(state, target.name) })),
  );
  const bad = found.filter(({ reach }) => reach?.failing !== undefined && isProblem(reach.failing, now));
  if (given.json)
    for (const { target, reach } of found) process.stdout.write(jsonLine('notify', jsonOf(target, reach, now)));
  else if (found.length === 0) process.stdout.write(prose('The config has no notify, so nobody is told of problems.'));
  else
    process.stdout.write(
      table(
        COLUMNS,
        found.map(({ target: { name, channel, events }, reach }) => [
          ...[name, channel.type, events.join(', ')],
          reach?.lastSuccess === undefined ? 'never' : `${formatDuration(Math.max(0, now - reach.lastSuccess))} ago`,
          reach === undefined || reach.pending === 0 ? '' : `${reach.pending}`,
          stateOf(reach, now),
        ]),
      ),
    );
  return bad.length === 0 ? 0 : 1;
}

function stateOf(reach: Reach | undefined, now: number): string {
  if (reach === undefined) return 'not used yet';
  const { failing } = reach;
  if (failing === undefined) return 'ok';
  return `failing for ${formatDuration(Math.max(0, now - failing.since))}: ${printable(failing.why)}`;
}

function jsonOf(
  { name, channel, events, severity, clients }: NotifyTarget,
  reach: Reach | undefined,
  now: number,
): object {
  const { lastSuccess, failing, pending = 0 } = reach ?? {};
  return {
    ...{ target: name, type: channel.type, events, severity, ...(clients && { clients }), pending },
    good: failing === undefined || !isProblem(failing, now),
    ...(lastSuccess !== undefined && { lastSuccess: new Date(lastSuccess) }),
    ...(failing && {
      failing: { ...failing, since: new Date(failing.since), next: new Date(failing.next) },
    }),
  };
}
