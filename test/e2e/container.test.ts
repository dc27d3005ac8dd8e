/**
 * The container image, built by its Dockerfile and run by its compose file: from `init` to a backup through its SSH port, health, and what the
 * admin does in it, restic's own prune and check included.
 */
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { startEngine, type Engine } from '../support/containers.ts';
import { buildImage, IMAGE, importBase } from '../support/image.ts';
import { copyManifests, freshVolume, handToGroup, one, projectVolume, render } from '../support/kubernetes.ts';
import {
  freePort,
  generateKey,
  lab,
  makeTree,
  restic,
  sameTree,
  tempDir,
  type KeyFiles,
  type LabProcess,
} from '../support/lab.ts';

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

async function made(commit: string): Promise<void> {
  const { code, stdout, stderr } = await buildImage(engine, commit);
  expect({ code, said: code === 0 ? '' : stdout + stderr }).toEqual({ code: 0, said: '' });
}

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
    await made(COMMIT);
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

describe('by Kubernetes: as the manifests say, with volumes as a kubelet makes them', () => {
  interface Container {
    readonly command?: readonly string[];
    readonly volumeMounts: readonly {
      readonly name: string;
      readonly mountPath: string;
      readonly readOnly?: boolean;
    }[];
    readonly readinessProbe: { readonly httpGet: { readonly path: string } };
    readonly livenessProbe: { readonly httpGet: { readonly path: string } };
  }
  interface StatefulSet {
    readonly volumeClaimTemplates: readonly { readonly metadata: { readonly name: string } }[];
    readonly template: {
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly securityContext: { readonly runAsUser: number; readonly runAsGroup: number; readonly fsGroup: number };
        readonly containers: readonly [Container];
        readonly initContainers: readonly [Container];
        readonly volumes: readonly {
          readonly name: string;
          readonly projected?: { readonly defaultMode: number };
          readonly emptyDir?: { readonly medium?: 'Memory' };
        }[];
      };
    };
  }

  let example: string;
  let volumes: string;
  let set: StatefulSet;
  let sshPort: number;
  let metricsPort: number;
  let host: KeyFiles;
  const pod = (): StatefulSet['template']['spec'] => set.template.spec;
  const group = (): number => pod().securityContext.fsGroup;

  /** Renders what the admin has, and gives it to the pod. */
  async function apply(): Promise<void> {
    const manifests = await render(example);
    set = one(manifests, 'StatefulSet', 'restic-gateway').spec as StatefulSet;
    const secret = Object.entries(one(manifests, 'Secret', 'restic-gateway').data ?? {});
    projectVolume(
      path.join(volumes, 'config'),
      {
        ...one(manifests, 'ConfigMap', 'restic-gateway').data,
        ...Object.fromEntries(secret.map(([name, value]) => [name, Buffer.from(value, 'base64').toString()])),
      },
      { mode: pod().volumes.find(({ name }) => name === 'config')?.projected?.defaultMode ?? 0o644, group: group() },
    );
  }

  function runOptions({ volumeMounts }: Container): string[] {
    const { runAsUser, runAsGroup, fsGroup } = pod().securityContext;
    return [
      ...['--read-only', '--read-only-tmpfs=false', '--cap-drop=ALL', '--security-opt=no-new-privileges'],
      ...[`--user=${runAsUser}:${runAsGroup}`, `--group-add=${fsGroup}`],
      ...volumeMounts.map(
        ({ name, mountPath, readOnly = false }) =>
          `--volume=${path.join(volumes, name)}:${mountPath}${readOnly ? ':ro' : ''}`,
      ),
    ];
  }
  const gateway = (...command: string[]): Promise<string> => engine.good(['exec', 'pod', 'restic-gateway', ...command]);
  const start = async (): Promise<LabProcess> => {
    const started = await engine.start(['run', '--rm', '--name', 'pod', ...runOptions(pod().containers[0]), IMAGE]);
    await started.waitForLine(/listening on /);
    return started;
  };
  const client = async (of: KeyFiles, ...args: string[]): Promise<string> => {
    const knownHosts = path.join(volumes, 'known_hosts');
    writeFileSync(knownHosts, `[127.0.0.1]:${sshPort} ${host.publicLine}\n`);
    const program = `${lab().ssh} -F none -p ${sshPort} -i ${of.privateFile} -o UserKnownHostsFile=${knownHosts} -o BatchMode=yes backup@127.0.0.1`;
    const target = { repo: 'rclone:x', options: { 'rclone.program': program } };
    const { code, stdout, stderr } = await restic(lab().resticNewest, target, args);
    expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    return stdout;
  };

  beforeAll(async () => {
    example = path.join(copyManifests(), 'example');
    volumes = tempDir();
    [sshPort, metricsPort, host] = [await freePort(), await freePort(), await generateKey()];
    const secret = (name: string, content: string): void => {
      writeFileSync(path.join(example, 'secrets', name), content);
    };
    secret('ssh_host_ed25519_key', readFileSync(host.privateFile, 'utf8'));
    secret('metrics-token', `${'token'.repeat(8)}\n`);
    secret('appsrv-password', 'password\n');
    const file = path.join(example, 'gateway.yaml');
    const text = readFileSync(file, 'utf8')
      .replace('0.0.0.0:2222', `127.0.0.1:${sshPort}`)
      .replace('0.0.0.0:9150', `0.0.0.0:${metricsPort}`)
      .replace(/ssh-ed25519 \S+ appsrv/, key.publicLine);
    writeFileSync(file, text);
    await apply();
    for (const { metadata } of set.volumeClaimTemplates) freshVolume(path.join(volumes, metadata.name), group());
    for (const { name, emptyDir } of pod().volumes)
      if (emptyDir !== undefined)
        freshVolume(path.join(volumes, name), group(), emptyDir.medium === 'Memory' ? 0o1777 : 0o777);
    const [{ command = [], ...init }] = pod().initContainers;
    const [entry = '', ...args] = command;
    await engine.good(['run', '--rm', ...runOptions(init), '--entrypoint', entry, IMAGE, ...args]);
  });

  test('ready, by its probes; a backup; and what the admin does in it', async () => {
    await start();
    const { readinessProbe, livenessProbe } = pod().containers[0];
    for (const { httpGet } of [readinessProbe, livenessProbe]) {
      const { status } = await fetch(`http://127.0.0.1:${metricsPort}${httpGet.path}`);
      expect({ ...httpGet, status }).toEqual({ ...httpGet, status: 200 });
    }
    await client(key, 'init');
    await client(key, 'backup', source);
    await gateway('check', '--live');
    expect(JSON.parse(await gateway('restic', 'appsrv', '--', 'snapshots', '--json'))).toHaveLength(1);
    await gateway('forget', 'appsrv');
    // As an emptyDir on disk is, which everybody may rename files in
    chmodSync(path.join(volumes, 'tmp'), 0o2777);
    const { code, stderr } = await engine.podman(['exec', 'pod', 'restic-gateway', 'restic', 'appsrv', '--', 'check']);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringContaining('the temporary directory cannot be used: /tmp: others than its owner'),
    });
    chmodSync(path.join(volumes, 'tmp'), 0o3777);
  });

  test('a client that is added to the ConfigMap comes in without a new pod', async () => {
    const second = await generateKey();
    const file = path.join(example, 'gateway.yaml');
    const entry = { keys: [second.publicLine], repository: { store: 'main' } };
    const { clients, ...rest } = parse(readFileSync(file, 'utf8')) as { readonly clients: object };
    writeFileSync(file, stringify({ ...rest, clients: { ...clients, dbsrv: entry } }));
    await apply();
    const headers = { authorization: `Bearer ${'token'.repeat(8)}` };
    const metrics = async (): Promise<string> =>
      (await fetch(`http://127.0.0.1:${metricsPort}/metrics`, { headers })).text();
    while (!(await metrics()).includes('"dbsrv"')) await sleep(100);
    await client(second, 'init');
  });

  test('it stops in time, and starts again after a kubelet has handed all that it wrote to the group', async () => {
    const { terminationGracePeriodSeconds } = pod();
    await engine.good(['stop', '--time', String(terminationGracePeriodSeconds), 'pod']);
    for (const { metadata } of set.volumeClaimTemplates) handToGroup(path.join(volumes, metadata.name), group());
    const started = await start();
    await client(key, 'backup', source);
    await gateway('check', '--live');
    await gateway('audit', 'verify');
    await engine.good(['stop', '--time', String(terminationGracePeriodSeconds), 'pod']);
    expect(await started.exited).toBe(0);
  });

  test('in a volume of the ConfigMap alone, whose directory is open to all, the config would be refused', async () => {
    chmodSync(path.join(volumes, 'config'), 0o2777);
    const { code, stderr } = await engine.podman(['run', '--rm', ...runOptions(pod().containers[0]), IMAGE]);
    expect(code).not.toBe(0);
    expect(stderr).toContain('/etc/restic-gateway: others than its owner can change it (mode 2777)');
  });
});
