/** Bundles src into dist: few files that load fast, since the forced command is one process a connection. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { build } from 'esbuild';

/** Version and commit; the commit is left out where this is no checkout of its own, or git is not there. */
function buildVersion() {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  if (!existsSync('.git')) return version;
  try {
    const options = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] };
    const commit = execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'], options);
    return `${version} (${commit.trim()})`;
  } catch {
    return version;
  }
}

rmSync('dist', { recursive: true, force: true });
await build({
  entryPoints: ['src/cli/main.ts'],
  outdir: 'dist',
  bundle: true,
  splitting: true,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  mainFields: ['module', 'main'],
  define: { BUILD_VERSION: JSON.stringify(buildVersion()) },
  // These stay packages: ssh2 has a native part, and none of them is on the forced command's way in.
  external: ['ssh2', 'http2-wrapper', 'pino', 'pino-pretty', 'yargs'],
  // Bundled CommonJS still calls require for Node's own modules.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
  // Less to read and parse at every connection; names stay, since errors and profiles show them.
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'linked',
  logLevel: 'warning',
});
