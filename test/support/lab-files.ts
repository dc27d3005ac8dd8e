/** Directories that go away by themselves, and trees of test data that are made fast and compared exactly. */
import { createCipheriv, createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll } from '@jest/globals';
import { run } from './lab-process.ts';

/** What a tree of test data holds: `bytes` in all, spread unevenly over `files` files. */
interface TreeShape {
  readonly files: number;
  readonly bytes: number;
  /** The same shape and seed give the same tree, anywhere. */
  readonly seed: string;
}

const FILES_A_DIRECTORY = 100;
const MODES = [0o644, 0o600, 0o755, 0o440] as const;
const ZEROS = Buffer.alloc(512 * 1024);
const directories: string[] = [];

afterAll(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
});

/** A new empty directory, removed at the end of the test file. Nothing in its path needs quoting. */
export function tempDir(): string {
  const directory = mkdtempSync(path.join(process.env['LAB_RUN_DIR'] ?? tmpdir(), 'test-'));
  directories.push(directory);
  return directory;
}

/** Makes a tree of incompressible files with various modes below `directory`, about as fast as the disk takes it. */
export async function makeTree(directory: string, { files, bytes, seed }: TreeShape): Promise<void> {
  const key = createHash('sha256').update(seed).digest();
  // Weights of 1 to 256 make the sizes uneven
  const weights = keystream(key, 0).update(Buffer.alloc(files));
  const total = weights.reduce((sum, weight) => sum + weight + 1, 0);
  let weight = 0;
  let written = 0;
  for (const [index, own] of weights.entries()) {
    weight += own + 1;
    const end = Math.round((bytes * weight) / total);
    const parent = path.join(directory, `dir-${Math.floor(index / FILES_A_DIRECTORY)}`);
    if (index % FILES_A_DIRECTORY === 0) await mkdir(parent, { recursive: true });
    const file = await open(path.join(parent, `file-${index}`), 'wx');
    try {
      const content = keystream(key, index + 1);
      for (; written < end;) {
        const chunk = content.update(ZEROS.subarray(0, Math.min(ZEROS.length, end - written)));
        await file.writeFile(chunk);
        written += chunk.length;
      }
      await file.chmod(MODES[own % MODES.length] ?? 0o644);
    } finally {
      await file.close();
    }
  }
}

/**
 * True when two trees hold the same names, types, modes, link targets and bytes.
 * @throws Error that says what differs
 */
export async function sameTree(a: string, b: string): Promise<true> {
  const listing = async (directory: string): Promise<Set<string>> => {
    const { code, stdout, stderr } = await run('find', [directory, '-mindepth', '1', '-printf', '%y %m %P %l\\n']);
    if (code !== 0) throw new Error(stderr);
    return new Set(stdout.split('\n'));
  };
  const [inA, inB] = await Promise.all([listing(a), listing(b)]);
  const differences = [
    ...[...inA].filter((line) => !inB.has(line)).map((line) => `- ${line}`),
    ...[...inB].filter((line) => !inA.has(line)).map((line) => `+ ${line}`),
  ];
  if (differences.length > 0) throw new Error(`the trees differ:\n${differences.slice(0, 20).join('\n')}`);
  const diff = await run('diff', ['-r', '--no-dereference', '--brief', a, b], { timeoutMs: 300_000 });
  if (diff.code !== 0) throw new Error(`the trees differ:\n${diff.stdout.slice(0, 2000)}${diff.stderr.slice(0, 2000)}`);
  return true;
}

/** An endless pseudo-random stream, one of 2^32 for each key: what AES-256-CTR makes of zeros. */
function keystream(key: Uint8Array, stream: number): ReturnType<typeof createCipheriv> {
  const iv = Buffer.alloc(16);
  iv.writeUInt32BE(stream);
  return createCipheriv('aes-256-ctr', key, iv);
}
