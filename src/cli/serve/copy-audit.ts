/** Copies the audit as long as `serve` runs, and once more when it ends. */
import { isDeepStrictEqual } from 'node:util';
import { createCopying } from '../../audit/copying.ts';
import type { GatewayConfig } from '../../config/types.ts';
import { messageOf } from '../../core/errors.ts';
import { openAuditCopy } from '../../maintenance.ts';
import type { Log } from '../../ports/log.ts';

/** Copies in the background. */
interface AuditCopying {
  /** Takes up another config. */
  reconfigure(config: GatewayConfig): void;
  /** Copies what is left, within some seconds, and ends. Never rejects. */
  close(): Promise<void>;
}

/** How long the last run may take, in ms. */
const LAST_MS = 10_000;

/** Begins to copy, if the config says so. */
export function copyAudit(first: GatewayConfig, log: Log): AuditCopying {
  let config = first;
  let running = start(first, log);
  return {
    reconfigure: (next) => {
      const before = config;
      config = next;
      const same = (key: 'audit' | 'state' | 'stores'): boolean => isDeepStrictEqual(before[key], next[key]);
      if (same('audit') && same('state') && same('stores')) return;
      const old = running;
      running = { close: () => Promise.resolve() };
      const ended = old.close();
      const begun = ended.then(() => start(next, log));
      running = { close: async () => (await begun).close() };
    },
    close: () => running.close(),
  };
}

function start(config: GatewayConfig, log: Log): Pick<AuditCopying, 'close'> {
  const { copy } = config.audit;
  if (copy === undefined) return { close: () => Promise.resolve() };
  const closing = new AbortController();
  let wake: () => void = () => undefined;

  const work = async (): Promise<void> => {
    const opened = await openAuditCopy(config);
    if (opened === undefined) return;
    try {
      const copying = createCopying({ config, log, ...opened });
      // What goes wrong is told by it, and tried again.
      const run = (signal: AbortSignal) => copying.run(signal).catch(() => undefined);
      while (!closing.signal.aborted) {
        await run(closing.signal);
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (closing.signal.aborted) resolve();
          else setTimeout(resolve, copy.every).unref();
        });
      }
      await run(AbortSignal.timeout(LAST_MS));
    } finally {
      await opened.store.close();
    }
  };
  const done = work().catch((error: unknown) => {
    log.error({ err: error }, `the audit is not copied: ${messageOf(error)}`);
  });
  return {
    close: async () => {
      closing.abort();
      wake();
      await done;
    },
  };
}
