/** The audit as the config has it: the one way in which all processes open it to write. */
import type { GatewayConfig } from '../config/types.ts';
import { messageOf } from '../core/errors.ts';
import type { AuditEvent, AuditSink } from '../ports/audit-sink.ts';
import type { Log } from '../ports/log.ts';
import { headsFile } from './heads.ts';
import { openJsonlSink } from './jsonl-sink.ts';

/** Writes one event of the gateway's own. @throws as `openAudit` and `AuditSink.append` */
export async function appendToAudit(
  config: Pick<GatewayConfig, 'audit' | 'state'>,
  event: AuditEvent,
  log?: Log,
): Promise<void> {
  const audit = await openAudit(config, log);
  try {
    await audit.append('gateway', event);
  } finally {
    await audit.close();
  }
}

/**
 * @param log - hears when the file cannot be rotated
 * @throws GatewayError `audit-unavailable` when it cannot be opened
 */
export function openAudit({ audit, state }: Pick<GatewayConfig, 'audit' | 'state'>, log?: Log): Promise<AuditSink> {
  const { file, maxSize, copy } = audit;
  // What is copied is removed by who copies it, once it has been.
  const keep = copy === undefined ? audit.keep : undefined;
  return openJsonlSink({
    file,
    heads: headsFile(state),
    ...(maxSize !== undefined && { rotation: { maxSize, keep } }),
    warn: (error) =>
      log?.warn(
        { err: error },
        `the audit ${file} cannot be rotated (${messageOf(error)}) and keeps growing; who writes it must be able to rename files in its directory`,
      ),
  });
}
