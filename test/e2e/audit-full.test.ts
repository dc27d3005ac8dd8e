/** A disk with no room left for the audit: nothing is changed, everyone is told in one line, and all goes on once there is room. */
import { rmSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { GATEWAY, startGateway } from '../support/gateway-process.ts';
import { generateKey, lab, makeTree, restic, run, sshClientArgs, tempDir, type Outcome } from '../support/lab.ts';
import { withTmpfs } from '../support/mounts.ts';
import { repositoryFiles } from '../support/repository-files.ts';
import { sample } from '../support/restic-client.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore } from '../support/stores.ts';

const LINE = 'restic-gateway: the audit log cannot be written, so nothing is changed.\n';

const started: (() => void)[] = [];
afterEach(() => {
  for (const end of started.splice(0)) end();
});

test('a full disk under the audit refuses changes in both ways in, and is over when there is room', () =>
  withTmpfs('size=256k', async (place) => {
    const directory = tempDir();
    const store = await freshStore('directory');
    const key = await generateKey();
    const gateway = await startGateway(directory, {
      stores: { main: store },
      clients: { appsrv: { keys: [key.publicLine], repository: { store: 'main' } } },
      audit: { file: path.join(place, 'audit.jsonl') },
      state: path.join(directory, 'state'),
    });
    started.push(() => void gateway.stop());
    const { port, knownHosts, configFile } = gateway;
    const files = repositoryFiles(store, 'appsrv');
    const as = (...args: string[]): Promise<Outcome> => {
      const options = { 'rclone.program': [lab().ssh, ...sshClientArgs({ port, key, knownHosts })].join(' ') };
      return restic(lab().resticNewest, { repo: 'rclone:x', options, timeoutMs: 120_000 }, [...args, '--no-cache']);
    };
    const tree = path.join(directory, 'tree');
    await makeTree(tree, { files: 5, bytes: 500_000, seed: 'audit-full' });
    for (const args of [['init'], ['backup', tree]]) expect((await as(...args)).code).toBe(0);

    // One session is open when the disk fills up.
    const open = startStdio(['appsrv', '-c', configFile]);
    started.push(() => {
      open.kill();
    });
    const before = sample();
    expect((await open.request('POST', `/data/${before.name}`, { body: before.body })).status).toBe(200);
    const there = [...(await files.keys())].sort();
    const ballast = path.join(place, 'ballast');
    expect(() => {
      for (let part = 0; ; part++) writeFileSync(`${ballast}-${part}`, Buffer.alloc(4096));
    }).toThrow('ENOSPC');
    expect(statfsSync(place).bavail).toBe(0);

    // What is left of the audit's last page takes some lines; then one is cut short.
    const lock = there.find((one) => one.startsWith('locks/'));
    expect(lock).toBeUndefined();
    const taken: string[] = [];
    for (let refused = 0; refused < 3;) {
      const { name, body } = sample();
      const { status } = await open.request('POST', `/data/${name}`, { body });
      const at = `data/${name.slice(0, 2)}/${name}`;
      // Each with the file beside it that says who brought it.
      if (status === 200) taken.push(at, `.restic-gateway/origin/${at}.json`);
      else expect({ status, refused: ++refused }).toEqual({ status: 503, refused });
    }
    expect([...(await files.keys())].sort()).toEqual([...there, ...taken].sort());
    // Reading needs no line.
    expect((await open.request('GET', `/data/${before.name}`)).body).toEqual(before.body);
    for (const program of ['ssh', 'stdio'])
      if (program === 'ssh') {
        const { code, stderr } = await as('backup', tree);
        expect(code).not.toBe(0);
        expect(stderr).toContain(`rclone: ${LINE}`);
      } else {
        const refused = startStdio(['appsrv', '-c', configFile]);
        expect(await refused.exited).toEqual({ status: 1, stderr: LINE });
      }
    expect([...(await files.keys())].sort()).toEqual([...there, ...taken].sort());

    for (let part = 0; part < 8; part++) rmSync(`${ballast}-${part}`);
    const after = sample();
    expect((await open.request('POST', `/data/${after.name}`, { body: after.body })).status).toBe(200);
    open.end();
    // Said once, however often it was refused.
    expect(await open.exited).toEqual({ status: 0, stderr: LINE });
    for (const args of [
      ['backup', tree],
      ['check', '--read-data'],
    ])
      expect(await as(...args)).toMatchObject({ code: 0 });
    const verified = await run(process.execPath, [GATEWAY, 'audit', 'verify', '-c', configFile], {
      timeoutMs: 180_000,
    });
    expect(verified.code).toBe(0);
    expect(verified.stdout).toMatch(/note: torn by a crash or a full disk/);
    await gateway.stop();
  }));
