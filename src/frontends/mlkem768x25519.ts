/**
 * `mlkem768x25519-sha256` without SSH around it: what the client sends, what the server answers, and the secret that both then hold.
 *
 * Source: draft-ietf-sshm-mlkem-hybrid-kex, 2.3 to 2.5, and OpenSSH's kexmlkem768x25519.c; FIPS 203 (ML-KEM-768); RFC 8731 and
 * RFC 7748 (X25519).
 */
import * as crypto from 'node:crypto';
import { createHash, createPublicKey, diffieHellman, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { GatewayError } from '../core/errors.ts';

/** Lengths in bytes: FIPS 203, table 3, and RFC 7748, 5. */
const ENCAPSULATION_KEY = 1184;
const CIPHERTEXT = 1088;
const X25519_KEY = 32;

/** ML-KEM-768. Keys, ciphertexts (1088 bytes) and shared keys (32 bytes) are in the encoding of FIPS 203. */
export interface MlKem768 {
  /** FIPS 203, algorithms 19 and 21: a new key of 1184 bytes, and what turns a ciphertext for it into the shared key. */
  generate(): { readonly encapsulationKey: Uint8Array; readonly decapsulate: (ciphertext: Uint8Array) => Uint8Array };
  /**
   * FIPS 203, algorithm 20, after the checks of section 7.2 but for the length, which the caller has checked.
   * @throws Error when the key has a coefficient that is not below 3329
   */
  encapsulate(encapsulationKey: Uint8Array): { readonly ciphertext: Uint8Array; readonly sharedKey: Uint8Array };
}

/** The key exchange, for either side. */
export interface HybridExchange {
  /** Client: C_INIT (1216 bytes), and what turns S_REPLY into the secret. @throws GatewayError `invalid-request` for a bad S_REPLY */
  begin(): { readonly init: Buffer; readonly finish: (reply: Uint8Array) => Buffer };
  /** Server: S_REPLY (1120 bytes) and the secret (32 bytes). @throws GatewayError `invalid-request` for a C_INIT that the draft refuses */
  answer(init: Uint8Array): { readonly reply: Buffer; readonly secret: Buffer };
}

/** The key exchange on an implementation of ML-KEM. Every value is two parts, ML-KEM's first. */
export function hybridExchange(mlKem: MlKem768): HybridExchange {
  return {
    begin: () => {
      const { encapsulationKey, decapsulate } = mlKem.generate();
      const x25519 = generateKeyPairSync('x25519');
      return {
        init: Buffer.concat([encapsulationKey, rawKey(x25519.publicKey)]),
        finish: (reply) => {
          const [ciphertext, publicKey] = split(reply, CIPHERTEXT);
          return refusing(() => hash(decapsulate(ciphertext), agree(x25519.privateKey, publicKey)));
        },
      };
    },
    answer: (init) => {
      const [encapsulationKey, publicKey] = split(init, ENCAPSULATION_KEY);
      const x25519 = generateKeyPairSync('x25519');
      return refusing(() => {
        const { ciphertext, sharedKey } = mlKem.encapsulate(encapsulationKey);
        return {
          secret: hash(sharedKey, agree(x25519.privateKey, publicKey)),
          reply: Buffer.concat([ciphertext, rawKey(x25519.publicKey)]),
        };
      });
    },
  };
}

/** ML-KEM of Node's own OpenSSL; undefined where it has none (Node before 24.7, OpenSSL before 3.5). */
export function nodeMlKem(): MlKem768 | undefined {
  // Not in the types of the oldest Node that is supported.
  const node = crypto as unknown as {
    readonly generateKeyPairSync: (type: 'ml-kem-768') => { publicKey: KeyObject; privateKey: KeyObject };
    readonly encapsulate?: (key: KeyObject) => { readonly ciphertext: Buffer; readonly sharedKey: Buffer };
    readonly decapsulate?: (key: KeyObject, ciphertext: Uint8Array) => Buffer;
  };
  const { encapsulate, decapsulate } = node;
  if (encapsulate === undefined || decapsulate === undefined) return undefined;
  const generate = (): { publicKey: KeyObject; privateKey: KeyObject } => node.generateKeyPairSync('ml-kem-768');
  let spki: Buffer;
  try {
    spki = generate().publicKey.export({ type: 'spki', format: 'der' });
  } catch {
    // A Node that is built on another OpenSSL.
    return undefined;
  }
  const spkiHead = spki.subarray(0, -ENCAPSULATION_KEY);
  return {
    generate: () => {
      const { publicKey, privateKey } = generate();
      return {
        encapsulationKey: publicKey.export({ type: 'spki', format: 'der' }).subarray(-ENCAPSULATION_KEY),
        decapsulate: (ciphertext) => decapsulate(privateKey, ciphertext),
      };
    },
    encapsulate: (encapsulationKey) =>
      encapsulate(createPublicKey({ key: Buffer.concat([spkiHead, encapsulationKey]), type: 'spki', format: 'der' })),
  };
}

/** ML-KEM in JavaScript, for every other Node. Loaded only when asked for: it takes some milliseconds. */
export async function nobleMlKem(): Promise<MlKem768> {
  const { ml_kem768: noble } = await import('@noble/post-quantum/ml-kem.js');
  return {
    generate: () => {
      const { publicKey, secretKey } = noble.keygen();
      return { encapsulationKey: publicKey, decapsulate: (ciphertext) => noble.decapsulate(ciphertext, secretKey) };
    },
    encapsulate: (encapsulationKey) => {
      const { cipherText, sharedSecret } = noble.encapsulate(encapsulationKey);
      return { ciphertext: cipherText, sharedKey: sharedSecret };
    },
  };
}

/** A value's two parts. @throws GatewayError `invalid-request` when it is longer or shorter than they are */
function split(value: Uint8Array, first: number): [Uint8Array, Uint8Array] {
  if (value.length !== first + X25519_KEY)
    throw new GatewayError('invalid-request', {
      detail: `the peer's key exchange value has ${value.length} bytes instead of ${first + X25519_KEY}`,
    });
  return [value.subarray(0, first), value.subarray(first)];
}

/** Whatever the primitives refuse is the peer's doing: a bad ML-KEM key, or an X25519 key that makes the result all zeros. */
function refusing<T>(compute: () => T): T {
  try {
    return compute();
  } catch (error) {
    throw new GatewayError('invalid-request', { detail: "the peer's key exchange value is not valid", cause: error });
  }
}

/** K = SHA-256(K_PQ || K_CL). */
function hash(postQuantum: Uint8Array, classical: Uint8Array): Buffer {
  return createHash('sha256').update(postQuantum).update(classical).digest();
}

/** X25519. OpenSSL refuses the all-zero result, as RFC 8731, 3 demands. */
function agree(privateKey: KeyObject, publicKey: Uint8Array): Buffer {
  const x = Buffer.from(publicKey).toString('base64url');
  return diffieHellman({
    privateKey,
    publicKey: createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' }),
  });
}

function rawKey(publicKey: KeyObject): Buffer {
  return Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
}
