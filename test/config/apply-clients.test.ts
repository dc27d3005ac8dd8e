/** Many clients in one write: what is written, what stays, and that a mistake anywhere writes nothing. */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { applyClients, writtenClients } from '../../src/config/apply-clients.ts';
import { clientText } from '../../src/config/client-text.ts';
import { readDocument, type YamlValue } from '../../src/config/document.ts';
import { readGivenClients } from '../../src/config/given-clients.ts';
import { loadConfig } from '../../src/config/load.ts';
import { replaceFiles } from '../../src/config/replace-files.ts';
import { keyLine } from './samples.ts';

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'apply-'));
  file = path.join(directory, 'gateway.yaml');
  mkdirSync(path.join(directory, 'store'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

const HEAD = 'stores: { main: { type: directory, path: ./store } }\naudit: { file: ./audit.jsonl }\n';
const entry = (seed: number, more = ''): string =>
  `{ keys: ['${keyLine(seed)}'], repository: { store: main }${more === '' ? '' : `, ${more}`} }`;
const given = (text: string): ReturnType<typeof readGivenClients> =>
  readGivenClients(Buffer.from(text), 'given.yaml', directory);
const apply = (text: string, { prune = false, dryRun = false } = {}) =>
  applyClients(file, given(text), { prune, dryRun });
const changesOf = async (...args: Parameters<typeof apply>): Promise<readonly string[]> =>
  (await apply(...args)).differences.map(({ client, change, keys }) =>
    [change, client, ...keys.map(({ key }) => key)].join(' '),
  );
const all = (): Record<string, string> =>
  Object.fromEntries(
    (readdirSync(directory, { recursive: true }) as string[])
      .filter((name) => statSync(path.join(directory, name)).isFile())
      .map((name) => [name, readFileSync(path.join(directory, name), 'utf8')]),
  );

const PLAIN = (more = ''): string => `${HEAD}# who may come in
clients:
  # the first
  first: # since the beginning
    keys:
      - ${keyLine(1)}
    repository: { store: main }   # where
    quota: 5GiB

  # the second
  second:
    keys:
    - ${keyLine(2)}
    repository: {store: main}
${more}# the end
`;

describe('in one file', () => {
  test('what is not named keeps its lines and comments, and what is applied again changes nothing', async () => {
    writeFileSync(file, PLAIN());
    const block = `clients:\n  second: ${entry(2, 'quota: 7GiB, bandwidth: { upload: 1MiB/s }')}\n  third: ${entry(3)}\n`;
    expect(await changesOf(block, { dryRun: true })).toEqual(['changed second quota bandwidth', 'added third']);
    expect(readFileSync(file, 'utf8')).toBe(PLAIN());
    expect(await changesOf(block)).toEqual(['changed second quota bandwidth', 'added third']);
    expect(readFileSync(file, 'utf8')).toBe(
      `${PLAIN().split('  second:')[0] ?? ''}${clientText('second', { keys: [keyLine(2)], repository: { store: 'main' }, quota: '7GiB', bandwidth: { upload: '1MiB/s' } }, 2)}${clientText('third', { keys: [keyLine(3)], repository: { store: 'main' } }, 2)}# the end\n`,
    );
    const { ino, mtimeMs } = statSync(file);
    expect(await changesOf(block)).toEqual([]);
    expect(statSync(file)).toMatchObject({ ino, mtimeMs });
  });

  test('prune removes who is not named, with the comments above it', async () => {
    writeFileSync(file, PLAIN());
    expect(await changesOf(`clients: { second: ${entry(2)} }`, { prune: true })).toEqual(['removed first']);
    const text = readFileSync(file, 'utf8');
    expect(text).not.toMatch(/first/);
    expect(text).toMatch(/# who may come in\nclients:\n\n {2}# the second\n/);
    expect(Object.keys(loadConfig(file).clients)).toEqual(['second']);
  });

  test.each([
    ['clients: {}', `${HEAD}clients: {} # nobody yet\n`],
    ['clients', `${HEAD}clients: # nobody yet\n  zero: ${entry(9)}\n`],
    ['no clients, and no last line break', HEAD.trimEnd()],
    ['all in brackets', `${HEAD}clients: { zero: ${entry(9)} }\n`],
    ['CRLF', `${HEAD}clients:\n  zero: ${entry(9)}\n`.replaceAll('\n', '\r\n')],
    ['an anchor', `${HEAD}clients:\n  zero: &zero ${entry(9)}\n`],
    ['a deeper root', `  ${HEAD.replace('\n', '\n  ').trimEnd()}\n  clients:\n       zero: ${entry(9)}\n`],
  ])('%s', async (_what, text) => {
    writeFileSync(file, text);
    await apply(`clients:\n  one: ${entry(1)}\n  two: ${entry(2)}\n`);
    const { clients } = parse(readFileSync(file, 'utf8')) as { clients: object };
    expect(clients).toMatchObject({ one: { keys: [keyLine(1)] }, two: { keys: [keyLine(2)] } });
    expect('zero' in clients).toBe(text.includes('zero'));
    expect(readFileSync(file, 'utf8').includes('\r')).toBe(text.includes('\r'));
    loadConfig(file);
  });

  test('the last one goes, and the config is right without', async () => {
    writeFileSync(file, PLAIN());
    await applyClients(file, new Map(), { prune: true, dryRun: false });
    expect(loadConfig(file).clients).toEqual({});
    expect(readFileSync(file, 'utf8')).toMatch(/^clients: \{\}$/m);
    await apply(`clients: { second: ${entry(2)} }`);
    expect(Object.keys(loadConfig(file).clients)).toEqual(['second']);
  });
});

describe('what stays unless the file says it', () => {
  test('who is disabled is not let in again by the next run, and who was renamed keeps its history', async () => {
    writeFileSync(file, `${HEAD}clients:\n  one: ${entry(1, 'id: before, disabled: true')}\n`);
    expect(await changesOf(`clients: { one: ${entry(1)} }`)).toEqual([]);
    expect(await changesOf(`clients: { one: ${entry(1, 'quota: 1GiB')} }`)).toEqual(['changed one quota']);
    expect(loadConfig(file).clients['one']).toMatchObject({ id: 'before', disabled: true, quota: 1024 ** 3 });
    expect(await changesOf(`clients: { one: ${entry(1, 'disabled: false')} }`)).toEqual(['changed one quota disabled']);
    expect(loadConfig(file).clients['one']).toMatchObject({ id: 'before', disabled: false });
  });

  test('${NAME} stays as it is written', async () => {
    process.env['APPLY_TEST'] = '10.0.0.0/8';
    try {
      writeFileSync(file, `${HEAD}clients: {}\n`);
      await apply(`clients: { one: ${entry(1, 'from: ["${APPLY_TEST}"]')} }`);
      expect(readFileSync(file, 'utf8')).toContain('${APPLY_TEST}');
      expect(loadConfig(file).clients['one']?.from).toEqual(['10.0.0.0/8']);
      expect([...writtenClients(file).values()][0]).toMatchObject({ from: ['${APPLY_TEST}'] });
    } finally {
      delete process.env['APPLY_TEST'];
    }
  });
});

describe('in a directory', () => {
  beforeEach(() => {
    mkdirSync(path.join(directory, 'clients.d'));
    writeFileSync(file, `${HEAD}clientsDirectory: clients.d\nclients:\n  inside: ${entry(1)}\n`);
    chmodSync(file, 0o640);
  });

  test('a new client has a file of its own, others stay where they are, and a file goes with its last client', async () => {
    await apply(`clients:\n  one: ${entry(11)}\n  two: ${entry(12)}\n  inside: ${entry(1, 'quota: 1GiB')}\n`);
    expect(readdirSync(path.join(directory, 'clients.d'))).toEqual(['one.yaml', 'two.yaml']);
    expect(statSync(path.join(directory, 'clients.d/one.yaml')).mode & 0o777).toBe(0o640);
    expect(readFileSync(file, 'utf8')).toContain('quota: 1GiB');
    await apply(`clients: { inside: ${entry(1)}, two: ${entry(12)} }`, { prune: true });
    expect(readdirSync(path.join(directory, 'clients.d'))).toEqual(['two.yaml']);
    expect(Object.keys(loadConfig(file).clients)).toEqual(['inside', 'two']);
  });

  test('a key may go from one client to another, whose files are written together', async () => {
    await apply(`clients: { one: ${entry(11)}, two: ${entry(12)} }`);
    await apply(`clients: { one: ${entry(12)}, two: ${entry(11)} }`);
    expect(loadConfig(file).clients['one']?.keys[0]?.comment).toBe('host-12');
  });

  test('a mistake anywhere writes nothing, and nothing is left beside', async () => {
    await apply(`clients: { one: ${entry(11)} }`);
    const before = all();
    const wrong = `clients: { one: ${entry(12)}, two: ${entry(13)}, three: ${entry(1)} }`;
    await expect(apply(wrong)).rejects.toThrow(/nothing is changed.*\n.*three.*also a key of client/);
    expect(all()).toEqual(before);
    expect(() => given('clients:\n  x:\n    keys: [ssh-rsa no]\n    repository: { store: main }\n')).toThrow(
      /given\.yaml:3:12: clients\.x\.keys\[0\]/,
    );
    writeFileSync(path.join(directory, 'clients.d/broken.yaml'), 'clients: {\n');
    await expect(apply(`clients: { two: ${entry(13)} }`)).rejects.toThrow(/broken\.yaml:/);
    expect(Object.keys(all())).toHaveLength(Object.keys(before).length + 1);
  });

  test('who is killed leaves nothing that keeps the next one out', async () => {
    const left = path.join(directory, 'clients.d/.one.yaml.0123456789ab.apply-new');
    writeFileSync(left, 'clients: {');
    await apply(`clients: { one: ${entry(11)} }`);
    expect(readdirSync(path.join(directory, 'clients.d'))).toEqual(['one.yaml']);
  });

  test('a write that fails in its middle is undone', async () => {
    const before = all();
    const two = path.join(directory, 'clients.d/two.yaml');
    const changes = [
      { file, before: before['gateway.yaml'], after: 'gone\n' },
      { file: two, before: undefined, after: 'a\n' },
      { file: two, before: undefined, after: 'b\n' },
    ];
    await expect(replaceFiles(changes, file)).rejects.toThrow(/two\.yaml.*EEXIST/);
    expect(all()).toEqual(before);
    await expect(replaceFiles([{ file, before: 'other', after: 'x' }], file)).rejects.toThrow(/by someone else/);
    expect(all()).toEqual(before);
  });
});

describe('what is given', () => {
  test('JSON says the same as YAML, as export prints it too, and no name stands twice', () => {
    const json = { one: { keys: [keyLine(1)], repository: { store: 'main' }, maxSessions: 5, addKeys: true } };
    const expected = given(`clients: { one: ${entry(1, 'maxSessions: 5, addKeys: true')} }`);
    expect(given(JSON.stringify({ clients: json }))).toEqual(expected);
    expect(given(JSON.stringify({ clients: json }, null, 2))).toEqual(expected);
    expect(given(JSON.stringify({ v: 1, kind: 'clients', clients: json }))).toEqual(expected);
    const one = JSON.stringify(json.one);
    expect(() => given(`{"clients":{"one":${one},"one":${one}}}`)).toThrow(/stands here twice/);
    expect(() => given(`{"clients":{"one":${one},"\\u006fne":${one}}}`)).toThrow(/stands here twice/);
    expect(() => given(`{"clients":{"__proto__":${one}}}`)).toThrow(/cannot be used/);
    expect(() => given('{"clients":{"one":{"keys":[],"keys":[]}}}')).toThrow(/stands here twice/);
    expect(() => given('{"clients":{},"listen":1}')).toThrow(/unknown key/);
    expect(() => given('{"clients":{"one":"${NO_SUCH_VARIABLE}"}}')).toThrow(/NO_SUCH_VARIABLE/);
    expect(() => given('')).toThrow(/empty/);
  });
});

test('whatever value an entry has, its text reads as the same', () => {
  const words = [
    'a',
    '~',
    'null',
    'x: y',
    'a #b',
    '#',
    "it's",
    '"',
    '\\',
    ' x ',
    '',
    '[',
    '{',
    ',',
    '- a',
    ':',
    'a:',
    '\u00e9',
    '\u202e',
    '\ud83d\ude00',
    '\n',
    '\t',
    '*a',
    '&a',
    '!a',
    '%',
    '@',
    '`',
    '?',
    '0755',
    '${A}',
    '---',
    'true',
    '\'"',
  ];
  let seed = 7;
  const random = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
  const text = (): string => Array.from({ length: 1 + random(3) }, () => words[random(words.length)]).join('');
  const value = (depth: number): YamlValue => {
    const kind = random(depth > 2 ? 2 : 6);
    if (kind === 0) return null;
    if (kind < 4) return random(4) === 0 ? text().repeat(20) : text();
    if (kind === 4) return Array.from({ length: random(4) }, () => value(depth + 1));
    const section = Object.create(null) as Record<string, YamlValue>;
    for (let n = random(4); n > 0; n--) section[random(3) === 0 ? `k${text()}` : `key${n}`] = value(depth + 1);
    return section;
  };
  for (let round = 0; round < 500; round++) {
    const made = Object.create(null) as Record<string, YamlValue>;
    made['one'] = Object.assign(Object.create(null) as object, { a: value(0), b: value(0) });
    const written = clientText('one', made['one'] ?? null, 2);
    expect(written).toMatch(/^[^\p{Cc}\p{Cf}]*(?:\n[^\p{Cc}\p{Cf}]*)*$/u);
    const { value: read, problems } = readDocument(`clients:\n${written}`, (one) => one);
    expect({ written, problems, read }).toEqual({ written, problems: [], read: { clients: made } });
  }
});
