/** A directory store whose group may read it: restic, run as one of the group, reads what the gateway stored, whatever the gateway's umask. */
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, lab, makeTree, restic, run, tempDir, type Outcome } from '../support/lab.ts';

/** A group that each Debian has. */
const GROUP = Number(/^backup:[^:]*:(\d+):/m.exec(readFileSync('/etc/group', 'utf8'))?.[1]);
const PASSWORD = 'secret';

/** Backs up and removes through a forced command that has the units' umask, into a store with a mode; then reads as `nobody` of the group. */
async function readBy(mode: number, home?: number): Promise<{ readonly reader: Outcome; readonly store: string }> {
  const directory = tempDir();
  chmodSync(directory, 0o711);
  const store = path.join(directory, 'store');
  mkdirSync(store);
  chownSync(store, 0, GROUP);
  chmodSync(store, mode);
  if (home !== undefined) {
    mkdirSync(path.join(store, 'one'));
    chownSync(path.join(store, 'one'), 0, GROUP);
    chmodSync(path.join(store, 'one'), home);
  }
  const config = path.join(directory, 'gateway.yaml');
  writeFileSync(
    config,
    stringify({
      stores: { main: { type: 'directory', path: store } },
      clients: {
        one: {
          keys: [(await generateKey()).publicLine],
          repository: { store: 'main' },
          removals: 'deferred',
          protect: 'none',
        },
      },
      audit: { file: 'audit.jsonl' },
    }),
  );
  const start = path.join(directory, 'start');
  writeFileSync(start, `umask 077; exec "$@"\n`);
  const target = {
    repo: 'rclone:one',
    options: {
      'rclone.program': `sh ${start} ${process.execPath} ${GATEWAY}`,
      'rclone.args': `stdio -c ${config}`,
    },
    password: PASSWORD,
  };
  const source = path.join(directory, 'source');
  await makeTree(source, { files: 5, bytes: 100_000, seed: 'group' });
  for (const args of [['init'], ['backup', source], ['backup', source], ['forget', '--keep-last', '1']])
    expect(await restic(lab().resticNewest, target, args)).toMatchObject({ code: 0, stderr: '' });
  const reader = await run(
    'setpriv',
    [
      ...[
        '--reuid',
        'nobody',
        '--regid',
        String(GROUP),
        '--clear-groups',
        lab().resticDebian,
        '-r',
        path.join(store, 'one'),
      ],
      ...['--no-lock', '--no-cache', 'check', '--read-data'],
    ],
    { env: { RESTIC_PASSWORD: PASSWORD } },
  );
  return { reader, store };
}

/** Modes of all that is in a directory. */
function modesIn(store: string): readonly string[] {
  const entries = readdirSync(store, { recursive: true, withFileTypes: true });
  const modes = entries.map((entry) => {
    const { mode } = statSync(path.join(entry.parentPath, entry.name));
    return `${entry.isFile() ? 'file' : 'directory'} ${(mode & 0o7777).toString(8)}`;
  });
  return [...new Set(modes)].sort();
}

test.each([
  ['setgid, as for several users', 0o2755, ['directory 2750', 'file 640']],
  ['closed to others', 0o2770, ['directory 2750', 'file 640']],
])('a store that is %s: its group reads, and cannot write', async (_what, mode, modes) => {
  const { reader, store } = await readBy(mode);
  expect(reader).toMatchObject({ code: 0 });
  expect(modesIn(store)).toEqual(modes);
});

test('a repository whose own directory is for a group: what is below it is, too', async () => {
  const { reader, store } = await readBy(0o711, 0o2750);
  expect(reader).toMatchObject({ code: 0 });
  expect(modesIn(path.join(store, 'one'))).toEqual(['directory 2750', 'file 640']);
});

test('a store with the mode that mkdir gives is for nobody else', async () => {
  const { reader, store } = await readBy(0o755);
  expect(reader.code).not.toBe(0);
  expect(modesIn(store)).toEqual(['directory 700', 'file 600']);
});
