/** The web listener of `serve`: what it serves, and from which parts of the daemon that comes. Loaded where the config asks for it alone. */
import { isDeepStrictEqual } from 'node:util';
import { checkAuditWritable } from '../../audit/writable.ts';
import { readToken } from '../../config/secrets.ts';
import type { GatewayConfig } from '../../config/types.ts';
import { isGatewayError } from '../../core/errors.ts';
import type { Monitor } from '../../monitor/monitor.ts';
import type { Log } from '../../ports/log.ts';
import type { WebAnswer, WebRoute } from '../../ports/web.ts';

/** What the routes tell of. */
export interface WebSources {
  /** The newest config that was taken up. */
  readonly config: () => GatewayConfig;
  /** Whether whoever connects by SSH now is let in. */
  readonly isListening: () => boolean;
  readonly monitor: Monitor;
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
  const routes = [...routesOf(sources), ...pageRoutes(sources)];
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
function routesOf(sources: WebSources): readonly WebRoute[] {
  return [
    { path: /^\/healthz$/, open: true, answer: () => text(200, 'ok') },
    { path: /^\/readyz$/, open: true, answer: () => readiness(sources) },
  ];
}

/** @param line - for everybody: nothing of clients, paths or storage */
function text(status: number, line: string): WebAnswer {
  return { status, headers: {}, body: `${line}\n` };
}

async function readiness({ config, isListening }: WebSources): Promise<WebAnswer> {
  if (!isListening()) return text(503, 'not ready: no sessions are let in');
  try {
    await checkAuditWritable(config().audit.file);
  } catch (error) {
    if (!isGatewayError(error, 'audit-unavailable')) throw error;
    return text(503, 'not ready: the audit cannot be written');
  }
  return text(200, 'ready');
}
