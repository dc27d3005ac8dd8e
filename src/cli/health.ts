/** `restic-gateway health`: whether the `serve` of a config would serve a session now. What a container's health check runs. */
import { createConnection } from 'node:net';
import { get } from 'node:http';
import { text as textOf } from 'node:stream/consumers';
import { loadConfig } from '../config/load.ts';
import type { GatewayConfig } from '../config/types.ts';
import { messageOf } from '../core/errors.ts';
import { written } from '../core/listening.ts';
import { printableLines } from '../core/printable.ts';
import { chooseConfigFile } from './own-user.ts';

/** How long an answer may take, in ms. */
const PATIENCE_MS = 5000;
/** What a server may say before its identification, and that itself (RFC 4253, section 4.2), in bytes. */
const MOST_GREETING = 1024;

type Address = Readonly<GatewayConfig['listen'][number]>;

/**
 * Asks `/readyz` where the config has `metrics`. Else the SSH server's greeting has to do, which only says that it takes connections.
 * @returns the exit status: 0 when `serve` is ready, 1 when it is not, or does not answer
 * @throws GatewayError `invalid-config`
 */
export async function runHealth({
  config: option,
  quiet,
}: {
  readonly config: string | undefined;
  readonly quiet: boolean;
}): Promise<number> {
  // Neither secrets nor state are of use here, so nothing is done as another user.
  const { listen, metrics } = loadConfig(chooseConfigFile(option));
  try {
    const said = await (metrics === undefined ? greetings(listen) : readiness(metrics.listen));
    if (!quiet) process.stdout.write(`${printableLines(said)}\n`);
    return 0;
  } catch (error) {
    process.stderr.write(`${printableLines(`restic-gateway: ${messageOf(error)}`)}\n`);
    return 1;
  }
}

/** @throws Error that says why it is not ready */
async function readiness(listen: Address): Promise<string> {
  const { host, port } = reachable(listen);
  const signal = AbortSignal.timeout(PATIENCE_MS);
  try {
    const { status, body } = await new Promise<{ readonly status: number; readonly body: string }>(
      (resolve, reject) => {
        get({ host, port, path: '/readyz', signal }, (response) => {
          textOf(response).then((body) => {
            resolve({ status: response.statusCode ?? 0, body: body.trim() });
          }, reject);
        }).on('error', reject);
      },
    );
    if (status === 200) return body;
    throw new Error(body.startsWith('not ready') ? body : `not ready: /readyz answers ${status}: ${body}`);
  } catch (error) {
    throw unanswered(error, listen, signal);
  }
}

/** One of the addresses has to do: one of IPv6 is left out where there is none. @throws Error that says why none of them serves */
async function greetings(listen: readonly Address[]): Promise<string> {
  return Promise.any(listen.map(greeting)).catch((error: unknown) => {
    throw error instanceof AggregateError ? error.errors[0] : error;
  });
}

/** @throws Error that says why it does not serve */
async function greeting(listen: Address): Promise<string> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const socket = createConnection({ ...reachable(listen), signal });
  try {
    let heard = '';
    for await (const chunk of socket.setEncoding('latin1')) {
      heard += chunk as string;
      if (/^SSH-2\.0-/m.test(heard))
        return 'accepts connections (with metrics.listen in the config, health asks /readyz)';
      if (heard.length > MOST_GREETING) break;
    }
    throw new Error(`not ready: what answers on ${written(listen)} is no SSH server, or takes no connections now`);
  } catch (error) {
    throw unanswered(error, listen, signal);
  } finally {
    socket.destroy();
  }
}

function unanswered(error: unknown, listen: Address, { aborted }: AbortSignal): Error {
  if (error instanceof Error && error.message.startsWith('not ready')) return error;
  const why = aborted ? `no answer in ${PATIENCE_MS / 1000} s` : messageOf(error);
  return new Error(`not ready: serve does not answer on ${written(listen)} (${why})`);
}

/** Where a listener can be reached from this machine: one on all addresses has none of its own. */
function reachable({ host, port }: Address): Address {
  if (host === '0.0.0.0') return { host: '127.0.0.1', port };
  return { host: host === '::' ? '::1' : host, port };
}
