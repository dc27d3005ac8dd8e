/** The reference in the docs: every key, error and variable of the environment that there is, and none that there is not. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problems.ts';
import { ERROR_TABLE } from '../../src/core/errors.ts';
import { jsonSchema, reference } from '../../scripts/docs/config.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const REFERENCE = readFileSync(path.join(ROOT, 'docs/reference.md'), 'utf8');

/** The rows of the first table below a heading, by cells. */
function rowsBelow(heading: string): string[][] {
  const [, below = ''] = REFERENCE.split(`\n## ${heading}\n`);
  const [text = ''] = below.split('\n## ');
  return text
    .split('\n')
    .filter((line) => /^\| [`A-Z]/.test(line))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}
const code = (text = ''): string => text.replaceAll('`', '');

describe('the keys of the config', () => {
  const keys = rowsBelow('The config').map(([key]) => code(key));

  test('the table is what the schema says, as `npm run docs` writes it', async () => {
    expect(keys.length).toBeGreaterThan(60);
    expect(REFERENCE).toBe(await reference());
  });

  test('so is the JSON Schema for editors', async () => {
    expect(readFileSync(path.join(ROOT, 'docs/gateway.schema.json'), 'utf8')).toBe(await jsonSchema());
  });

  test.each(keys)('%s is known where it stands', (key) => {
    const parts = key.replace('NAME', 'a').split('.');
    const where = key.replace('NAME', 'a');
    const value = parts.reduceRight<unknown>((inner, part) => ({ [part]: inner }), 'x') as Record<
      string,
      Record<string, Record<string, unknown>>
    >;
    if (parts[0] === 'stores' && parts[2] !== undefined && parts[2] !== 'type')
      Object.assign(value['stores']?.['a'] ?? {}, { type: parts[2] === 'path' ? 'directory' : 's3' });
    let problems: readonly { readonly path: string; readonly message: string }[] = [];
    try {
      parseConfig(stringify(value), '/gateway.yaml');
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      ({ problems } = error);
    }
    expect(problems.filter(({ path: at, message }) => at === where && message.startsWith('unknown key'))).toEqual([]);
  });

  test('a key that is not known would show', () => {
    expect(() => parseConfig('lissen: x', '/gateway.yaml')).toThrow(/unknown key/);
  });
});

test('the errors: code, status and line of each', () => {
  const documented = rowsBelow('Errors').filter(([, status]) => status !== 'status');
  expect(documented.map(([name, status, notify]) => [code(name), Number(status), notify])).toEqual(
    Object.entries(ERROR_TABLE).map(([name, { status, clientMessage: notify }]) => [name, status, notify]),
  );
  for (const [name, , , advice] of documented) expect([name, (advice ?? '').length > 5]).toEqual([name, true]);
});

test('the variables of the environment that the gateway reads', () => {
  const read = new Set(
    readdirSync(path.join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .flatMap((file) => [
        ...readFileSync(path.join(ROOT, 'src', file), 'utf8').matchAll(/\benv(?:ironment)?\??\.?\['([A-Z_]+)'\]/g),
      ])
      .map(([, name]) => name),
  );
  const documented = new Set(rowsBelow('The environment').flatMap(([names]) => code(names).split(', ')));
  documented.delete('variable');
  expect([...documented].sort()).toEqual([...read].sort());
});
