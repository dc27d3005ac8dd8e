/** Trees of incompressible files, made about as fast as they can be written. */
import { createCipheriv, randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { must, run } from './lab.ts';

const FILES_A_DIRECTORY = 200;
const ZEROS = Buffer.alloc(4 * 1024 * 1024);

/** Fills `directory` with `files` files of `bytes` in all: all of a size when they are few, else of one to sixteen times the least. */
export function makeTree(directory: string, files: number, bytes: number): void {
  const random = createCipheriv('aes-128-ctr', randomBytes(16), randomBytes(16));
  const weights = Array.from({ length: files }, (_, index) => (files < 100 ? 1 : 1 + (index % 16)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  for (const [index, weight] of weights.entries()) {
    const parent = path.join(directory, `dir-${Math.floor(index / FILES_A_DIRECTORY)}`);
    if (index % FILES_A_DIRECTORY === 0) mkdirSync(parent, { recursive: true });
    const file = openSync(path.join(parent, `file-${index}`), 'wx');
    let left = Math.round((bytes * weight) / total);
    while (left > 0) {
      const chunk = random.update(ZEROS.subarray(0, Math.min(ZEROS.length, left)));
      writeSync(file, chunk);
      left -= chunk.length;
    }
    closeSync(file);
  }
}

/** @throws Error that says where two trees differ */
export async function mustBeSame(a: string, b: string): Promise<void> {
  await must(run('diff', ['-r', '--no-dereference', '--brief', a, b]));
}
