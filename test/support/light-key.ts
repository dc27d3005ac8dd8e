/**
 * Makes a repository cheap to open. At `init` restic chooses what scrypt takes: half a second here. Each restic that opens the repository pays
 * that again, as many as run in these tests minutes of a processor. What it costs stands in the key file, and restic goes by that.
 */
import { createHash, randomBytes } from 'node:crypto';
import { repositoryFiles } from './repository-files.ts';
import { derive, seal, unseal, type KeyFile } from './restic-crypto.ts';
import type { StoreEntry } from './stores.ts';

/** The least that restic takes. */
const LIGHT = { N: 2, r: 1, p: 1 };

/**
 * Puts another in the place of each key of a repository, all of which have that password: the same but for its cost. It comes by the storage,
 * beside the gateway, so the gateway's audit knows nothing of it.
 */
export async function lightenKeys(store: StoreEntry, prefix: string, password = 'password'): Promise<void> {
  const files = repositoryFiles(store, prefix);
  const names = (await files.keys()).filter((name) => name.startsWith('keys/'));
  if (names.length === 0) throw new Error('the repository has no keys');
  for (const name of names) {
    const old = JSON.parse((await files.read(name)).toString()) as KeyFile;
    const master = unseal(derive(password, old), Buffer.from(old.data, 'base64'));
    const light = { ...old, ...LIGHT, salt: randomBytes(64).toString('base64') };
    const data = seal(derive(password, light), master).toString('base64');
    const file = Buffer.from(JSON.stringify({ ...light, data }));
    await files.write(`keys/${createHash('sha256').update(file).digest('hex')}`, file);
    await files.remove(name);
  }
}

/** The same for a repository in a directory of restic's own. */
export async function lightenLocalKeys(repository: string, password = 'password'): Promise<void> {
  await lightenKeys({ type: 'directory', path: repository }, '', password);
}
