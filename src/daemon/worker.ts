/** One of the processes that share the port. The primary sends it what to do; signals are the primary's business. */
import cluster from 'node:cluster';
import { asGatewayError } from '../core/errors.ts';
import type { Log } from '../ports/log.ts';
import { surviveDefects } from './last-net.ts';
import { receivedConfig, type FromWorker, type ToWorker } from './messages.ts';
import { startService, type Service } from './service.ts';
import { linkSiblings } from './siblings.ts';

/** How long a worker whose primary is gone may take to end its sessions, in ms. */
const ORPHAN_MS = 5000;

/** Serves until the primary says otherwise or is gone. @returns the exit status */
export function runWorker(log: Log): Promise<number> {
  // A terminal and systemd send these to every process of the service.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
  let service: Service | undefined;
  const siblings = linkSiblings((said) => {
    send({ kind: 'siblings', said });
  });

  // Else Node ends this process as soon as the channel is closed, and the audit would not hear how the sessions ended.
  if (cluster.worker !== undefined) cluster.worker.exitedAfterDisconnect = true;

  const sendFigures = async (): Promise<void> => {
    for (const figures of (await service?.served())?.processes.values() ?? []) send({ kind: 'figures', figures });
  };

  return new Promise((resolve) => {
    let ending: Promise<void> | undefined;
    const end = (status: number): Promise<void> => (ending ??= conclude(status));
    const conclude = async (status: number): Promise<void> => {
      await service?.close();
      await sendFigures();
      resolve(status);
      // An open channel would keep the process alive.
      if (process.connected) process.disconnect();
    };
    const handle = async (message: ToWorker): Promise<void> => {
      switch (message.kind) {
        case 'config': {
          const config = receivedConfig(message.config);
          if (service !== undefined) {
            await service.reconfigure(config);
            return;
          }
          service = await startService({ config, log, siblings });
          surviveDefects(log);
          const { addresses, hostKeys } = service;
          send({ kind: 'ready', addresses, hostKeys });
          return;
        }
        case 'sibling':
          siblings.hear(message.heard);
          return;
        case 'count':
          await sendFigures();
          return;
        case 'drain':
          // Not awaited here: `stop` may come meanwhile.
          service
            ?.drain()
            .then(() => end(0))
            .catch(() => process.exit(1));
          return;
        case 'stop':
          await end(0);
      }
    };
    // In their order, but for what changes nothing.
    let handled = Promise.resolve();
    process.on('message', (message: ToWorker) => {
      if (message.kind === 'count' || message.kind === 'sibling') {
        handle(message).catch(() => undefined);
        return;
      }
      handled = handled.then(async () => {
        try {
          await handle(message);
        } catch (error) {
          // With a config that it cannot take up it must not go on: its grants may be gone.
          const failure = asGatewayError(error);
          send({ kind: 'failed', code: failure.code, detail: failure.message });
          await end(1);
        }
      });
    });
    send({ kind: 'hello' });
    process.once('disconnect', () => {
      // Either this worker has closed the channel at its end, or the primary is gone.
      if (ending !== undefined) return;
      setTimeout(() => process.exit(1), ORPHAN_MS).unref();
      end(1).catch(() => process.exit(1));
    });
  });
}

function send(message: FromWorker): void {
  // A primary that is gone hears nothing, and this process is about to end.
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}
