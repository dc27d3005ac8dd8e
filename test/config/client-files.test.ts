/** The files of `clientsDirectory`: what counts as one, what is wrong with them, what they take away, and changes to them. Real files. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { editClient, type ClientChange } from '../../src/config/edit-clients.ts';
import { fileOfClient, loadConfig } from '../../src/config/load.ts';
import { withoutRevoked } from '../../src/config/revoked.ts';
import type { GatewayConfig } from '../../src/config/types.ts';
import { keyLine } from './samples.ts';

let root: string;
let file: string;
let directory: string;

const MAIN = `stores:
  main: { type: directory, path: ./store }
clientsDirectory: clients.d
clients:
  first:
    keys: [${keyLine(1)}]
    repository: { store: main }
`;

const entry = (name: string, seed: number, more = ''): string =>
  `  ${name}:\n    keys: [${keyLine(seed)}]\n    repository: { store: main }\n${more}`;

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'clients-'));
  file = path.join(root, 'gateway.yaml');
  directory = path.join(root, 'clients.d');
  mkdirSync(directory);
  writeFileSync(file, MAIN);
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const put = (name: string, ...entries: readonly string[]): string => {
  const one = path.join(directory, name);
  writeFileSync(one, `clients:\n${entries.join('')}`);
  return one;
};
const load = (): GatewayConfig => loadConfig(file, {});
const names = (): string[] => Object.keys(load().clients);
const refusal = (work: () => unknown = load): string => {
  try {
    work();
  } catch (error) {
    return (error as Error).message.replaceAll(root, '');
  }
  throw new Error('nothing was refused');
};

describe('what counts', () => {
  test('files of one client or many are one config with the main file', () => {
    put('web.yaml', entry('web', 2));
    const many = put('more.yml', entry('db1', 3), entry('db2', 4));
    expect(names()).toEqual(['first', 'db1', 'db2', 'web']);
    expect(fileOfClient(load(), 'db2')).toBe(many);
    expect(fileOfClient(load(), 'first')).toBe(file);
  });

  test('what editors and package managers leave behind does not count, whatever is in it', () => {
    put('web.yaml', entry('web', 2));
    for (const name of [
      'web.yaml~',
      '.web.yaml',
      '.web.yaml.swp',
      '#web.yaml#',
      'web.yaml.dpkg-new',
      'web.yaml.new',
      'README',
    ])
      writeFileSync(path.join(directory, name), 'clients: [[[');
    expect(names()).toEqual(['first', 'web']);
  });

  test('paths in a client start from the main file, so that an entry can be moved', () => {
    put('web.yaml', entry('web', 2, '    passwordFile: web.password\n'));
    expect(load().clients['web']?.passwordFile).toBe(path.join(root, 'web.password'));
  });

  test('variables stand for the same as in the main file', () => {
    put('web.yaml', entry('web', 2, '    quota: ${QUOTA}\n'));
    expect(loadConfig(file, { QUOTA: '1GiB' }).clients['web']?.quota).toBe(2 ** 30);
    expect(refusal()).toBe('/clients.d/web.yaml:5:12: clients.web.quota: the environment variable QUOTA is not set');
  });
});

describe('what is wrong is told with its file and line', () => {
  test('a client, a key, an id and a repository in two files, with both places', () => {
    put('a.yaml', entry('first', 2));
    put('b.yaml', entry('web', 1));
    put('c.yaml', entry('db', 3, '    id: first\n'));
    put('d.yaml', entry('other', 4).replace('store: main', 'store: main, prefix: first/x'));
    const told = refusal().split('\n');
    expect(told).toEqual([
      '/clients.d/a.yaml:2:3: clients.first: this client stands in two files; remove one of the two; the other one is at /gateway.yaml:5',
      expect.stringMatching(
        /^\/clients\.d\/b\.yaml:3:12: clients\.web\.keys\[0\]: this is also a key of client "first".*; the other one is at \/gateway\.yaml:5$/,
      ),
      expect.stringMatching(
        /^\/clients\.d\/c\.yaml:5:9: clients\.db\.id: is also the id of client "first".*; the other one is at \/gateway\.yaml:5$/,
      ),
      expect.stringMatching(
        /^\/clients\.d\/d\.yaml:4:17: clients\.other\.repository: lies inside the repository of client "first".*gateway\.yaml:5$/,
      ),
    ]);
  });

  test.each([
    ['an empty file', '', ':1:1: the file is empty; write its clients, or remove it'],
    ['half a file', 'clients:\n  we', ':2:3: clients: must be a section'],
    ['a file that was cut off after its first line', 'clients:\n', ':1:1: clients: is empty'],
    ['a file with other keys', `listen: 22\nclients:\n${entry('web', 2)}`, ':1:1: listen: unknown key'],
    [
      'a client that is wrong',
      `clients:\n${entry('web', 2, '    quoto: 1GiB\n')}`,
      ':5:5: clients.web.quoto: unknown key',
    ],
    ['a list', '- a\n', ':1:1: must be a section with clients'],
  ])('%s', (_what, text, told) => {
    writeFileSync(path.join(directory, 'web.yaml'), text);
    expect(refusal()).toContain(`/clients.d/web.yaml${told}`);
  });

  test('a directory that is not there', () => {
    rmSync(directory, { recursive: true });
    expect(refusal()).toBe(
      '/gateway.yaml:3:19: clientsDirectory: /clients.d: there is no such directory; make it, or remove clientsDirectory',
    );
  });

  test('a directory that others can write to', () => {
    chmodSync(directory, 0o777);
    expect(refusal()).toContain('clients.d: others than its owner can change it (mode 0777)');
  });
});

describe('hostile files hold nothing up, and are told', () => {
  test('a pipe, a huge file, a directory, a link to a file of another user, a file of another user, one that all can write, odd names', () => {
    put('good.yaml', entry('web', 2));
    const at = (name: string): string => path.join(directory, name);
    execFileSync('mkfifo', [at('fifo.yaml')]);
    truncateSync(put('huge.yaml'), 2 ** 30);
    mkdirSync(at('inner.yaml'));
    const foreign = path.join(root, 'foreign');
    writeFileSync(foreign, 'secret of another user');
    chownSync(foreign, 4711, 4711);
    symlinkSync(foreign, at('link.yaml'));
    symlinkSync('nowhere', at('nothing.yaml'));
    writeFileSync(at('theirs.yaml'), 'clients: {}\n');
    chownSync(at('theirs.yaml'), 4711, 4711);
    chmodSync(put('writable.yaml', entry('db', 3)), 0o666);
    writeFileSync(at('x (copy).yaml'), 'clients: {}\n');
    writeFileSync(at('x\nfaked: line.yaml'), 'clients: {}\n');
    const told = refusal();
    expect(told.split('\n').map((line) => line.replace(/ \(on the way.*/, ''))).toEqual([
      '/clients.d/fifo.yaml:1:1: cannot be read (it is not a regular file)',
      '/clients.d/huge.yaml:1:1: is too large for a config (over 16 MiB)',
      '/clients.d/inner.yaml:1:1: this is a directory; name the file in it',
      expect.stringMatching(/^\/clients.d\/link.yaml:1:1: .*foreign: belongs to the user with uid 4711/),
      '/clients.d/nothing.yaml:1:1: there is no such file',
      expect.stringMatching(/^\/clients.d\/theirs.yaml:1:1: belongs to the user with uid 4711/),
      expect.stringMatching(/^\/clients.d\/writable.yaml:1:1: others than its owner can change it/),
      expect.stringMatching(/^\/clients.d\/"x\\nfaked: line.yaml":1:1: its name may have/),
      expect.stringMatching(/^\/clients.d\/"x \(copy\).yaml":1:1: its name may have/),
    ]);
    expect(told).not.toContain('secret');
  });

  test('more files than anybody has clients', () => {
    const one = put('a.yaml', entry('web', 2));
    for (let i = 0; i <= 20_000; i++) linkSync(one, path.join(directory, `${i}.yaml`));
    expect(refusal()).toContain('/clients.d: holds more than 20000 files; write several clients into one');
  });
});

describe('while one file is wrong, what others take away holds', () => {
  let before: GatewayConfig;
  beforeEach(() => {
    put('web.yaml', entry('web', 2).replace(']', `, ${keyLine(20)}]`));
    put('db.yaml', entry('db', 3), entry('db2', 4));
    put('bad.yaml', entry('bad', 5));
    before = load();
    writeFileSync(path.join(directory, 'bad.yaml'), 'clients:\n  ba');
  });
  const left = (): GatewayConfig['clients'] => withoutRevoked(before, {})?.config.clients ?? before.clients;

  test('nothing has been taken away', () => {
    expect(withoutRevoked(before, {})).toBeUndefined();
  });
  test('a client that is disabled', () => {
    put('db.yaml', entry('db', 3, '    disabled: true\n'), entry('db2', 4));
    expect(left()['db']?.disabled).toBe(true);
    expect(left()['db2']).toEqual(before.clients['db2']);
    expect(left()['bad']).toEqual(before.clients['bad']);
  });
  test('one in the main file', () => {
    writeFileSync(file, `${MAIN}    disabled: true\n`);
    expect(left()['first']?.disabled).toBe(true);
  });
  test('a client that is gone from its file, and one whose file is gone', () => {
    put('db.yaml', entry('db2', 4));
    rmSync(path.join(directory, 'web.yaml'));
    expect(Object.keys(left())).toEqual(['first', 'bad', 'db2']);
  });
  test('a key that is gone, and an end that has come', () => {
    put('web.yaml', entry('web', 20, '    expires: 2020-01-01\n'));
    expect(left()['web']?.keys).toEqual(before.clients['web']?.keys.slice(1));
    expect(left()['web']?.expires?.getTime()).toBeLessThan(Date.now());
  });
  test('a principal, a CA, and certificates that are revoked; no new ones come', () => {
    rmSync(path.join(directory, 'bad.yaml'));
    const [cas, revoked] = [`[${keyLine(30)}, ${keyLine(31)}]`, '["serial:1"]'];
    const main = (ca: string, list: string): string =>
      `trustedUserCAKeys: ${ca}\nrevokedCertificates: ${list}\n${MAIN}`;
    writeFileSync(file, main(cas, revoked));
    put('db.yaml', entry('db', 3, '    principals: [one, two]\n'));
    before = load();
    writeFileSync(path.join(directory, 'bad.yaml'), 'clients:\n  ba');
    expect(withoutRevoked(before, {})).toBeUndefined();
    put('db.yaml', entry('db', 3, '    principals: [two, three]\n'));
    expect(left()['db']?.principals).toEqual(['two']);
    writeFileSync(file, main(`[${keyLine(31)}, ${keyLine(32)}]`, '["id:x"]'));
    const less = withoutRevoked(before, {});
    expect(less?.certificates).toBe(true);
    expect(less?.config.trustedUserCAKeys).toEqual(before.trustedUserCAKeys.slice(1));
    expect(less?.config.revokedCertificates.map(({ by }) => by)).toEqual(['serial', 'keyId']);
  });
  test('a client that has moved to a file that is right stays', () => {
    put('db.yaml', entry('db', 3));
    put('new.yaml', entry('db2', 4));
    expect(withoutRevoked(before, {})).toBeUndefined();
  });
  test('nothing new holds: no client, no key, no more access, no later end', () => {
    put(
      'web.yaml',
      entry('web', 2, '    access: full\n    expires: 2099-01-01\n').replace(']', `, ${keyLine(20)}, ${keyLine(21)}]`),
    );
    put('more.yaml', entry('more', 9));
    expect(Object.keys(left())).toEqual(Object.keys(before.clients));
    expect(left()['web']).toMatchObject({ keys: before.clients['web']?.keys, access: 'append-only' });
  });
  test('what a file that is wrong, or cannot be looked at, seems to say takes nothing away', () => {
    put('db.yaml', entry('db', 3, '    disabled: true\n    quoto: 1\n'));
    expect(withoutRevoked(before, {})).toBeUndefined();
    chmodSync(path.join(directory, 'db.yaml'), 0o666);
    expect(withoutRevoked(before, {})).toBeUndefined();
    renameSync(directory, `${directory}.away`);
    expect(withoutRevoked(before, {})).toBeUndefined();
  });
  test('it can be said by a command, whose words are not lost in what is wrong elsewhere', () => {
    editClient(file, 'db', { do: 'disable' });
    expect(readFileSync(path.join(directory, 'db.yaml'), 'utf8')).toContain('disabled: true');
    expect(refusal(() => editClient(file, 'db', { do: 'enable' }))).toContain('/clients.d/bad.yaml:2:3');
    expect(refusal(() => editClient(file, 'bad', { do: 'disable' }))).toContain('there is no client "bad"');
  });
});

describe('commands change the file that holds the client', () => {
  const newClient = (seed: number): ClientChange => ({
    do: 'add',
    client: { keys: [keyLine(seed)], store: 'main', settings: new Map() },
  });

  test('a new one gets a file of its own, of the owner and mode of the main file, and nothing else is written', () => {
    chmodSync(file, 0o640);
    chownSync(file, 0, 4711);
    const other = put('other.yaml', entry('other', 8));
    const was = statSync(other).mtimeMs;
    editClient(file, 'web', newClient(2));
    expect(names()).toEqual(['first', 'other', 'web']);
    const { mode, gid } = statSync(path.join(directory, 'web.yaml'));
    expect({ mode: mode & 0o777, gid }).toEqual({ mode: 0o640, gid: 4711 });
    expect(readFileSync(file, 'utf8')).toBe(MAIN);
    expect(statSync(other).mtimeMs).toBe(was);
    expect(readdirSync(root).sort()).toEqual(['clients.d', 'gateway.yaml']);
    expect(readdirSync(directory).sort()).toEqual(['other.yaml', 'web.yaml']);
  });

  test.each(['../web', '.web', 'a/b', ''])('the name %j leads nowhere', (name) => {
    expect(refusal(() => editClient(file, name, newClient(2)))).toContain('stays as it is');
    expect(readdirSync(directory)).toEqual([]);
    expect(readdirSync(root).sort()).toEqual(['clients.d', 'gateway.yaml']);
  });

  test('its file is changed with its comments, and goes with its last client', () => {
    const own = put('web.yaml', '  # of the web team\n', entry('web', 2), entry('web2', 3));
    editClient(file, 'web', { do: 'disable' });
    expect(readFileSync(own, 'utf8')).toBe(
      `clients:\n  # of the web team\n${entry('web', 2)}    disabled: true\n${entry('web2', 3)}`,
    );
    editClient(file, 'web2', { do: 'remove' });
    expect(existsSync(own)).toBe(true);
    editClient(file, 'web', { do: 'remove' });
    expect(existsSync(own)).toBe(false);
    expect(names()).toEqual(['first']);
  });

  test('a file that has the name of its client is renamed with it', () => {
    put('web.yaml', entry('web', 2));
    editClient(file, 'web', { do: 'rename', to: 'www' });
    expect(readdirSync(directory)).toEqual(['www.yaml']);
    expect(load().clients['www']).toMatchObject({ id: 'web', repository: { prefix: 'web' } });
  });

  test('a key of another file is refused, and nothing is written', () => {
    expect(refusal(() => editClient(file, 'web', newClient(1)))).toMatch(
      /clients\.d\/web\.yaml stays as it is, because this would be wrong in it:\n {2}clients\.web\.keys\[0\]: this is also a key of client "first"/,
    );
    expect(readdirSync(directory)).toEqual([]);
  });

  test('two changes at once, of whatever files, are one after the other', () => {
    put('web.yaml', entry('web', 2));
    writeFileSync(`${file}.new`, '');
    expect(refusal(() => editClient(file, 'web', { do: 'disable' }))).toContain('someone else is changing');
    expect(existsSync(`${file}.new`)).toBe(true);
  });
});
