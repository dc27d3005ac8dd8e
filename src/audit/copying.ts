/**
 * Copies the audit and reports how that goes: in the log, in the state directory, and, when the copy is late, in the audit itself. A copy that
 * fails keeps nobody from backing up.
 */
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError } from '../core/errors.ts';
import type { AuditEvent } from '../ports/audit-sink.ts';
import type { CopyStore } from '../ports/copy-store.ts';
import type { Log } from '../ports/log.ts';
import { createCopier } from './copier.ts';
import { readCopyState, writeCopyState, type CopyState } from './copy-state.ts';
import { appendToAudit } from './open-audit.ts';
import { removeOldest } from './rotation.ts';

/** From failing for so long on it is late, or from five times the interval on, if that is longer. */
const LATE_MS = 5 * 60_000;

/**
 * @param options.name - `STORE:PREFIX`
 * @param options.made - hears how many bytes more were copied
 * @param options.lateMs - by default five minutes or five times the interval
 */
export function createCopying(options: {
  readonly config: Pick<GatewayConfig, 'audit' | 'state'>;
  readonly store: CopyStore;
  readonly name: string;
  readonly log: Log;
  readonly made?: (bytes: number) => void;
  readonly lateMs?: number;
}) {
  const { config, store, name, log, made } = options;
  const { file, keep, copy } = config.audit;
  const { lateMs = Math.max(LATE_MS, 5 * (copy?.every ?? 0)) } = options;
  const copier = createCopier({ file, store, made });
  let state: CopyState | undefined;

  const note = async (next: CopyState): Promise<void> => {
    state = next;
    // Where it cannot be noted, the log has it.
    await writeCopyState(config.state, next).catch(() => undefined);
  };
  /** @returns whether it is in the audit */
  const send = async (event: AuditEvent): Promise<boolean> => {
    try {
      await appendToAudit(config, event, log);
      return true;
    } catch (error) {
      log.error({ err: error }, asGatewayError(error).message);
      return false;
    }
  };

  const failed = async (before: CopyState, error: unknown): Promise<void> => {
    const why = asGatewayError(error).message;
    const now = new Date();
    const since = before.failing?.since ?? now.toISOString();
    let late = before.failing?.late ?? false;
    if (before.failing?.why !== why)
      log.warn({ err: error, copy: name }, `the audit cannot be copied to ${name}: ${why}`);
    if (!late && now.getTime() - Date.parse(since) >= lateMs) {
      log.error({ copy: name, since }, `the audit has not been copied to ${name} since ${since}: ${why}`);
      late = await send({ kind: 'copy-late', copy: name, detail: `not copied since ${since}: ${why}` });
    }
    await note({ ...before, failing: { since, why, late } });
  };

  return {
    /**
     * Copies what has come since, and removes what the config's `keep` says, which is in the copy by then.
     * @returns how many bytes were copied
     * @throws GatewayError as the copier's `run`, once it is in the log
     */
    run: async (signal: AbortSignal): Promise<number> => {
      if (state === undefined) {
        const kept = await readCopyState(config.state);
        state = kept?.copy === name ? kept : { copy: name };
      }
      const before = state;
      const begun = new Date();
      let bytes: number;
      try {
        bytes = await copier.run(signal);
        if (keep !== undefined) await removeOldest(file, keep);
      } catch (error) {
        // Stopped, it has not failed.
        if (!signal.aborted) await failed(before, error);
        throw error;
      }
      const { failing } = before;
      if (failing !== undefined) log.info({ copy: name }, `the audit is copied to ${name} again`);
      if (failing?.late === true) {
        const lateMs = Math.max(0, begun.getTime() - Date.parse(failing.since));
        await send({ kind: 'copy-caught-up', copy: name, lateMs });
      }
      await note({ copy: name, complete: begun.toISOString() });
      return bytes;
    },
  };
}
