/** The packages that dist loads as packages of their own: ssh2 has a native part, and none of them is on the forced command's way in. */
export const EXTERNALS = ['ssh2', 'http2-wrapper', 'pino', 'pino-pretty', 'yargs'];

/** All that dist needs beside it. */
export const NEEDED = [...EXTERNALS, 'yaml'];
