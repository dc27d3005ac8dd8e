/** The Kubernetes manifests: that the API takes them, strictly, and that they fit together. How they run is in container.test.ts. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import ts from 'typescript';
import { parse } from 'yaml';
import { copyManifests, one, render, type Manifest } from '../support/kubernetes.ts';
import { generateKey } from '../support/lab.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

/** Where the API's types are, and a check of what types cannot say, such as patterns. */
const API: Readonly<Record<string, string>> = {
  v1: 'kubernetes-models/v1',
  'apps/v1': 'kubernetes-models/apps/v1',
  'networking.k8s.io/v1': 'kubernetes-models/networking.k8s.io/v1',
  'monitoring.coreos.com/v1': '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1',
};

/**
 * As `kubectl apply --validate=strict`: fields that the API does not know are found, too, by TypeScript.
 * @returns what is wrong
 */
async function strictly(manifests: readonly Manifest[]): Promise<string[]> {
  const wrong: string[] = [];
  for (const manifest of manifests) {
    const module = (await import(API[manifest.apiVersion] ?? manifest.apiVersion)) as Readonly<
      Record<string, new (data: unknown) => { validate(): void }>
    >;
    const Model = module[manifest.kind];
    try {
      if (Model === undefined) throw new Error('the API does not know it');
      new Model(manifest).validate();
    } catch (error) {
      wrong.push(`${manifest.kind}: ${(error as Error).message}`);
    }
  }
  const lines = manifests.flatMap((manifest, at) => [
    `import type { I${manifest.kind} as T${at} } from '${API[manifest.apiVersion] ?? manifest.apiVersion}';`,
    `export const m${at}: T${at} = ${JSON.stringify(manifest)};`,
  ]);
  // Within the checkout, so that packages are found from there.
  const file = path.join(ROOT, 'test/e2e/manifests.virtual.ts');
  const options: ts.CompilerOptions = {
    noEmit: true,
    strict: true,
    skipLibCheck: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
  };
  const real = ts.createCompilerHost(options);
  const host: ts.CompilerHost = {
    ...real,
    fileExists: (name) => name === file || real.fileExists(name),
    readFile: (name) => (name === file ? lines.join('\n') : real.readFile(name)),
    getSourceFile: (name, target, ...rest) =>
      name === file ? ts.createSourceFile(name, lines.join('\n'), target) : real.getSourceFile(name, target, ...rest),
  };
  const program = ts.createProgram([file], options, host);
  for (const { messageText } of ts.getPreEmitDiagnostics(program))
    wrong.push(ts.flattenDiagnosticMessageText(messageText, '\n'));
  return wrong;
}

let example: string;
let manifests: readonly Manifest[];
beforeAll(async () => {
  const directory = copyManifests();
  example = path.join(directory, 'example');
  writeFileSync(
    path.join(example, 'secrets/ssh_host_ed25519_key'),
    readFileSync((await generateKey()).privateFile, 'utf8'),
  );
  for (const name of ['metrics-token', 'appsrv-password'])
    writeFileSync(path.join(example, 'secrets', name), `${name}\n`);
  manifests = await render(example);
});

test('the API takes all of them, fields that it does not know included', async () => {
  expect(manifests.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort()).toEqual([
    'ConfigMap restic-gateway',
    'NetworkPolicy restic-gateway',
    'Secret restic-gateway',
    'Service restic-gateway',
    'Service restic-gateway-metrics',
    'ServiceMonitor restic-gateway',
    'StatefulSet restic-gateway',
  ]);
  expect(await strictly(manifests)).toEqual([]);
});

test.each([
  ['StatefulSet', '"terminationGracePeriodSeconds":90', '"terminationGracePeriod":90', 'terminationGracePeriod'],
  ['StatefulSet', '"drop":["ALL"]', '"drop":"ALL"', 'drop'],
  ['StatefulSet', '"fsGroup":1000', '"fsGroup":"1000"', 'fsGroup'],
  ['NetworkPolicy', '"podSelector"', '"podSelectors"', 'podSelector'],
  ['ServiceMonitor', '"interval":"60s"', '"interval":"one minute"', 'interval'],
  ['ServiceMonitor', '"authorization"', '"authorisation"', 'authorisation'],
])('in a %s, that check finds a mistake: not %s but %s', async (kind, right, wrong, found) => {
  const text = JSON.stringify(one(manifests, kind, 'restic-gateway'));
  expect(text).toContain(right);
  expect((await strictly([JSON.parse(text.replace(right, wrong)) as Manifest])).join('\n')).toContain(found);
});

describe('they fit together', () => {
  interface Container {
    readonly name: string;
    readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
    readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
    readonly securityContext: unknown;
    readonly image: string;
    readonly readinessProbe: { readonly httpGet: { readonly path: string; readonly port: string } };
    readonly livenessProbe: { readonly httpGet: { readonly path: string; readonly port: string } };
    readonly startupProbe: { readonly httpGet: { readonly path: string; readonly port: string } };
  }
  interface StatefulSet {
    readonly replicas: number;
    readonly serviceName: string;
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly volumeClaimTemplates: readonly { readonly metadata: { readonly name: string } }[];
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly securityContext: unknown;
        readonly containers: readonly [Container];
        readonly initContainers: readonly Container[];
        readonly volumes: readonly { readonly name: string; readonly projected?: { readonly sources: unknown } }[];
      };
    };
  }
  interface Service {
    readonly selector: Readonly<Record<string, string>>;
    readonly ports: readonly { readonly name: string; readonly port: number; readonly targetPort: string }[];
  }
  const set = (): StatefulSet => one(manifests, 'StatefulSet', 'restic-gateway').spec as StatefulSet;
  const service = (name: string): Service => one(manifests, 'Service', name).spec as Service;
  const config = (): Record<string, unknown> =>
    parse(one(manifests, 'ConfigMap', 'restic-gateway').data?.['gateway.yaml'] ?? '') as Record<string, unknown>;

  test('all of them in one namespace, and every selector finds the pod', () => {
    expect(new Set(manifests.map(({ metadata }) => metadata.namespace))).toEqual(new Set(['backup']));
    const { labels } = set().template.metadata;
    const policy = one(manifests, 'NetworkPolicy', 'restic-gateway').spec as {
      readonly podSelector: { readonly matchLabels: unknown };
    };
    for (const selector of [
      set().selector.matchLabels,
      service('restic-gateway').selector,
      service('restic-gateway-metrics').selector,
      policy.podSelector.matchLabels,
    ])
      expect(labels).toMatchObject(selector as Record<string, string>);
    expect(set()).toMatchObject({ replicas: 1, serviceName: 'restic-gateway-metrics' });
  });

  test('ports: those of the config, by the names that services, probes, policy and monitor use', () => {
    const [gateway] = set().template.spec.containers;
    const ports = Object.fromEntries((gateway.ports ?? []).map(({ name, containerPort }) => [name, containerPort]));
    expect(config()).toMatchObject({
      listen: `0.0.0.0:${ports['ssh']}`,
      metrics: { listen: `0.0.0.0:${ports['metrics']}` },
    });
    expect(service('restic-gateway').ports).toEqual([{ name: 'ssh', port: 2222, targetPort: 'ssh' }]);
    expect(service('restic-gateway-metrics').ports).toEqual([{ name: 'metrics', port: 9150, targetPort: 'metrics' }]);
    expect([gateway.startupProbe, gateway.readinessProbe, gateway.livenessProbe].map(({ httpGet }) => httpGet)).toEqual(
      [
        { path: '/healthz', port: 'metrics' },
        { path: '/readyz', port: 'metrics' },
        { path: '/healthz', port: 'metrics' },
      ],
    );
    const policy = one(manifests, 'NetworkPolicy', 'restic-gateway').spec as {
      readonly ingress: readonly { readonly from?: unknown; readonly ports: readonly { readonly port: string }[] }[];
    };
    expect(policy.ingress.map(({ from, ports: [port] }) => [port?.port, from !== undefined])).toEqual([
      ['ssh', false],
      ['metrics', true],
    ]);
    const monitor = one(manifests, 'ServiceMonitor', 'restic-gateway').spec as {
      readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
      readonly endpoints: readonly [
        { readonly port: string; readonly authorization: { readonly credentials: { name: string; key: string } } },
      ];
    };
    const matching = manifests.filter(
      ({ kind, metadata: { labels = {} } }) =>
        kind === 'Service' &&
        Object.entries(monitor.selector.matchLabels).every(([name, value]) => labels[name] === value),
    );
    expect(matching.map(({ metadata }) => metadata.name)).toEqual(['restic-gateway-metrics']);
    const [{ port, authorization }] = monitor.endpoints;
    expect(port).toBe('metrics');
    expect(one(manifests, 'Secret', authorization.credentials.name).data).toHaveProperty([
      authorization.credentials.key,
    ]);
  });

  test('every volume that is mounted is there, and every file that the config names comes from a Secret', () => {
    const { containers, initContainers, volumes } = set().template.spec;
    const there = [
      ...volumes.map(({ name }) => name),
      ...set().volumeClaimTemplates.map(({ metadata }) => metadata.name),
    ];
    const mounted = [...containers, ...initContainers].flatMap(({ volumeMounts }) =>
      volumeMounts.map(({ name }) => name),
    );
    expect([...new Set(mounted)].sort()).toEqual(there.sort());
    const named = JSON.stringify(config()).matchAll(/"\/etc\/restic-gateway\/([^"]+)"/g);
    expect([...named].map(([, file]) => file).sort()).toEqual(
      Object.keys(one(manifests, 'Secret', 'restic-gateway').data ?? {}).sort(),
    );
    expect(volumes.find(({ name }) => name === 'config')?.projected?.sources).toEqual([
      { configMap: { name: 'restic-gateway' } },
      { secret: { name: 'restic-gateway' } },
    ]);
  });

  test('the pod keeps to the restricted profile, and may drain before it is killed', () => {
    const { securityContext, containers, initContainers, terminationGracePeriodSeconds } = set().template.spec;
    expect(securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    for (const container of [...containers, ...initContainers]) {
      expect(container.securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(container.image).toBe('registry.example.com/restic-gateway:0.1.0');
    }
    const { drainSeconds = 60 } = config() as { readonly drainSeconds?: number };
    expect(terminationGracePeriodSeconds).toBeGreaterThan(drainSeconds);
  });
});

test('nothing may go out, until the component s3 lets out what S3 needs', async () => {
  const egress = (of: readonly Manifest[]): unknown =>
    (one(of, 'NetworkPolicy', 'restic-gateway').spec as { readonly egress: unknown }).egress;
  expect(egress(manifests)).toEqual([]);
  const file = path.join(example, 'kustomization.yaml');
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace('  # - ../s3', '  - ../s3'));
  const withS3 = await render(example);
  writeFileSync(file, text);
  expect(await strictly(withS3)).toEqual([]);
  expect(egress(withS3)).toMatchObject([{ ports: [{ port: 53 }, { port: 53 }] }, { ports: [{ port: 443 }] }]);
});
