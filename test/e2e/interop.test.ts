/** The way in and the way out: repositories that restic or rclone made go on through the gateway, and back. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { openSite } from '../support/sites.ts';
import { freePort, lab, makeTree, restic, s3, sameTree, startProcess, tempDir, type Outcome } from '../support/lab.ts';
import { lightenKeys } from '../support/light-key.ts';
import { freshStore, type StoreEntry } from '../support/stores.ts';
import { startTlsFront } from '../support/tls-front.ts';

const CLIENTS = { appsrv: { repository: { store: 'main', prefix: 'hosts/appsrv' } } };

/** Runs restic against one way to the repository; it must succeed. */
type Way = (...args: string[]) => Promise<Outcome>;
async function good(run: Promise<Outcome>): Promise<Outcome> {
  const outcome = await run;
  expect(`${outcome.code} ${outcome.code === 0 ? '' : outcome.stderr}`).toBe('0 ');
  return outcome;
}

/** Makes a repository one way, goes on with it the other way, and returns; each reads what the other wrote. */
async function thereAndBack(first: Way, second: Way, store: StoreEntry, prefix = 'hosts/appsrv'): Promise<void> {
  const source = path.join(tempDir(), 'source');
  await makeTree(source, { files: 30, bytes: 6_000_000, seed: 'interop' });
  await first('init');
  await lightenKeys(store, prefix);
  await first('backup', source);
  await second('check', '--read-data');
  writeFileSync(path.join(source, 'later'), 'added the second way');
  await second('backup', source);
  await first('check', '--read-data');
  const target = tempDir();
  await first('restore', 'latest', '--target', target);
  await sameTree(source, path.join(target, source));
  const snapshots = await first('snapshots', '--json');
  expect(JSON.parse(snapshots.stdout)).toHaveLength(2);
}

describe.each(['resticDebian', 'resticNewest'] as const)('with %s', (version) => {
  const binary = lab()[version];

  test.each(['there', 'back'])("restic's own S3 backend reads and writes the same bucket: %s", async (direction) => {
    const store = await freshStore('s3');
    const site = await openSite('ssh server', { stores: { main: store }, clients: CLIENTS });
    const { endpoint, accessKeyId, secretAccessKey } = s3();
    const front = await startTlsFront(endpoint);
    const gateway: Way = (...args) =>
      good(restic(binary, { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') } }, args));
    const direct: Way = (...args) =>
      good(
        restic(
          binary,
          {
            repo: `s3:${front.endpoint}/${store['bucket'] ?? ''}/hosts/appsrv`,
            env: { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
          },
          ['--cacert', front.certificate, ...args],
        ),
      );
    await (direction === 'there' ? thereAndBack(gateway, direct, store) : thereAndBack(direct, gateway, store));
    await site.close();
    front.close();
  });

  test.each(['there', 'back'])(
    "restic's own local backend reads and writes the same directory: %s",
    async (direction) => {
      const store = await freshStore('directory');
      const site = await openSite('ssh server', { stores: { main: store }, clients: CLIENTS });
      const gateway: Way = (...args) =>
        good(restic(binary, { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') } }, args));
      const direct: Way = (...args) =>
        good(restic(binary, { repo: path.join(store['path'] ?? '', 'hosts/appsrv') }, args));
      await (direction === 'there' ? thereAndBack(gateway, direct, store) : thereAndBack(direct, gateway, store));
      await site.close();
    },
  );
});

test('an existing rclone forced command is replaced in three lines, and can be put back', async () => {
  const store = await freshStore('s3');
  const { endpoint, accessKeyId, secretAccessKey } = s3();
  const remote = [
    ':s3',
    'provider=Ceph',
    `access_key_id=${accessKeyId}`,
    `secret_access_key=${secretAccessKey}`,
    `endpoint="${endpoint}"`,
  ].join(',');
  const site = await openSite('sshd, authorized_keys', { stores: { main: store }, clients: CLIENTS });
  const rclone: Way = (...args) =>
    good(
      restic(
        lab().resticNewest,
        {
          repo: `rclone:${remote}:${store['bucket'] ?? ''}/hosts/appsrv`,
          options: {
            'rclone.program': lab().rclone,
            'rclone.args': 'serve restic --stdio --append-only --config /dev/null',
          },
        },
        args,
      ),
    );
  const gateway: Way = (...args) =>
    good(restic(lab().resticNewest, { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') } }, args));
  await thereAndBack(rclone, gateway, store);
  await site.close();
});

test.each(['there', 'back'])(
  'a directory of rest-server goes on through the gateway as it lies there: %s',
  async (direction) => {
    const store = await freshStore('directory');
    const site = await openSite('ssh server', {
      stores: { main: store },
      clients: { appsrv: { repository: { store: 'main' } } },
    });
    const port = await freePort();
    const server = await startProcess(lab().restServer, [
      ...['--no-auth', '--append-only', '--path', store['path'] ?? '', '--listen', `127.0.0.1:${port}`],
    ]);
    await server.waitForLine(/start server on/);
    const rest: Way = (...args) =>
      good(restic(lab().resticNewest, { repo: `rest:http://127.0.0.1:${port}/appsrv/` }, args));
    const gateway: Way = (...args) =>
      good(
        restic(lab().resticNewest, { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') } }, args),
      );
    await (direction === 'there'
      ? thereAndBack(gateway, rest, store, 'appsrv')
      : thereAndBack(rest, gateway, store, 'appsrv'));
    await server.stop();
    await site.close();
  },
);
