/** Secrets stay where the admin put them: in nothing that the gateway says, logs, audits or keeps, whether all goes well or nothing does. */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import {
  freePort,
  generateKey,
  lab,
  makeTree,
  newBucket,
  restic,
  run,
  s3,
  sshClientArgs,
  startProcess,
  tempDir,
} from '../support/lab.ts';

const secret = (): string => `sEcReT${randomBytes(24).toString('hex')}`;

/** Everything that lies below a directory, but the files that hold secrets. */
function contents(directory: string, but: readonly string[]): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .filter((file) => !but.includes(file))
    .map((file) => `${file}\n${readFileSync(file, 'latin1')}`);
}

test('a backup, a restart, wrong credentials, a bucket that is not there and a config with every mistake: no secret is anywhere', async () => {
  const directory = tempDir();
  const { endpoint, accessKeyId, secretAccessKey } = s3();
  const [wrong, plain, token, password] = [secret(), secret(), secret(), secret()];
  const [hostKey, key] = await Promise.all([generateKey(), generateKey()]);
  const secretFile = path.join(directory, 'main.secret');
  writeFileSync(secretFile, `${secretAccessKey}\n`, { mode: 0o600 });
  const place = { type: 's3', endpoint, accessKeyId };
  const port = await freePort();
  const file = path.join(directory, 'gateway.yaml');
  const config = {
    ...{
      listen: `127.0.0.1:${port}`,
      hostKeys: [hostKey.privateFile],
      audit: { file: path.join(directory, 'audit.jsonl') },
    },
    stores: {
      good: { ...place, bucket: await newBucket(), secretAccessKeyFile: secretFile },
      wrong: { ...place, bucket: await newBucket(), secretAccessKey: '${WRONG_SECRET}' },
      gone: { ...place, bucket: 'there-is-no-such-bucket', secretAccessKeyFile: secretFile },
    },
    clients: {
      good: { keys: [key.publicLine], repository: { store: 'good' } },
      wrong: { keys: [(await generateKey()).publicLine], repository: { store: 'wrong' } },
      gone: { keys: [(await generateKey()).publicLine], repository: { store: 'gone' } },
    },
  };
  writeFileSync(file, stringify(config));
  const env = { WRONG_SECRET: wrong };
  const said: string[] = [];
  const gateway = async (...args: string[]): Promise<number | null> => {
    const { code, stdout, stderr } = await run(process.execPath, [GATEWAY, ...args], { env });
    said.push(`${args.join(' ')}\n${stdout}${stderr}`);
    return code;
  };

  const serve = await startProcess(process.execPath, [GATEWAY, 'serve', '-c', file], { env });
  await serve.waitForLine(/listening on/);
  const knownHosts = path.join(directory, 'known_hosts');
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${hostKey.publicLine}\n`);
  const source = path.join(tempDir(), 'source');
  await makeTree(source, { files: 4, bytes: 200_000, seed: 'secrets' });
  const program = [lab().ssh, ...sshClientArgs({ port, key, knownHosts })].join(' ');
  for (const args of [['init'], ['backup', source], ['forget', '--keep-last', '1', '--prune']]) {
    const options = { 'rclone.program': program };
    const { stdout, stderr } = await restic(lab().resticNewest, { repo: 'rclone:x', options, password }, [
      ...args,
      '--no-cache',
    ]);
    said.push(stdout, stderr);
  }
  for (const client of ['wrong', 'gone']) {
    const options = { 'rclone.program': `${process.execPath} ${GATEWAY}`, 'rclone.args': `stdio -c ${file}` };
    const args = ['10', lab().resticNewest, '-r', `rclone:${client}`, '--no-cache'];
    for (const [name, value] of Object.entries(options)) args.push('-o', `${name}=${value}`);
    const { code, stdout, stderr } = await run('timeout', [...args, 'snapshots'], {
      env: { ...env, RESTIC_PASSWORD: password },
    });
    expect(code).not.toBe(0);
    said.push(stdout, stderr);
    expect(stderr).toMatch(/restic-gateway: /);
  }
  // What others of the machine see of it.
  said.push(readFileSync(`/proc/${serve.pid}/cmdline`, 'latin1'));
  expect(await gateway('check', '--live', '-c', file)).toBe(1);
  expect(await gateway('check', '-c', file)).toBe(0);
  expect(await gateway('check', '--json', '-c', file)).toBe(0);
  await gateway('status', '-c', file);
  expect(await gateway('scrub', 'wrong', '-c', file)).toBe(1);
  expect(await gateway('undo', 'gone', '--since', '1h', '-c', file)).toBe(1);
  expect(await gateway('audit', 'verify', '-c', file)).toBe(0);

  // Secrets in places where they must not be: refused without being shown.
  for (const [name, change] of Object.entries({
    plain: { stores: { ...config.stores, good: { ...place, bucket: 'b', secretAccessKey: plain } } },
    twice: {
      stores: {
        ...config.stores,
        good: { ...place, bucket: 'b', secretAccessKey: plain, secretAccessKeyFile: secretFile },
      },
    },
    token: { metrics: { listen: '0.0.0.0:9150', token } },
    list: { stores: { ...config.stores, good: { ...place, bucket: 'b', secretAccessKey: [plain] } } },
  })) {
    const bad = path.join(tempDir(), `${name}.yaml`);
    writeFileSync(bad, stringify({ ...config, ...change }));
    for (const args of [['check'], ['check', '--json'], ['serve']])
      expect([name, args, await gateway(...args, '-c', bad)]).toEqual([name, args, 2]);
  }
  await serve.stop();

  const privateKeys = [hostKey, key].map(({ privateFile }) => readFileSync(privateFile, 'utf8').split('\n')[2] ?? '');
  const everything = [...said, ...serve.lines, ...contents(directory, [secretFile])];
  const secrets = {
    secretAccessKey,
    wrong,
    plain,
    token,
    password,
    hostKey: privateKeys[0],
    clientKey: privateKeys[1],
  };
  for (const [name, value = ''] of Object.entries(secrets)) {
    expect(value.length).toBeGreaterThan(12);
    expect([name, everything.filter((text) => text.includes(value))]).toEqual([name, []]);
  }
  // They would be found: what is no secret is.
  expect(everything.some((text) => text.includes('session-start'))).toBe(true);
  expect(everything.some((text) => text.includes(accessKeyId))).toBe(true);
});
