/** The part of a config that a login reads gives the answer that the whole gives, whatever the config and whatever becomes of it. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { loadConfigFor } from '../../src/cli/login-config.ts';
import { writeIndex } from '../../src/cli/login-index.ts';
import { seeConfig } from '../../src/cli/seen-config.ts';
import { fileOfClient, loadConfig } from '../../src/config/load.ts';
import { clientsOf, commonName, protectionOf, repositoryIdentity } from '../../src/config/repositories.ts';
import type { GatewayConfig } from '../../src/config/types.ts';
import { messageOf } from '../../src/core/errors.ts';
import { keyLine } from '../config/samples.ts';

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'login-'));
  file = path.join(directory, 'gateway.yaml');
  for (const one of ['store', 'state', 'clients.d']) mkdirSync(path.join(directory, one));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

// What makes a config a large one.
const FILLER = `# ${'x'.repeat(70_000)}\n`;
const HEAD = `listen: 127.0.0.1:2222
stores:
  main: { type: directory, path: ./store }
  alias: { type: directory, path: ./link }
defaults: { protect: 2d, maxSessions: 3 }
audit: { file: ./audit.jsonl }
`;

/** Of a config that is right, the index as it is written two seconds after the last change. */
async function index(): Promise<boolean> {
  const seen = seeConfig(file, process.env);
  let config;
  try {
    config = loadConfig(file);
  } catch {
    return false;
  }
  if (seen === undefined) return false;
  await writeIndex(seen, config, Date.now() + 10_000, process.env);
  return existsSync(seen.index) && readFileSync(seen.index, 'utf8').startsWith(seen.key);
}

/** What a login goes by. */
function answer(config: GatewayConfig, name: string | undefined): unknown {
  const { clients, ...root } = config;
  const client = name === undefined ? undefined : clients[name];
  if (client === undefined) return { root, client };
  const { repository } = client;
  return {
    ...{ root, client, file: fileOfClient(config, client.name) },
    ...{ identity: repositoryIdentity(config, repository), protection: protectionOf(config, repository) },
    ...{ common: commonName(config, repository), all: clientsOf(config, repository) },
  };
}

const said = async (load: () => GatewayConfig | Promise<GatewayConfig>, of: (config: GatewayConfig) => unknown) => {
  try {
    return of(await load());
  } catch (error) {
    return messageOf(error);
  }
};

const nameOf = (key: string) => (config: GatewayConfig) => {
  const all = Object.values(config.clients).filter(({ keys }) => keys.some(({ blob }) => blob === key));
  return all.length > 1 ? 'several' : all[0]?.name;
};

async function expectSame(names: readonly string[], keys: readonly string[]): Promise<void> {
  for (const name of names)
    expect(
      await said(
        () => loadConfigFor(file, { client: name }),
        (one) => answer(one, name),
      ),
    ).toEqual(
      await said(
        () => loadConfig(file),
        (one) => answer(one, name),
      ),
    );
  for (const key of keys) {
    const client = (one: GatewayConfig): unknown => answer(one, nameOf(key)(one));
    // An authorized_keys line has nothing of other clients.
    const strip = (one: GatewayConfig): unknown => {
      const { root, client: found, file: where } = client(one) as Readonly<Record<string, unknown>>;
      return { root, found, where };
    };
    expect(await said(() => loadConfigFor(file, { key }), strip)).toEqual(await said(() => loadConfig(file), strip));
  }
}

const blobOf = (seed: number): string => keyLine(seed).split(' ')[1] ?? '';

test('whatever the config, and whatever is changed in it afterwards', async () => {
  let seed = 11;
  const random = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
  const one = <T>(...all: readonly T[]): T => all[random(all.length)] as T;
  symlinkSync('./store', path.join(directory, 'link'));
  let indexed = 0;
  for (let round = 0; round < 25; round++) {
    const count = 2 + random(6);
    const entry = (n: number): string =>
      one(
        `  c${n}:\n    keys:\n      - ${keyLine(n)}\n    repository: { store: main }\n    quota: ${1 + random(9)}GiB\n`,
        `  c${n}:\n    keys: ["${keyLine(n, 'é ü')}"]\n    repository: { store: ${one('main', 'alias')}, prefix: p${one(n, n, n, 1)} }\n    shared: ${one('true', 'true', 'false')}\n    protect: ${1 + random(9)}d\n`,
        `  # about it\n  c${n}: # it\n    keys:\n    - ${keyLine(n)}\n    - ${keyLine(n + 100)}\n    repository: {store: main}\n    disabled: ${one('true', 'false')}\n    from: [10.0.0.0/8]\n\n`,
        one(
          '',
          '',
          `  c${n}: { keys: ['${keyLine(one(n, n, 1))}'], repository: { store: main, prefix: "${one('x/', '')}${n}" } }\n`,
        ),
        one(
          '',
          '',
          '',
          `  c${n}: &a${n}\n    keys: ["${keyLine(n)}"]\n    repository: { store: main }\n`,
          `  c${one(1, 2)}:\n    keys: [${keyLine(n)}]\n    repository: { store: main }\n`,
        ),
      );
    const entries = Array.from({ length: count }, (_, n) => entry(n));
    const inMain = random(3) === 0 ? count : random(count);
    const split = inMain < count;
    const clients = (all: readonly string[]): string => (all.join('') === '' ? '' : `clients:\n${all.join('')}`);
    const parts = [HEAD, split ? 'clientsDirectory: clients.d\n' : '', clients(entries.slice(0, inMain))];
    if (random(2) === 0) parts.reverse();
    for (const name of readdirSync(path.join(directory, 'clients.d'))) rmSync(path.join(directory, 'clients.d', name));
    writeFileSync(file, `${FILLER}${parts.join('')}${one('', '# the end\n', 'sessions: { x: 1 }\n', '')}`);
    if (split) {
      const half = inMain + Math.ceil((count - inMain) / 2);
      for (const [name, all] of [
        ['a.yaml', entries.slice(inMain, half)],
        ['b.yml', entries.slice(half)],
      ] as const)
        if (clients(all) !== '') writeFileSync(path.join(directory, 'clients.d', name), clients(all));
    }
    if (await index()) indexed += 1;
    const names = ['c0', 'c1', `c${count - 1}`, 'nobody', '__proto__', 'c', '*'];
    const keys = [0, 1, count - 1, 100, 101, 250].map(blobOf);
    await expectSame(names, [...keys, '', 'A']);
    // Something is changed, and it is as if it had never been otherwise.
    const others = readdirSync(path.join(directory, 'clients.d')).map((name) =>
      path.join(directory, 'clients.d', name),
    );
    const target = one(file, ...others);
    const before = readFileSync(target, 'utf8');
    const { atime, mtime } = statSync(target);
    const change = one<(text: string) => string>(
      (text) => text.replace('disabled: false', 'disabled: true'),
      (text) => text.replace(keyLine(1).slice(20, 40), keyLine(2).slice(20, 40)),
      (text) => text.replace(blobOf(1), blobOf(0)),
      (text) => `${text}oops: 1\n`,
      (text) => text.replace(/^ {2}c1:/m, '  c9:'),
      (text) => text.replace('store: main', 'store: nope'),
      () => '',
    );
    writeFileSync(target, change(before));
    if (random(2) === 0) utimesSync(target, atime, mtime);
    await expectSame(names, keys);
  }
  expect(indexed).toBeGreaterThan(5);
});

describe('with an index', () => {
  const write = (more = ''): void => {
    writeFileSync(
      file,
      `${FILLER}${HEAD}clients:\n${[1, 2, 3].map((n) => `  c${n}:\n    keys: [${keyLine(n)}]\n    repository: { store: main }\n${n === 2 ? more : ''}`).join('')}`,
    );
  };
  beforeEach(async () => {
    symlinkSync('./store', path.join(directory, 'link'));
    write();
    expect(await index()).toBe(true);
  });
  const names = async (client: string): Promise<readonly string[]> =>
    Object.keys((await loadConfigFor(file, { client })).clients);

  test('only the one client is read, and those of whom something is still to be reported', async () => {
    expect(await names('c2')).toEqual(['c2']);
    expect(await names('c9')).toEqual([]);
    expect(Object.keys((await loadConfigFor(file, { key: blobOf(3) })).clients)).toEqual(['c3']);
    mkdirSync(path.join(directory, 'state/counted/c3'), { recursive: true });
    expect(await names('c1')).toEqual(['c1', 'c3']);
  });

  test('who is revoked is revoked at once, and an index that another user has written counts for nothing', async () => {
    write('    disabled: true\n');
    expect((await loadConfigFor(file, { client: 'c2' })).clients['c2']?.disabled).toBe(true);
    expect(await index()).toBe(true);
    expect(await names('c2')).toEqual(['c2']);
    const made = path.join(
      directory,
      'state/client-index',
      readdirSync(path.join(directory, 'state/client-index'))[0] ?? '',
    );
    // It says the wrong place for the client that is disabled, as a forged one might.
    const forged = readFileSync(made, 'utf8').replace(/^c2 .*$/m, (line) => line.replace(/ \d+ \d+ /, ' 0 0 '));
    writeFileSync(made, forged);
    chmodSync(made, 0o666);
    expect(await names('c2')).toHaveLength(3);
    chmodSync(made, 0o600);
    if (process.geteuid?.() === 0) {
      execFileSync('chown', ['12345', made]);
      expect(await names('c2')).toHaveLength(3);
    }
  });

  test('a config that others can write is refused as ever, and one that leads elsewhere is checked as a whole', async () => {
    chmodSync(file, 0o666);
    await expect(loadConfigFor(file, { client: 'c2' })).rejects.toThrow(/chmod go-w/);
    chmodSync(file, 0o600);
    expect(await names('c2')).toHaveLength(3);
    expect(await index()).toBe(true);
    expect(await names('c2')).toHaveLength(1);
    rmSync(path.join(directory, 'link'));
    symlinkSync('./elsewhere', path.join(directory, 'link'));
    expect(await names('c2')).toHaveLength(3);
  });

  test('who shares a repository goes by what all say who share it, under whatever name of its store', async () => {
    const entry = (n: number, store: string, more: string): string =>
      `  c${n}:\n    keys: [${keyLine(n)}]\n    repository: { store: ${store}, prefix: p }\n    shared: true\n${more}`;
    const many = [entry(1, 'alias', '    protect: 9d\n'), entry(2, 'main', '    protect: 1d\n'), entry(3, 'main', '')];
    writeFileSync(
      file,
      `${FILLER}${HEAD}clients:\n${many.join('')}  c4:\n    keys: [${keyLine(4)}]\n    repository: { store: main }\n`,
    );
    expect(await index()).toBe(true);
    expect(await names('c4')).toEqual(['c4']);
    expect(await names('c2')).toEqual(['c1', 'c2', 'c3']);
    await expectSame(['c1', 'c2', 'c3', 'c4'], [blobOf(2)]);
  });

  test.each([
    ['a fleet, whose gateways refuse whom a config leaves out', 'database: { url: "postgresql://gw@127.0.0.1/gw" }\n'],
    ['certificates, which may be those of several clients', `trustedUserCAKeys: ['${keyLine(77)}']\n`],
  ])('all clients are read where there is %s', async (_what, more) => {
    writeFileSync(file, `${readFileSync(file, 'utf8')}${more}`);
    expect(Object.keys(loadConfig(file).clients)).toHaveLength(3);
    expect(await index()).toBe(false);
    expect(await names('c2')).toHaveLength(3);
  });

  test('nothing is written about files that have just changed', async () => {
    write('    quota: 1GiB\n');
    await loadConfigFor(file, { client: 'c2' });
    expect(await names('c2')).toHaveLength(3);
  });
});
