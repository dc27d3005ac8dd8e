/**
 * Builds the Debian package: node scripts/packaging/deb.mjs DIRECTORY, which then has restic-gateway_VERSION_ARCHITECTURE.deb.
 * Build first (npm ci && npm run build), as what is packed is dist and the installed packages that it needs. With ssh2's native part among
 * them it is for this machine's architecture, else for all; where Node cannot load that part, ssh2 does without.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { EXTERNALS } from './externals.mjs';

const [, , target] = process.argv;
if (target === undefined || !existsSync('dist/main.js')) {
  process.stderr.write('usage: node scripts/packaging/deb.mjs DIRECTORY, after npm ci && npm run build\n');
  process.exit(2);
}
const FILES = 'scripts/packaging/deb';
const { version, description, license } = JSON.parse(readFileSync('package.json', 'utf8'));
const run = (command, args, options) => execFileSync(command, args, { encoding: 'utf8', ...options });

/** Where Node finds a package that one at `from` asks for, below node_modules; undefined for one that is not installed. */
function locate(name, from) {
  for (let place = from; ; place = dirname(place)) {
    const path = join(place, 'node_modules', name);
    if (existsSync(path)) return path;
    if (place === '.') return undefined;
  }
}

/** The packages of these names and all that they need, by path; what is only for building is left out. */
function closure(names, from = '.', found = new Map()) {
  for (const name of names) {
    const path = locate(name, from);
    if (path === undefined || found.has(path) || name === 'nan' || name === 'buildcheck') continue;
    const manifest = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
    found.set(path, manifest);
    closure(Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies }), path, found);
  }
  return found;
}

/** Of what a native part was built from only the result is of use. */
const isUseful = (path) =>
  !/\/(test|tests|examples|\.github)$/.test(path) &&
  (!/\/(crypto|cpu-features)\/build\//.test(path) || /\/build\/Release(\/[^/]+\.node)?$/.test(path));

const root = mkdtempSync(join(tmpdir(), 'restic-gateway-deb-'));
const put = (path, content, mode = 0o644) => {
  const file = join(root, path);
  mkdirSync(join(file, '..'), { recursive: true, mode: 0o755 });
  writeFileSync(file, content, { mode });
  chmodSync(file, mode);
};
try {
  const library = join(root, 'usr/lib/restic-gateway');
  const packages = closure(EXTERNALS);
  for (const part of ['bin', 'dist', 'package.json']) cpSync(part, join(library, part), { recursive: true });
  for (const path of packages.keys()) cpSync(path, join(library, path), { recursive: true, filter: isUseful });
  mkdirSync(join(root, 'usr/bin'), { recursive: true });
  run('ln', ['-s', '../lib/restic-gateway/bin/restic-gateway', join(root, 'usr/bin/restic-gateway')]);

  const read = (name) => readFileSync(join(FILES, name), 'utf8');
  put('usr/lib/systemd/system/restic-gateway.service', read('restic-gateway.service'));
  put('usr/lib/sysusers.d/restic-gateway.conf', read('sysusers.conf'));
  put('usr/lib/tmpfiles.d/restic-gateway.conf', read('tmpfiles.conf'));
  put('etc/logrotate.d/restic-gateway', read('logrotate'));
  const completion = (shell) => run(process.execPath, ['bin/restic-gateway', 'completion', shell]);
  put('usr/share/bash-completion/completions/restic-gateway', completion('bash'));
  put('usr/share/zsh/vendor-completions/_restic-gateway', completion('zsh'));
  put('usr/share/fish/vendor_completions.d/restic-gateway.fish', completion('fish'));
  const compressed = (text) => gzipSync(text, { level: 9 });
  for (const page of ['restic-gateway.1', 'gateway.yaml.5'])
    put(
      `usr/share/man/man${page.at(-1)}/${page}.gz`,
      compressed(run(process.execPath, ['scripts/packaging/man.mjs', page])),
    );
  const documents = 'usr/share/doc/restic-gateway';
  cpSync('docs', join(root, documents, 'docs'), { recursive: true });
  cpSync('scripts/packaging/examples', join(root, documents, 'examples'), { recursive: true });
  put(`${documents}/README.md`, readFileSync('README.md'));
  put(`${documents}/CHANGELOG.md`, readFileSync('CHANGELOG.md'));
  const licences = [...packages].map(
    ([path, { license: one }]) => `Files: usr/lib/restic-gateway/${path}/*\nLicense: ${one}\n`,
  );
  put(
    `${documents}/copyright`,
    `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: restic-gateway\n\nFiles: *\nLicense: ${license}\n\n${licences.join('\n')}`,
  );
  put(
    `${documents}/changelog.Debian.gz`,
    compressed(
      `restic-gateway (${version}-1) unstable; urgency=medium\n\n  * The changes are in CHANGELOG.md.\n\n -- The authors of restic-gateway <restic-gateway@localhost>  Wed, 25 Nov 2026 00:00:00 +0000\n`,
    ),
  );

  const native = existsSync('node_modules/ssh2/lib/protocol/crypto/build/Release/sshcrypto.node');
  const architecture = native ? run('dpkg', ['--print-architecture']).trim() : 'all';
  const size = run('du', ['-sk', root]).split('\t')[0];
  put(
    'DEBIAN/control',
    `Package: restic-gateway
Version: ${version}-1
Section: admin
Priority: optional
Architecture: ${architecture}
Installed-Size: ${size}
Depends: nodejs (>= 20.19), passwd
Recommends: restic
Suggests: openssh-server
Maintainer: The authors of restic-gateway <restic-gateway@localhost>
Description: ${description.replace(/:.*/, '').toLowerCase()}
 Each client has one SSH key, the key opens one repository in an S3 bucket or a
 directory, and through it backups can be added and read but neither changed
 nor removed. An audit has a line for every session and every object.
`,
  );
  put('DEBIAN/conffiles', '/etc/logrotate.d/restic-gateway\n');
  for (const script of readdirSync(FILES).filter((name) => /^(post|pre)(inst|rm)$/.test(name)))
    put(`DEBIAN/${script}`, read(script), 0o755);

  const file = join(resolve(target), `restic-gateway_${version}-1_${architecture}.deb`);
  mkdirSync(target, { recursive: true });
  run('chmod', ['-R', 'u+rwX,go+rX,go-w', root]);
  run('dpkg-deb', ['--root-owner-group', '--build', root, file]);
  process.stdout.write(`${file}\n`);
} finally {
  rmSync(root, { recursive: true, force: true });
}
