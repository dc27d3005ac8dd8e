/** Changes to clients in a config's file: what stays as it was written, and what is refused. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { clientKeys, readChanges, type Setting } from '../../src/config/client-keys.ts';
import { editClient, type ClientChange } from '../../src/config/edit-clients.ts';
import { keyLine } from './samples.ts';

let directory: string;
let file: string;

const TEXT = `# the gate of our house
listen: 127.0.0.1:2222   # not the world
stores:

  main: { type: directory, path: ./store }
# who may come in
clients:
  # the first
  first:
    keys: [${keyLine(1, 'one')}, ${keyLine(2, 'two')}]
    repository: {store: main}   # where
  last:   # added later
    keys: ["${keyLine(3, 'three')}"]
    repository:
        store: main
        prefix: elsewhere
# how we log
audit: {file: ./audit.jsonl}
`;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'edit-'));
  file = path.join(directory, 'gateway.yaml');
  mkdirSync(path.join(directory, 'store'));
  writeFileSync(file, TEXT);
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

const text = (): string => readFileSync(file, 'utf8');
const add = (more: Partial<Extract<ClientChange, { do: 'add' }>['client']> = {}): ClientChange => ({
  do: 'add',
  client: { keys: [keyLine(9, 'nine')], store: 'main', settings: new Map(), ...more },
});

describe('what stands in the file stays', () => {
  test('a new client comes last, and every line that was there is there in its order', () => {
    const config = editClient(
      file,
      'new',
      add({
        settings: new Map<string, Setting>([
          ['access', 'read-only'],
          ['from', ['10.0.0.0/8']],
          ['expires', '2099-01-01'],
        ]),
      }),
    );
    expect(config.clients['new']).toMatchObject({
      repository: { store: 'main', prefix: 'new' },
      access: 'read-only',
      from: ['10.0.0.0/8'],
    });
    const lines = text().split('\n');
    expect(lines).toEqual(expect.arrayContaining(['  new:', '    access: read-only']));
    const kept = TEXT.split('\n').map((line) => line.replace(/\s/g, ''));
    let at = 0;
    for (const line of lines) if (line.replace(/\s/g, '') === kept[at]) at++;
    expect(kept.slice(at)).toEqual([]);
  });

  test('a change and its opposite leave the very file', () => {
    writeFileSync(file, TEXT.replace('last:   # added later', 'last:'));
    const before = text();
    editClient(file, 'first', { do: 'disable' });
    expect(text()).toMatch(/ {3}# not the world\n[^]*disabled: true/);
    const enabled = editClient(file, 'first', { do: 'enable' });
    expect(enabled.clients['first']?.disabled).toBe(false);
    editClient(file, 'new', add());
    editClient(file, 'new', { do: 'remove' });
    expect(text().replace('repository: { store: main } # where', 'repository: {store: main}   # where')).toBe(before);
  });

  test('mode, link and line ends stay, and nothing is left beside the file', () => {
    const link = path.join(directory, 'link.yaml');
    symlinkSync(file, link);
    writeFileSync(file, TEXT.replaceAll('\n', '\r\n'));
    chmodSync(file, 0o640);
    editClient(link, 'last', { do: 'disable' });
    expect(statSync(file).mode & 0o777).toBe(0o640);
    expect(text()).toContain('disabled: true\r\n');
    expect(text()).not.toMatch(/[^\r]\n/);
    expect(existsSync(`${file}.new`)).toBe(false);
  });

  test('the first client of a config', () => {
    for (const clients of ['', 'clients:\n', 'clients: {}\n']) {
      writeFileSync(file, `stores: { main: { type: directory, path: ./store } }\n${clients}`);
      expect(Object.keys(editClient(file, 'new', add()).clients)).toEqual(['new']);
    }
  });
});

describe('each change', () => {
  test('a renamed client keeps the id under which its history is, and has none to write where that is its name again', () => {
    expect(editClient(file, 'first', { do: 'rename', to: 'other' }).clients['other']?.id).toBe('first');
    expect(editClient(file, 'other', { do: 'rename', to: 'third' }).clients['third']?.id).toBe('first');
    expect(editClient(file, 'third', { do: 'rename', to: 'first' }).clients['first']?.id).toBe('first');
    expect(text()).not.toMatch(/\bid:/);
  });

  test('what is set stands where it stood, with its comments; nothing after = removes it, and a section with its last key', () => {
    const set = (...words: string[]) => editClient(file, 'first', { do: 'set', changes: readChanges(words) });
    const { clients } = set('quota=5GiB', 'bandwidth.upload=1MiB/s', 'from=10.0.0.0/8,::1', 'retention.keep-daily=7');
    expect(clients['first']).toMatchObject({
      quota: 5 * 2 ** 30,
      bandwidth: { upload: 2 ** 20 },
      from: ['10.0.0.0/8', '::1/128'],
      retention: { 'keep-daily': 7 },
    });
    writeFileSync(file, text().replace('quota: 5GiB', 'quota: 5GiB # for now'));
    set('quota=6GiB', 'bandwidth={download: 2MiB/s}', 'from=10.1.0.0/16', 'from=10.2.0.0/16');
    expect(text()).toContain('    quota: 6GiB # for now\n');
    expect(set('disabled=true').clients['first']).toMatchObject({
      bandwidth: { download: 2 * 2 ** 20 },
      from: ['10.1.0.0/16', '10.2.0.0/16'],
      disabled: true,
    });
    set('quota=', 'bandwidth.download=', 'from=', 'retention=', 'disabled=');
    expect(text()).toBe(TEXT);
    expect(() => set('quotta=5GiB')).toThrow(/clients.first.quotta: unknown key; did you mean "quota"\?/);
    expect(() => set('quota=much')).toThrow(/clients.first.quota: must be a size/);
    expect(() => set('quota')).toThrow(/write KEY=VALUE/);
    expect(() => set('quota=1GiB', 'quota=2GiB')).toThrow(/quota is given twice/);
    expect(() => set('from=[10.0.0.0/8')).toThrow(/list or a section as in YAML/);
    expect(text()).toBe(TEXT);
  });

  test('every key of the schema can be set', () => {
    const samples: Readonly<Record<string, string>> = {
      ...{ keys: keyLine(7, 'seven'), 'repository.store': 'main', 'repository.prefix': 'there', id: 'first-2' },
      ...{ access: 'full', role: 'probe', massRemoval: '50%', expires: '2099-01-01', passwordFile: './password' },
      ...{ quota: '1GiB', requests: '50/s', sessions: '100/h', smallObjects: '100/h', from: '10.0.0.0/8' },
      ...{ removals: 'refused', 'retention.group-by': '""', protect: '10d', trash: '10d', expectEvery: '26h' },
    };
    for (const { path: key, takes } of clientKeys()) {
      const name = key.join('.');
      const value =
        samples[name] ??
        (takes === 'boolean' ? 'true' : /keep-within/.test(name) ? '1y' : /bandwidth/.test(name) ? '1MiB/s' : '11');
      // A rule must stand beside what is grouped.
      const more = name === 'retention.group-by' ? ['retention.keep-last=1'] : [];
      editClient(file, 'first', { do: 'set', changes: readChanges([`${name}=${value}`, ...more]) });
      if (name !== 'repository.store') expect(text()).not.toBe(TEXT);
      writeFileSync(file, TEXT);
    }
    expect(clientKeys().length).toBeGreaterThan(30);
  });

  test('a renamed client keeps its repository', () => {
    const config = editClient(file, 'first', { do: 'rename', to: 'other' });
    expect(Object.keys(config.clients)).toEqual(['other', 'last']);
    expect(config.clients['other']?.repository).toEqual({ store: 'main', prefix: 'first' });
    expect(text()).toContain('# the first\n  other:');
  });

  test('keys come and go by line, comment and fingerprint', () => {
    const comments = (config: ReturnType<typeof editClient>) =>
      config.clients['first']?.keys.map(({ comment }) => comment);
    const added = editClient(file, 'first', { do: 'add-key', key: keyLine(4, 'four') });
    expect(comments(added)).toEqual(['one', 'two', 'four']);
    expect(comments(editClient(file, 'first', { do: 'remove-key', key: 'one' }))).toEqual(['two', 'four']);
    const fingerprint = added.clients['first']?.keys[1]?.fingerprint ?? '';
    expect(comments(editClient(file, 'first', { do: 'remove-key', key: fingerprint }))).toEqual(['four']);
    expect(() => editClient(file, 'first', { do: 'remove-key', key: keyLine(4, '') })).toThrow(/last key of "first"/);
  });
});

describe('what is refused changes nothing', () => {
  test.each<[string, string, ClientChange, RegExp]>([
    ['a name that is taken', 'first', add(), /there is a client "first" already/],
    ['a new name that is taken', 'first', { do: 'rename', to: 'last' }, /there is a client "last" already/],
    ['a client that is not there', 'frist', { do: 'remove' }, /no client "frist" in .*did you mean "first"/],
    [
      'a key of another client',
      'new',
      add({ keys: [keyLine(3, '')] }),
      /clients\.new\.keys\[0\]: this is also a key of client "last"/,
    ],
    [
      'a place of another client',
      'new',
      add({ prefix: 'elsewhere' }),
      /clients\.new\.repository: is also the repository of client "last"/,
    ],
    ['a store that is not there', 'new', add({ store: 'mian' }), /did you mean "main"/],
    ['a name that is none', '../x', add(), /stays as it is/],
    ['a private key', 'new', add({ keys: ['-----BEGIN OPENSSH PRIVATE KEY-----'] }), /PRIVATE key/],
    ['a key that is not there', 'first', { do: 'remove-key', key: 'none' }, /has no such key/],
  ])('%s', (_what, name, change, message) => {
    expect(() => editClient(file, name, change)).toThrow(message);
    expect(text()).toBe(TEXT);
    expect(existsSync(`${file}.new`)).toBe(false);
  });

  test('a file that someone else is changing', () => {
    writeFileSync(`${file}.new`, 'theirs');
    expect(() => editClient(file, 'first', { do: 'disable' })).toThrow(/someone else is changing/);
    expect(readFileSync(`${file}.new`, 'utf8')).toBe('theirs');
    expect(text()).toBe(TEXT);
  });

  test('a config that is wrong already is told with its place', () => {
    writeFileSync(file, TEXT.replace('audit:', 'adit:'));
    expect(() => editClient(file, 'first', { do: 'disable' })).toThrow(/gateway\.yaml:18:1: adit: unknown key/);
  });
});

test('one of many is changed in its own lines as it is in the whole text, whose every other line stays', () => {
  const many = (first: string): string =>
    `${first}${TEXT.split('clients:\n')[0] ?? ''}clients:
${[1, 2, 3, 4]
  .map(
    (n) => `  # above ${n}
  web${n}: # beside ${n}
    keys:
    - ${keyLine(n, `one-${n}`)}
      # within ${n}
    - ${keyLine(n + 10, `two-${n}`)}
    repository: { store: main, prefix: p/${n} }
    bandwidth: { upload: 5MiB/s }
`,
  )
  .join('\n')}
# how we log
audit: {file: ./audit.jsonl}
`;
  const changes: [string, ClientChange][] = [
    ['new', add({ settings: new Map<string, Setting>([['from', ['10.0.0.0/8']]]) })],
    ...['web1', 'web3', 'web4'].flatMap((name) =>
      [
        { do: 'disable' },
        { do: 'remove' },
        { do: 'rename', to: 'other' },
        { do: 'add-key', key: keyLine(30) },
        { do: 'remove-key', key: `one-${name.slice(3)}` },
        { do: 'set', changes: readChanges(['quota=5GiB', 'bandwidth.upload=', 'maxSessions=3']) },
      ].map((change) => [name, change] as [string, ClientChange]),
    ),
  ];
  for (const [name, change] of changes) {
    writeFileSync(file, many(''));
    const { clients } = editClient(file, name, change);
    const short = text();
    // What a line of the short way does not read has the library change the whole.
    writeFileSync(file, many('# \t\n'));
    expect(editClient(file, name, change).clients).toEqual(clients);
    const others = many('')
      .split('\n')
      .filter(
        (line) =>
          !/[^\n]*\b(?:web|above |beside |within |one-|two-|p\/)?\d/.test(line) || !line.includes(name.slice(3)),
      );
    const kept = short.split('\n');
    for (const line of others.filter((one) => /above|beside|within|web/.test(one))) expect(kept).toContain(line);
  }
});
