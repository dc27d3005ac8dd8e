/** TypeScript of the tests as a program of its own, for what only real processes show: races, kills, other users. */
import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { run, tempDir } from './lab.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

/**
 * Bundles a program, whose imports are relative to the root of the source (`./src/core/errors.ts`), into one file for `node`.
 * @returns its absolute path; any user may read it
 */
export async function bundleProgram(source: string): Promise<string> {
  const directory = tempDir();
  await chmod(directory, 0o755);
  const [input, output] = [path.join(directory, 'program.ts'), path.join(directory, 'program.mjs')];
  await writeFile(input, source.replaceAll("from './", `from '${ROOT}/`));
  const esbuild = path.join(ROOT, 'node_modules/.bin/esbuild');
  const { code, stderr } = await run(esbuild, [
    input,
    '--bundle',
    '--platform=node',
    '--format=esm',
    `--outfile=${output}`,
  ]);
  if (code !== 0) throw new Error(`esbuild failed: ${stderr}`);
  return output;
}
