/** Real file systems with real troubles: small, read-only, hanging. They need root. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { run } from './lab.ts';

/** Runs a program that has to succeed. */
export async function must(command: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await run(command, args);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} failed, which needs root: ${stderr}`);
}

/**
 * Does work with a file system in memory, which is gone afterwards.
 * @param options - as after `mount -o`, such as `size=64k`
 * @param place - an existing directory to mount it on; a new one by default
 */
export async function withTmpfs(options: string, work: (path: string) => Promise<void>, place?: string): Promise<void> {
  await inDirectory(async (directory) => {
    const path = place ?? directory;
    await must('mount', ['-t', 'tmpfs', '-o', `mode=755,${options}`, 'tmpfs', path]);
    await work(path).finally(() => unmount(path));
  });
}

/** A file system that can be frozen: then every write to it hangs, as on a server that is gone, until it is thawed. */
interface Freezable {
  readonly path: string;
  freeze(): Promise<void>;
  thaw(): Promise<void>;
}

/** Does work with an ext4 of 64 MiB, which is thawed and gone afterwards. */
export async function withFreezable(work: (disk: Freezable) => Promise<void>): Promise<void> {
  await inDirectory(async (directory) => {
    const [image, place] = [path.join(directory, 'image'), path.join(directory, 'mount')];
    await mkdir(place);
    await must('truncate', ['-s', '64M', image]);
    await must('mkfs.ext4', ['-q', image]);
    await must('mount', ['-o', 'loop', image, place]);
    const thaw = (): Promise<void> => must('fsfreeze', ['--unfreeze', place]);
    try {
      await work({ path: place, freeze: () => must('fsfreeze', ['--freeze', place]), thaw });
    } finally {
      await thaw().catch(() => undefined);
      await unmount(place);
    }
  });
}

async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'mount-'));
  await work(directory).finally(() => rm(directory, { recursive: true }));
}

// Lazily: a test that failed may have files open on it.
async function unmount(place: string): Promise<void> {
  await must('umount', ['--lazy', place]);
}
