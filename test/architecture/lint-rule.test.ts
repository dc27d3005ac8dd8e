/** The lint rule sees what the architecture test sees, while one writes: the linter runs as `npm run lint` does, but for the rules that need types. */
import { join, resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { ESLint } from 'eslint';
import tseslint from 'typescript-eslint';

const ROOT = resolve(import.meta.dirname, '../..');
const linter = new ESLint({
  cwd: ROOT,
  overrideConfig: [{ files: ['**/*.ts'], ...tseslint.configs.disableTypeChecked }],
});

/** What the linter says of a text as if it stood in a file of src, one line for each. */
async function said(path: string, text: string, rule: string): Promise<string[]> {
  const [result] = await linter.lintText(text, { filePath: join(ROOT, 'src', path) });
  return (result?.messages ?? []).filter(({ ruleId }) => ruleId === rule).map(({ message }) => message);
}

describe('the linter reports', () => {
  test.each([
    `import { load } from '../config/load.ts';`,
    `import type { Loaded } from '../config/load.ts';`,
    `import '../config/load.ts';`,
    `export { load } from '../config/load.ts';`,
    `export * from '../config/load.ts';`,
    `const { load } = await import('../config/load.ts');`,
    'const { load } = await import(`../config/load.ts`);',
    `type Loaded = import('../config/load.ts').Loaded;`,
    `const load = require('../config/load.ts');`,
    `import load = require('../config/load.ts');`,
  ])('limits → config/load: %s', async (text) => {
    expect(await said('limits/planted.ts', text, 'src/layers')).toEqual([
      'limits/planted.ts may not import config/load.ts: see scripts/layers.mjs',
    ]);
  });

  test('nothing of what the table allows', async () => {
    const text = `import type { ClientConfig } from '../config/types.ts';\nimport { GatewayError } from '../core/errors.ts';\nimport './pacer.ts';`;
    expect(await said('limits/planted.ts', text, 'src/layers')).toEqual([]);
  });

  test('a function of more than 120 lines', async () => {
    const long = (lines: number): string => `export function a(): void {\n${'  a();\n'.repeat(lines - 2)}}`;
    expect(await said('limits/planted.ts', long(120), 'max-lines-per-function')).toEqual([]);
    expect(await said('limits/planted.ts', long(121), 'max-lines-per-function')).toHaveLength(1);
  });
});
