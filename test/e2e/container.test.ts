/**
 * The container image, built by its Dockerfile and run by its compose file: from `init` to a backup through its SSH port, health, and what the
 * admin does in it, restic's own prune and check included.
 */
import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, jest, test } from '@jest/globals';
import { parse } from 'yaml';
import { startEngine, type Engine } from '../support/containers.ts';
import { buildImage, IMAGE, importBase } from '../support/image.ts';
import { freePort, generateKey, lab, makeTree, restic, sameTree, tempDir, type KeyFiles } from '../support/lab.ts';

jest.setTimeout(400_000);
const ROOT = path.resolve(import.meta.dirname, '../..');
const PACKAGING = path.join(ROOT, 'scripts/packaging');
const COMMIT = '0123456789ab';
/** The user of the image. */
const USER = 1000;

let engine: Engine;
let source: string;
let key: KeyFiles;
beforeAll(async () => {
  engine = await startEngine();
  await importBase(engine);
  source = path.join(tempDir(), 'source');
  await makeTree(source, { files: 6, bytes: 300_000, seed: 'container' });
  key = await generateKey();
});

test('a build that is not told its commit fails at once, and says what to pass', async () => {
  const { code, stderr } = await buildImage(engine, undefined);
  expect(code).not.toBe(0);
  expect(stderr).toContain('pass --build-arg COMMIT=');
});

describe('by Docker Compose', () => {
  interface Service {
    readonly [key: string]: unknown;
    readonly volumes: readonly string[];
    readonly tmpfs: readonly string[];
    readonly cap_drop: readonly string[];
    readonly security_opt: readonly string[];
    readonly secrets: readonly string[];
  }
  const compose = parse(readFileSync(path.join(PACKAGING, 'compose.yaml'), 'utf8')) as {
    readonly services: { readonly gateway: Service };
    readonly secrets: Readonly<Record<string, { readonly file: string }>>;
  };

  /** The file's service as options of `run`. What `init` and ports mean is left to whoever starts it. */
  function runOptions(site: string): string[] {
    const { volumes, tmpfs, cap_drop, security_opt, secrets, ...rest } = compose.services.gateway;
    expect(rest).toMatchObject({ image: 'restic-gateway', init: true, read_only: true, stop_grace_period: '90s' });
    const place = (from: string): string => (from.startsWith('.') ? path.join(site, from) : from);
    return [
      ...['--init', '--read-only', '--read-only-tmpfs=false', ...tmpfs.map((one) => `--tmpfs=${one}`)],
      ...[...cap_drop.map((one) => `--cap-drop=${one}`), ...security_opt.map((one) => `--security-opt=${one}`)],
      ...volumes.map((one) => `--volume=${one.replace(/^[^:]+/, place)}`),
      ...secrets.map((one) => `--volume=${place(compose.secrets[one]?.file ?? '')}:/run/secrets/${one}:ro`),
    ];
  }

  let site: string;
  let port: number;
  let ssh: Readonly<Record<string, string>>;
  const inside = (...command: string[]): Promise<string> => engine.good(['exec', 'gateway', ...command]);
  const gateway = (...command: string[]): Promise<string> => inside('restic-gateway', ...command);
  const client = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await restic(lab().resticNewest, { repo: 'rclone:x', options: ssh }, args);
    expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    return stdout;
  };

  beforeAll(async () => {
    const { code, stdout, stderr } = await buildImage(engine, COMMIT);
    expect({ code, said: code === 0 ? '' : stdout + stderr }).toEqual({ code: 0, said: '' });
    site = tempDir();
    for (const name of ['etc', 'secrets']) {
      mkdirSync(path.join(site, name), { mode: 0o700 });
      chownSync(path.join(site, name), USER, USER);
    }
    for (const [name, content] of [
      ['metrics-token', `${'token'.repeat(8)}\n`],
      ['appsrv-password', 'password\n'],
    ] as const) {
      writeFileSync(path.join(site, 'secrets', name), content, { mode: 0o600 });
      chownSync(path.join(site, 'secrets', name), USER, USER);
    }
    port = await freePort();
  });

  test('what the image says of itself', async () => {
    const [image] = JSON.parse(await engine.good(['inspect', IMAGE])) as readonly {
      readonly Labels: Readonly<Record<string, string>>;
      readonly Config: Readonly<Record<string, unknown>>;
    }[];
    const { version, description, license } = JSON.parse(
      readFileSync(path.join(ROOT, 'package.json'), 'utf8'),
    ) as Readonly<Record<string, string>>;
    const label = (name: string): string | undefined => image?.Labels[`org.opencontainers.image.${name}`];
    expect(['title', 'description', 'licenses', 'version', 'revision'].map(label)).toEqual([
      ...['restic-gateway', description, license, version, COMMIT],
    ]);
    expect(image?.Config).toMatchObject({ User: '1000:1000', StopSignal: 'SIGTERM', Cmd: ['serve'] });
    expect(await engine.good(['run', '--rm', ...runOptions(site), IMAGE, '--version'])).toBe(
      `${version ?? ''} (${COMMIT})\n`,
    );
  });

  test('from init to a backup, which is restored', async () => {
    const address = `127.0.0.1:${port}`;
    await engine.good([
      ...['run', '--rm', ...runOptions(site), IMAGE],
      ...['init', '--dir', '/var/lib/restic-gateway/repositories', '--listen', address],
    ]);
    const config = path.join(site, 'etc', 'gateway.yaml');
    const metrics = `metrics: { listen: 0.0.0.0:${await freePort()}, tokenFile: /run/secrets/metrics-token }\n`;
    writeFileSync(config, readFileSync(config, 'utf8') + metrics);
    const started = await engine.start(['run', '--name', 'gateway', ...runOptions(site), IMAGE]);
    await started.waitForLine(/listening on /);
    const block = await gateway('client', 'add', 'appsrv', key.publicLine, '--host', address);
    await gateway('reload');
    const [known = ''] = /^\[127\.0\.0\.1\]:\d+ ssh-ed25519 \S+/m.exec(block) ?? [];
    const knownHosts = path.join(site, 'known_hosts');
    writeFileSync(knownHosts, `${known}\n`);
    ssh = {
      'rclone.program': `${lab().ssh} -F none -p ${port} -i ${key.privateFile} -o UserKnownHostsFile=${knownHosts} -o BatchMode=yes backup@127.0.0.1`,
    };
    await client('init');
    await client('backup', source);
    const target = tempDir();
    await client('restore', 'latest', '--target', target);
    await sameTree(source, path.join(target, source));
  });

  test('health, by /readyz', async () => {
    expect(await gateway('health')).toBe('ready\n');
    expect((await engine.podman(['healthcheck', 'run', 'gateway'])).code).toBe(0);
  });

  test('it runs as no root, without capabilities, and can write to its volumes alone', async () => {
    expect(await inside('id', '-u')).toBe(`${USER}\n`);
    const status = await inside('sh', '-c', 'cat /proc/1/status /proc/self/status');
    expect(
      [...status.matchAll(/^(?:Cap(?:Prm|Eff|Bnd|Amb)|NoNewPrivs):\s+(\S+)$/gm)].map(([, value]) => Number(value)),
    ).toEqual([0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
    for (const place of ['/usr/lib/restic-gateway', '/home/node', '/'])
      expect((await engine.podman(['exec', 'gateway', 'touch', path.join(place, 'x')])).stderr).toContain(
        'Read-only file system',
      );
  });

  test('the admin forgets, prunes and checks in it, with its own restic', async () => {
    // The newest three stay, whatever the retention says.
    for (const tag of ['second', 'third', 'fourth']) await client('backup', source, '--tag', tag);
    await gateway(
      ...['client', 'set', 'appsrv', 'retention.keep-last=1', 'protect=none'],
      'passwordFile=/run/secrets/appsrv-password',
    );
    await gateway('reload');
    expect(await gateway('forget', 'appsrv')).toMatch(
      /^appsrv: 1 snapshots? removed, and what nothing uses any more$/m,
    );
    const left = JSON.parse(await gateway('restic', 'appsrv', '--', 'snapshots', '--json')) as { tags?: string[] }[];
    expect(left.map(({ tags }) => tags)).toEqual([['second'], ['third'], ['fourth']]);
    for (const command of [
      ['restic', 'appsrv', '--', 'check', '--read-data'],
      ...[['status'], ['status', 'appsrv'], ['sessions'], ['check'], ['check', '--live'], ['scrub', 'appsrv']],
      ...[
        ['audit', 'verify'],
        ['trash', 'list', 'appsrv'],
        ['client', 'list'],
      ],
    ])
      await gateway(...command);
  });

  test('a key that is made in it lies in its volume', async () => {
    const block = await gateway('client', 'add', 'dbsrv', '--generate');
    expect(block).toContain('private key of dbsrv');
    expect(await inside('stat', '-c', '%a %n', '/var/lib/restic-gateway/dbsrv_ed25519')).toBe(
      '600 /var/lib/restic-gateway/dbsrv_ed25519\n',
    );
  });

  test('a stop ends it within the time, by itself', async () => {
    expect(await engine.good(['stop', '--time', '90', 'gateway'])).toContain('gateway');
    expect(await engine.good(['inspect', '--format', '{{.State.ExitCode}}', 'gateway'])).toBe('0\n');
  });
});
