/** What `--version` says. */

/** Put in by scripts/build.mjs; not there where the sources run unbuilt. */
declare const BUILD_VERSION: string | undefined;

/** The package's version, with the commit it was built from where that is known: `0.1.0 (1a2b3c4d5e6f)`. */
export const VERSION: string = typeof BUILD_VERSION === 'string' ? BUILD_VERSION : 'not built';
