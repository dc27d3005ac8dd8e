/**
 * Connections that do not reach the worker that they are handed to, since it has no file descriptor left.
 *
 * Node's primary (SCHED_RR) keeps a connection until its worker has answered, and gives that worker no other before. The worker's end says
 * NODE_HANDLE_NACK for one that came without its descriptor, which the primary ignores: the client would wait for ever, and the worker would
 * never be given another one, even with descriptors again. So the answer that is missing is given here: not accepted, have the next one try.
 *
 * Source: Node's lib/internal/child_process.js (NODE_HANDLE_NACK), lib/internal/cluster/round_robin_handle.js (`handoff`) and utils.js (`seq`, `ack`),
 * the same in Node 20 to 26. In a Node that does otherwise, nothing here ever runs.
 */
import type { Worker } from 'node:cluster';
import type { Serializable } from 'node:child_process';
import { createAllowance } from '../core/allowance.ts';
import type { Log } from '../ports/log.ts';

/** How long a connection waits before it is handed on, in ms: another worker may lack descriptors as well. */
const PAUSE_MS = 200;

/** Looks after the connections of a worker that has just been started, and says once a minute, at most, that one was lost. */
export function handOnLostConnections({ process }: Worker, log: Log): void {
  const warnings = createAllowance(1, 1 / 60, () => performance.now());
  /** The connection that it has not answered for; there is one at a time. */
  let underWay: number | undefined;
  const send = process.send.bind(process) as (message: Serializable, ...rest: unknown[]) => boolean;
  process.send = (message: Serializable, ...rest: unknown[]): boolean => {
    const { act, seq } = message as { readonly act?: unknown; readonly seq?: number };
    if (act === 'newconn') underWay = seq;
    return send(message, ...rest);
  };
  process.on('internalMessage', ({ cmd }: { readonly cmd?: unknown }) => {
    if (cmd !== 'NODE_HANDLE_NACK' || underWay === undefined) return;
    const answer = { cmd: 'NODE_CLUSTER', ack: underWay, accepted: false };
    underWay = undefined;
    if (warnings.take())
      log.warn(
        { worker: process.pid },
        `worker ${process.pid} has no file descriptor left for one more connection, which waits; raise the limit of open files (LimitNOFILE)`,
      );
    setTimeout(() => process.emit('internalMessage' as 'message', answer, undefined as never), PAUSE_MS);
  });
}
