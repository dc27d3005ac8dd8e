/** From YAML to a config: what a whole file becomes, and for every way to get it wrong the exact lines that an admin reads. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problems.ts';
import { parsePublicKey } from '../../src/config/public-key.ts';
import type { GatewayConfig } from '../../src/config/types.ts';
import { keyLine, yaml } from './samples.ts';

const FILE = '/etc/restic-gateway/gateway.yaml';

function parse(text: string, env: NodeJS.ProcessEnv = {}): GatewayConfig {
  return parseConfig(text, FILE, env);
}

/** The lines of the error without the file's name, which all of them begin with. */
function problemsOf(text: string, env: NodeJS.ProcessEnv = {}): string[] {
  try {
    parse(text, env);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { message, code } = error as ConfigError;
    expect(code).toBe('invalid-config');
    return message.split('\n').map((line) => {
      expect(line.startsWith(`${FILE}:`)).toBe(true);
      return line.slice(FILE.length + 1);
    });
  }
  return [];
}

const KEY_1 = keyLine(1);
const KEY_2 = keyLine(2);

/** A store that is right, for what is wrong elsewhere. */
const STORES = 'stores: { local: { type: directory, path: /srv/backup } }';

describe('a whole file', () => {
  const full = yaml`
    # The gateway.
    listen: "[::]:2222"
    hostKeys: [ssh_host_ed25519_key, /etc/ssh/other]
    ssh: { extraCiphers: [chacha20-poly1305@openssh.com], limits: { unauthenticated: 50, maxDelaySeconds: 0 } }
    stores:
      archive:
        type: s3
        bucket: databucket
        region: eu-central-1
        endpoint: https://s3.example.com/          # leave out for AWS
        accessKeyId: \${ARCHIVE_KEY_ID}
        secretAccessKeyFile: archive.secret
      cloud: { type: s3, bucket: databucket, region: us-east-2, accessKeyId: AK, secretAccessKey: "\${SECRET}" }
      roles: { type: s3, bucket: other-bucket, region: us-east-2, forcePathStyle: true, objectLock: { mode: governance, days: 30 }, conditionalWrites: versioned }
      local: { type: directory, path: /var/lib/restic-gateway, protect: none, trash: 4w }
    defaults: { retention: { keep-daily: 30 }, protect: 30d, removals: deferred }
    clients:
      appsrv:
        keys: [${KEY_1}, "${KEY_2}"]
        repository: { store: archive, prefix: fleet/appsrv }
        access: read-only
        addKeys: true
        maxSessions: 4
        quota: 1.5GiB
        expectEvery: 26h
        maxLocks: 5
        bandwidth: { upload: 50MiB/s, download: 2.5 MB/s }
        requests: 500/s
        sessions: 100/h
        smallObjects: 1000/h
        from: [10.0.0.0/8, "2001:db8::1"]
        expires: 2027-12-31
        disabled: true
        retention: { keep-last: unlimited, keep-within-monthly: 1y6m14d2h, group-by: "host,tags" }
        trash: none
        passwordFile: passwords/appsrv
      small:
        keys:
          - ${keyLine(3)}
        repository:
          store: local
    audit: { file: audit.jsonl }
    maxSessions: 200
    workers: auto
    drainSeconds: 300
  `;
  const env = { ARCHIVE_KEY_ID: 'AKIAEXAMPLE', SECRET: 'wJalrXUtnFEMI' };

  test('becomes what the gateway works with', () => {
    expect(parse(full, env)).toEqual({
      file: FILE,
      listen: [{ host: '::', port: 2222 }],
      notify: {},
      hostKeys: ['/etc/restic-gateway/ssh_host_ed25519_key', '/etc/ssh/other'],
      ssh: { extraCiphers: ['chacha20-poly1305@openssh.com'], limits: { unauthenticated: 50, maxDelaySeconds: 0 } },
      trustedUserCAKeys: [],
      revokedCertificates: [],
      maxSessions: 200,
      workers: 'auto',
      drainSeconds: 300,
      stores: {
        archive: {
          type: 's3',
          name: 'archive',
          bucket: 'databucket',
          region: 'eu-central-1',
          endpoint: 'https://s3.example.com',
          forcePathStyle: true,
          credentials: { accessKeyId: 'AKIAEXAMPLE', secret: { file: '/etc/restic-gateway/archive.secret' } },
        },
        cloud: {
          type: 's3',
          name: 'cloud',
          bucket: 'databucket',
          region: 'us-east-2',
          forcePathStyle: false,
          credentials: { accessKeyId: 'AK', secret: { variable: 'SECRET' } },
        },
        roles: {
          type: 's3',
          name: 'roles',
          bucket: 'other-bucket',
          region: 'us-east-2',
          forcePathStyle: true,
          objectLock: { mode: 'governance', days: 30 },
          conditionalWrites: 'versioned',
        },
        local: {
          ...{ type: 'directory', name: 'local', path: '/var/lib/restic-gateway' },
          ...{ protect: 'none', trash: 2_419_200_000 },
        },
      },
      clients: {
        appsrv: {
          name: 'appsrv',
          id: 'appsrv',
          role: 'backup',
          keys: [parsePublicKey(KEY_1), parsePublicKey(KEY_2)],
          repository: { store: 'archive', prefix: 'fleet/appsrv' },
          access: 'read-only',
          principals: [],
          addKeys: true,
          maxSessions: 4,
          quota: 1_610_612_736,
          expectEvery: 93_600_000,
          maxLocks: 5,
          bandwidth: { upload: 52_428_800, download: 2_500_000 },
          requests: 500,
          sessions: 100,
          smallObjects: 1000,
          from: ['10.0.0.0/8', '2001:db8::1/128'],
          expires: new Date('2027-12-31T23:59:59.999Z'),
          disabled: true,
          retention: {
            'keep-last': 'unlimited',
            'keep-within-monthly': { years: 1, months: 6, days: 14, hours: 2 },
            'group-by': ['host', 'tags'],
          },
          protectMs: 2_592_000_000,
          removals: 'refused',
          passwordFile: '/etc/restic-gateway/passwords/appsrv',
        },
        small: {
          name: 'small',
          id: 'small',
          role: 'backup',
          keys: [parsePublicKey(keyLine(3))],
          repository: { store: 'local', prefix: 'small' },
          access: 'append-only',
          principals: [],
          addKeys: false,
          maxSessions: 10,
          maxLocks: 200,
          from: [],
          disabled: false,
          retention: { 'keep-daily': 30, 'group-by': ['host', 'paths'] },
          trashMs: 2_419_200_000,
          removals: 'deferred',
        },
      },
      audit: { file: '/etc/restic-gateway/audit.jsonl', maxSize: 100 * 2 ** 20 },
      state: '/etc/restic-gateway/state',
    });
  });

  test('holds no secret', () => {
    expect(JSON.stringify(parse(full, env))).not.toContain('wJalrXUtnFEMI');
  });

  test('has a default for all that may be left out', () => {
    expect(parse('clients:\n')).toEqual({
      file: FILE,
      notify: {},
      listen: [
        { host: '0.0.0.0', port: 2222 },
        { host: '::', port: 2222 },
      ],
      hostKeys: [],
      ssh: { extraCiphers: [] },
      trustedUserCAKeys: [],
      revokedCertificates: [],
      maxSessions: 1000,
      workers: 1,
      drainSeconds: 60,
      stores: {},
      clients: {},
      audit: { file: '/var/log/restic-gateway/audit.jsonl', maxSize: 100 * 2 ** 20 },
      state: '/var/log/restic-gateway/state',
    });
  });

  test('an S3 server that is not AWS needs no region', () => {
    const { stores } = parse('stores: { a: { type: s3, bucket: abc, endpoint: "http://127.0.0.1:9000" } }');
    expect(stores['a']).toMatchObject({ region: 'us-east-1', endpoint: 'http://127.0.0.1:9000', forcePathStyle: true });
  });

  test('reads numbers and words as they are written', () => {
    const { clients } = parse(
      yaml`
      ${STORES}
      clients:
        0x10: { keys: [], repository: { store: local, prefix: 007 } }
        1e3: { keys: [], repository: { store: local, prefix: "" }, shared: true }
        on: { keys: [], repository: { store: local, prefix: no }, shared: true }
        "007": { keys: [], repository: { store: local, prefix: 2021-11-18 }, shared: true }
    `.replace('prefix: 007 }', 'prefix: 007 }, shared: true'),
    );
    expect(Object.values(clients).map(({ name, repository: { prefix } }) => [name, prefix])).toEqual([
      ['0x10', '007'],
      ['1e3', ''],
      ['on', 'no'],
      ['007', '2021-11-18'],
    ]);
  });

  test('may use anchors', () => {
    const { clients } = parse(yaml`
      ${STORES}
      clients:
        a: { keys: [], repository: { store: &where local }, from: &office [10.0.0.0/8, 192.0.2.1] }
        b: { keys: [], repository: { store: *where }, from: *office }
    `);
    expect(clients['b']).toMatchObject({ repository: { store: 'local' }, from: ['10.0.0.0/8', '192.0.2.1/32'] });
  });

  test('may have the line ends of Windows', () => {
    expect(parse('listen: 2223\r\nhostKeys:\r\n  - key\r\n')).toMatchObject({
      listen: [{ port: 2223 }, { port: 2223 }],
      hostKeys: ['/etc/restic-gateway/key'],
    });
  });

  test('may begin with a byte order mark and "---", and end with "..."', () => {
    expect(parse('\ufeff---\nlisten: 2223\n...\n').listen[0]?.port).toBe(2223);
  });
});

describe('nothing in a config can be changed', () => {
  const config = parse(yaml`
    hostKeys: [key]
    ${STORES}
    clients: { a: { keys: [${KEY_1}], repository: { store: local }, from: [10.0.0.0/8], expires: 2027-12-31 } }
  `);
  const mutable = config as { -readonly [K in keyof GatewayConfig]: GatewayConfig[K] };

  test('every object and list in it is frozen', () => {
    const seen: string[] = [];
    const visit = (value: unknown, path: string): void => {
      if (typeof value !== 'object' || value === null) return;
      seen.push(path);
      expect([path, Object.isFrozen(value)]).toEqual([path, true]);
      for (const [key, part] of Object.entries(value)) visit(part, `${path}.${key}`);
    };
    visit(config, 'config');
    expect(seen).toContain('config.clients.a.keys.0');
    expect(seen).toContain('config.stores.local');
    expect(seen).toContain('config.ssh.extraCiphers');
  });

  test.each<[string, () => unknown]>([
    ['a value', () => (mutable.file = 'x')],
    ['a list', () => (config.hostKeys as string[]).push('x')],
    ['a client', () => ((config.clients as Record<string, unknown>)['a'] = undefined)],
    ['a new client', () => ((config.clients as Record<string, unknown>)['b'] = {})],
    ['removing a client', () => delete (config.clients as Record<string, unknown>)['a']],
    ['a key', () => ((config.clients['a']?.keys[0] as { blob: string }).blob = 'x')],
    ['a range', () => ((config.clients['a']?.from as string[])[0] = '0.0.0.0/0')],
    ['the time of expiry', () => config.clients['a']?.expires?.setTime(0)],
    ['the year of expiry', () => config.clients['a']?.expires?.setUTCFullYear(2099)],
  ])('%s', (_name, change) => {
    expect(change).toThrow(TypeError);
    expect(config.clients['a']?.expires).toEqual(new Date('2027-12-31T23:59:59.999Z'));
  });

  test.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty'])('there is no client or store %s', (name) => {
    expect(config.clients[name]).toBeUndefined();
    expect(config.stores[name]).toBeUndefined();
  });
});

const keyless = (client: string): string => `{ keys: [], repository: { store: local, prefix: ${client} } }`;

describe('what is not YAML, or not the YAML of a config', () => {
  test.each<[string, string, string[]]>([
    ['nothing', '', ['1:1: the file is empty; the README shows a whole config']],
    ['only a comment', '# soon\n', ['1:1: the file is empty; the README shows a whole config']],
    ['only a document mark', '---\n', ['1:4: the file is empty; the README shows a whole config']],
    ['a word', 'serve', ['1:1: must be a section with user, listen, hostKeys, ssh, …']],
    ['a list', '- listen', ['1:1: must be a section with user, listen, hostKeys, ssh, …']],
    [
      'a variable inside of braces',
      'audit: { file: ${HOME} }\nssh: {}\n',
      ['1:16: a ${…} inside of { } needs quotes: "${NAME}"'],
    ],
    [
      'no-break spaces as indentation',
      'audit:\n\u00a0\u00a0file: a\nssh: {}\n',
      ['2:1: this is a no-break or another special space, which YAML takes for a letter; type a plain one'],
    ],
    [
      'a no-break space after a colon',
      'audit:\u00a0{ file: a }\n# a\u00a0b:\u00a0c',
      ['1:7: this is a no-break or another special space, which YAML takes for a letter; type a plain one'],
    ],
    ['a tab as indentation', 'audit:\n\tfile: a', ['2:1: tabs cannot indent in YAML; use spaces']],
    [
      'tabs in several lines',
      'audit:\n\tfile: a\nssh:\n\textraCiphers: []',
      ['2:1: tabs cannot indent in YAML; use spaces', '4:1: tabs cannot indent in YAML; use spaces'],
    ],
    [
      'a bracket left open',
      'hostKeys: [a',
      ['1:13: not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]'],
    ],
    ['a quote left open', 'listen: "a', ['1:11: not valid YAML: Missing closing "quote']],
    [
      'a key without its colon',
      'listen: 2222\nclients',
      ['2:1: not valid YAML: Implicit map keys need to be followed by map values'],
    ],
    [
      'an indentation that fits nothing',
      'audit:\n    file: a\n  x: b',
      ['3:1: not valid YAML: All mapping items must start at the same column'],
    ],
    ['a reserved character', 'listen: @a', ['1:9: not valid YAML: Plain value cannot start with reserved character @']],
    [
      'an IPv6 address without quotes',
      'listen: [::]:2222',
      ['1:13: an address in brackets needs quotes: listen: "[::]:2222"'],
    ],
    [
      'two documents',
      'listen: 2222\n---\nlisten: 2223',
      ['2:1: a second document begins here; a config is one document'],
    ],
    ['a key twice', 'listen: 2222\nlisten: 2223', ['2:1: listen: stands here twice; the first is on line 1']],
    [
      'a client twice',
      yaml`
        ${STORES}
        clients:
          a: ${keyless('a')}
          "a": ${keyless('b')}
      `,
      ['4:3: clients.a: stands here twice; the first is on line 3'],
    ],
    ['an empty key', '"": x', ['1:1: [""]: this name cannot be used']],
    ['a list as a key', '? [a]\n: b', ['1:3: a key must be a plain word']],
    ['an alias as a key', 'listen: &a 2222\n*a : b', ['2:1: a key must be a plain word']],
    ['a tag', 'listen: !port 2222', ['1:15: listen: tags (words that begin with "!") are not used here; remove it']],
    [
      'a tag of YAML itself',
      'listen: !!int 2222',
      ['1:15: listen: tags (words that begin with "!") are not used here; remove it'],
    ],
    [
      'a tag of JavaScript',
      'hostKeys: !!js/function [a]',
      ['1:25: hostKeys: tags (words that begin with "!") are not used here; remove it'],
    ],
    [
      'an alias of nothing',
      'listen: *port',
      ['1:9: listen: there is nothing before this that the alias (a word that begins with "*") could stand for'],
    ],
    [
      'an alias with a slip',
      'ssh: { extraCiphers: &none [] }\nhostKeys: *nome',
      ['2:11: hostKeys: there is nothing before this that the alias (a word that begins with "*") could stand for'],
    ],
    [
      'an alias before its anchor',
      'listen: *a\nhostKeys: &a []',
      ['1:9: listen: there is nothing before this that the alias (a word that begins with "*") could stand for'],
    ],
    [
      'an alias of itself',
      'hostKeys: &a [*a]',
      ['1:15: hostKeys[0]: there is nothing before this that the alias (a word that begins with "*") could stand for'],
    ],
    ['a merge key', 'audit: &a { file: x }\nssh: { <<: *a }', ['2:8: ssh["<<"]: unknown key']],
    [
      'a name of every object',
      'constructor: x\n__proto__: y\ntoString: z',
      [
        '1:1: constructor: this name cannot be used',
        '2:1: __proto__: this name cannot be used',
        '3:1: toString: this name cannot be used',
      ],
    ],
    [
      'a client by such a name',
      `${STORES}\nclients: { prototype: ${keyless('a')} }`,
      ['2:12: clients.prototype: this name cannot be used'],
    ],
    ['a column after letters beyond ASCII', '"ключ": 🔑', ['1:1: ["ключ"]: unknown key']],
    ['a column after letters beyond the BMP', 'audit: { "🔑🔑": 1 }', ['1:10: audit["🔑🔑"]: unknown key']],
    ['a key that would break the line', '"a\\nb": x', ['1:1: ["a\\nb"]: unknown key']],
    ['a key that would hide its end', '"a\\u202eb\\L": x', ['1:1: ["a\\u202eb\\u2028"]: unknown key']],
    [
      'a value that would break the line',
      'hostKeys: ["a\\nb"]',
      ['1:12: hostKeys[0]: holds a line break or a control character'],
    ],
    ['a NUL in a value', 'hostKeys: ["a\\0b"]', ['1:12: hostKeys[0]: holds a line break or a control character']],
    [
      'a block of lines as a value',
      'listen: |\n  2222\n  2223',
      ['1:9: listen: holds a line break or a control character'],
    ],
    [
      '33 levels',
      'hostKeys: ' + '['.repeat(33) + ']'.repeat(33),
      [
        '1:12: hostKeys[0]: must be a single value',
        `1:43: hostKeys${'[0]'.repeat(32)}: nested too deeply for a config`,
      ],
    ],
  ])('%s', (_name, text, problems) => {
    expect(problemsOf(text)).toEqual(problems);
  });

  test.each([
    ['lists', '['.repeat(100_000)],
    ['closed lists', '['.repeat(5000) + ']'.repeat(5000)],
    ['sections', '{a: '.repeat(5000)],
    ['dashes', '- '.repeat(20_000)],
    ['keys of keys', '? '.repeat(20_000)],
  ])('thousands of levels of %s end in a plain error', (_name, text) => {
    const problems = problemsOf(text);
    expect(problems.length).toBeGreaterThan(0);
    expect(problems.length).toBeLessThan(102);
  });

  test('a billion laughs end in a plain error, soon', () => {
    const lines = Array.from({ length: 10 }, (_, level) => {
      const item = level === 0 ? 'ha' : `*l${level - 1}`;
      return `  - &l${level} [${Array.from({ length: 10 }, () => item).join(', ')}]`;
    });
    const problems = problemsOf(['hostKeys:', ...lines].join('\n'));
    expect(problems).toEqual(['5:45: hostKeys[3][7]: aliases repeat more than 10000 values; write them out']);
  });

  test('of any number of problems, the first hundred are told', () => {
    const problems = problemsOf(Array.from({ length: 250 }, (_, index) => `key${index}: x`).join('\n'));
    expect(problems).toHaveLength(101);
    expect(problems[99]).toBe('100:1: key99: unknown key');
    expect(problems[100]).toBe(' and 150 problems more');
  });

  test('the error has its problems in parts as well', () => {
    try {
      parse('audit:\n  fiel: x');
    } catch (error) {
      expect((error as ConfigError).problems).toEqual([
        { path: 'audit.fiel', line: 2, column: 3, message: 'unknown key; did you mean "file"?' },
      ]);
    }
    expect.assertions(1);
  });
});

const one = (body: string): string => yaml`
  ${STORES}
  clients:
    appsrv:
      keys: [${KEY_1}]
      repository: { store: local }
      ${body}
`;
const s3 = (body: string): string => yaml`
  stores:
    archive:
      type: s3
      bucket: databucket
      ${body}
`;

describe('keys and values that the schema does not have', () => {
  test.each<[string, string, string[]]>([
    ['a slip in a key', 'lisen: 2222', ['1:1: lisen: unknown key; did you mean "listen"?']],
    ['a key in another spelling', 'host_keys: []', ['1:1: host_keys: unknown key; did you mean "hostKeys"?']],
    ['a key in capitals', 'LISTEN: 2222', ['1:1: LISTEN: unknown key; did you mean "listen"?']],
    ['a key that is like none', 'tls: true', ['1:1: tls: unknown key']],
    ['a very long key', `${'k'.repeat(100)}: x`, [`1:1: ["${'k'.repeat(64)}"]: unknown key`]],
    ['listen as a section', 'listen: { host: a }', ['1:9: listen: must be a single value']],
    ['listen as nothing', 'listen:', ['1:1: listen: is empty; give it a value or remove the line']],
    ['listen as ~', 'listen: ~', ['1:9: listen: is empty; give it a value or remove the line']],
    ['listen as ""', 'listen: ""', ['1:9: listen: is empty; give it a value or remove the line']],
    [
      'an address twice, and one that is none, in a list',
      'listen: [2222, 127.0.0.1:2222, x, 127.0.0.1:2222]',
      [
        '1:32: listen[2]: must be HOST:PORT, "[IPV6]:PORT", :PORT or PORT',
        '1:35: listen[3]: stands in this list twice',
      ],
    ],
    ['nowhere to listen', 'listen: []', ['1:9: listen: is empty; give it a value or remove the line']],
    ['listen without a port', 'listen: localhost', ['1:9: listen: must be HOST:PORT, "[IPV6]:PORT", :PORT or PORT']],
    ['host keys as one value', 'hostKeys: key', ['1:11: hostKeys: must be a list: [one, another]']],
    ['host keys as nothing', 'hostKeys:', ['1:1: hostKeys: is empty; give it a value or remove the line']],
    ['an empty item', 'hostKeys:\n  - a\n  -', ['3:4: hostKeys[1]: is empty; give it a value or remove the line']],
    [
      'a host key in the home directory',
      'hostKeys: [~/key]',
      ['1:12: hostKeys[0]: "~" means nothing here; write the whole path'],
    ],
    [
      'a host key twice, in two spellings',
      'hostKeys: [key, ./key, /etc/restic-gateway/key]',
      ['1:17: hostKeys[1]: stands in this list twice', '1:24: hostKeys[2]: stands in this list twice'],
    ],
    ['ssh as a list', 'ssh: [a]', ['1:6: ssh: must be a section with extraCiphers, limits']],
    [
      'a cipher that is not offered',
      'ssh: { extraCiphers: [aes256-cbc] }',
      ['1:23: ssh.extraCiphers[0]: must be "chacha20-poly1305@openssh.com"'],
    ],
    [
      'a cipher with a slip',
      'ssh: { extraCiphers: [chacha20-poly1305] }',
      ['1:23: ssh.extraCiphers[0]: must be "chacha20-poly1305@openssh.com"'],
    ],
    [
      'less memory than a process needs',
      'memory: { total: 64MiB }',
      ['1:18: memory.total: must be a size of 80MiB or more, such as 512MiB'],
    ],
    [
      'less memory than a session at full speed needs',
      'memory: { perClient: 1MiB }',
      ['1:22: memory.perClient: must be a size of 20MiB or more, such as 128MiB'],
    ],
    [
      'a client that may take what all others need',
      'memory: { total: 100MiB, perClient: 60MiB }',
      [
        '1:37: memory.perClient: must be at most half of memory.total (100MiB), so that no client can take what all others need',
      ],
    ],
    [
      'a client that may take what all others need of the default',
      'memory: { perClient: 300MiB }',
      [
        '1:22: memory.perClient: must be at most half of memory.total (512MiB), so that no client can take what all others need',
      ],
    ],
    [
      'more workers than there is memory for',
      'memory: { total: 100MiB }\nworkers: 3',
      ['2:10: workers: are too many for memory.total (100MiB): each of them needs 40MiB of it'],
    ],
    [
      'more workers than there is memory for by default',
      'workers: 13',
      ['1:10: workers: are too many for memory.total (512MiB): each of them needs 40MiB of it'],
    ],
    ['no workers', 'workers: 0', ['1:10: workers: must be a whole number from 1 to 256, or auto for one on each core']],
    [
      'the audit as a file',
      'audit: audit.jsonl',
      ['1:8: audit: must be a section with file, maxSize, keep, copy, syslog'],
    ],
    [
      'an audit that is rotated all the time',
      'audit: { maxSize: 1KiB }',
      ['1:19: audit.maxSize: must be a size of 64KiB or more, such as 100MiB, or none'],
    ],
    [
      'an audit of which nothing is kept',
      'audit: { keep: 0 }',
      ['1:16: audit.keep: must be a whole number from 1 to 100000'],
    ],
    [
      'a copy of the audit among what is not there',
      'stores: { s: { type: directory, path: /s } }\naudit: { copy: { store: t, prefix: a } }',
      ['2:25: audit.copy.store: there is no such store; did you mean "s"?'],
    ],
    [
      'a copy of the audit in a directory',
      'stores: { s: { type: directory, path: /s } }\naudit: { copy: { store: s, prefix: a } }',
      ['2:25: audit.copy.store: must be a store of type s3'],
    ],
    [
      'a copy of the audit without a place of its own',
      'stores: { s: { type: s3, bucket: bucket, region: r } }\naudit: { copy: { store: s, prefix: "" } }',
      ['2:36: audit.copy.prefix: must not be empty: the copy needs a place of its own'],
    ],
    ...['a', 'a/b', 'a/b/c'].map((prefix): [string, string, string[]] => [
      `a copy of the audit in the way of a repository: ${prefix}`,
      `stores: { s: { type: s3, bucket: bucket, region: r } }\nclients: { c: { keys: [], repository: { store: s, prefix: a/b } } }\naudit: { copy: { store: s, prefix: ${prefix} } }`,
      ['3:36: audit.copy.prefix: is in the way of the repository of client "c"; give the copy a place of its own'],
    ]),
    ...['/dev/log', 'udp://host', 'tcp://host:0', 'tls://host:65536', 'http://host:1', 'tcp://ho st:1'].map(
      (address): [string, string, string[]] => [
        `syslog to ${address}`,
        `audit: { syslog: { address: "${address}" } }`,
        ['1:29: audit.syslog.address: must be udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:///dev/log'],
      ],
    ),
    ['the audit as nothing', 'audit:', ['1:1: audit: is empty; give it a value or remove the line']],
    ['stores as a list', 'stores: [a]', ['1:9: stores: must be a section with a name for each store']],
    ['clients as a list', 'clients: [a]', ['1:10: clients: must be a section with a name for each client']],
  ])('%s', (_name, text, problems) => {
    expect(problemsOf(text)).toEqual(problems);
  });
});

describe('stores', () => {
  test.each<[string, string, string[]]>([
    [
      'a name that is none',
      'stores: { "my store": { type: directory, path: /a } }',
      [
        '1:11: stores["my store"]: a name is 1 to 64 letters, digits, ".", "_" or "-", and begins with a letter or digit',
      ],
    ],
    ['nothing in it', 'stores:\n  a:', ['2:3: stores.a: is empty; give it a value or remove the line']],
    ['a path alone', 'stores:\n  a: /srv', ['2:6: stores.a: must be a section with type and what belongs to it']],
    ['no type', 'stores:\n  a: { path: /srv }', ['2:3: stores.a.type: is missing; write "s3" or "directory"']],
    ['an empty type', 'stores:\n  a: { type: }', ['2:8: stores.a.type: is empty; give it a value or remove the line']],
    ['another type', 'stores:\n  a: { type: sftp }', ['2:14: stores.a.type: must be "s3" or "directory"']],
    [
      'a slip in the type',
      'stores:\n  a: { type: directry }',
      ['2:14: stores.a.type: must be "s3" or "directory"; did you mean "directory"?'],
    ],
    ['a list as the type', 'stores:\n  a: { type: [s3] }', ['2:14: stores.a.type: must be "s3" or "directory"']],
    ['a directory without a path', 'stores:\n  a: { type: directory }', ['2:3: stores.a.path: is missing']],
    [
      'a key of the other type',
      'stores:\n  a: { type: directory, path: /a, bucket: b }',
      ['2:35: stores.a.bucket: unknown key'],
    ],
    [
      'a key of the other type, the other way',
      s3('path: /a\n      region: x'),
      ['5:5: stores.archive.path: unknown key'],
    ],
    [
      'everything missing',
      'stores:\n  a: { type: s3 }',
      ['2:3: stores.a.bucket: is missing', '2:3: stores.a.region: is missing; only where endpoint is set it may be'],
    ],
    ['AWS without a region', s3(''), ['2:3: stores.archive.region: is missing; only where endpoint is set it may be']],
    [
      'a bucket that S3 does not allow',
      'stores:\n  a: { type: s3, region: x, bucket: My Bucket }',
      [
        '2:37: stores.a.bucket: a bucket name is 3 to 63 lower-case letters, digits, "." and "-" (old ones: up to 255, capitals and "_" too), and is not an IP address',
      ],
    ],
    [
      'an endpoint with a query',
      s3('endpoint: https://s3.example.com?bucket=b'),
      [
        '5:15: stores.archive.endpoint: must be a scheme, a host and perhaps a port and a path; write it as https://s3.example.com or http://127.0.0.1:9000',
      ],
    ],
    [
      'a word for true',
      s3('region: x\n      forcePathStyle: yes'),
      ['6:21: stores.archive.forcePathStyle: must be true or false'],
    ],
    [
      'a lock that is none',
      s3('region: x\n      objectLock: { mode: strict, days: 0, years: 1 }'),
      [
        '6:25: stores.archive.objectLock.mode: must be "compliance" or "governance"',
        '6:39: stores.archive.objectLock.days: must be a whole number from 1 to 36500',
        '6:42: stores.archive.objectLock.years: unknown key',
      ],
    ],
    [
      'a renewal of everything each time',
      s3('region: x\n      objectLock: { mode: compliance, days: 30, extend: 31d }'),
      [
        '6:5: stores.archive.objectLock: extend must not be longer than the 30 days: everything would be renewed each time',
      ],
    ],
    [
      'a fallback that there is not',
      s3('region: x\n      conditionalWrites: maybe'),
      ['6:24: stores.archive.conditionalWrites: must be "required" or "versioned"'],
    ],
    [
      'an id without its secret',
      s3('region: x\n      accessKeyId: AK'),
      [
        '6:5: stores.archive.accessKeyId: needs secretAccessKeyFile beside it; without both, the credentials of the machine are used',
      ],
    ],
    [
      'a secret without its id',
      s3('region: x\n      secretAccessKeyFile: s'),
      ['6:5: stores.archive.secretAccessKeyFile: needs accessKeyId beside it'],
    ],
    [
      'two secrets',
      s3('region: x\n      accessKeyId: AK\n      secretAccessKeyFile: s\n      secretAccessKey: ${SECRET}'),
      ['8:5: stores.archive.secretAccessKey: stands beside secretAccessKeyFile; remove one of the two'],
    ],
    [
      'a secret in the file',
      s3('region: x\n      accessKeyId: AK\n      secretAccessKey: wJalrXUtnFEMI'),
      [
        '7:22: stores.archive.secretAccessKey: a secret must not stand in this file: put it into a file of its own and name that with secretAccessKeyFile, or write ${NAME} to take it from the environment',
      ],
    ],
    [
      'a secret with a reference in it',
      s3('region: x\n      accessKeyId: AK\n      secretAccessKey: wJalr${SECRET}'),
      [
        '7:22: stores.archive.secretAccessKey: a secret must not stand in this file: put it into a file of its own and name that with secretAccessKeyFile, or write ${NAME} to take it from the environment',
      ],
    ],
  ])('%s', (_name, text, problems) => {
    expect(problemsOf(text, { SECRET: 'x' })).toEqual(problems);
  });
});

describe('clients', () => {
  test.each<[string, string, string[]]>([
    [
      'a name that is none',
      `${STORES}\nclients: { "a b": ${keyless('a')} }`,
      ['2:12: clients["a b"]: a name is 1 to 64 letters, digits, ".", "_" or "-", and begins with a letter or digit'],
    ],
    ['nothing in it', 'clients:\n  a:', ['2:3: clients.a: is empty; give it a value or remove the line']],
    [
      'a key alone',
      `clients:\n  a: ${KEY_1}`,
      ['2:6: clients.a: must be a section with keys, principals, repository, id, …'],
    ],
    [
      'everything missing',
      'clients:\n  a: {}',
      ['2:3: clients.a.keys: is missing', '2:3: clients.a.repository: is missing'],
    ],
    [
      'a repository without a store',
      'clients:\n  a: { keys: [], repository: { prefix: a } }',
      ['2:18: clients.a.repository.store: is missing'],
    ],
    [
      'a repository by the name of its store',
      `${STORES}\nclients:\n  a: { keys: [], repository: local }`,
      ['3:30: clients.a.repository: must be a section with store, prefix'],
    ],
    [
      'keys as one line',
      `${STORES}\nclients:\n  a: { keys: ${KEY_1}, repository: { store: local } }`,
      ['3:14: clients.a.keys: must be a list: [one, another]'],
    ],
    [
      'a key that is none',
      one('').replace(KEY_1, 'id_ed25519.pub'),
      [
        '4:12: clients.appsrv.keys[0]: not a public key; paste the one line of a .pub file, which begins with ssh-ed25519',
      ],
    ],
    [
      'a key twice',
      one('').replace(KEY_1, `${KEY_1}, ${KEY_2}, ${keyLine(1, 'again')}`),
      ['4:190: clients.appsrv.keys[2]: stands in this list twice'],
    ],
    [
      'a key twice beside one that is none',
      one('').replace(KEY_1, `x, ${KEY_1}, ${KEY_1}`),
      [
        '4:12: clients.appsrv.keys[0]: not a public key; paste the one line of a .pub file, which begins with ssh-ed25519',
        '4:104: clients.appsrv.keys[2]: stands in this list twice',
      ],
    ],
    [
      'a slip in a key',
      one('nickname: a\n      acces: full'),
      ['6:5: clients.appsrv.nickname: unknown key', '7:5: clients.appsrv.acces: unknown key; did you mean "access"?'],
    ],
    [
      'an access that is none',
      one('access: append'),
      ['6:13: clients.appsrv.access: must be "read-only" or "append-only" or "full"'],
    ],
    [
      'an expectation without a unit',
      one('expectEvery: 26'),
      [
        '6:18: clients.appsrv.expectEvery: must be a length of time with its unit, up to a year, such as 90s, 30m, 26h, 8d or 2w, or learned',
      ],
    ],
    [
      'a quota without a unit',
      one('quota: 500'),
      ['6:12: clients.appsrv.quota: must be a size with its unit, such as 500GiB, 750 MB or 1.5TiB, or none'],
    ],
    [
      'a bandwidth for both ways in one',
      one('bandwidth: 50MiB/s'),
      ['6:16: clients.appsrv.bandwidth: must be a section with upload, download'],
    ],
    [
      'a bandwidth for no way',
      one('bandwidth: {}'),
      ['6:16: clients.appsrv.bandwidth: must have upload, download or both'],
    ],
    [
      'a bandwidth that is no rate, and one that lets nothing through',
      one('bandwidth: { upload: 50MiB, download: 10KiB/s, uplaod: 1MiB/s }'),
      [
        '6:26: clients.appsrv.bandwidth.upload: must be a size a second, such as 50MiB/s or 2.5 MB/s, or none',
        '6:43: clients.appsrv.bandwidth.download: must be at least 64KiB/s; to shut a client out, write disabled: true',
        '6:52: clients.appsrv.bandwidth.uplaod: unknown key; did you mean "upload"?',
      ],
    ],
    [
      'requests an hour, and too few objects',
      one('requests: 1000/h\n      smallObjects: 10/h\n      sessions: 5/s'),
      [
        '6:15: clients.appsrv.requests: must be a rate from 10/s to 1000000/s',
        '7:19: clients.appsrv.smallObjects: must be a rate from 60/h to 1000000/h',
        '8:15: clients.appsrv.sessions: must be a rate from 60/h to 1000000/h',
      ],
    ],
    ['no locks at all', one('maxLocks: 0'), ['6:15: clients.appsrv.maxLocks: must be a whole number from 1 to 100000']],
    [
      'a slip in the access',
      one('access: appendonly'),
      ['6:13: clients.appsrv.access: must be "read-only" or "append-only" or "full"; did you mean "append-only"?'],
    ],
    ['an empty access', one('access:'), ['6:5: clients.appsrv.access: is empty; give it a value or remove the line']],
    ['a word for true', one('addKeys: on'), ['6:14: clients.appsrv.addKeys: must be true or false']],
    [
      'no session at all',
      one('maxSessions: 0'),
      ['6:18: clients.appsrv.maxSessions: must be a whole number from 1 to 10000'],
    ],
    [
      'sessions as a word',
      one('maxSessions: many'),
      ['6:18: clients.appsrv.maxSessions: must be a whole number from 1 to 10000'],
    ],
    ['from as one value', one('from: 10.0.0.0/8'), ['6:11: clients.appsrv.from: must be a list: [one, another]']],
    // An empty one must not come to mean "from anywhere".
    [
      'from as nothing',
      one('from:\n        # - 10.0.0.0/8'),
      ['6:5: clients.appsrv.from: is empty; give it a value or remove the line'],
    ],
    [
      'a range with bits too many',
      one('from: [192.0.2.1, 10.0.0.5/8]'),
      ['6:23: clients.appsrv.from[1]: write 10.0.0.0/8 for the whole range, or 10.0.0.5 for the one address'],
    ],
    [
      'an address twice',
      one('from: [192.0.2.1, 192.0.2.1/32]'),
      ['6:23: clients.appsrv.from[1]: stands in this list twice'],
    ],
    ['a day that is none', one('expires: 2027-02-30'), ['6:14: clients.appsrv.expires: there is no such day']],
    [
      'a prefix that leaves the store',
      one('').replace('store: local', 'store: local, prefix: ../other'),
      ['5:41: clients.appsrv.repository.prefix: must not hold empty, "." or ".." parts'],
    ],
    [
      'a prefix that begins with a slash',
      one('').replace('store: local', 'store: local, prefix: /other'),
      ['5:41: clients.appsrv.repository.prefix: must not begin or end with "/"'],
    ],
    [
      'an empty prefix without quotes',
      one('').replace('store: local', 'store: local, prefix: '),
      ['5:33: clients.appsrv.repository.prefix: is empty; give it a value or remove the line'],
    ],
  ])('%s', (_name, text, problems) => {
    expect(problemsOf(text)).toEqual(problems);
  });

  test('a private key is recognised wherever its lines lead, and never repeated', () => {
    const body = 'b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW';
    const text = yaml`
      ${STORES}
      clients:
        a:
          keys:
            - |
              -----BEGIN OPENSSH PRIVATE KEY-----
              ${body}
              -----END OPENSSH PRIVATE KEY-----
          repository: { store: local }
    `;
    const problems = problemsOf(text);
    expect(problems).toEqual([
      '5:9: clients.a.keys[0]: this is a PRIVATE key: delete it here, consider it disclosed and make a new one; what belongs here is the line of its .pub file',
    ]);
    expect(problems.join()).not.toContain(body.slice(0, 12));
  });

  test('the audit’s rotation and copy', () => {
    const stores = 'stores: { s: { type: s3, bucket: bucket, region: r } }';
    const audit = (text: string) => parse(`${stores}\naudit: { file: /a, ${text} }`).audit;
    expect(audit('maxSize: none, keep: all')).toEqual({ file: '/a' });
    expect(audit('maxSize: 1GiB, keep: 12, copy: { store: s, prefix: gw1 }')).toEqual({
      ...{ file: '/a', maxSize: 2 ** 30, keep: 12, copy: { store: 's', prefix: 'gw1', every: 60_000 } },
    });
    expect(audit('maxSize: none, syslog: { address: "tls://[::1]:6514", facility: local3 }')).toEqual({
      file: '/a',
      syslog: { address: 'tls://[::1]:6514', to: { transport: 'tls', host: '::1', port: 6514 }, facility: 19 },
    });
    expect(audit('syslog: { address: "unix:///dev/log" }').syslog).toEqual({
      ...{ address: 'unix:///dev/log', to: { transport: 'unix', path: '/dev/log' }, facility: 10 },
    });
    expect(audit('copy: { store: s, prefix: gw1, every: 1h }').copy?.every).toBe(3_600_000);
  });

  test('everything that is wrong is told at once, in the order of the file', () => {
    const text = yaml`
      listen: nowhere
      stores:
        archive: { type: s3, bucket: databucket }
        local: { type: directory, path: /srv }
      clients:
        a:
          keys: [${KEY_1}, nonsense]
          repository: { store: lokal }
          acess: full
        b: { keys: [${KEY_1}], repository: { store: local, prefix: x }, expires: soon }
        c: { keys: [], repository: { store: local, prefix: x } }
      audit: {}
      metrics: on
    `;
    expect(problemsOf(text)).toEqual([
      '1:9: listen: must be HOST:PORT, "[IPV6]:PORT", :PORT or PORT',
      '3:3: stores.archive.region: is missing; only where endpoint is set it may be',
      '7:101: clients.a.keys[1]: not a public key; paste the one line of a .pub file, which begins with ssh-ed25519',
      '8:26: clients.a.repository.store: there is no such store; did you mean "local"?',
      '9:5: clients.a.acess: unknown key; did you mean "access"?',
      '10:15: clients.b.keys[0]: this is also a key of client "a"; a key tells who a client is, so each client needs its own',
      '10:155: clients.b.expires: must be a day such as 2027-12-31, or a time such as 2027-12-31T18:00:00Z',
      '11:30: clients.c.repository: is also the repository of client "b"; give it a place of its own, or write "shared: true" in both clients',
      '13:10: metrics: must be a section with listen, tokenFile, token, mostClients',
    ]);
  });

  test('what is right in a client counts, whatever is wrong beside it', () => {
    const text = yaml`
      ${STORES}
      clients:
        a: { keys: [${KEY_1}], repository: { store: local, prefix: x }, shared: true }
        b: { keys: [${KEY_2}], repository: { store: local, prefix: x }, shared: true, acess: full }
        c: { keys: [], repository: { store: local, prefix: x/y }, shared: perhaps }
    `;
    expect(problemsOf(text)).toEqual([
      '4:160: clients.b.acess: unknown key; did you mean "access"?',
      '5:30: clients.c.repository: lies inside the repository of client "a"; give it a place of its own, or write "shared: true" in both clients',
      '5:69: clients.c.shared: must be true or false',
    ]);
  });
});

describe('metrics', () => {
  const metricsOf = (text: string, env?: NodeJS.ProcessEnv) => parse(`${text}\n${STORES}\n`, env).metrics;

  test.each([
    ['127.0.0.1:9150', { host: '127.0.0.1', port: 9150 }],
    ['"[::1]:9150"', { host: '::1', port: 9150 }],
    ['localhost:9150', { host: 'localhost', port: 9150 }],
    // Not where SSH would listen.
    ['9150', { host: '127.0.0.1', port: 9150 }],
    ['":9150"', { host: '127.0.0.1', port: 9150 }],
  ])('%s is this machine alone and needs no token', (text, listen) => {
    expect(metricsOf(`metrics: { listen: ${text} }`)).toEqual({ listen });
  });

  test('there are none unless they are asked for', () => {
    expect(metricsOf('')).toBeUndefined();
  });

  test.each([
    ['tokenFile: metrics.token', { file: '/etc/restic-gateway/metrics.token' }],
    ['token: "${TOKEN}"', { variable: 'TOKEN' }],
  ])('with a token they may be anywhere: %s', (text, token) => {
    const listen = { host: '0.0.0.0', port: 9150 };
    expect(metricsOf(`metrics: { listen: 0.0.0.0:9150, ${text} }`, { TOKEN: 'never read here' })).toEqual({
      listen,
      token,
    });
  });

  const open =
    'others than this machine can reach that address: add tokenFile, the file of a token that they must bring, or listen on 127.0.0.1';
  test.each([
    ['0.0.0.0:9150', `1:12: metrics.listen: ${open}`],
    ['10.0.0.1:9150', `1:12: metrics.listen: ${open}`],
    ['"[::]:9150"', `1:12: metrics.listen: ${open}`],
    ['gateway.example.com:9150', `1:12: metrics.listen: ${open}`],
    [
      '127.0.0.1:9150, tokenFile: a, token: "${B}"',
      '1:50: metrics.token: stands beside tokenFile; remove one of the two',
    ],
    ['127.0.0.1:99999', '1:20: metrics.listen: the port must be a whole number from 0 to 65535'],
    [
      '9150, token: hush-hush-hush-hush',
      '1:33: metrics.token: a secret must not stand in this file: put it into a file of its own and name that with tokenFile, or write ${NAME} to take it from the environment',
    ],
  ])('listen: %s', (text, problem) => {
    expect(problemsOf(`metrics: { listen: ${text} }\n${STORES}\n`, { B: 'x' })).toEqual([problem]);
  });
});

describe('${NAME}', () => {
  test('is replaced in any value', () => {
    const text = yaml`
      listen: \${HOST}:\${PORT}
      hostKeys: ["\${DIR}/key"]
      stores: { local: { type: "\${TYPE}", path: "\${DIR}" } }
      clients: { a: { keys: ["\${KEY}"], repository: { store: local, prefix: "\${HOST}" }, maxSessions: "\${N}", disabled: "\${YES}" } }
    `;
    const env = { HOST: 'localhost', PORT: '22', DIR: '/srv', TYPE: 'directory', KEY: KEY_1, N: '3', YES: 'true' };
    expect(parse(text, env)).toMatchObject({
      listen: [{ host: 'localhost', port: 22 }],
      hostKeys: ['/srv/key'],
      stores: { local: { path: '/srv' } },
      clients: {
        a: { keys: [parsePublicKey(KEY_1)], repository: { prefix: 'localhost' }, maxSessions: 3, disabled: true },
      },
    });
  });

  test('is not replaced in what a variable holds', () => {
    expect(parse('audit: { file: "/${A}" }', { A: '${B}', B: 'x' }).audit.file).toBe('/${B}');
  });

  test.each<[string, string, string[]]>([
    ['a variable that is not set', 'listen: ${PORT}', ['1:9: listen: the environment variable PORT is not set']],
    ['a variable that is empty', 'listen: ${EMPTY}', ['1:9: listen: the environment variable EMPTY is not set']],
    ['the first of several', 'listen: ${A}:${B}', ['1:9: listen: the environment variable A is not set']],
    [
      'a secret that is not set',
      s3('region: x\n      accessKeyId: AK\n      secretAccessKey: ${SECRET}'),
      ['7:22: stores.archive.secretAccessKey: the environment variable SECRET is not set'],
    ],
    [
      'a place that cannot be told',
      `${STORES}\nclients: { a: { keys: [], repository: { store: local, prefix: "\${P}" } }, b: { keys: [], repository: { store: local, prefix: "" } } }`,
      ['2:63: clients.a.repository.prefix: the environment variable P is not set'],
    ],
    ['no name', 'listen: "${}"', ['1:9: listen: after "${" must come the name of an environment variable and "}"']],
    ['no end', 'listen: "${PORT"', ['1:9: listen: after "${" must come the name of an environment variable and "}"']],
    [
      'a default, as shells have it',
      'listen: "${PORT:-2222}"',
      ['1:9: listen: after "${" must come the name of an environment variable and "}"'],
    ],
    [
      'a name of every object',
      'listen: "${constructor}"',
      ['1:9: listen: the environment variable constructor is not set'],
    ],
    [
      'a value that is wrong, which is not repeated',
      'listen: ${TOKEN}',
      ['1:9: listen: must be HOST:PORT, "[IPV6]:PORT", :PORT or PORT'],
    ],
    ['a line break', 'hostKeys: ["${LINES}"]', ['1:12: hostKeys[0]: holds a line break or a control character']],
  ])('%s', (_name, text, problems) => {
    expect(problemsOf(text, { EMPTY: '', TOKEN: 's3cr3t', LINES: 'a\nb' })).toEqual(problems);
  });
});

describe('one key is one client', () => {
  test('the same key in two clients', () => {
    const text = yaml`
      ${STORES}
      clients:
        a: { keys: [${KEY_1}], repository: { store: local } }
        b: { keys: [${KEY_2}, ${keyLine(1, 'under another comment')}], repository: { store: local } }
        c: { keys: [${KEY_1}], repository: { store: local }, disabled: true }
    `;
    expect(problemsOf(text)).toEqual([
      '4:104: clients.b.keys[1]: this is also a key of client "a"; a key tells who a client is, so each client needs its own',
      '5:15: clients.c.keys[0]: this is also a key of client "a"; a key tells who a client is, so each client needs its own',
    ]);
  });
});

describe('certificates', () => {
  const { publicKey: rsa } = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const { e = '', n = '' } = rsa.export({ format: 'jwk' });
  const wire = (...parts: (string | Buffer)[]): string =>
    Buffer.concat(
      parts.flatMap((part) => {
        const length = Buffer.alloc(4);
        length.writeUInt32BE(part.length);
        return [length, Buffer.from(part as string)];
      }),
    ).toString('base64');
  const number = (text: string): Buffer => Buffer.concat([Buffer.of(0), Buffer.from(text, 'base64url')]);
  const root = (cas: string, revoked = '[]'): string =>
    `${STORES}\ntrustedUserCAKeys: ${cas}\nrevokedCertificates: ${revoked}\n`;
  const at = (column: number, message: string, key = 'trustedUserCAKeys[0]', line = 2): string =>
    `${line}:${column}: ${key}: ${message}`;

  test('CAs, what is revoked, and whose principals', () => {
    const revoked = '["id:web 7", "serial:7", "serial:8-18446744073709551615 SHA256:' + 'A'.repeat(43) + '"]';
    const clients =
      'clients:\n  a: { keys: [], principals: [web-7, host/web@EXAMPLE], repository: { store: local } }\n';
    const config = parse(`${root(`[${KEY_1}]`, revoked)}${clients}`);
    expect(config.trustedUserCAKeys).toMatchObject([{ type: 'ssh-ed25519', fingerprint: expect.any(String) }]);
    expect(config.revokedCertificates).toEqual([
      { by: 'keyId', keyId: 'web 7' },
      { by: 'serial', from: 7n, to: 7n },
      { by: 'serial', from: 8n, to: 2n ** 64n - 1n, ca: `SHA256:${'A'.repeat(43)}` },
    ]);
    expect(config.clients['a']?.principals).toEqual(['web-7', 'host/web@EXAMPLE']);
  });

  const cut = 'the key is cut off or damaged; paste the whole line of the .pub file';
  const types = 'ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, ecdsa-sha2-nistp521, ssh-rsa';
  test.each([
    [
      'a certificate',
      'ssh-ed25519-cert-v01@openssh.com AAAA',
      'this is a certificate; what belongs here is the public key of its CA',
    ],
    [
      'a security key',
      'sk-ssh-ed25519@openssh.com AAAA',
      `the key of a CA is of type ${types}, and its line begins with that`,
    ],
    [
      'a short RSA key',
      `ssh-rsa ${wire('ssh-rsa', number(e), number(n))}`,
      'an RSA key of 1024 bits is not taken; it must have 2048 to 8192',
    ],
    ['a key of another type than it says', `ssh-rsa ${wire('ssh-ed25519', Buffer.alloc(32))}`, cut],
    ['a point on no curve', `ecdsa-sha2-nistp256 ${wire('ecdsa-sha2-nistp256', 'nistp256', Buffer.alloc(65, 4))}`, cut],
    [
      'a point of another curve',
      `ecdsa-sha2-nistp256 ${wire('ecdsa-sha2-nistp256', 'nistp384', Buffer.alloc(97, 4))}`,
      cut,
    ],
    ['a key that is cut off', `ssh-ed25519 ${wire('ssh-ed25519', Buffer.alloc(31))}`, cut],
    ['a key with something behind it', `ssh-ed25519 ${wire('ssh-ed25519', Buffer.alloc(32), 'x')}`, cut],
  ])('%s is no CA', (_what, line, message) => {
    expect(problemsOf(root(`[${line}]`))).toEqual([at(21, message)]);
  });

  test.each([
    ['serial:0', '0 is the serial of all certificates that are made without ssh-keygen -z; revoke by id: or SHA256:'],
    ...['serial:9-7', 'serial:18446744073709551616', 'serial:x', 'id:', '7', 'SHA256:short'].map((text) => [
      text,
      'must be id:KEY_ID, serial:NUMBER, serial:NUMBER-NUMBER or the SHA256: fingerprint of a key or a CA',
    ]),
  ])('%s revokes nothing', (text, message) => {
    expect(problemsOf(root('[]', `["${text}"]`))).toEqual([at(23, message, 'revokedCertificates[0]', 3)]);
  });

  test('a principal is one word and one client’s, and a CA is no client', () => {
    const text = `${root(`[${KEY_1}]`)}clients:
  a: { keys: [], principals: [web-7, "a b"], repository: { store: local } }
  b: { keys: [${KEY_1}], principals: [web-7], repository: { store: local } }
`;
    const problems = problemsOf(text).map((line) => line.replace(/^\d+:\d+: /, ''));
    expect(problems).toEqual([
      'clients.a.principals[1]: a principal is 1 to 128 letters, digits, ".", "_", "@", ":", "+", "/" or "-", and begins with a letter or digit',
      'clients.b.keys[0]: this is also one of trustedUserCAKeys; the key of a CA signs certificates, and is no client',
      'clients.b.principals[0]: this is also a principal of client "a"; a principal tells who a client is, so each client needs its own',
    ]);
  });
});

describe('one repository is one client', () => {
  const at = (store: string, prefix: string, shared = ''): string =>
    `{ keys: [], repository: { store: ${store}, prefix: "${prefix}" } ${shared === '' ? '' : `, shared: ${shared}`} }`;
  /** Who is told to clash with whom. */
  const clashes = (stores: string, clients: Record<string, string>): string[] => {
    const lines = Object.entries(clients).map(([name, client]) => `  ${name}: ${client}`);
    return problemsOf([`stores: { ${stores} }`, 'clients:', ...lines].join('\n')).map((line) => {
      const [, client = line, relation = '', other = ''] =
        /clients\.(\w+)\.repository: (is also|lies inside) the repository of client "(\w+)";/.exec(line) ?? [];
      return `${client} ${relation} ${other}`;
    });
  };
  const dir = (name: string, path: string): string => `${name}: { type: directory, path: ${path} }`;
  const bucket = (name: string, name2: string, rest: string): string =>
    `${name}: { type: s3, bucket: ${name2}, ${rest} }`;
  const two = (a: string, b: string): Record<string, string> => ({ a, b });

  test.each<[string, string, Record<string, string>, string[]]>([
    ['apart', dir('s', '/x'), two(at('s', 'a'), at('s', 'b')), []],
    ['names that only begin alike', dir('s', '/x'), two(at('s', 'app'), at('s', 'app2')), []],
    ['the same prefix', dir('s', '/x'), two(at('s', 'p'), at('s', 'p')), ['b is also a']],
    ['one inside the other', dir('s', '/x'), two(at('s', 'p'), at('s', 'p/q')), ['b lies inside a']],
    ['the other way round', dir('s', '/x'), two(at('s', 'p/q/r'), at('s', 'p')), ['a lies inside b']],
    ["the store's root around all", dir('s', '/x'), two(at('s', ''), at('s', 'b')), ['b lies inside a']],
    ['both at the root', dir('s', '/x'), two(at('s', ''), at('s', '')), ['b is also a']],
    [
      "within the layout of the other's repository",
      dir('s', '/x'),
      two(at('s', 'p'), at('s', 'p/data')),
      ['b lies inside a'],
    ],
    ['shared by both', dir('s', '/x'), two(at('s', 'p', 'true'), at('s', 'p', 'true')), []],
    ['shared by one', dir('s', '/x'), two(at('s', 'p', 'true'), at('s', 'p')), ['b is also a']],
    ['shared by the other', dir('s', '/x'), two(at('s', 'p', 'false'), at('s', 'p', 'true')), ['b is also a']],
    ['shared and nested', dir('s', '/x'), two(at('s', 'p', 'true'), at('s', 'p/q', 'true')), []],
    ['nested, shared by the outer', dir('s', '/x'), two(at('s', 'p', 'true'), at('s', 'p/q')), ['b lies inside a']],
    ['nested, shared by the inner', dir('s', '/x'), two(at('s', 'p'), at('s', 'p/q', 'true')), ['b lies inside a']],
    [
      'three, of whom one does not share',
      dir('s', '/x'),
      { a: at('s', 'p', 'true'), b: at('s', 'p'), c: at('s', 'p', 'true'), d: at('s', 'p/q', 'true') },
      ['b is also a', 'c is also b', 'd lies inside b'],
    ],
    [
      'the nearest is named',
      dir('s', '/x'),
      { a: at('s', ''), b: at('s', 'p'), c: at('s', 'p/q/r') },
      ['b lies inside a', 'c lies inside b'],
    ],
    ['two directories', `${dir('s', '/x')}, ${dir('t', '/y')}`, two(at('s', 'p'), at('t', 'p')), []],
    [
      'two names of one directory',
      `${dir('s', '/x')}, ${dir('t', '/x/')}`,
      two(at('s', 'p'), at('t', 'p')),
      ['b is also a'],
    ],
    [
      'a directory in the other',
      `${dir('s', '/x')}, ${dir('t', '/x/p')}`,
      two(at('s', 'p'), at('t', 'q')),
      ['b lies inside a'],
    ],
    [
      'a directory in the other, side by side',
      `${dir('s', '/x')}, ${dir('t', '/x/p')}`,
      two(at('s', 'q'), at('t', 'q')),
      [],
    ],
    [
      'a directory under the root',
      `${dir('s', '/')}, ${dir('t', '/x')}`,
      two(at('s', 'x'), at('t', 'q')),
      ['b lies inside a'],
    ],
    [
      'a relative and an absolute path',
      `${dir('s', 'x')}, ${dir('t', '/etc/restic-gateway/x')}`,
      two(at('s', 'p'), at('t', 'p')),
      ['b is also a'],
    ],
    [
      'two buckets',
      `${bucket('s', 'abc', 'region: r')}, ${bucket('t', 'abd', 'region: r')}`,
      two(at('s', 'p'), at('t', 'p')),
      [],
    ],
    [
      'one bucket by two names',
      `${bucket('s', 'abc', 'region: r')}, ${bucket('t', 'abc', 'region: q')}`,
      two(at('s', 'p'), at('t', 'p')),
      ['b is also a'],
    ],
    [
      'AWS by its name and by its endpoint',
      `${bucket('s', 'abc', 'region: r')}, ${bucket('t', 'abc', 'endpoint: "https://s3.eu-central-1.amazonaws.com"')}`,
      two(at('s', 'p'), at('t', 'p/q')),
      ['b lies inside a'],
    ],
    [
      'one server by http and by https',
      `${bucket('s', 'abc', 'endpoint: "http://S3.example.com:80"')}, ${bucket('t', 'abc', 'endpoint: "https://s3.example.com"')}`,
      two(at('s', 'p'), at('t', 'p')),
      ['b is also a'],
    ],
    [
      'two servers on one machine',
      `${bucket('s', 'abc', 'endpoint: "http://127.0.0.1:9000"')}, ${bucket('t', 'abc', 'endpoint: "http://127.0.0.1:9001"')}`,
      two(at('s', 'p'), at('t', 'p')),
      [],
    ],
    [
      'a bucket and a directory',
      `${bucket('s', 'abc', 'region: r')}, ${dir('t', '/abc')}`,
      two(at('s', 'p'), at('t', 'p')),
      [],
    ],
  ])('%s', (_name, stores, clients, problems) => {
    expect(clashes(stores, clients)).toEqual(problems);
  });

  describe('through symbolic links', () => {
    let root: string;
    beforeAll(() => {
      root = mkdtempSync(join(tmpdir(), 'place-'));
      mkdirSync(join(root, 'real'));
      symlinkSync('real', join(root, 'link'));
    });
    afterAll(() => {
      rmSync(root, { recursive: true });
    });
    test('to a directory that is there', () => {
      const stores = `${dir('s', join(root, 'real'))}, ${dir('t', join(root, 'link'))}`;
      expect(clashes(stores, two(at('s', 'p'), at('t', 'p')))).toEqual(['b is also a']);
    });
    test('above a directory that is not there yet', () => {
      const stores = `${dir('s', join(root, 'real/new/one'))}, ${dir('t', join(root, 'link/new'))}`;
      expect(clashes(stores, two(at('s', 'p'), at('t', 'one')))).toEqual(['a lies inside b']);
    });
  });

  test('the shape of any set of clients: a clash is told exactly when two overlap that do not both share', () => {
    const prefixes = fc.array(fc.constantFrom('a', 'b', 'ab'), { maxLength: 3 }).map((parts) => parts.join('/'));
    const clients = fc.array(fc.record({ prefix: prefixes, shared: fc.boolean() }), { maxLength: 6 });
    fc.assert(
      fc.property(clients, (all) => {
        const inside = (inner: string, outer: string): boolean =>
          outer === '' || inner === outer || inner.startsWith(`${outer}/`);
        const clash = all.some((one, i) =>
          all.some((other, j) => i !== j && inside(one.prefix, other.prefix) && !(one.shared && other.shared)),
        );
        const entries = all.map(({ prefix, shared }, index) => [`c${index}`, at('s', prefix, String(shared))] as const);
        expect(clashes(dir('s', '/x'), Object.fromEntries(entries)).length > 0).toBe(clash);
      }),
      { numRuns: 500 },
    );
  });
});

describe('a secret in the wrong place', () => {
  // Of the characters of access keys, and of those that mean something to YAML.
  const secrets = fc.string({
    unit: fc.constantFrom(...Array.from(`abcXYZ019+/=!&*|>@\`%{}[],#?:-"'\\$ `)),
    minLength: 12,
    maxLength: 40,
  });

  test.each([
    [
      'as the value of secretAccessKey',
      (secret: string) => s3(`region: x\n      accessKeyId: AK\n      secretAccessKey: ${secret}`),
    ],
    ['as the name of its file', (secret: string) => s3(`region: "\n      secretAccessKeyFile: ${secret}`)],
    ['as a key', (secret: string) => `clients: { a: { keys: [${secret}], repository: { store: local } } }`],
    ['as the endpoint', (secret: string) => s3(`endpoint: https://AK:${secret}@s3.example.com/`)],
  ])('%s is in no line of the error', (_name, text) => {
    fc.assert(
      fc.property(secrets, (secret) => {
        const reported = problemsOf(text(secret)).join('\n');
        // Twelve characters in a row that are no word of a message.
        for (let at = 0; at + 12 <= secret.trim().length; at++)
          expect(reported).not.toContain(secret.trim().slice(at, at + 12));
      }),
      { numRuns: 500 },
    );
  });
});

describe('whatever the text', () => {
  const pieces = [
    'listen',
    ': ',
    ':',
    '\n',
    '  ',
    '- ',
    '[',
    ']',
    '{',
    '}',
    '&a ',
    '*a',
    '!t ',
    '"',
    "'",
    '|',
    '>',
    '#',
    '---',
    '? ',
  ];
  const words = [
    'clients',
    'stores',
    'keys',
    'repository',
    'type',
    's3',
    'directory',
    '${X}',
    '${',
    '~',
    '\t',
    '\0',
    '\ufeff',
    KEY_1,
  ];
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(fc.constantFrom(...pieces, ...words), { maxLength: 30 }).map((parts) => parts.join('')),
    // A config that is right, with one place changed.
    fc
      .tuple(fc.nat({ max: 300 }), fc.constantFrom(...pieces, ...words), fc.nat({ max: 8 }))
      .map(([from, put, gone]) => one('').slice(0, from) + put + one('').slice(from + gone)),
  );

  test('only ConfigError is thrown, and each of its problems is one line at a place that is there', () => {
    fc.assert(
      fc.property(texts, (text) => {
        try {
          parse(text, { X: 'x' });
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
          const { problems } = error as ConfigError;
          expect(problems.length).toBeGreaterThan(0);
          for (const { line, column, path, message } of problems) {
            const there = text.split('\n')[line - 1];
            expect(there).toBeDefined();
            expect(column).toBeGreaterThan(0);
            expect(column).toBeLessThanOrEqual(Array.from(there ?? '').length + 1);
            expect(`${path} ${message}`).toMatch(/^[^\p{Cc}\p{Zl}\p{Zp}]+$/u);
          }
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('what a client says itself, and defaults for all', () => {
  const two = (defaults: string, a: string, b = '') => yaml`
    stores: { s: { type: directory, path: /s } }
    defaults: ${defaults}
    clients:
      a: { keys: [], repository: { store: s }${a} }
      b: { keys: [], repository: { store: s }${b} }
  `;
  test.each<[string, string, string, object, object]>([
    ['a limit', '{ maxSessions: 3, quota: 5GiB }', '', { maxSessions: 3, quota: 5 * 2 ** 30 }, { maxLocks: 200 }],
    ['its own first', '{ maxSessions: 3 }', ', maxSessions: 7', { maxSessions: 7 }, { maxSessions: 3 }],
    [
      'a word that ends it',
      '{ quota: 5GiB, expectEvery: 1h }',
      ', quota: none, expectEvery: learned',
      {},
      { quota: 5 * 2 ** 30, expectEvery: 3_600_000 },
    ],
    ['an empty list', '{ from: [10.0.0.0/8] }', ', from: []', { from: [] }, { from: ['10.0.0.0/8'] }],
    [
      'a section as a whole',
      '{ bandwidth: { upload: 1MiB/s } }',
      ', bandwidth: { download: none }',
      { bandwidth: {} },
      { bandwidth: { upload: 2 ** 20 } },
    ],
  ])('%s', (_name, defaults, own, a, b) => {
    const { clients } = parse(two(defaults, own));
    expect(clients).toMatchObject({ a, b });
    if (Object.keys(a).length === 0)
      expect([clients['a']?.quota, clients['a']?.expectEvery]).toEqual([undefined, undefined]);
  });

  test('two clients of one id', () => {
    const message = "and a history is one client's; give one of them another, such as id:";
    expect(problemsOf(two('{ trash: 14d }', ', id: b'))).toEqual([
      expect.stringContaining(`clients.a.id: is also the id of client "b", ${message} a-2`),
    ]);
    expect(problemsOf(two('{ trash: 14d }', ', id: c', ', id: c'))).toEqual([
      expect.stringContaining(`clients.b.id: is also the id of client "a", ${message} b-2`),
    ]);
    expect(problemsOf(two('{ trash: 14d }', ', id: b', ', id: a'))).toEqual([]);
  });
});
