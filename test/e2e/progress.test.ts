/** What takes long says so: at a terminal, after a moment, how far it is; and nowhere else. A storage that never answers is what takes long. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY, startGateway } from '../support/gateway-process.ts';
import { freePort, generateKey, lab, startProcess, tempDir, type LabProcess } from '../support/lab.ts';
import { freshStore, secretFile } from '../support/stores.ts';
import { onTerminal } from '../support/terminal.ts';

const sockets = new Set<Socket>();
const silent = createServer((socket) => sockets.add(socket.on('error', () => undefined)));
afterAll(() => {
  for (const socket of sockets) socket.destroy();
  silent.close();
});

let directory: string;
let file: string;
let key: string;
let secret: string;
let port: number;
let serve: LabProcess;
let served: string;

beforeAll(async () => {
  directory = tempDir();
  await once(silent.listen(0, '127.0.0.1'), 'listening');
  ({ port } = silent.address() as AddressInfo);
  secret = secretFile('secret');
  const s3 = {
    ...{ type: 's3', endpoint: `http://127.0.0.1:${port}`, region: 'us-east-1', bucket: 'backups' },
    ...{ accessKeyId: 'id', secretAccessKeyFile: secret },
  };
  const pair = await generateKey();
  key = pair.privateFile;
  file = path.join(directory, 'gateway.yaml');
  writeFileSync(
    file,
    stringify({
      listen: `127.0.0.1:${await freePort()}`,
      hostKeys: [(await generateKey()).privateFile],
      audit: { file: 'audit.jsonl', copy: { store: 'main', prefix: 'audit' } },
      stores: { main: { ...s3, objectLock: { mode: 'governance', days: 30 } } },
      clients: { a: { keys: [pair.publicLine], repository: { store: 'main' }, retention: { 'keep-last': 3 } } },
    }),
  );
  // Millions of lines in little room: as gzip has them, one after the other are one file.
  const line = { time: '2026-03-02T00:00:00.000Z', event: 'create', client: 'a', session: 's', object: 'data/x' };
  const part = gzipSync(`${JSON.stringify({ ...line, detail: 'x'.repeat(200) })}\n`.repeat(20_000));
  writeFileSync(path.join(directory, 'audit.jsonl.1.gz'), Buffer.concat(Array.from({ length: 400 }, () => part)));
  writeFileSync(path.join(directory, 'audit.jsonl'), `${JSON.stringify({ ...line, time: '2026-03-03T00:00:00Z' })}\n`);
  const gateway = await startGateway(path.join(directory, 'served'), {
    stores: { main: await freshStore('directory') },
    clients: { a: { keys: [pair.publicLine], repository: { store: 'main' } } },
  });
  // Serves, and is too busy to say so.
  serve = gateway.process;
  serve.signal('SIGSTOP');
  served = gateway.configFile;
});

const restic = (): string => `RESTIC_PASSWORD=password RESTIC_GATEWAY_RESTIC=${lab().resticNewest}`;

/** Each command, and what it shows. */
const LONG = (): readonly (readonly [line: string, shown: RegExp])[] => [
  [`check --live -c ${file}`, /trying main: \d/],
  [`trash list a -c ${file}`, /a: listing the trash: \d/],
  [`trash restore a --all -c ${file}`, /a: listing the trash: \d/],
  [`trash purge a -c ${file}`, /a: listing the trash: \d/],
  [`undo a --since 1d -c ${file}`, /a: listing what is there: \d/],
  [`scrub a -c ${file}`, /a: listing what is there: \d/],
  [`extend a -c ${file}`, /a: asking the store: \d/],
  [`client hold a -c ${file}`, /a: asking the store: \d/],
  [`client add b --generate -c ${file}`, /looking into store main under b: \d/],
  [`forget a -c ${file}`, /a: reading the snapshots: \d/],
  [`forget a --without-password -c ${file}`, /a: looking when snapshots arrived: \d/],
  [`audit show -c ${file}`, /audit log: \d+ lines read, file 1 of 2/],
  [`sessions -c ${file}`, /audit log: \d+ lines read, file 1 of 2/],
  [`audit verify -c ${file}`, /audit log: \d+ lines read, file 1 of 2/],
  [`audit copy -c ${file}`, /main:audit: comparing what is there: \d/],
  [`status -c ${file}`, /audit log: \d+ lines read/],
  [`reload -c ${served}`, /waiting for serve \(process \d+\): \d/],
  [`probe 127.0.0.1:${port} -i ${key} --host-key SHA256:${'A'.repeat(43)}`, /probing 127\.0\.0\.1: \d/],
  [
    `init -c ${directory}/new/gateway.yaml --s3 backups --endpoint http://127.0.0.1:${port} --access-key-id id --secret-access-key-file ${secret} --listen 127.0.0.1:2222`,
    /trying the store: \d/,
  ],
];

/** What moves the cursor. */
// eslint-disable-next-line no-control-regex -- that is how it begins
const MOVES = /[\x1b\r]/;

test('every command that takes long shows at a terminal how far it is; piped, with --json or --quiet it shows nothing', async () => {
  const program = (line: string): string => `${process.execPath} ${GATEWAY} ${line}`;
  const quiet = await Promise.all([
    ...[`check --live -c ${file}`, `trash purge a -c ${file}`].map((line) =>
      startProcess(process.execPath, [GATEWAY, ...line.split(' ')]),
    ),
    ...[`trash list a --json -c ${file}`, `scrub a --quiet -c ${file}`].map((line) =>
      startProcess('script', ['-qec', `exec ${program(line)}`, '/dev/null']),
    ),
  ]);
  const missing: unknown[] = [];
  const rest = [...LONG()];
  const work = async (): Promise<void> => {
    for (let next = rest.shift(); next !== undefined; next = rest.shift()) {
      const [line, pattern] = next;
      const { code, shown } = await onTerminal(['env', restic(), program(line)], [[pattern, '\x03']]);
      if (!pattern.test(shown) || code === null) missing.push({ line, code, shown });
    }
  };
  await Promise.all(Array.from({ length: 6 }, work));
  expect(missing).toEqual([]);
  for (const one of quiet) {
    await one.stop();
    expect(one.lines.filter((line) => MOVES.test(line.replace(/\r$/, '')))).toEqual([]);
  }
});
