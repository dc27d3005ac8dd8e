/** The web listener of `serve`: what it serves, and from which parts of the daemon that comes. Loaded where the config asks for it alone. */
import { isDeepStrictEqual } from 'node:util';
import { readCopyState } from '../../audit/copy-state.ts';
import { checkAuditWritable } from '../../audit/writable.ts';
import { readToken } from '../../config/secrets.ts';
import type { GatewayConfig } from '../../config/types.ts';
import { isGatewayError } from '../../core/errors.ts';
import type { Monitor } from '../../monitor/monitor.ts';
import type { Log } from '../../ports/log.ts';
import { VERSION } from '../version.ts';
import type { Served } from './service.ts';
import type { WebAnswer, WebRoute } from '../../ports/web.ts';

/** What the routes tell of. */
export interface WebSources {
  /** The newest config that was taken up. */
  readonly config: () => GatewayConfig;
  /** Whether whoever connects by SSH now is let in. */
  readonly isListening: () => boolean;
  readonly monitor: Monitor;
  readonly served: () => Promise<Served>;
}

/** A listener, or none where the config has none. */
interface Web {
  /**
   * Makes ready to take up another config.
   * @returns a function that takes it up; the address stays what it is
   * @throws GatewayError `invalid-config` when the token cannot be read
   */
  prepare(config: GatewayConfig): () => void;
  close(): Promise<void>;
}

/**
 * Listens, if the config says so.
 * @throws GatewayError `invalid-config` for an address that cannot be listened on or a token that cannot be read
 */
export async function openWeb(config: GatewayConfig, log: Log, sources: WebSources): Promise<Web> {
  const { metrics } = config;
  if (metrics === undefined) return { prepare: () => () => undefined, close: () => Promise.resolve() };
  let token = tokenOf(config);
  const { openWebListener } = await import('../../web/listener.ts');
  const { pageRoutes } = await import('../../page/page.ts');
  const routes = [...(await routesOf(sources)), ...pageRoutes(sources)];
  const listener = await openWebListener({ listen: metrics.listen, token, routes, log });
  const { host, port } = listener.address;
  log.info(
    { host, port, token: token !== undefined },
    `metrics and status page on http://${formatHost(host)}:${port}/`,
  );
  return {
    prepare: (next) => {
      const read = tokenOf(next);
      // What goes on listening beyond loopback until it is started again must not go on without its token.
      const kept = read ?? (isDeepStrictEqual(next.metrics?.listen, metrics.listen) ? undefined : token);
      return () => {
        token = kept;
        listener.setToken(kept);
      };
    },
    close: () => listener.close(),
  };
}

function tokenOf({ metrics }: GatewayConfig): string | undefined {
  return metrics?.token && readToken(metrics.token);
}

function formatHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** What is served to machines. */
async function routesOf(sources: WebSources): Promise<readonly WebRoute[]> {
  const { createExporter } = await import('../../metrics/exporter.ts');
  const { config, monitor, served } = sources;
  const metrics = createExporter({
    ...{ version: VERSION, served },
    standings: () => monitor.standings(),
    isReady: async () => (await whyNotReady(sources)) === undefined,
    isCopyLate: async () => {
      const { audit, state } = config();
      return audit.copy !== undefined && (await readCopyState(state))?.failing?.late === true;
    },
    knownClient: (name) => config().clients[name] !== undefined,
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

/** @param line - for everybody: nothing of clients, paths or storage */
function text(status: number, line: string): WebAnswer {
  return { status, headers: {}, body: `${line}\n` };
}

async function whyNotReady({ config, isListening }: WebSources): Promise<string | undefined> {
  if (!isListening()) return 'no sessions are let in';
  try {
    await checkAuditWritable(config().audit.file);
    return undefined;
  } catch (error) {
    if (!isGatewayError(error, 'audit-unavailable')) throw error;
    return 'the audit cannot be written';
  }
}
