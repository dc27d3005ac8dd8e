/** The command line's own manners: its version, and completion as a real bash does it. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { GATEWAY } from '../support/gateway-process.ts';

const run = (file: string, args: readonly string[]): string =>
  execFileSync(file, args, {
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, SHELL: '/bin/bash', PATH: `${path.dirname(GATEWAY)}:${process.env['PATH'] ?? ''}` },
  });

describe('the command line', () => {
  test('--version names the package version, and the commit where there is one', () => {
    const { version } = JSON.parse(readFileSync(path.join(import.meta.dirname, '../../package.json'), 'utf8')) as {
      version: string;
    };
    const said = run(GATEWAY, ['--version']).trim();
    expect(said.startsWith(version)).toBe(true);
    expect(said.slice(version.length)).toMatch(/^( \([0-9a-f]{12,40}(-dirty)?\))?$/);
  });

  test('bash completes a command by the printed script', () => {
    const script = `
      source <(restic-gateway completion)
      COMP_WORDS=(restic-gateway ser); COMP_CWORD=1; COMP_LINE='restic-gateway ser'; COMP_POINT=18
      complete -p restic-gateway
      _restic-gateway_yargs_completions
      printf 'reply: %s\\n' "\${COMPREPLY[@]}"`;
    const said = run('bash', ['--norc', '-c', script]);
    expect(said).toContain('-F _restic-gateway_yargs_completions restic-gateway');
    expect(said).toMatch(/^reply: serve$/m);
  });
});
