/** The gateway as its users run it: the built executable, a config in YAML, real keys. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import { freePort, generateKey, startProcess, type LabProcess } from './lab.ts';

/** The executable that the tests run. */
export const GATEWAY = path.resolve(import.meta.dirname, '../../bin/restic-gateway');

/** A gateway that runs. */
export interface RunningGateway {
  readonly process: LabProcess;
  readonly port: number;
  readonly configFile: string;
  readonly auditFile: string;
  /** A known_hosts file that holds its host key. */
  readonly knownHosts: string;
  stop: () => Promise<number>;
}

/** Writes a config file with a host key and starts `serve` on a free port. @param within - a command that runs it, such as prlimit */
export async function startGateway(
  directory: string,
  config: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string>> = {},
  within: readonly string[] = [],
): Promise<RunningGateway> {
  mkdirSync(directory, { recursive: true });
  const port = await freePort();
  const hostKey = await generateKey();
  const auditFile = path.join(directory, 'audit.jsonl');
  const configFile = path.join(directory, 'gateway.yaml');
  const knownHosts = path.join(directory, 'known_hosts');
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${hostKey.publicLine}\n`);
  writeFileSync(
    configFile,
    stringify({
      listen: `127.0.0.1:${port}`,
      hostKeys: [hostKey.privateFile],
      audit: { file: auditFile },
      drainSeconds: 1,
      ...config,
    }),
  );
  const command = [...within, process.execPath, GATEWAY, 'serve', '-c', configFile];
  const gateway = await startProcess(command[0] ?? '', command.slice(1), { env });
  await gateway.waitForLine(/listening on/);
  return { process: gateway, port, configFile, auditFile, knownHosts, stop: () => gateway.stop() };
}
