/** Bundles src into dist: few files that load fast, since the forced command is one process a connection. */
import { rmSync } from 'node:fs';
import { build } from 'esbuild';
import { EXTERNALS, yamlBeside } from './packaging/externals.mjs';
import { buildVersion } from './packaging/version.mjs';

/**
 * The bundles, by their directories. What sshd starts at every login has one of its own: in a bundle that many commands share, what each
 * of them loads lies in many small files, and finding, reading and linking those takes time at each start.
 */
const BUNDLES = {
  dist: 'src/cli/main.ts',
  'dist/stdio': 'src/cli/stdio-main.ts',
  'dist/authorized-keys': 'src/cli/authorized-keys-main.ts',
};

/** Less to read and parse at every connection; names stay, since errors and profiles show them. */
const SMALLER = { minifySyntax: true, minifyWhitespace: true, legalComments: 'linked', logLevel: 'warning' };

rmSync('dist', { recursive: true, force: true });
await build({
  ...SMALLER,
  entryPoints: { yaml: 'yaml' },
  outdir: 'dist',
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20.19',
});
for (const [outdir, entry] of Object.entries(BUNDLES))
  await build({
    ...SMALLER,
    entryPoints: { main: entry },
    outdir,
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    mainFields: ['module', 'main'],
    loader: { '.css': 'text' },
    define: { BUILD_VERSION: JSON.stringify(buildVersion()) },
    external: EXTERNALS,
    plugins: [yamlBeside(outdir === 'dist' ? './yaml.cjs' : '../yaml.cjs')],
    // Bundled CommonJS still calls require for Node's own modules.
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
  });
