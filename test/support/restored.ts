/** What a client gets back of all its snapshots: read through the gateway in one session, and restored from the copy. */
import path from 'node:path';
import { restic, tempDir } from './lab.ts';
import { lightenLocalKeys } from './light-key.ts';

/**
 * Copies a repository out and restores each snapshot.
 * @param program - what the client gives restic as rclone.program
 * @returns where each is restored to, by the id that it had when it was made
 * @throws Error with restic's words when anything fails
 */
export async function restoreAll(
  binary: string,
  { program, password = 'password' }: { readonly program: string; readonly password?: string },
): Promise<ReadonlyMap<string, string>> {
  const repo = path.join(tempDir(), 'copy');
  const env = { RESTIC_FROM_PASSWORD: password };
  const run = async (...args: string[]): Promise<string> => {
    const target = { repo, password, env, options: { 'rclone.program': program }, timeoutMs: 300_000 };
    const { code, stdout, stderr } = await restic(binary, target, args);
    if (code !== 0) throw new Error(`restic ${args.join(' ')} ended with ${code}: ${stderr}`);
    return stdout;
  };
  await run('init');
  await lightenLocalKeys(repo, password);
  await run('copy', '--from-repo', 'rclone:x');
  const restored = new Map<string, string>();
  for (const { id, original = id } of JSON.parse(await run('snapshots', '--json')) as readonly Copied[]) {
    const target = tempDir();
    await run('restore', id, '--target', target);
    restored.set(original, target);
  }
  return restored;
}

interface Copied {
  readonly id: string;
  readonly original?: string;
}
