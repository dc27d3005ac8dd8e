/** The documentation, run: every command, crontab and config of README and docs that does not say why it is not, on one host. */
import { appendFileSync, chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { pages, readPage, whyNotRun, type Fence } from '../support/doc-fences.ts';
import { startDocSandbox, type DocSandbox } from '../support/doc-sandbox.ts';
import { generateKey, lab, run, tempDir } from '../support/lab.ts';

/** In the order in which an admin reads them; the other pages follow. */
const ORDER = [
  'README.md',
  ...[
    'install',
    'configure',
    'forced-command',
    'clients',
    'migration',
    'operate',
    'monitoring',
    'retention',
    'audit',
    's3',
  ].map((name) => `docs/${name}.md`),
];
/** What tries what it must not raises anomalies, and what an attacker adds is undone: these come last. */
const LAST = ['docs/recovery.md', 'docs/probe.md'];
const EVERY = [...ORDER, ...pages().filter((page) => !ORDER.includes(page) && !LAST.includes(page)), ...LAST];

/** What has happened before a page is of use. */
const BEFORE: Readonly<Record<string, string>> = {
  'docs/retention.md': `sed -i 's|^  appsrv:$|&\\n    retention: { keep-daily: 30 }\\n    passwordFile: /etc/restic-gateway/passwords/appsrv|' \\
      /etc/restic-gateway/gateway.yaml
    grep -q keep-daily /etc/restic-gateway/gateway.yaml`,
  'docs/recovery.md': `date -u +%Y-%m-%dT%H:%M:%S.%3NZ >/root/attack-began
    echo junk >/srv/junk
    timeout 60 restic -q -r rclone:x -o rclone.program='ssh -p 2222 backup@gateway.example.com' backup /srv`,
};

/** A config that the fragments in the docs belong to. */
const BASE = {
  user: 'restic-gateway',
  hostKeys: ['/etc/restic-gateway/ssh_host_ed25519_key'],
  stores: { main: { type: 'directory', path: '/var/lib/restic-gateway/repositories' } },
  clients: {},
  audit: { file: '/var/log/restic-gateway/audit.jsonl' },
};
/** Files that the config of the docs name, the gateway's user's; and one of root's. */
const SECRETS = [
  ...['s3.secret', 'ceph.secret', 'evidence.secret', 'metrics.token', 'database.password'],
  ...['mail.password', 'webhook.secret', 'ntfy.token', 'slack.url', 'alive.url'],
].map((name) => `/etc/restic-gateway/${name}`);
const PASSWORD = '/etc/restic-gateway/passwords/appsrv';

let host: DocSandbox;
beforeAll(async () => {
  host = await startDocSandbox();
  const files: Record<string, string> = { '/root/restic.password': 'a-secret-of-24-characters\n' };
  for (const file of [...SECRETS, PASSWORD])
    files[file] = `${file.endsWith('.url') ? 'https://hooks.example.com/' : ''}a-secret-of-24-characters\n`;
  for (const name of ['id_ed25519', 'new']) {
    const key = await generateKey();
    if (name === 'id_ed25519') files['/root/.ssh/id_ed25519'] = readFileSync(key.privateFile, 'utf8');
    files[`/work/appsrv${name === 'new' ? '-new' : ''}.pub`] = `${key.publicLine}\n`;
  }
  await host.run(
    'mkdir -p /etc/restic-gateway/passwords; install -d -o restic-gateway -g restic-gateway /var/lib/restic-gateway /var/log/restic-gateway',
  );
  for (const [file, text] of Object.entries(files)) {
    writeFileSync(host.file(file), text);
    chmodSync(host.file(file), 0o600);
  }
  await host.run(`chown restic-gateway ${SECRETS.join(' ')}`);
});
afterAll(() => {
  host.close();
});

/** `serve` reads a changed config a moment later: until then the client's key is none that it knows. */
const CLIENT_IS_KNOWN = `for _ in $(seq 100); do
  said=$(ssh -p 2222 -o BatchMode=yes x@gateway.example.com 2>&1 || true)
  case $said in *'serves restic only'*) exit ;; esac
  sleep 0.1
done
echo "$said" >&2
exit 1`;

const done = { code: 0 };
/** What a command printed, shown when it did not end well. */
async function mustRun(where: string, outcome: ReturnType<typeof run>): Promise<void> {
  const { code, stdout, stderr } = await outcome;
  expect({ where, code, ...(code !== 0 && { stdout, stderr }) }).toEqual({ where, ...done });
}

async function runShell(where: string, { text, marker = '' }: Fence): Promise<void> {
  const script = /^run as: (.+)$/.exec(marker)?.[1] ?? text;
  if (marker === 'run: in the background') {
    // What docs/monitoring.md adds to the config.
    appendFileSync(host.file('/etc/restic-gateway/gateway.yaml'), 'metrics: { listen: 127.0.0.1:9150 }\n');
    const printed = host.background(script);
    await mustRun(where, host.run(`until (exec 3<>/dev/tcp/127.0.0.1/2222) 2>/dev/null; do sleep 0.1; done`)).catch(
      (error: unknown) => {
        throw new Error(printed(), { cause: error });
      },
    );
    // As the admin hands over what `client add` prints.
    await host.run(
      `echo "[gateway.example.com]:2222 $(cut -d' ' -f1,2 /etc/restic-gateway/ssh_host_ed25519_key.pub)" >/root/.ssh/known_hosts`,
    );
    return;
  }
  if (script.includes('rclone:x')) await mustRun(where, host.run(CLIENT_IS_KNOWN));
  await mustRun(where, host.run(script));
}

async function runCrontab(where: string, { text }: Fence): Promise<void> {
  const env: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const [, name, value] = /^([A-Z_]+)=(.*)$/.exec(line) ?? [];
    if (name !== undefined) env[name] = value ?? '';
    else if (line !== '') {
      const [, command] = /^(?:[\d*/]+ ){5}\w+ (.+)$/.exec(line) ?? [];
      expect({ where, line, command }).toEqual({ where, line, command: expect.any(String) });
      await mustRun(where, host.cron(command ?? '', env));
    }
  }
}

async function checkSshd(where: string, { text }: Fence): Promise<void> {
  const file = path.join(tempDir(), 'sshd_config');
  writeFileSync(file, `HostKey ${host.file('/etc/restic-gateway/ssh_host_ed25519_key')}\n${text}`);
  await mustRun(where, run(lab().sshdNewest, ['-t', '-f', file]));
}

let configs = 0;
async function checkConfig(where: string, { text }: Fence): Promise<void> {
  let filled = text;
  while (filled.includes('…')) {
    const [type, blob] = (await generateKey()).publicLine.split(' ');
    filled = filled.replace(/ssh-ed25519 \S+…/, `${type} ${blob}`);
  }
  const part = parse(filled) as Readonly<Record<string, object>> | null;
  const merged = ['stores', 'clients', 'audit'].map((name) => [name, { ...BASE[name as 'stores'], ...part?.[name] }]);
  const config = { ...BASE, ...part, ...Object.fromEntries(merged) } as object;
  const file = `/etc/restic-gateway/example-${configs++}.yaml`;
  writeFileSync(host.file(file), stringify(config));
  const env = Object.fromEntries([...text.matchAll(/\$\{(\w+)\}/g)].map(([, name = '']) => [name, 'set']));
  await mustRun(where, host.run(`restic-gateway check -c ${file}`, env));
}

const ALERTS = path.resolve(import.meta.dirname, '../../docs/monitoring/alerts.yaml');

async function checkPrometheus(where: string, { text }: Fence): Promise<void> {
  const directory = tempDir();
  writeFileSync(path.join(directory, 'prometheus.yml'), text);
  writeFileSync(path.join(directory, 'restic-gateway.token'), 'token');
  await mustRun(where, run('cp', [ALERTS, directory]));
  await mustRun(where, run(lab().promtool, ['check', 'config', path.join(directory, 'prometheus.yml')]));
}

test('Prometheus accepts the alert rules, and finds nothing to mend in them', async () => {
  await mustRun('alerts.yaml', run(lab().promtool, ['check', 'rules', '--lint=all', '--lint-fatal', ALERTS]));
});

describe.each(EVERY)('%s', (page) => {
  const fences = readPage(page).fences.filter((fence) => whyNotRun(fence) === undefined);
  if (fences.length === 0) {
    test('has nothing to run', () => undefined);
    return;
  }
  const before = BEFORE[page];
  if (before !== undefined)
    beforeAll(async () => {
      await mustRun(`before ${page}`, host.run(before));
    });
  test.each(fences.map((fence) => [fence.line, (fence.text.split('\n')[0] ?? '').slice(0, 70), fence] as const))(
    'line %i: %s',
    async (line, _, fence) => {
      const where = `${page}:${line}`;
      if (fence.language === 'sh') await runShell(where, fence);
      else if (fence.language === 'crontab') await runCrontab(where, fence);
      else if (fence.language === 'sshd_config') await checkSshd(where, fence);
      else if (fence.marker?.startsWith('prometheus') === true) await checkPrometheus(where, fence);
      else await checkConfig(where, fence);
    },
  );
});
