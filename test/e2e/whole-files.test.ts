/** Files that commands read whole: what is a pipe, a device or far too large is told of in one line, and neither holds a command up nor fills its memory. */
import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, run, tempDir, type Outcome } from '../support/lab.ts';

const GIB = 1024 ** 3;
/** What stands where a file is expected, and what is said of it. */
const PLANTS: Readonly<Record<string, readonly [make: (file: string) => string, told: RegExp]>> = {
  'a FIFO': [(file) => (execFileSync('mkfifo', ['-m', '600', file]), file), /not a regular file/],
  'a device': [() => '/dev/zero', /not a regular file|belongs to|others/],
  'ten gigabytes': [
    (file) => {
      writeFileSync(file, '', { mode: 0o600 });
      truncateSync(file, 10 * GIB);
      return file;
    },
    /larger than \d+ [KM]iB|too large for a config \(over 16 MiB\)/,
  ],
};

let directory: string;
let config: string;
let key: string;
let line: string;
const configWith = (hostKey: string): string => {
  const file = path.join(directory, `${Math.random()}.yaml`);
  const stores = { main: { type: 'directory', path: directory } };
  const clients = { appsrv: { keys: [line], repository: { store: 'main' } } };
  writeFileSync(file, stringify({ hostKeys: [hostKey], stores, clients }), { mode: 0o600 });
  return file;
};
const gateway = (args: readonly string[], input?: string): Promise<Outcome> =>
  run(process.execPath, ['--max-old-space-size=256', GATEWAY, ...args], {
    timeoutMs: 180_000,
    ...(input === undefined ? {} : { input }),
  });

beforeAll(async () => {
  directory = tempDir();
  const { privateFile, publicLine } = await generateKey();
  [key, line] = [privateFile, publicLine];
  config = configWith(privateFile);
});

describe.each(Object.entries(PLANTS))('%s', (_name, [make, told]) => {
  test.each<readonly [string, (file: string) => readonly string[]]>([
    ['a config', (file) => ['check', '-c', file]],
    ['a host key', (file) => ['check', '-c', configWith(file)]],
    ['a public key', (file) => ['client', 'add', 'other', '--store', 'main', '--key-file', file, '-c', config]],
    ['a private key', (file) => ['probe', '127.0.0.1:1', '-i', file, '--known-hosts', '/dev/null']],
    ['known_hosts', (file) => ['probe', '127.0.0.1:1', '-i', key, '--known-hosts', file]],
  ])('in place of %s', async (_what, command) => {
    const { code, stderr } = await gateway(command(make(path.join(directory, `plant-${Math.random()}`))));
    expect(stderr).toMatch(told);
    expect(code).toBe(2);
    expect(stderr).not.toMatch(/\n\s+at |heap/);
  });
});

test('a public key on stdin without an end', async () => {
  const { code, stderr } = await gateway(
    ['client', 'add', 'other', '--store', 'main', '-c', config],
    'x'.repeat(200_000),
  );
  expect(stderr).toMatch(/stdin cannot be read \(it is larger than 64 KiB\)/);
  expect(code).toBe(2);
});

test('a known_hosts file with no end of lines for one host', async () => {
  const file = path.join(directory, 'many');
  writeFileSync(file, `[127.0.0.1]:1 ${line}\n`.repeat(20_000));
  const { code, stderr } = await gateway(['probe', '127.0.0.1:1', '-i', key, '--known-hosts', file]);
  expect(stderr).toMatch(/more lines of this host than can be right/);
  expect(code).toBe(2);
});
