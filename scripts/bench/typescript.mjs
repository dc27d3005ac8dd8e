/** Lets Node 20 run the benchmarks' TypeScript as it stands: `node --import ./scripts/bench/typescript.mjs FILE.ts`. */
import { readFile } from 'node:fs/promises';
import { register } from 'node:module';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { transform } from '@swc/core';

// Node runs the hooks on a thread of their own, where this file is loaded again.
if (isMainThread) register(import.meta.url);

/** Node's `load` hook: strips the types from .ts files, and gives style sheets as text, as the bundler does. */
export async function load(url, context, next) {
  if (url.endsWith('.css')) {
    const text = await readFile(new URL(url), 'utf8');
    return { format: 'module', shortCircuit: true, source: `export default ${JSON.stringify(text)};` };
  }
  if (!url.endsWith('.ts')) return next(url, context);
  const { code } = await transform(await readFile(new URL(url), 'utf8'), {
    filename: fileURLToPath(url),
    jsc: { parser: { syntax: 'typescript' }, target: 'es2023' },
    module: { type: 'es6' },
    sourceMaps: 'inline',
  });
  return { format: 'module', shortCircuit: true, source: code };
}
