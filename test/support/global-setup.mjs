/** Starts the one radosgw of a jest run, and what ends it with the run, however that ends. Its address goes to the tests in S3_* variables. */
import { execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const SCRIPTS = path.resolve(import.meta.dirname, '../../scripts/lab');

export default async function setUp() {
  if (process.env.S3_ENDPOINT !== undefined && process.env.LAB_RUN_ID !== undefined) return;
  const id = randomUUID();
  const directory = mkdtempSync(path.join(tmpdir(), 'restic-gateway-run-'));
  chmodSync(directory, 0o711);
  // It reads from a pipe that ends with this process, a kill -9 included. It is not of the run itself, so it does not carry the run's id.
  const ender = spawn(path.join(SCRIPTS, 'end-run'), [id, directory], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  ender.unref();
  ender.stdin.unref();
  globalThis.labRunEnder = ender;
  process.env.LAB_RUN_ID = id;
  process.env.LAB_RUN_DIR = directory;
  const { stdout } = await promisify(execFile)(path.join(SCRIPTS, 'start-radosgw'), [path.join(directory, 'radosgw')], {
    timeout: 600_000,
  });
  for (const line of stdout.split('\n')) {
    const [, name, value] = /^(S3_\w+)=(.*)$/.exec(line) ?? [];
    if (name !== undefined) process.env[name] = value;
  }
}
