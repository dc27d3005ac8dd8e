/** A config of hundreds of clients, of which a login under OpenSSH reads one: who was let in before is let in no more once anything says so. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { keyLine } from '../config/samples.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { run, tempDir, type Outcome } from '../support/lab.ts';

const directory = tempDir();
const file = path.join(directory, 'gateway.yaml');
const gateway = (...args: string[]): Promise<Outcome> =>
  run(process.execPath, [GATEWAY, ...args, '-c', file], { timeoutMs: 120_000 });
const blob = (seed: number): string => keyLine(seed).split(' ')[1] ?? '';
const lines = async (seed: number): Promise<Outcome> =>
  gateway('authorized-keys', '--type', 'ssh-ed25519', '--key', blob(seed));

test('revoked, removed, given to another and made wrong', async () => {
  for (const one of ['store', 'state']) mkdirSync(path.join(directory, one), { mode: 0o700 });
  const entry = (n: number, more = ''): string =>
    `  c${n}:\n    keys:\n      - ${keyLine(n)}\n    repository: { store: main }\n${more}`;
  const others = Array.from({ length: 250 }, (_, n) =>
    entry(
      n,
      '    # one of many, of whom there is a little more to be said than this, so that the whole is large\n    quota: 500GiB\n    from: [10.0.0.0/8]\n',
    ),
  );
  writeFileSync(
    file,
    `stores: { main: { type: directory, path: ./store } }\naudit: { file: ./audit.jsonl }\nclients:\n${others.join('')}`,
  );
  expect(statSync(file).size).toBeGreaterThan(64 * 1024);
  const index = path.join(directory, 'state/client-index');
  const indexed = (): boolean => statSync(index, { throwIfNoEntry: false }) !== undefined;
  // Once the file has been as it is for two seconds.
  while (!indexed()) {
    expect((await lines(7)).stdout).toMatch(/stdio c7/);
    await sleep(200);
  }
  expect((await lines(7)).stdout).toMatch(/stdio c7/);
  expect((await lines(251)).stdout).toBe('');
  const before = readFileSync(file, 'utf8');

  // Disabled, it is refused by the forced command, which says so.
  expect((await gateway('client', 'disable', 'c7')).code).toBe(0);
  expect((await gateway('stdio', 'c7')).stderr).toMatch(/client c7 is disabled/);
  // Its key is another one now.
  writeFileSync(file, before.replace(keyLine(7), keyLine(251)));
  expect((await lines(7)).stdout).toBe('');
  expect((await lines(251)).stdout).toMatch(/stdio c7/);
  // It is gone.
  writeFileSync(file, before.replace(entry(7), entry(252).replace('c252', 'other')));
  expect((await lines(7)).stdout).toBe('');
  expect((await gateway('stdio', 'c7')).stderr).toMatch(/c7 is not known/);
  // Somebody else has its key as well: nobody gets in, as long as it is not known whose it is.
  writeFileSync(file, `${before}${entry(253).replace(keyLine(253), keyLine(7))}`);
  const twice = await lines(7);
  expect([twice.code, twice.stdout, twice.stderr]).toEqual([2, '', expect.stringMatching(/also a key of client "c7"/)]);
  expect((await lines(8)).code).toBe(2);
  expect((await gateway('stdio', 'c8')).stderr).toMatch(/configuration cannot be used/);
});
