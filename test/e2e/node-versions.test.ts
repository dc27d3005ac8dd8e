/** The gateway on the Node of these tests and on that of the current long-term line: the same, and without a warning from either. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
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

test.each([
  ['of these tests', () => process.execPath],
  ['of the current long-term line', () => lab().nodeLts],
])('the Node %s: both doors, both stores, the newest ssh', async (_which, nodeOf) => {
  const node = nodeOf();
  const directory = tempDir();
  const [hostKey, key] = await Promise.all([generateKey(), generateKey()]);
  const port = await freePort();
  const file = path.join(directory, 'gateway.yaml');
  const clients = {
    a: { keys: [key.publicLine], repository: { store: 's3' } },
    b: { keys: [(await generateKey()).publicLine], repository: { store: 'directory' } },
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

  const checked = await run(node, [GATEWAY, 'check', '--live', '-c', file], { env: STRICT });
  expect({ code: checked.code, stderr: checked.stderr }).toEqual({ code: 0, stderr: '' });
  const serve = await startProcess(node, [GATEWAY, 'serve', '-c', file], { env: STRICT });
  await serve.waitForLine(/listening on/);

  const source = path.join(directory, 'source');
  await makeTree(source, { files: 6, bytes: 3_000_000, seed: 'node' });
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
  // A line of JSON each, and no warning but the SDK's on Node 20, and that of a client whose ssh restic ended by force.
  const expected = /the AWS SDK will need|connection failed.*(ECONNRESET|EPIPE)|(ECONNRESET|EPIPE).*connection failed/;
  const warnings = serve.lines.filter((line) => (JSON.parse(line) as { level: number }).level > 30);
  expect(warnings.filter((line) => !expected.test(line))).toEqual([]);
});
