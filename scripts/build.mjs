/** Bundles src into dist: few files that load fast, since the forced command is one process a connection. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { build, transform } from 'esbuild';
import { EXTERNALS, yamlBeside } from './packaging/externals.mjs';
import { buildVersion } from './packaging/version.mjs';

/**
 * The bundles, by their directories. What sshd starts at every login has one of its own: in a bundle that many commands share, what each
 * of them loads lies in many small files, and finding, reading and linking those takes time at each start. It is CommonJS besides, which Node
 * loads without its loader of ES modules.
 */
const BUNDLES = {
  dist: { entry: 'src/cli/main.ts', format: 'esm' },
  'dist/stdio': { entry: 'src/cli/stdio-main.ts', format: 'cjs' },
  'dist/authorized-keys': { entry: 'src/cli/authorized-keys-main.ts', format: 'cjs' },
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
for (const [outdir, { entry, format }] of Object.entries(BUNDLES)) {
  const { outputFiles } = await build({
    ...SMALLER,
    entryPoints: { main: entry },
    outdir,
    write: false,
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    mainFields: ['module', 'main'],
    loader: { '.css': 'text' },
    define: { BUILD_VERSION: JSON.stringify(buildVersion()) },
    // pg asks for the first only where it is wanted, and for the second in no process of Node.
    external: [...EXTERNALS, 'pg-native', 'pg-cloudflare'],
    plugins: [yamlBeside(outdir === 'dist' ? './yaml.cjs' : '../yaml.cjs')],
    // Bundled CommonJS still calls require for Node's own modules.
    ...(format === 'esm' && {
      banner: {
        js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
      },
    }),
  });
  mkdirSync(outdir, { recursive: true });
  for (const { path, text } of outputFiles)
    writeFileSync(path, format === 'cjs' && path.endsWith('.js') ? await commonJs(text) : text);
  writeFileSync(`${outdir}/package.json`, `{ "type": "${format === 'cjs' ? 'commonjs' : 'module'}" }\n`);
}

/** A bundle's file as CommonJS. esbuild itself splits bundles of ES modules only, and whatever a session does not need is to stay unread. */
async function commonJs(text) {
  const { code } = await transform(text, {
    ...SMALLER,
    legalComments: 'inline',
    platform: 'node',
    format: 'cjs',
    target: 'node20.19',
    supported: { 'dynamic-import': false },
  });
  return code;
}
