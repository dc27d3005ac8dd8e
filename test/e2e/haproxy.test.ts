/** A real haproxy in front, as the documentation sets it up: restic backs up through it, and its client's own address is what the gateway sees. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { readPage } from '../support/doc-fences.ts';
import { startGateway } from '../support/gateway-process.ts';
import {
  freePort,
  generateKey,
  lab,
  makeTree,
  restic,
  sameTree,
  sshClientArgs,
  startProcess,
  tempDir,
} from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

/** Where haproxy connects from. */
const BALANCER = '127.9.0.1';

test('restic through haproxy, with headers of both versions and with checks that send one or nothing', async () => {
  const [key, directory] = [await generateKey(), tempDir()];
  const gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore('directory') },
    clients: { laptop: { keys: [key.publicLine], repository: { store: 'main' }, from: ['127.0.0.0/29'] } },
    proxyProtocol: { from: [BALANCER] },
  });
  const documented = readPage('docs/operate.md').fences.find(({ language }) => language === 'haproxy')?.text ?? '';
  const [head = '', section = ''] = documented.split(/^(?=listen )/m);
  const sent = 'send-proxy-v2 check check-send-proxy inter 2s';
  expect(section).toContain(`default-server ${sent}\n`);
  const variants: readonly string[] = [
    sent,
    'send-proxy-v2 check inter 2s',
    'send-proxy-v2 proxy-v2-options crc32c,unique-id check check-send-proxy inter 2s',
    'send-proxy check check-send-proxy inter 2s',
  ];
  const ports = await Promise.all(variants.map(() => freePort()));
  const sections = variants.map((variant, index) =>
    section
      .replace(
        'listen gateways',
        `listen gateways${index}\n  option log-health-checks\n  unique-id-format %{+X}o%ci:%cp`,
      )
      .replace('bind :2222', `bind 127.0.0.1:${ports[index] ?? 0}`)
      .replace(sent, `${variant.replace('2s', '50ms')} source ${BALANCER}`)
      .replace(/192\.0\.2\.2\d:2222/g, `127.0.0.1:${gateway.port}`),
  );
  const configFile = path.join(directory, 'haproxy.cfg');
  writeFileSync(
    configFile,
    [head.replace('mode tcp', 'mode tcp\n  log stdout format raw daemon'), ...sections].join(''),
  );
  const haproxy = await startProcess(lab().haproxy, ['-db', '-f', configFile]);
  for (const index of variants.keys())
    await haproxy.waitForLine(new RegExp(`Health check for server gateways${index}/gateway2 succeeded`));

  const source = path.join(directory, 'source');
  await makeTree(source, { files: 20, bytes: 4_000_000, seed: 'haproxy' });
  const knownHosts = path.join(directory, 'known_hosts');
  const hostKey = readFileSync(gateway.knownHosts, 'utf8').split(' ').slice(1).join(' ').trim();
  writeFileSync(knownHosts, ports.map((port) => `[127.0.0.1]:${port} ${hostKey}\n`).join(''));
  for (const [index, port] of ports.entries()) {
    const from = `127.0.0.${index + 2}`;
    const ssh = [lab().ssh, '-o', `BindAddress=${from}`, ...sshClientArgs({ port, key, knownHosts })].join(' ');
    const target = { repo: 'rclone:', options: { 'rclone.program': ssh }, timeoutMs: 60_000 };
    const restored = path.join(directory, `restored-${index}`);
    const runs = [
      ...(index === 0 ? [['init']] : []),
      ['backup', '--host', 'laptop', source],
      ...(index === 0 ? [['restore', 'latest', '--target', restored]] : []),
    ];
    for (const args of runs) expect(await restic(lab().resticNewest, target, args)).toMatchObject({ code: 0 });
    if (index === 0) expect(await sameTree(source, path.join(restored, source))).toBe(true);
    expect(readFileSync(gateway.auditFile, 'utf8')).toContain(`"from":"${from}"`);
  }
  expect(readFileSync(gateway.auditFile, 'utf8')).not.toContain(BALANCER);
  // Some hundred checks have come by now.
  expect(gateway.process.lines.filter((line) => line.includes(BALANCER))).toEqual([]);
  expect(gateway.process.lines.filter((line) => line.includes('connection failed'))).toEqual([]);
  await haproxy.stop();
});
