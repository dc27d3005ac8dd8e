/** `restic-gateway restic CLIENT -- ARGS…`: the local restic with full access to a client's repository, for the admin on the gateway host. */
import { loadConfig } from '../config/load.ts';
import { noSuch } from '../config/problems.ts';
import { runAdminRestic } from './admin-restic.ts';
import { chooseConfigFile, sayConfigFile } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';
import { passwordForRestic } from './repository-password.ts';
import { holdRequest } from './restic-hold.ts';

/**
 * Runs restic.
 * @returns restic's own exit status
 * @throws GatewayError `usage` when there is no such client, no restic, or this is a client's SSH session; `invalid-config`
 * when the client's `passwordFile` is to be used and others can read it
 */
export async function runRestic({
  client,
  args,
  config: file,
  holdClient,
  endSessions,
  overrideProtect,
}: {
  readonly client: string;
  readonly args: readonly string[];
  readonly config: string | undefined;
  /** As `holdRequest`. */
  readonly holdClient: string | false | undefined;
  readonly endSessions: boolean;
  /** Whether it may remove snapshots that are protected. */
  readonly overrideProtect: boolean;
}): Promise<number> {
  refuseInForcedCommand({ takesInput: true });
  const hold = holdRequest(args, { holdClient, endSessions });
  const config = loadConfig(chooseConfigFile(file));
  sayConfigFile(config.file);
  const found = config.clients[client];
  if (found === undefined) throw noSuch('client', client, config.clients, config.file);
  if (hasKeepRule(args))
    process.stderr.write(
      `restic-gateway: rules by the time that snapshots claim can be steered by a client; better: restic-gateway forget ${client}, which goes by when they arrived\n`,
    );
  const env = passwordForRestic(found, args);
  const { code } = await runAdminRestic({ client, file: config.file, args, hold, overrideProtect, env });
  return code;
}

/** Whether restic is to choose snapshots by what they claim. */
function hasKeepRule(args: readonly string[]): boolean {
  return args.includes('forget') && args.some((arg) => /^(?:--keep-(?!tag\b)|-[lHdwmy]\d*$)/.test(arg));
}
