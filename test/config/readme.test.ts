/** The config that the README shows is one that is accepted as it stands there, once real keys are put in. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from '@jest/globals';
import { parseConfig } from '../../src/config/load.ts';
import { keyLine } from './samples.ts';

const README = readFileSync(resolve(import.meta.dirname, '../../README.md'), 'utf8');

test('every config in the README', () => {
  const blocks = [...README.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, block = '']) => block);
  expect(blocks.length).toBeGreaterThan(0);
  for (const block of blocks) {
    let seed = 0;
    const text = block.replace(/ssh-ed25519 \S+…/g, () => keyLine(++seed, ''));
    expect(seed).toBeGreaterThan(0);
    // Whatever variables it names are set.
    const env = Object.fromEntries([...text.matchAll(/\$\{(\w+)\}/g)].map(([, name = '']) => [name, 'set']));
    const config = parseConfig(text, '/etc/restic-gateway/gateway.yaml', env);
    expect(Object.keys(config.clients).length).toBeGreaterThan(0);
  }
});
