/**
 * Loaded into a gateway by `--import`: gives Node defects, each met by a request for a path of its own. No option of the product does this.
 */
import http2 from 'node:http2';
import { setImmediate } from 'node:timers';
import { createRequire, syncBuiltinESMExports } from 'node:module';

const broken = {
  // In an event of the session.
  '/file-1001': () => {
    throw new TypeError('a defect in an event');
  },
  // Where nobody catches.
  '/file-1002': () => {
    setImmediate(() => {
      throw new TypeError('a defect that nobody catches');
    });
  },
  '/file-1003': () => {
    void Promise.reject(new TypeError('a defect in a promise'));
  },
};

const handshake = http2.performServerHandshake;
createRequire(import.meta.url)('node:http2').performServerHandshake = (...args) => {
  const session = handshake(...args);
  session.prependListener('stream', (stream, headers) => {
    const { [headers[':path']]: defect } = broken;
    if (defect !== undefined) stream.setTimeout = defect;
  });
  return session;
};
syncBuiltinESMExports();
