import { readFileSync } from 'node:fs';

/** The packages that dist loads as packages of their own: ssh2 has a native part, and none of them is on the forced command's way in. */
export const EXTERNALS = ['ssh2', 'http2-wrapper', 'pino', 'pino-pretty', 'yargs'];

/**
 * The YAML library in one file beside the bundles, since finding and reading its many files takes twice as long as running them. It is
 * loaded only by a config that is not plain: within the bundles it would cost every start.
 * @param place - the file, as the bundle's own files name it
 */
export const yamlBeside = (place) => ({
  name: 'yaml-beside',
  setup: ({ onLoad, onResolve }) => {
    seeRequires.setup({ onLoad });
    onResolve({ filter: /^yaml$/ }, () => ({ path: place, external: true }));
  },
});

/** What the sources require at run time by `createRequire`, the bundler has to see: with its own `require` it does. */
export const seeRequires = {
  name: 'see-requires',
  setup: ({ onLoad }) => {
    onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => {
      const contents = readFileSync(path, 'utf8').replace(
        /^ *const require = createRequire\(import\.meta\.url\);$/m,
        '',
      );
      return { contents, loader: 'ts' };
    });
  },
};
