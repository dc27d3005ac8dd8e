/** The web listener of `serve`: what it serves, and from which parts of the daemon that comes. Loaded where the config asks for it alone. */
import { hostname } from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import { checkAuditWritable } from '../audit/writable.ts';
import { readToken } from '../config/secrets.ts';
import type { GatewayConfig } from '../config/types.ts';
import { isGatewayError } from '../core/errors.ts';
import { gatewayProblems, type GatewayProblem } from '../monitor/gateway-problems.ts';
import { isWritable } from '../state/writable.ts';
import type { Monitor } from '../monitor/monitor.ts';
import type { Log } from '../ports/log.ts';
import type { Part } from './parts.ts';
import type { Served } from './service.ts';
import type { WebAnswer, WebRoute } from '../ports/web.ts';

/** What the routes report on. */
interface WebSources {
  /** The newest config that was taken up. */
  readonly config: () => GatewayConfig;
  /** Whether whoever connects by SSH now is let in. */
  readonly isListening: () => boolean;
  /** Whether uploads are taken on any store. */
  readonly isAnyStoreSafe: () => boolean;
  readonly monitor: () => Monitor;
  readonly version: string;
  readonly served: () => Promise<Served>;
}

/**
 * Listens, if the config says so.
 * @throws GatewayError `invalid-config` for an address that cannot be listened on or a token that cannot be read
 */
export async function openWeb(config: GatewayConfig, log: Log, sources: WebSources): Promise<Part> {
  const { metrics } = config;
  if (metrics === undefined) return { close: () => Promise.resolve() };
  let token = tokenOf(config);
  let accepted = token;
  const { openWebListener } = await import('../web/listener.ts');
  const { pageRoutes } = await import('../page/page.ts');
  const monitor = {
    statuses: () => sources.monitor().statuses(),
    status: (name: string) => sources.monitor().status(name),
    reading: () => sources.monitor().reading(),
  };
  const routes = [
    ...(await routesOf(sources)),
    ...pageRoutes({
      config: sources.config,
      monitor,
      problems: async () => (await urgentProblems(sources.config())).map(({ words }) => words),
      about: { host: hostname(), version: sources.version },
    }),
  ];
  const listener = await openWebListener({ listen: metrics.listen, token, routes, log });
  const { host, port } = listener.address;
  log.info(
    { host, port, token: token !== undefined },
    `metrics and status page on http://${formatHost(host)}:${port}/`,
  );
  return {
    accept: (next) => {
      const read = tokenOf(next);
      // What goes on listening beyond loopback until it is started again must not go on without its token.
      accepted = read ?? (isDeepStrictEqual(next.metrics?.listen, metrics.listen) ? undefined : token);
    },
    reconfigure: () => {
      token = accepted;
      listener.setToken(token);
    },
    close: () => listener.close(),
  };
}

function tokenOf({ metrics }: GatewayConfig): string | undefined {
  return metrics?.token && readToken(metrics.token);
}

async function urgentProblems(config: GatewayConfig): Promise<readonly GatewayProblem[]> {
  return (await gatewayProblems(config)).filter(({ urgent }) => urgent);
}

function formatHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** What is served to machines. */
async function routesOf(sources: WebSources): Promise<readonly WebRoute[]> {
  const { createExporter } = await import('../metrics/exporter.ts');
  const { config, monitor, served, version } = sources;
  const metrics = createExporter({
    ...{ version, served },
    statuses: () => monitor().statuses(),
    isReady: async () => (await whyNotReady(sources)) === undefined,
    problems: async () => new Set((await urgentProblems(config())).map(({ kind }) => kind)),
    knownClient: (name) => config().clients[name] !== undefined,
    clientCount: () => countOf(config().clients),
    mostWithSeries: () => config().metrics?.mostClients,
  });
  return [
    { path: /^\/healthz$/, open: true, answer: () => text(200, 'ok') },
    {
      path: /^\/readyz$/,
      open: true,
      answer: async () => {
        const why = await whyNotReady(sources);
        return why === undefined ? text(200, 'ready') : text(503, `not ready: ${why}`);
      },
    },
    { path: /^\/metrics$/, open: false, answer: () => metrics() },
  ];
}

function countOf(clients: GatewayConfig['clients']): number {
  return Object.keys(clients).length;
}

/** @param line - for everybody: nothing of clients, paths or storage */
function text(status: number, line: string): WebAnswer {
  return { status, headers: {}, body: `${line}\n` };
}

/** Why no session would be served now, for everybody to read; undefined when one would. */
async function whyNotReady({ config, isListening, isAnyStoreSafe }: WebSources): Promise<string | undefined> {
  if (!isListening()) return 'no sessions are accepted';
  if (!isAnyStoreSafe()) return 'no store is safe to store in';
  const { audit, state } = config();
  try {
    await checkAuditWritable(audit.file);
  } catch (error) {
    if (!isGatewayError(error, 'audit-unavailable')) throw error;
    return 'the audit cannot be written';
  }
  return (await isWritable(state)) ? undefined : 'the state directory cannot be written';
}
