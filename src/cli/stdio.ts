/** `restic-gateway stdio CLIENT`: the forced command under OpenSSH. Starts once a connection, so it loads nothing it does not need. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { parseArgs } from 'node:util';
import type { Fleet } from '../database/fleet.ts';
import { findConfigFile, loadConfig } from '../config/load.ts';
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError, GatewayError } from '../core/errors.ts';
import type { Via } from '../core/principal.ts';
import { printable } from '../core/printable.ts';
import { serveForcedCommand } from '../frontends/forced-command.ts';
import { HEARD_MS } from '../frontends/heard.ts';
import { openStdio } from '../frontends/stdio-stream.ts';
import { createGateway, type Gateway } from '../gateway/gateway.ts';
import { memoryOfOneSession } from '../limits/memory-limits.ts';
import { SILENT } from '../ports/log.ts';
import type { Session, SessionRequest } from '../ports/sessions.ts';
import { orUsage } from './arguments.ts';
import { fileState } from '../config/file-state.ts';
import { loadConfigFor } from './login-config.ts';
import { followConfig } from './follow-config.ts';
import { collectGarbageForThroughput } from './garbage-collection.ts';
import { onDefect } from '../daemon/last-net.ts';
import { goOnAsUser } from './own-user.ts';

/** How long a session that met a defect may take to end, in ms. */
const ENDING_MS = 10_000;

const USAGE = 'usage: restic-gateway stdio CLIENT [-c FILE]';

/**
 * Runs the command.
 * @returns the exit status
 * @throws GatewayError `usage`
 */
export async function runStdio(argv: readonly string[]): Promise<number> {
  const { values, positionals } = orUsage(USAGE, () =>
    parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        config: { type: 'string', short: 'c' },
        help: { type: 'boolean' },
        // How `restic-gateway restic` starts it.
        admin: { type: 'string' },
        hold: { type: 'string' },
        'end-sessions': { type: 'boolean', default: false },
        'override-protect': { type: 'boolean', default: false },
      },
    }),
  );
  if (values.help === true) {
    process.stdout.write(`${USAGE}\n\nServes one client on stdin and stdout: the forced command under OpenSSH.\n`);
    return 0;
  }
  const [client, ...more] = positionals;
  if (client === undefined || more.length > 0) throw new GatewayError('usage', { detail: USAGE });
  const { admin, hold: waitMs } = values;
  if (admin !== undefined) (await import('./admin-run.ts')).mustBeAdminRun(admin);
  if (isatty(0) || isatty(1))
    throw new GatewayError('usage', {
      detail: 'stdio speaks HTTP/2 to restic, not to a terminal; it is meant for command="…" in authorized_keys',
    });
  collectGarbageForThroughput();
  const hold = waitMs === undefined ? undefined : { waitMs: Number(waitMs), endSessions: values['end-sessions'] };
  const via = admin === undefined ? 'stdio' : 'admin';
  return serveStdio(client, via, values.config, { hold, overrideProtect: values['override-protect'] });
}

async function serveStdio(
  client: string,
  via: Extract<Via, 'stdio' | 'admin'>,
  file: string | undefined,
  asked: Pick<SessionRequest, 'hold' | 'overrideProtect'>,
): Promise<number> {
  let deaf = true;
  const notify = (line: string): void => {
    // Whoever hangs up before reading it must not keep the audit from its last line.
    if (deaf) process.stderr.on('error', () => undefined);
    deaf = false;
    process.stderr.write(`restic-gateway: ${printable(line)}\n`);
  };
  let served: Session | undefined;
  const failed = { yet: false };
  onDefect((error) => {
    if (failed.yet) return;
    failed.yet = true;
    notify('the gateway has failed, and this session ends; try again.');
    if (process.env['RESTIC_GATEWAY_DEBUG'] !== undefined && error instanceof Error) notify(error.stack ?? '');
    // The client must not hang with whatever hangs now.
    setTimeout(() => process.exit(1), served === undefined ? 0 : ENDING_MS).unref();
    served?.close('gateway-failed');
  });
  let gateway: Gateway;
  let config: GatewayConfig;
  let configState: string;
  let fleet: Fleet | undefined;
  try {
    const configFile = findConfigFile(file);
    // From before it is read, so that no change in between is missed.
    configState = fileState(configFile);
    config = via === 'stdio' ? await loadConfigFor(configFile, { client }) : loadConfig(configFile);
    await goOnAsUser(config);
    // The admin's own session is nobody's to refuse.
    if (via === 'stdio') fleet = await joinFleet(config);
    // What happens here is in the audit; stderr belongs to the person at the client.
    gateway = await createGateway({
      config: fleet?.effective() ?? config,
      log: SILENT,
      memory: (given) => memoryOfOneSession(given, client),
    });
    fleet?.follow((next) => gateway.reconfigure(next));
  } catch (error) {
    const failure = asGatewayError(error);
    notify(
      failure.code === 'invalid-config'
        ? "the gateway's configuration cannot be used; its admin sees why with: restic-gateway check"
        : `${failure.clientMessage}.`,
    );
    await sleep(HEARD_MS);
    return failure.code === 'invalid-config' ? 2 : 1;
  }
  let unfollow: (() => void) | undefined;
  try {
    const status = await serveForcedCommand({
      client,
      via,
      environment: process.env,
      stream: openStdio(),
      notify,
      ...asked,
      openSession: async (request) => {
        const session = await gateway.openSession(request);
        served = session;
        // sshd's socket is Node's own to read and write. When nghttp2 has given a client up that broke the protocol, Node 20 tells nobody
        // and reads no more: that nothing is left to wait for is the sign, and the audit still has to hear of the end.
        process.once('beforeExit', () => {
          session.close('protocol-error');
        });
        // Begun this late, it costs the start nothing. The admin's own session is never revoked.
        if (via === 'stdio') {
          const apply = fleet?.reconfigure ?? ((next: GatewayConfig) => gateway.reconfigure(next));
          unfollow = followConfig(config, configState, client, apply);
        }
        return session;
      },
    });
    return failed.yet ? 1 : status;
  } finally {
    unfollow?.();
    await gateway.close();
    await fleet?.close();
  }
}

/** What is shared with other gateways; undefined where the config names no database. */
async function joinFleet(config: GatewayConfig): Promise<Fleet | undefined> {
  const { database } = config;
  if (database === undefined) return undefined;
  const [{ openFleet }, { VERSION }] = await Promise.all([import('../database/fleet.ts'), import('./version.ts')]);
  return openFleet({ config, database, version: VERSION, isServe: false, log: SILENT });
}
