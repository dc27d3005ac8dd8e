/** Which config file is used, and what is told when it cannot be read. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, beforeAll, describe, expect, test } from '@jest/globals';
import { findConfigFile, loadConfig, unusedConfigFile } from '../../src/config/load.ts';
import { GatewayError } from '../../src/core/errors.ts';
import { asNobody } from './samples.ts';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'config-'));
  chmodSync(root, 0o755);
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(GatewayError);
    expect((error as GatewayError).code).toBe('invalid-config');
    return (error as GatewayError).message;
  }
  throw new Error('was accepted');
}

describe('which file', () => {
  let cwd: string;
  const at = (name: string): string => join(cwd, name);
  beforeEach(() => {
    cwd = mkdtempSync(join(root, 'cwd-'));
    chmodSync(cwd, 0o755);
    for (const name of ['option.yaml', 'variable.yaml', 'gateway.yaml', 'system.yaml']) writeFileSync(at(name), '');
  });
  const find = (option: string | undefined, variable: string | undefined): string =>
    findConfigFile(option, variable === undefined ? {} : { RESTIC_GATEWAY_CONFIG: variable }, cwd, at('system.yaml'));

  test('the one that is named comes first', () => {
    expect(find('option.yaml', 'variable.yaml')).toBe(at('option.yaml'));
    expect(find(at('option.yaml'), 'variable.yaml')).toBe(at('option.yaml'));
  });

  test("then the environment's", () => {
    expect(find(undefined, 'variable.yaml')).toBe(at('variable.yaml'));
  });

  const findAsNobody = (variable: string | undefined): string => asNobody(() => find(undefined, variable));

  test('then gateway.yaml in the working directory, then the one of the system', () => {
    expect(findAsNobody(undefined)).toBe(at('gateway.yaml'));
    expect(findAsNobody('')).toBe(at('gateway.yaml'));
    rmSync(at('gateway.yaml'));
    expect(findAsNobody(undefined)).toBe(at('system.yaml'));
  });

  const asRoot = process.geteuid?.() === 0 ? test : test.skip;
  asRoot("root does not take the working directory's, and is told how to name it", () => {
    expect(find(undefined, undefined)).toBe(at('system.yaml'));
    expect(unusedConfigFile(undefined, {}, cwd)).toBe(at('gateway.yaml'));
    expect(unusedConfigFile('x', {}, cwd)).toBeUndefined();
    rmSync(at('system.yaml'));
    expect(refusal(() => find(undefined, undefined))).toBe(
      `no config file: $RESTIC_GATEWAY_CONFIG is not set, and there is no ${at('system.yaml')}; ` +
        `root does not use ${at('gateway.yaml')} unasked; if it is the one, name it: -c ${at('gateway.yaml')}`,
    );
  });

  test('one that is named and not there is not replaced by another', () => {
    expect(refusal(() => find('none.yaml', 'variable.yaml'))).toBe(
      `${at('none.yaml')}: there is no such file (named by -c)`,
    );
    expect(refusal(() => find('option.yaml/x', undefined))).toBe(
      `${at('option.yaml/x')}: there is no such file (named by -c)`,
    );
    expect(refusal(() => find(undefined, 'none.yaml'))).toBe(
      `${at('none.yaml')}: there is no such file (named by $RESTIC_GATEWAY_CONFIG)`,
    );
  });

  test('when there is none, all that were looked for are named', () => {
    rmSync(at('gateway.yaml'));
    rmSync(at('system.yaml'));
    expect(asNobody(() => refusal(() => find(undefined, undefined)))).toBe(
      `no config file: $RESTIC_GATEWAY_CONFIG is not set, and there is neither ${at('gateway.yaml')} nor ${at('system.yaml')}; ` +
        'name one with -c FILE, or write one as the README shows',
    );
  });

  test("the system's is /etc/restic-gateway/gateway.yaml", () => {
    rmSync(at('gateway.yaml'));
    let found;
    try {
      found = findConfigFile(undefined, {}, cwd);
    } catch (error) {
      found = (error as GatewayError).message;
    }
    expect(found).toContain('/etc/restic-gateway/gateway.yaml');
  });
});

describe('reading it', () => {
  const write = (name: string, content: string | Buffer): string => {
    const file = join(root, name);
    writeFileSync(file, content);
    return file;
  };

  test('its own path is known, and relative paths start from its directory', () => {
    const config = loadConfig(write('good.yaml', 'hostKeys: [key]'), {});
    expect(config).toMatchObject({ file: join(root, 'good.yaml'), hostKeys: [join(root, 'key')] });
  });

  test('variables come from the environment of the process by default', () => {
    process.env['RESTIC_GATEWAY_TEST_PORT'] = '2345';
    expect(loadConfig(write('env.yaml', 'listen: ${RESTIC_GATEWAY_TEST_PORT}')).listen[0]?.port).toBe(2345);
    delete process.env['RESTIC_GATEWAY_TEST_PORT'];
  });

  test('problems begin with the file', () => {
    const file = write('wrong.yaml', 'listen: x');
    expect(refusal(() => loadConfig(file, {}))).toBe(
      `${file}:1:9: listen: must be HOST:PORT, "[IPV6]:PORT", :PORT or PORT`,
    );
  });

  test('a file that is not there', () => {
    expect(refusal(() => loadConfig(join(root, 'none.yaml')))).toBe(`${root}/none.yaml: there is no such file`);
  });

  test('a directory', () => {
    mkdirSync(join(root, 'directory'));
    expect(refusal(() => loadConfig(join(root, 'directory')))).toBe(
      `${root}/directory: this is a directory; name the file in it`,
    );
  });

  test('a file that this user may not read: the user is named', () => {
    const file = write('locked.yaml', 'listen: 2222');
    chmodSync(file, 0o000);
    expect(asNobody(() => refusal(() => loadConfig(file)))).toMatch(
      /\/locked\.yaml: the user \S+ \(uid \d+\) may not read this file; change its owner or mode, or run as another user$/,
    );
  });

  test('a directory that this user may not enter has no config of this user, but may have the one that is named', () => {
    const directory = join(root, 'closed');
    const file = join(directory, 'gateway.yaml');
    mkdirSync(directory);
    writeFileSync(file, '');
    chmodSync(directory, 0o000);
    const found = asNobody(() => refusal(() => findConfigFile(undefined, {}, directory, '/nowhere/system.yaml')));
    const named = asNobody(() => refusal(() => loadConfig(findConfigFile(file))));
    chmodSync(directory, 0o700);
    expect(found).toContain(`there is neither ${file} nor /nowhere/system.yaml`);
    expect(named).toMatch(/\/closed\/gateway\.yaml: the user \S+ \(uid \d+\) may not read this file;/);
  });

  test.each<[string, Buffer, string]>([
    ['Latin-1', Buffer.from('listen: 2222\n# Zo\xeb\n', 'latin1'), '2:5'],
    ['a character cut off', Buffer.from('# Zoë').subarray(0, -1), '1:5'],
  ])('%s is not UTF-8', (_name, content, place) => {
    const file = write('encoding.yaml', content);
    expect(refusal(() => loadConfig(file))).toBe(`${file}:${place}: this is not UTF-8 text; save the file as UTF-8`);
  });

  test.each([
    ['with a mark', Buffer.from('\ufefflisten: 2222', 'utf16le')],
    ['without one', Buffer.from('# Zoë: listen: 2222\ud800', 'utf16le')],
  ])('UTF-16 %s is called by its name', (_name, content) => {
    const file = write('utf-16.yaml', content);
    expect(refusal(() => loadConfig(file))).toMatch(
      /: this is UTF-16, as some Windows programs save text; convert it: iconv -f UTF-16 -t UTF-8 FILE$/,
    );
  });

  test('a file far too large', () => {
    const file = write('large.yaml', Buffer.alloc(16 * 1024 * 1024 + 1, '#'));
    expect(refusal(() => loadConfig(file))).toBe(`${file}: is too large for a config (over 16 MiB)`);
  });
});
