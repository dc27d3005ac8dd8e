/** Bundles src into dist: few files that load fast, since the forced command is one process a connection. */
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

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
