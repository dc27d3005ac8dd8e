/** The command line's own manners: its version, and completion as a real bash does it. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { GATEWAY } from '../support/gateway-process.ts';
import { run, tempDir } from '../support/lab.ts';

const output = (file: string, args: readonly string[]): string =>
  execFileSync(file, args, {
    encoding: 'utf8',
    timeout: 180_000,
    env: { ...process.env, SHELL: '/bin/bash', PATH: `${path.dirname(GATEWAY)}:${process.env['PATH'] ?? ''}` },
  });

describe('the command line', () => {
  test('--version names the package version, and the commit where there is one', () => {
    const { version } = JSON.parse(readFileSync(path.join(import.meta.dirname, '../../package.json'), 'utf8')) as {
      version: string;
    };
    const said = output(GATEWAY, ['--version']).trim();
    expect(said.startsWith(version)).toBe(true);
    expect(said.slice(version.length)).toMatch(/^( \([0-9a-f]{12,40}(-dirty)?\))?$/);
  });

  test('check points at what is wrong, in words and in JSON', async () => {
    const file = path.join(tempDir(), 'gateway.yaml');
    writeFileSync(file, 'stores: {}\nclients: {}\nlistn: 127.0.0.1:1\n');
    const check = (...more: string[]) => run(process.execPath, [GATEWAY, 'check', '-c', file, ...more]);
    expect(await check()).toEqual({
      code: 2,
      stdout: '',
      stderr: `${file}:3:1: listn: unknown key; did you mean "listen"?\n    listn: 127.0.0.1:1\n    ^\n`,
    });
    const json = await check('--json');
    expect(json.code).toBe(2);
    expect(JSON.parse(json.stdout)).toMatchObject({ good: false, problems: [{ path: 'listn', line: 3, column: 1 }] });
  });

  /** A manual page, of which neither man nor what indexes the pages has anything to say. */
  async function manualPage(name: string): Promise<string> {
    const script = path.join(path.dirname(GATEWAY), '../scripts/packaging/man.mjs');
    const { stdout, ...made } = await run(process.execPath, [script, name], { timeoutMs: 120_000 });
    expect(made).toEqual({ code: 0, stderr: '' });
    const file = path.join(tempDir(), name);
    writeFileSync(file, stdout);
    expect(await run('groff', ['-man', '-Tutf8', '-ww', '-z', file])).toEqual({ code: 0, stdout: '', stderr: '' });
    const [title = ''] = name.split(/\.(?=\d)/);
    expect(await run('lexgrog', [file])).toMatchObject({
      ...{ code: 0, stdout: expect.stringContaining(`"${title} - `) as unknown },
    });
    return stdout;
  }

  test('gateway.yaml(5) has every key of the reference, what it takes and what it means', async () => {
    const page = (await manualPage('gateway.yaml.5')).replaceAll('\\-', '-');
    const reference = readFileSync(path.join(path.dirname(GATEWAY), '../docs/reference.md'), 'utf8');
    const [, , table = ''] = /<!-- the keys(.*)\n([^]*)<!-- end of the keys/.exec(reference) ?? [];
    const keys = [...table.matchAll(/^\| `([\w.-]+)`/gm)].map(([, key = '']) => key);
    expect(keys.length).toBeGreaterThan(50);
    expect(keys.filter((key) => !page.includes(`.TP\n\\fB${key}\\fR`))).toEqual([]);
    // Nothing of Markdown is left.
    expect(page).not.toMatch(/\]\(|^\||```/m);
  });

  test('restic-gateway(1) has a chapter for every command that --help lists', async () => {
    const page = await manualPage('restic-gateway.1');
    const chapters = [...page.matchAll(/^\.SS "(.*)"$/gm)].map(([, name = '']) => name.replaceAll('\\', ''));
    const help = await run(process.execPath, [GATEWAY, '--help']);
    const [, list = ''] = /^Commands:\n((?: .*\n)+)/m.exec(help.stdout) ?? [];
    const listed = [...list.matchAll(/^ {2}([a-z-]+)/gm)].map(([, name = '']) => name);
    expect(listed.length).toBeGreaterThan(5);
    expect(chapters).toEqual(expect.arrayContaining([...listed, 'client add', 'client remove-key']));
    expect(page).toContain('\\fB\\-\\-generate\\fR\nmake a key pair to hand over\n');
  });
});
