/** docs/json.md, held against what real commands print with --json. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { JSON_KINDS } from '../../src/cli/json.ts';
import { GATEWAY, startGateway } from '../support/gateway-process.ts';
import { generateKey, lab, makeTree, restic, run, sshClientArgs, tempDir, type Outcome } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

const DOC = readFileSync(path.join(import.meta.dirname, '../../docs/json.md'), 'utf8');

/** The documented fields of each kind. */
function documented(): Map<string, Set<string>> {
  const kinds = new Map<string, Set<string>>();
  let kind = '';
  for (const line of DOC.split('\n')) {
    kind = /^### `([a-z-]+)`$/.exec(line)?.[1] ?? kind;
    const [, field] = /^\| `([^`]+)` +\|/.exec(line) ?? [];
    if (kind !== '' && field !== undefined) kinds.set(kind, (kinds.get(kind) ?? new Set()).add(field));
  }
  return kinds;
}

/** The fields of a value by their paths. */
function fieldsOf(value: unknown, at = ''): readonly string[] {
  if (Array.isArray(value)) return value.flatMap((one: unknown) => fieldsOf(one, `${at}[]`));
  if (typeof value !== 'object' || value === null) return [at];
  const inner = Object.entries(value).flatMap(([name, one]) => fieldsOf(one, at === '' ? name : `${at}.${name}`));
  return inner;
}

/** Whether a documented path is this one. */
const names = (known: string, field: string): boolean =>
  new RegExp(`^${known.replace(/[.[\]]/g, '\\$&').replaceAll('*', '[^.[]+')}$`).test(field);

test('the kinds', () => {
  const listed = [...DOC.slice(DOC.indexOf('## Kinds'), DOC.indexOf('## Fields')).matchAll(/^\| `([a-z-]+)` +\|/gm)];
  expect(listed.map(([, kind]) => kind)).toEqual([...JSON_KINDS]);
  expect([...documented().keys()]).toEqual([...JSON_KINDS]);
});

test('every field that a command prints is in the reference', async () => {
  const directory = tempDir();
  const key = await generateKey();
  const other = await generateKey();
  const gateway = await startGateway(directory, {
    stores: { main: await freshStore('directory') },
    notify: { nobody: { webhook: { url: 'http://127.0.0.1:9/' }, clients: ['dbsrv'] } },
    clients: {
      appsrv: {
        ...{ keys: [key.publicLine], repository: { store: 'main' }, quota: '1GB', expectEvery: '26h' },
        ...{ retention: { 'keep-last': 1 }, access: 'full', protect: 'none' },
      },
      dbsrv: { keys: [other.publicLine], repository: { store: 'main' } },
    },
  });
  const command = (...args: string[]): Promise<Outcome> =>
    run(process.execPath, [GATEWAY, ...args, '--json', '-c', gateway.configFile], {
      timeoutMs: 120_000,
      env: { RESTIC_PASSWORD: 'secret', RESTIC_GATEWAY_RESTIC: lab().resticNewest },
    });
  const client = async (...args: string[]): Promise<void> => {
    const program = [lab().ssh, ...sshClientArgs({ ...gateway, key })].join(' ');
    const options = { 'rclone.program': program };
    const { code, stderr } = await restic(lab().resticNewest, { repo: 'rclone:x', options, password: 'secret' }, args);
    expect(`${code} ${code === 0 ? '' : stderr}`).toBe('0 ');
  };
  const tree = path.join(directory, 'tree');
  await makeTree(tree, { files: 2, bytes: 300_000, seed: 'json' });
  const printed: Record<string, unknown>[] = [];
  const take = (text: string): void => {
    for (const line of text.split('\n').filter((one) => one.startsWith('{')))
      printed.push(JSON.parse(line) as Record<string, unknown>);
  };
  const say = async (...args: string[]): Promise<void> => {
    const { stdout, stderr } = await command(...args);
    // restic's own words aside, each line is one of these objects.
    for (const line of stdout.split('\n').filter(Boolean)) expect(line).toMatch(/^\{"v":1,"kind":"/);
    take(stdout + stderr);
  };
  const block = path.join(directory, 'block.yaml');
  const entry = { keys: [other.publicLine], repository: { store: 'main' }, bandwidth: { upload: '50MiB/s' } };
  writeFileSync(block, stringify({ clients: { dbsrv: entry } }));
  await client('init');
  await client('backup', tree, '--host', 'appsrv');
  await client('backup', tree, '--host', 'appsrv');
  await client('forget', 'latest');
  await client('backup', tree, '--host', 'appsrv');
  for (const args of [
    ['check', '--live'],
    ['client', 'list'],
    ['client', 'add', 'other', '--generate', '--out', path.join(directory, 'other'), '--host', 'gw'],
    ['client', 'remove', 'other'],
    ['client', 'export'],
    ['client', 'apply', '-f', block],
    ['sessions'],
    ['audit', 'show'],
    ['audit', 'verify'],
    ['scrub', 'appsrv'],
    ['forget', 'appsrv', '--dry-run'],
    ['forget', 'appsrv'],
    ['trash', 'list', 'appsrv'],
    ['trash', 'restore', 'appsrv', '--all'],
    ['trash', 'purge', 'appsrv'],
    ['undo', 'appsrv', '--since', '2020-01-01'],
    ['probe', `127.0.0.1:${gateway.port}`, '-i', other.privateFile, '--known-hosts', gateway.knownHosts],
    ['notify', 'test', 'nobody'],
    ['notify', 'list'],
    ['client', 'disable', 'appsrv'],
    ['status', 'nobody'],
    ['status', '--jsn'],
    ['status'],
  ])
    await say(...args);
  const sessions = printed.filter(({ kind, outcome }) => kind === 'session' && outcome !== 'open');
  const last = sessions.findLast(({ objects }) => Number(objects) > 0);
  await say('undo', 'appsrv', '--session', String(last?.['session']), '--yes');
  await say('undo', 'appsrv', '--list');
  const made = printed.find(({ kind }) => kind === 'quarantine-made');
  await say('undo', 'appsrv', '--restore', String(made?.['quarantine']));
  await gateway.stop();
  writeFileSync(gateway.configFile, stringify({ lissen: 'x' }));
  await say('check');
  await say('status');

  const known = documented();
  const unknown = new Set<string>();
  const seen = new Map<string, Set<string>>();
  for (const { v, kind, ...rest } of printed) {
    expect(v).toBe(1);
    const name = String(kind);
    for (const field of fieldsOf(rest)) {
      const entry = [...(known.get(name) ?? [])].find((one) => names(one, field));
      if (entry === undefined) unknown.add(`${name} ${field}`);
      else seen.set(name, (seen.get(name) ?? new Set()).add(entry));
    }
  }
  expect([...unknown].sort()).toEqual([]);
  // What needs Object Lock or a database is seen in the tests of that, and a warning needs something to warn of.
  const elsewhere = ['legal-hold', 'extend', 'gateway', 'revocation', 'warning'];
  expect(JSON_KINDS.filter((kind) => !seen.has(kind) && !elsewhere.includes(kind))).toEqual([]);
});
