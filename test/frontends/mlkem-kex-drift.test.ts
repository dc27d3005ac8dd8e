/** An ssh2 that is built otherwise than the one that mlkem-kex.ts was made for is found when the server opens, not when a client comes. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { extendSsh2 } from '../../src/frontends/mlkem-kex.ts';
import { hybridExchange, nobleMlKem } from '../../src/frontends/mlkem768x25519.ts';
import { loadSsh2, type Ssh2Modules } from '../../src/frontends/ssh2-internals.ts';

const real = loadSsh2();
const hybrid = hybridExchange(await nobleMlKem());

/** Protocol, with a property of each object defined by `hide`. */
function hiding(property: string, hide: (value: unknown) => PropertyDescriptor): Ssh2Modules['Protocol'] {
  return class extends real.Protocol {
    constructor(config: unknown) {
      super(config);
      Object.defineProperty(this, property, hide(Reflect.get(this, property)));
    }
  };
}

/** Says nothing to anyone. */
class Idle {
  _decipher = undefined;
  start = (): void => undefined;
  rekey = (): void => undefined;
  cleanup = (): void => undefined;
}

const KEXINIT = 20;
const handler = real.handlers[KEXINIT];
const methods = [...real.constants.SUPPORTED_KEX];
afterEach(() => {
  if (handler !== undefined) real.handlers[KEXINIT] = handler;
  real.constants.SUPPORTED_KEX.splice(0, Infinity, ...methods);
});

describe('an ssh2', () => {
  test.each<[string, RegExp, Partial<Ssh2Modules>]>([
    ['without a list of methods', /push/, { constants: {} as never }],
    ['with a list of methods that it does not use', /Unsupported algorithm/, { constants: { SUPPORTED_KEX: [] } }],
    ['without a table of message handlers', /no handler of KEXINIT/, { handlers: [] }],
    ['that does not use the table for a rekey', /Unsupported key exchange/, { handlers: [...real.handlers] }],
    ['without a handler of key exchange packets', /bind/, { kex: { ...real.kex, onKEXPayload: undefined as never } }],
    ['that keeps its proposals otherwise', /iterable/, { kex: { ...real.kex, KexInit: Map as never } }],
    [
      'that does not pass on identifications',
      /Unsupported key exchange/,
      { Protocol: hiding('_onHeader', (value) => ({ get: () => value, set: () => undefined })) },
    ],
    ['that keeps its exchange to itself', /redefine/, { Protocol: hiding('_kex', () => ({ configurable: false })) }],
    ['that gets nowhere', /do not come to new keys/, { Protocol: Idle as never }],
  ])('%s is refused by its version, with the reason and what to do', (_how, reason, change) => {
    const attempt = (): unknown => extendSsh2({ ...real, ...change }, hybrid);
    expect(attempt).toThrow(
      expect.objectContaining({
        code: 'internal',
        message: expect.stringMatching(
          new RegExp(
            `^ssh2 1\\.17\\.0 is not built as this gateway needs it \\([^\n]*${reason.source}[^\n]*\\); install the gateway's own packages with: npm ci$`,
          ),
        ),
      }),
    );
  });

  test('of this version is taken', () => {
    expect(real.version).toBe('1.17.0');
    expect(() => extendSsh2(real, hybrid)).not.toThrow();
  });
});
