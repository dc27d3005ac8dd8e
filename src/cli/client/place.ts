/**
 * What lies where a client is to have its repository: whoever holds the new key would read it, and go on with it. The storage and the audit
 * are the gateway's user's to touch, so that root looks through a process of that user.
 */
import { spawn } from 'node:child_process';
import { whatIsIn } from '../../client-maintenance.ts';
import { openMonitor } from '../../monitor/monitor.ts';
import { asGatewayError, GatewayError } from '../../core/errors.ts';
import { line, only, record, type Shape } from '../../core/shape.ts';
import { SILENT } from '../../ports/log.ts';
import { withoutPasswords, withoutSshd } from '../admin-run.ts';
import { loadOwnConfig } from '../own-user.ts';
import { ownProgram, refuseInForcedCommand } from '../program.ts';

/** A repository's place, which no client of the config need have. */
export interface Place {
  readonly store: string;
  readonly prefix: string;
}

/** What is there. */
export interface Found {
  readonly there: 'nothing' | 'repository' | 'files';
  /** The id of the client who last added to it, where the audit tells. */
  readonly id?: string;
}

const FOUND: Shape<Found> = record({ there: only('nothing', 'repository', 'files') }, { id: line(200) });
const MOST_BYTES = 64 * 1024;

/**
 * Answers on stdout.
 * @returns 0
 * @throws GatewayError when the store cannot be asked
 */
export async function runLookAtPlace(given: Place & { readonly config: string | undefined }): Promise<number> {
  refuseInForcedCommand();
  const config = await loadOwnConfig(given.config);
  const { store: name, prefix } = given;
  const there = await whatIsIn(config, { store: name, prefix });
  let id: string | undefined;
  if (there !== 'nothing') {
    const monitor = openMonitor({ config, log: SILENT, watch: false });
    // Without its audit, a place has no history that could be gone on with.
    id = await monitor.lastClientOf({ store: name, prefix }).catch(() => undefined);
    await monitor.close();
  }
  process.stdout.write(`${JSON.stringify({ there, ...(id !== undefined && { id }) })}\n`);
  return 0;
}

/** Looks, as the gateway's user. @throws GatewayError `store-failed` with what the store said */
export async function lookAtPlace(configFile: string, { store, prefix }: Place): Promise<Found> {
  const [program = '', ...script] = ownProgram();
  const words = ['look-at-place', `--store=${store}`, `--prefix=${prefix}`, '-c', configFile];
  const child = spawn(program, [...process.execArgv, ...script, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: withoutPasswords(withoutSshd()),
  });
  const outputs = [child.stdout, child.stderr].map((stream) => {
    let text = '';
    stream.on('data', (chunk: Buffer) => (text += text.length < MOST_BYTES ? chunk.toString() : ''));
    return () => text;
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => {
      resolve(status ?? 1);
    });
  });
  const [said = '', wrong = ''] = outputs.map((text) => text());
  try {
    const found: unknown = code === 0 ? JSON.parse(said) : undefined;
    if (FOUND(found)) return found;
  } catch (error) {
    throw new GatewayError('store-failed', { detail: asGatewayError(error).message });
  }
  throw new GatewayError('store-failed', {
    detail: wrong.trim().replace(/^restic-gateway: /, '') || `it ended with ${code}`,
  });
}
