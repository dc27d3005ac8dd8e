/** Completion as real shells do it: bash, zsh without compinit before, and fish. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, lab, restic, run, tempDir, type Outcome } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

let home: string;
let file: string;
let fingerprint: string;
let session: string;

beforeAll(async () => {
  home = tempDir();
  file = path.join(home, 'gateway.yaml');
  const key = await generateKey();
  ({ fingerprint } = key);
  const client = { keys: [key.publicLine], repository: { store: 'main' } };
  const other = { keys: [(await generateKey()).publicLine], repository: { store: 'second' } };
  writeFileSync(
    file,
    stringify({
      audit: { file: 'audit.jsonl' },
      stores: { main: await freshStore('directory'), second: await freshStore('directory') },
      clients: { appsrv: client, apple: other },
      notify: { admins: { webhook: { url: 'https://hooks.example.com/' } } },
    }),
  );
  mkdirSync(path.join(home, 'bin'));
  const program = path.join(home, 'bin/restic-gateway');
  writeFileSync(program, `#!/bin/sh\nexec ${process.execPath} ${GATEWAY} "$@"\n`);
  chmodSync(program, 0o755);
  const options = { 'rclone.program': `${process.execPath} ${GATEWAY}`, 'rclone.args': `stdio -c ${file}` };
  expect((await restic(lab().resticNewest, { repo: 'rclone:appsrv', options }, ['init'])).code).toBe(0);
  const { stdout } = await run(process.execPath, [GATEWAY, 'sessions', '--json', '-c', file]);
  session = (JSON.parse(stdout.split('\n')[0] ?? '') as { session: string }).session;
});

function shell(program: string, args: readonly string[]): string {
  return execFileSync(program, args, {
    ...{ encoding: 'utf8', timeout: 180_000, cwd: home, stdio: ['ignore', 'pipe', 'pipe'] },
    env: { HOME: home, PATH: `${home}/bin:${process.env['PATH'] ?? ''}`, TERM: 'dumb', RESTIC_GATEWAY_CONFIG: file },
  });
}

/** What bash puts in place of the word at the cursor. */
const bash = (line: string): readonly string[] => {
  // As readline breaks words, which has = and : among the breaks.
  const words = line.split(/(?=[=:])|(?<=[=:])| /).filter((word) => word !== '');
  if (line.endsWith(' ')) words.push('');
  const quoted = words.map((word) => `'${word}'`).join(' ');
  const script = `source <(restic-gateway completion bash)
    compopt() { :; }
    COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; COMP_LINE='${line}'; COMP_POINT=${line.length}
    _restic_gateway; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return shell('bash', ['--norc', '-c', script]).trim().split('\n');
};
const fish = (line: string): readonly string[] =>
  shell('fish', ['--no-config', '-c', `restic-gateway completion fish | source; complete -C '${line}'`])
    .trim()
    .split('\n')
    .map((one) => one.split('\t')[0] ?? '');
/** What zsh hands to its line editor; compadd and _describe print in place of that. */
const zsh = (line: string): readonly string[] => {
  const words = line.split(' ');
  const script = `source <(restic-gateway completion zsh)
    (( $+functions[compdef] )) || print no compdef
    [[ $_comps[restic-gateway] == _restic-gateway ]] || print not registered
    _describe() { local -a all=("\${(@P)4}"); all=("\${(@)all//\\\\:/%}"); print -l -- "\${(@)all%%:*}"; }
    compadd() { local -a all=(\${(P)2}); print -l -- $all; }
    _files() { print files; }
    words=(${words.map((word) => `'${word}'`).join(' ')}); CURRENT=${words.length}; PREFIX='${words.at(-1) ?? ''}'
    _restic-gateway`;
  return shell('zsh', ['-f', '-c', script]).trim().replaceAll('%', ':').split('\n');
};

describe.each([
  ['bash', bash],
  ['zsh', zsh],
  ['fish', fish],
] as const)('%s', (name, complete) => {
  test('commands, and those below them', () => {
    expect(complete('restic-gateway ser')).toEqual(['serve']);
    expect([...complete('restic-gateway audit ')].sort()).toEqual(['copy', 'show', 'verify']);
    expect([...complete('restic-gateway help trash ')].sort()).toEqual(['list', 'purge', 'restore']);
  });

  test('clients, stores, kinds, sessions and options of the command', () => {
    expect([...complete('restic-gateway status a')].sort()).toEqual(['apple', 'appsrv']);
    expect(complete('restic-gateway client add new --store s')).toEqual(['second']);
    expect(complete('restic-gateway client add new --access read')).toEqual(['read-only']);
    expect(complete('restic-gateway audit show --kind create-')).toEqual(['create-failed']);
    expect(complete('restic-gateway undo appsrv --session ')).toEqual([session]);
    expect(complete('restic-gateway notify test ')).toEqual(['admins']);
    expect(complete('restic-gateway scrub --qu')).toEqual(expect.arrayContaining(['--quick', '--quiet']));
    // What is given already is not offered again.
    expect(complete('restic-gateway scrub --quick --qui')).toEqual(['--quiet']);
  });

  test('a fingerprint, with the colon at which bash breaks words', () => {
    const [algorithm = '', hash = ''] = fingerprint.split(':');
    const typed = `restic-gateway client remove-key appsrv ${algorithm}:${hash.slice(0, 4)}`;
    expect(complete(typed)).toEqual([name === 'bash' ? hash : fingerprint]);
  });

  test('a config that cannot be read, or a word that nothing is known of: nothing, and no word of it', () => {
    expect(complete('restic-gateway status -c /nowhere/gateway.yaml a')).toEqual(['']);
    expect(complete('restic-gateway frobnicate x')).toEqual(['']);
  });
});

test('files are left to the shell', () => {
  expect(bash(`restic-gateway status -c ${home}/gate`)).toEqual([file]);
  expect(zsh(`restic-gateway status -c ${home}/gate`)).toEqual(['files']);
  expect(fish(`restic-gateway status -c ${home}/gate`)).toEqual([file]);
});

test.each(['status', 'audit show', 'sessions --json', 'help', 'client list', 'completion', 'scrub apple', 'serve -h'])(
  '%s, to a reader that has gone: it ends as it would have, without a word',
  async (line) => {
    const program = `${process.execPath} ${GATEWAY} ${line}`;
    // Nobody reads, by the time it prints: true has ended, as the shell has waited for it.
    const script = `set -o pipefail; { sleep 0.3; ${program} 2>"$ERRORS"; echo $? >"$STATUS"; } | true; cat "$ERRORS" "$STATUS"`;
    const env = { RESTIC_GATEWAY_CONFIG: file, ERRORS: path.join(home, 'errors'), STATUS: path.join(home, 'status') };
    const outcome: Outcome = await run('bash', ['-c', script], { env });
    expect(outcome.stdout).toMatch(/^[01]\n$/);
  },
);

test('output that cannot be written for another reason is a failure', async () => {
  const { code, stderr } = await run('bash', ['-c', `${process.execPath} ${GATEWAY} client list >/dev/full`], {
    env: { RESTIC_GATEWAY_CONFIG: file },
  });
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: expect.stringMatching(/^restic-gateway: the output cannot be written: .*\n$/) as unknown,
  });
});
