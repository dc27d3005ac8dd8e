/** What `check --live` finds out about this machine: whether whoever runs it could serve here. Changes nothing. */
import { once } from 'node:events';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { createServer, isIPv4 } from 'node:net';
import { dirname } from 'node:path';
import { checkAuditWritable } from '../audit/writable.ts';
import { invalid } from '../config/problems.ts';
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError, messageOf } from '../core/errors.ts';
import { whyNotListening } from '../core/listening.ts';
import { whoServes } from '../state/serving.ts';

/** @throws GatewayError `audit-unavailable`, `state-unavailable`: no session would be served */
export async function mustBeWritable({ audit, state }: GatewayConfig): Promise<void> {
  const directory = dirname(audit.file);
  // What is missing is made by the first session, if that may make it.
  if ((await nearest(directory, 'audit-unavailable', audit.file)) === directory) await checkAuditWritable(audit.file);
  await nearest(state, 'state-unavailable', state);
}

/**
 * That `serve` could listen. A `serve` that runs with this config has the addresses already; and a right to a low port is the service's own,
 * which whoever runs this need not have.
 * @throws GatewayError `invalid-config` that names the address which cannot be used
 */
export async function mustBeListenable({ listen, metrics, hostKeys, file, state }: GatewayConfig): Promise<void> {
  // Without a host key there is no serve: sshd alone lets clients in.
  if (hostKeys.length === 0 || (await whoServes(state, file)).length > 0) return;
  for (const place of listen) {
    const beside = listen.filter((other) => isIPv4(other.host) && other.port === place.port);
    const error = await whyNot(place, beside.length > 0);
    const withoutV6 = place.host === '::' && beside.some(({ host }) => host === '0.0.0.0');
    if (error === undefined || (withoutV6 && ['EAFNOSUPPORT', 'EADDRNOTAVAIL'].includes(error.code ?? ''))) continue;
    throw invalid(whyNotListening(error, 'listen', place));
  }
  const error = metrics === undefined ? undefined : await whyNot(metrics.listen, false);
  if (metrics !== undefined && error !== undefined)
    throw invalid(whyNotListening(error, 'metrics.listen', metrics.listen));
}

/** The system's error when nothing can listen there, apart from a low port that the service may have the right to. */
async function whyNot(
  { host, port }: { readonly host: string; readonly port: number },
  ipv6Only: boolean,
): Promise<NodeJS.ErrnoException | undefined> {
  const server = createServer((socket) => socket.destroy());
  try {
    server.listen({ host, port, ipv6Only });
    await once(server, 'listening');
    server.close();
    await once(server, 'close');
    return undefined;
  } catch (error) {
    const failure = error as NodeJS.ErrnoException;
    return failure.code === 'EACCES' && port < 1024 ? undefined : failure;
  }
}

/** The nearest directory that exists, from this one upwards. @throws GatewayError when nothing can be made in it */
async function nearest(
  directory: string,
  code: 'audit-unavailable' | 'state-unavailable',
  wanted: string,
): Promise<string> {
  try {
    await access(directory, constants.W_OK | constants.X_OK);
    return directory;
  } catch (error) {
    const up = dirname(directory);
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && up !== directory) return nearest(up, code, wanted);
    const what = code === 'audit-unavailable' ? 'the audit' : 'state';
    const detail = `${what} ${wanted} cannot be written by uid ${process.geteuid?.() ?? '?'}: ${messageOf(error)}`;
    throw new GatewayError(code, { detail, cause: error });
  }
}
