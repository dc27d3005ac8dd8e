/** The one place that says which algorithms the SSH server offers; docs/ssh-algorithms.md says why, algorithm by algorithm. */
import type { Algorithms, CipherAlgorithm, KexAlgorithm } from 'ssh2';
import type { GatewayConfig } from '../config/types.ts';
import { MLKEM_KEX } from './mlkem-kex.ts';

/** Safe against the quantum computers of the future first; the rest for OpenSSH before 9.9 and others. Not in ssh2's types: the first. */
const KEX = [MLKEM_KEX, 'curve25519-sha256', 'curve25519-sha256@libssh.org'] as KexAlgorithm[];

/** AES-GCM first and alone: OpenSSH's client would otherwise prefer chacha20, which costs a quarter more CPU here. */
const CIPHERS: CipherAlgorithm[] = ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'];

/** What the server offers, in its order; the client's order decides (RFC 4253, 7.1). */
export function offeredAlgorithms({ extraCiphers }: GatewayConfig['ssh']): Algorithms {
  return {
    kex: KEX,
    serverHostKey: ['ssh-ed25519'],
    cipher: [...CIPHERS, ...extraCiphers],
    // Unused by the ciphers above, which authenticate by themselves, but the protocol wants a list.
    hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com'],
    compress: ['none'],
  };
}
