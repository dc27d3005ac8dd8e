/** What commands print at a terminal of 60, 80 and 140 columns, as recorded texts: no line is wider than the terminal. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { textWidth } from '../../src/cli/text.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { freePort, generateKey, lab, makeTree, restic, run, tempDir } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';
import { onTerminal } from '../support/terminal.ts';

// eslint-disable-next-line no-control-regex -- what moves the cursor is none of what is shown
const MOVES = /\x1b\[[0-9;?]*[A-Za-z]/g;

const LONG = 'web-frontend-production-eu-central-1.example';

let file: string;
let session: string;

beforeAll(async () => {
  const directory = tempDir();
  file = path.join(directory, 'gateway.yaml');
  const client = async (more = {}) => ({
    keys: [(await generateKey()).publicLine],
    repository: { store: 'main' },
    retention: { 'keep-last': 1 },
    protect: 'none',
    ...more,
  });
  writeFileSync(
    file,
    stringify({
      listen: `127.0.0.1:${await freePort()}`,
      hostKeys: [(await generateKey()).privateFile],
      audit: { file: 'audit.jsonl' },
      stores: { main: await freshStore('directory') },
      clients: { appsrv: await client({ quota: '1GB' }), [LONG]: await client(), idle: await client() },
    }),
  );
  const source = path.join(directory, 'source');
  await makeTree(source, { files: 2, bytes: 300_000, seed: 'terminal' });
  const options = { 'rclone.program': `${process.execPath} ${GATEWAY}`, 'rclone.args': `stdio -c ${file}` };
  for (const name of ['appsrv', LONG]) {
    for (const args of [['init'], ['backup', source, '--host', 'h'], ['backup', source, '--host', 'h']])
      expect((await restic(lab().resticNewest, { repo: `rclone:${name}`, options }, args)).code).toBe(0);
    // A refusal, so that one of them needs attention.
    if (name === LONG) await restic(lab().resticNewest, { repo: `rclone:${name}`, options }, ['forget', 'latest']);
  }
  const forgotten = await run(process.execPath, [GATEWAY, 'forget', 'appsrv', '--no-prune', '-c', file], {
    env: { RESTIC_PASSWORD: 'password', RESTIC_GATEWAY_RESTIC: lab().resticNewest },
    timeoutMs: 120_000,
  });
  expect(`${forgotten.code} ${forgotten.stderr}`).toMatch(/^0 /);
  const { stdout } = await run(process.execPath, [GATEWAY, 'sessions', '--json', '--client', LONG, '-c', file]);
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { session: string; via: string; objects: number });
  session = lines.reduce((most, one) => (one.objects > most.objects ? one : most)).session;
});

/** What differs from run to run, by one word. */
function recorded(text: string): string {
  return text
    .replace(/^warning: Node[^]*?\n\n/m, '\n')
    .replace(/[^\s…]*…\S*/g, '…')
    .replace(/\b\d{8}T\d{6}Z-[0-9a-f]+/g, 'ID')
    .replace(/~?\b\d+(\.\d)? ([KMG]i)?B\b(\/s)?/g, 'SIZE')
    .replace(/\b(\d+ (d|h|min) )?\d+(\.\d)? (s|min|h)\b/g, 'TIME')
    .replace(/\d+/g, '0')
    .replace(/\s*\n\s+/g, '\n')
    .replace(/[ -]+/g, ' ')
    .replace(/ +$/gm, '');
}

const COMMANDS = [
  'status',
  'status CLIENT',
  'audit show --limit 6 --kind denied',
  'sessions --limit 3',
  'check --live',
  'scrub appsrv',
  'undo CLIENT --session SESSION --dry-run',
  'trash list appsrv',
  'client list',
  'forget CLIENT --dry-run',
];

describe.each([60, 80, 140])('at %d columns', (columns) => {
  test.each(COMMANDS)('%s', async (line) => {
    const args = line.replace('CLIENT', LONG).replace('SESSION', session).split(' ');
    const program = [process.execPath, GATEWAY, ...args, '--utc', '-c', file].join(' ');
    const restics = `RESTIC_PASSWORD=password RESTIC_GATEWAY_RESTIC=${lab().resticNewest}`;
    const { shown } = await onTerminal(
      ['sh', '-c', `'stty cols ${columns}; NO_COLOR=1 ${restics} exec ${program}'`],
      [],
    );
    // Whoever runs several programs says once which config they use.
    expect((shown.match(/^config: /gm) ?? []).length).toBeLessThanOrEqual(1);
    const lines = shown.replaceAll(file, '').split(/\r?\n/);
    const wide = lines
      .map((one) => one.replace(/^.*\r/, '').replace(MOVES, ''))
      .filter((one) => textWidth(one) > columns);
    expect(wide).toEqual([]);
    // The words of these wrap where names and times of this run let them.
    if (!/^(status CLIENT|forget|undo)/.test(line)) expect(recorded(lines.join('\n'))).toMatchSnapshot();
  });
});
