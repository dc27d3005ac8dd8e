/** The monitor's own directory, `monitor` in the state directory. */
import { chown, mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Makes it, or what is below it, for whoever the state directory belongs to: root may be the first to ask for the status, and the gateway's
 * own user has to write here as well.
 * @param below - names of directories in it, one in the other
 * @returns its absolute path
 * @throws Error of the file system; `ENOENT` when there is no state directory, which is for the gateway's own user to make
 */
export async function makeMonitorDirectory(state: string, ...below: readonly string[]): Promise<string> {
  const { uid, gid } = await stat(state);
  let directory = state;
  for (const name of ['monitor', ...below]) {
    directory = join(directory, name);
    const made = await mkdir(directory, { mode: 0o700 }).then(
      () => true,
      (error: unknown) => {
        if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
        throw error;
      },
    );
    if (made && process.getuid?.() === 0) await chown(directory, uid, gid);
  }
  return directory;
}
