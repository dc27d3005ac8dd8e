/** The gateway on each Node that it is said to run on: the same everywhere, no warning from Node, and what is said of the Node is true. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import {
  freePort,
  generateKey,
  lab,
  makeTree,
  restic,
  run,
  sameTree,
  sshClientArgs,
  startProcess,
  tempDir,
} from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

/** Whatever Node has to say ends the process, or has a trace with it. */
const STRICT = { NODE_OPTIONS: '--throw-deprecation --pending-deprecation --trace-warnings' };
const NO_FIXES = /^Node\.js 20\.\d+\.\d+ no longer gets fixes, since 2026-04-30; install Node\.js 26/;

const source = path.join(tempDir(), 'source');
const keys = await Promise.all([generateKey(), generateKey(), generateKey()]);
beforeAll(() => makeTree(source, { files: 6, bytes: 3_000_000, seed: 'node' }));

test.each([
  ['of these tests', () => process.execPath],
  ['22', () => lab().node22],
  ['24', () => lab().node24],
  ['of the current long-term line', () => lab().nodeLts],
  ['of Debian 13', () => lab().nodeDebian],
])('the Node %s: both ways in, both stores, the newest ssh', async (_which, nodeOf) => {
  const node = nodeOf();
  const version = (await run(node, ['--version'])).stdout.trim();
  const directory = tempDir();
  const [hostKey, key, other] = keys;
  const port = await freePort();
  const file = path.join(directory, 'gateway.yaml');
  const clients = {
    a: { keys: [key.publicLine], repository: { store: 's3' } },
    b: { keys: [other.publicLine], repository: { store: 'directory' } },
  };
  writeFileSync(
    file,
    stringify({
      ...{
        listen: `127.0.0.1:${port}`,
        hostKeys: [hostKey.privateFile],
        audit: { file: path.join(directory, 'audit.jsonl') },
      },
      ...{ stores: { s3: await freshStore('s3'), directory: await freshStore('directory') }, clients, workers: 2 },
    }),
  );
  const knownHosts = path.join(directory, 'known_hosts');
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${hostKey.publicLine}\n`);

  const checked = await run(node, [GATEWAY, 'check', '--live', '--json', '-c', file], { env: STRICT });
  expect({ code: checked.code, stderr: checked.stderr }).toEqual({ code: 0, stderr: '' });
  const { runtime } = JSON.parse(checked.stdout) as { runtime: { node: string; trouble?: string; encryption: string } };
  const ended = version.startsWith('v20.') && node !== lab().nodeDebian;
  expect(runtime).toMatchObject({ node: version, encryption: expect.stringMatching(/^(native|node)$/) });
  expect(runtime.trouble).toEqual(ended ? expect.stringMatching(NO_FIXES) : undefined);
  const serve = await startProcess(node, [GATEWAY, 'serve', '-c', file], { env: STRICT });
  await serve.waitForLine(/listening on/);

  const backUp = async (client: string, options: Readonly<Record<string, string>>): Promise<void> => {
    for (const args of [
      ['init'],
      ['backup', source],
      ['restore', 'latest', '--target', path.join(directory, client)],
    ]) {
      const { code, stderr } = await restic(
        lab().resticNewest,
        { repo: `rclone:${client}`, options, timeoutMs: 100_000, env: STRICT },
        [...args, '--no-cache'],
      );
      expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: '' });
    }
    await sameTree(source, path.join(directory, client, source));
  };
  const ssh = [lab().sshNewest, ...sshClientArgs({ port, key, knownHosts })].join(' ');
  await backUp('a', { 'rclone.program': ssh });
  await backUp('b', { 'rclone.program': `${node} ${GATEWAY}`, 'rclone.args': `stdio -c ${file}` });
  expect(await serve.stop()).toBe(0);
  // A line of JSON each, and no warning but of this Node itself, and of a client whose ssh restic ended by force.
  const expected = /the AWS SDK will need|connection failed.*(ECONNRESET|EPIPE)|(ECONNRESET|EPIPE).*connection failed/;
  const said = serve.lines.map((line) => JSON.parse(line) as { level: number; msg: string });
  expect(said.filter(({ msg }) => NO_FIXES.test(msg))).toHaveLength(ended ? 1 : 0);
  expect(said.filter(({ msg }) => msg.includes("Node's own crypto module"))).toHaveLength(
    runtime.encryption === 'node' ? 1 : 0,
  );
  const warnings = said.filter(({ level, msg }) => level > 30 && !NO_FIXES.test(msg));
  expect(warnings.filter((line) => !expected.test(JSON.stringify(line)))).toEqual([]);
});
