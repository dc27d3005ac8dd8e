/** `restic-gateway check`: reads the config as `serve` would, like `sshd -t`, and says what is wrong with it. */
import { findConfigFile, loadConfig } from '../config/load.ts';
import { readSecret } from '../config/secrets.ts';
import { readHostKey } from '../doors/host-key.ts';

/** @returns the exit status: 0 when all is well; what is wrong is thrown as GatewayError `invalid-config` */
export async function runCheck({ config: file }: { readonly config: string | undefined }): Promise<number> {
  const config = loadConfig(findConfigFile(file));
  await Promise.all(config.hostKeys.map(readHostKey));
  for (const store of Object.values(config.stores))
    if (store.type === 's3' && store.credentials !== undefined) readSecret(store.credentials.secret);
  const count = (things: Readonly<Record<string, unknown>>, word: string): string => {
    const { length } = Object.keys(things);
    return `${length} ${word}${length === 1 ? '' : 's'}`;
  };
  process.stdout.write(`${config.file}: good, ${count(config.clients, 'client')}, ${count(config.stores, 'store')}\n`);
  return 0;
}
