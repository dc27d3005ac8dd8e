/**
 * The process above the workers: it starts them, replaces those that die, and passes on the config and the end. It takes connections in and hands them to the workers in turn (Node's SCHED_RR): a session lasts
 * for minutes and keeps a core busy, so that an even spread counts, and no byte of it goes through here.
 */
import cluster, { type Worker } from 'node:cluster';
import { createInterface } from 'node:readline';
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { printableJson } from '../core/printable.ts';
import { createGateway } from '../gateway/gateway.ts';
import type { Log } from '../ports/log.ts';
import { countLiveSessions } from '../state/live-sessions.ts';
import { handOnLostConnections } from './lost-connections.ts';
import type { FromWorker, ToWorker } from './messages.ts';
import type { Service } from './service.ts';
import type { Heard, Said } from './siblings.ts';
import { keepWorkerFigures, type WorkerFigures } from './worker-figures.ts';

/** A worker that lived shorter than this, in ms, is replaced later and later. */
const SHORT_LIFE_MS = 10_000;
const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 30_000;
/** How long workers may take to end after `stop`, in ms; the audit's disk may hang. */
const END_MS = 15_000;

/**
 * Starts `count` workers, which are this very command once more.
 * @throws GatewayError what kept the first workers from starting
 */
export async function startWorkers(count: number, first: GatewayConfig, log: Log): Promise<Service> {
  let config = first;
  const workers = new Set<Worker>();
  const serving = new Set<Worker>();
  const kept = keepWorkerFigures();
  let state: 'starting' | 'running' | 'stopping' = 'starting';
  let shortLives = 0;
  let ended: () => void = () => undefined;
  const allEnded = new Promise<void>((resolve) => (ended = resolve));
  const restarts = new Set<NodeJS.Timeout>();

  cluster.schedulingPolicy = cluster.SCHED_RR;
  // Structured clones, for the dates in the config.
  cluster.setupPrimary({ serialization: 'advanced', silent: true });

  const start = (): Promise<Pick<Service, 'addresses' | 'hostKeys'>> =>
    new Promise((resolve, reject) => {
      const worker = cluster.fork();
      const { pid = 0 } = worker.process;
      const started = performance.now();
      let failure: GatewayError | undefined;
      workers.add(worker);
      let figures: WorkerFigures | undefined;
      passOn(worker);
      handOnLostConnections(worker, log);
      worker.on('message', (message: FromWorker) => {
        switch (message.kind) {
          case 'hello':
            send(worker, state === 'stopping' ? { kind: 'stop' } : { kind: 'config', config });
            return;
          case 'ready':
            if (state === 'running') log.info({ worker: pid }, `worker ${pid} serves`);
            introduce(worker, serving);
            serving.add(worker);
            figures = kept.begin(() => {
              send(worker, { kind: 'count' });
            });
            resolve(message);
            return;
          case 'siblings':
            passOnSaid(worker, serving, message.said);
            return;
          case 'failed':
            failure = new GatewayError(message.code, { detail: message.detail });
            return;
          case 'figures':
            figures?.take(message.figures);
        }
      });
      worker.once('error', (error) => {
        log.error({ err: error, worker: pid }, `worker ${pid} cannot be reached`);
      });
      worker.once('exit', (status: number | null, signal: string | null) => {
        workers.delete(worker);
        serving.delete(worker);
        tellSiblings(worker, serving, { kind: 'gone', from: worker.id });
        figures?.ended();
        const how = signal ?? `exit status ${status ?? 0}`;
        reject(failure ?? new GatewayError('internal', { detail: `a worker ended before it served (${how})` }));
        if (state === 'stopping' && workers.size === 0) ended();
        if (state !== 'running') return;
        shortLives = performance.now() - started < SHORT_LIFE_MS ? shortLives + 1 : 0;
        const delay = shortLives === 0 ? 0 : Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (shortLives - 1));
        const sessions = countLiveSessions(config.state, [pid]);
        log.error(
          { worker: pid, sessions, ...(failure && { err: failure }) },
          `worker ${pid} died (${how}) with ${sessions} sessions; another one is started in ${delay / 1000} s`,
        );
        const timer = setTimeout(() => {
          restarts.delete(timer);
          // Its failure is reported when it ends.
          start().catch(() => undefined);
        }, delay);
        restarts.add(timer);
      });
    });

  const sendAll = (message: ToWorker): void => {
    for (const worker of workers) send(worker, message);
  };
  const stop = (): void => {
    state = 'stopping';
    for (const timer of restarts) clearTimeout(timer);
    restarts.clear();
    if (workers.size === 0) ended();
  };
  const close = async (): Promise<void> => {
    stop();
    sendAll({ kind: 'stop' });
    const timer = setTimeout(() => {
      for (const worker of workers) worker.process.kill('SIGKILL');
    }, END_MS);
    await allEnded;
    clearTimeout(timer);
  };

  const starting = await Promise.allSettled(Array.from({ length: count }, start));
  const failed = starting.find((one) => one.status === 'rejected');
  const [ready] = starting;
  if (failed !== undefined || ready?.status !== 'fulfilled') {
    await close();
    throw failed?.reason;
  }
  state = 'running';
  return {
    ...ready.value,
    sessionCount: () => countLiveSessions(config.state, pidsOf(workers)),
    served: () => kept.served(),
    isListening: () => state === 'running' && serving.size > 0,
    reconfigure: async (next) => {
      // Tried here, so that a config that cannot be used reaches no worker.
      await (await createGateway({ config: next, log })).close();
      config = next;
      sendAll({ kind: 'config', config });
    },
    drain: async () => {
      stop();
      sendAll({ kind: 'drain' });
      await allEnded;
    },
    close,
  };
}

function pidsOf(workers: ReadonlySet<Worker>): readonly (number | undefined)[] {
  return [...workers].map(({ process }) => process.pid);
}

function send(worker: Worker, message: ToWorker): void {
  // To one that is just ending nothing can be sent, and its end is an event of its own.
  if (worker.isConnected()) worker.send(message, () => undefined);
}

/** To all who serve but this one, or to one of them. */
function tellSiblings(worker: Worker, serving: ReadonlySet<Worker>, heard: Heard, only?: number): void {
  for (const other of serving)
    if (other !== worker && (only ?? other.id) === other.id) send(other, { kind: 'sibling', heard });
}

function introduce(worker: Worker, serving: ReadonlySet<Worker>): void {
  tellSiblings(worker, serving, { kind: 'came', from: worker.id });
  for (const { id } of serving) send(worker, { kind: 'sibling', heard: { kind: 'came', from: id } });
}

function passOnSaid(worker: Worker, serving: ReadonlySet<Worker>, said: Said): void {
  tellSiblings(worker, serving, { kind: 'said', from: worker.id, said }, said.kind === 'news' ? undefined : said.to);
}

/** A worker's log goes where this one's goes, in whole lines, whatever the worker's end. */
function passOn(worker: Worker): void {
  for (const output of [worker.process.stderr, worker.process.stdout])
    if (output !== null)
      createInterface({ input: output, crlfDelay: Infinity }).on('line', (line) => {
        // What a worker logs is printable already; what its end says in another way may hold anything. Nothing is cut: it is JSON.
        process.stderr.write(`${printableJson(line)}\n`);
      });
}
