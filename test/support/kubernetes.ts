/** The project's Kubernetes manifests, put together as `kubectl apply -k` does, and the volumes that a kubelet makes of them. */
import {
  chmodSync,
  chownSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { expect } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import { lab, run, tempDir } from './lab.ts';

/** What is read of a manifest here; its schema is the API's. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly spec?: unknown;
  readonly data?: Readonly<Record<string, string>>;
}

const SOURCE = path.resolve(import.meta.dirname, '../../scripts/packaging/kubernetes');

/** @returns a copy of the manifests to work on, as an admin has it: the example's own files are still to be written */
export function copyManifests(): string {
  const directory = path.join(tempDir(), 'kubernetes');
  cpSync(SOURCE, directory, { recursive: true });
  mkdirSync(path.join(directory, 'example', 'secrets'), { mode: 0o700 });
  return directory;
}

/** @param directory - with a kustomization.yaml */
export async function render(directory: string): Promise<readonly Manifest[]> {
  const { code, stdout, stderr } = await run(lab().kustomize, ['build', directory]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return parseAllDocuments(stdout).map((document) => {
    const manifest = document.toJS() as Manifest;
    if (manifest.kind !== 'Secret') return manifest;
    // The API takes line breaks in base64, which its schema does not know.
    const data = Object.entries(manifest.data ?? {}).map(([name, value]) => [name, value.replaceAll('\n', '')]);
    return { ...manifest, data: Object.fromEntries(data) as Readonly<Record<string, string>> };
  });
}

/** The only manifest of a kind and name. */
export function one(manifests: readonly Manifest[], kind: string, name: string): Manifest {
  const found = manifests.filter((each) => each.kind === kind && each.metadata.name === name);
  expect({ kind, name, found: found.length }).toEqual({ kind, name, found: 1 });
  return found[0] as Manifest;
}

let writes = 0;

/**
 * Writes a projected volume as a kubelet does with an fsGroup, the first time or anew: root's files in a directory of their own, which a link
 * is led to at once, in a directory that is sticky, as in memory, where it lies there.
 * Source: Kubernetes, pkg/volume/util/atomic_writer.go, pkg/volume/projected/projected.go, pkg/volume/volume_linux.go.
 */
export function projectVolume(
  place: string,
  files: Readonly<Record<string, string>>,
  { mode, group }: { readonly mode: number; readonly group: number },
): void {
  mkdirSync(place, { recursive: true });
  owned(place, group, 0o3777);
  writes += 1;
  const fresh = `..2026_11_27_00_00_00.${writes}`;
  mkdirSync(path.join(place, fresh));
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(place, fresh, name);
    writeFileSync(file, content);
    owned(file, group, mode | 0o440);
    if (!readdirSync(place).includes(name)) symlinkSync(path.join('..data', name), path.join(place, name));
  }
  owned(path.join(place, fresh), group, 0o2755);
  symlinkSync(fresh, path.join(place, '..data_tmp'));
  renameSync(path.join(place, '..data_tmp'), path.join(place, '..data'));
  for (const name of readdirSync(place))
    if (name.startsWith('..2026') && name !== fresh) rmSync(path.join(place, name), { recursive: true });
}

/** A new volume for a claim, or an emptyDir, as the kubelet hands it to the fsGroup. */
export function freshVolume(place: string, group: number, mode = 0o755): void {
  mkdirSync(place);
  owned(place, group, mode | 0o2770);
}

/** What a kubelet does to a volume whose root is not the fsGroup's: all of it becomes the group's to write. */
export function handToGroup(place: string, group: number): void {
  const { uid, mode } = lstatSync(place);
  chownSync(place, uid, group);
  if (!lstatSync(place).isDirectory()) {
    chmodSync(place, mode | 0o660);
    return;
  }
  chmodSync(place, mode | 0o2770);
  for (const name of readdirSync(place)) handToGroup(path.join(place, name), group);
}

function owned(place: string, group: number, mode: number): void {
  chownSync(place, 0, group);
  chmodSync(place, mode);
}
