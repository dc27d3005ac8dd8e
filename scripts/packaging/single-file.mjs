/**
 * Bundles everything into one executable file that needs nothing but Node: node scripts/packaging/single-file.mjs FILE
 * ssh2's native part cannot come along, so that its encryption is Node's own; and all of it is read at every start, where dist reads a part.
 */
import { chmodSync } from 'node:fs';
import { build } from 'esbuild';
import { seeRequires } from './externals.mjs';
import { buildVersion } from './version.mjs';

const [, , outfile] = process.argv;
if (outfile === undefined) {
  process.stderr.write('usage: node scripts/packaging/single-file.mjs FILE\n');
  process.exit(2);
}
await build({
  stdin: {
    contents: "import { main } from './src/cli/main.ts';\nawait main(process.argv.slice(2));\n",
    resolveDir: '.',
    loader: 'ts',
  },
  outfile,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  mainFields: ['module', 'main'],
  loader: { '.css': 'text' },
  define: { BUILD_VERSION: JSON.stringify(buildVersion()) },
  // ssh2 asks for these in a try, and does without them.
  external: ['*.node', 'cpu-features'],
  plugins: [seeRequires],
  banner: {
    js: [
      '#!/usr/bin/env node',
      "import { createRequire as __createRequire } from 'node:module';",
      "import { dirname as __dirnameOf } from 'node:path';",
      "import { fileURLToPath as __pathOf } from 'node:url';",
      'const require = __createRequire(import.meta.url), __filename = __pathOf(import.meta.url), __dirname = __dirnameOf(__filename);',
    ].join('\n'),
  },
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'eof',
  logLevel: 'warning',
});
chmodSync(outfile, 0o755);
