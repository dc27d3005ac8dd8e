/** Manners of every command: words for what was mistyped, colours for people alone, JSON for scripts, and an end in good order on ctrl-C. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import {
  freePort,
  generateKey,
  lab,
  makeTree,
  restic,
  run,
  startProcess,
  tempDir,
  type Outcome,
} from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';
import { onTerminal } from '../support/terminal.ts';

let file: string;
beforeAll(async () => {
  const directory = tempDir();
  file = path.join(directory, 'gateway.yaml');
  writeFileSync(
    file,
    stringify({
      ...{
        listen: `127.0.0.1:${await freePort()}`,
        hostKeys: [(await generateKey()).privateFile],
        audit: { file: 'audit.jsonl' },
      },
      stores: { main: await freshStore('directory') },
      clients: { a: { keys: [(await generateKey()).publicLine], repository: { store: 'main' } } },
    }),
  );
  const source = path.join(directory, 'source');
  await makeTree(source, { files: 4, bytes: 2_000_000, seed: 'manners' });
  const options = { 'rclone.program': `${process.execPath} ${GATEWAY}`, 'rclone.args': `stdio -c ${file}` };
  for (const args of [['init'], ['backup', source]])
    expect((await restic(lab().resticNewest, { repo: 'rclone:a', options }, args)).code).toBe(0);
});

const gateway = (args: readonly string[], env = {}): Promise<Outcome> =>
  run(process.execPath, [GATEWAY, ...args], { env });
const shownTo = (args: readonly string[], env = {}): Promise<Outcome> =>
  run('script', ['-qec', [process.execPath, GATEWAY, ...args].join(' '), '/dev/null'], {
    env: { TERM: 'xterm', ...env },
  });
/* eslint-disable no-control-regex -- what begins every colour */
const COLOUR = /\x1b\[/;
const MOVES = /\x1b|\r/;
const PAINT = /\x1b\[\d+(;\d+)*m/;
/* eslint-enable no-control-regex */

test.each<[string, RegExp]>([
  ['statu', /there is no command statu; did you mean "status"\?/],
  ['audit shw', /there is no command audit shw; did you mean "show"\?/],
  ['client ad', /did you mean "add"\?/],
  ['trash a', /there is no command trash a; there are: list, restore, purge/],
  ['scrub --jsn', /--jsn is not an option of scrub; did you mean "--json"\?/],
  ['check --liv', /did you mean "--live"\?/],
  ['serve --confg x', /did you mean "--config"\?/],
  ['undo', /CLIENT is missing/],
  ['undo a --since', /a value is missing after --since: --since TIME/],
  ['undo a --since --yes', /a value is missing after --since: --since TIME/],
  ['undo a', /say one of --session ID, --since TIME/],
  ['status a b', /b is one word too many/],
  ['scrub a --quiet=1', /--quiet takes no value/],
  ['audit show --limit many', /--limit must be a number/],
  ['audit show --client a --client b', /--client is given more than once/],
  ['client add b --access ful', /--access must be read-only, append-only or full; did you mean "full"\?/],
  ['probe host', /--identity FILE is missing/],
  ['client', /COMMAND is missing: say add, list, /],
  ['', /COMMAND is missing/],
  ['restic a snapshots', /ARGS stand after --: restic-gateway restic a -- snapshots\n/],
  ['restic a snapshots --tag x', /restic-gateway restic a -- snapshots --tag x\n/],
  ['restic a --no-lock', /restic-gateway restic a -- --no-lock\n/],
  ['help statu', /did you mean "status"\?/],
])('%s: status 2, what is wrong and how it is written, in a line each', async (line, words) => {
  const { code, stdout, stderr } = await gateway(line.split(' ').filter((word) => word !== ''));
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(/^restic-gateway: [^\n]+\nusage: restic-gateway [^\n]+; --help says more\n$/);
  expect(stderr).toMatch(words);
});

const READING = [
  'status',
  'check',
  'check --live',
  'scrub a',
  'sessions',
  'audit show',
  'audit verify',
  'client list',
  'client show a',
  'undo a --list',
];

describe.each(READING)('%s', (line) => {
  const args = (): string[] => [...line.split(' '), '-c', file];

  test('--json prints JSON and nothing else', async () => {
    const { stdout, stderr } = await gateway([...args(), '--json'], { FORCE_COLOR: '1' });
    expect(stderr).toBe('');
    const lines = stdout === '' ? [] : stdout.trimEnd().split('\n');
    const documents = lines.map((one) => JSON.parse(one) as { v: number; kind: string });
    for (const { v, kind } of documents) expect({ v, kind }).toEqual({ v: 1, kind: expect.any(String) as unknown });
    if (line.endsWith('--list')) return;
    expect(documents.length).toBeGreaterThan(0);
  });

  test('no colour and no line that moves, where no person looks or NO_COLOR asks for none', async () => {
    const piped = await gateway(args(), { TERM: 'xterm' });
    expect(piped.stdout + piped.stderr).not.toMatch(MOVES);
    expect((await shownTo(args(), { NO_COLOR: '1' })).stdout).not.toMatch(PAINT);
  });
});

test.each(['check', 'check --live', 'scrub a', 'audit verify', 'status'])(
  '%s --quiet: not a word when everything is OK, at a terminal neither',
  async (line) => {
    const args = [...line.split(' '), '--quiet', '-c', file];
    expect(await gateway(args)).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await shownTo(args)).toMatchObject({ code: 0, stdout: '' });
  },
);

test('on a terminal there are colours', async () => {
  expect((await shownTo(['scrub', 'a', '-c', file])).stdout).toMatch(COLOUR);
});

test('the log is JSON lines, and words for a person at a terminal', async () => {
  const serve = await startProcess(process.execPath, [GATEWAY, 'serve', '-c', file]);
  await serve.waitForLine(/listening on/);
  serve.signal('SIGINT');
  expect(await serve.exited).toBe(0);
  for (const line of serve.lines) expect(JSON.parse(line)).toMatchObject({ msg: expect.any(String) });

  const watched = await startProcess(
    'script',
    ['-qec', `${process.execPath} ${GATEWAY} serve -c ${file}`, '/dev/null'],
    { env: { TERM: 'xterm' } },
  );
  const line = await watched.waitForLine(/listening on/);
  // Colours are the terminal's own matter.
  expect(line.replace(PAINT, '')).toMatch(/^\[\d\d:\d\d:\d\d\]/);
  await watched.stop();
});

test('ctrl-C stops a scrub in good order, and it goes on from there', async () => {
  // Slow enough to be met under way.
  const command = [process.execPath, GATEWAY, 'scrub', 'a', '--bandwidth', '64KiB/s', '-c', file];
  const { code, shown } = await onTerminal(command, [[/a: \d+ %/, '\x03']]);
  expect(code).toBe(1);
  expect(shown).toMatch(/a: stopped; the same command goes on from here\r\n$/);
  expect((await gateway(['scrub', 'a', '-c', file])).code).toBe(0);
});
