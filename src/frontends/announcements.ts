/**
 * What the server tells a client of itself: the signatures that it takes at login, and all of its host keys, which it proves to have when it is asked.
 * So OpenSSH's `UpdateHostKeys` puts a new host key into known_hosts while the old one still serves, and takes the old one out afterwards.
 *
 * ssh2 1.17 announces signatures that nobody here takes, in a malformed list, and host keys not at all.
 *
 * Source: RFC 8308, 2.4 and 3.1 (EXT_INFO is the first message under the first keys); OpenSSH, PROTOCOL, 2.5 (hostkeys-00 and hostkeys-prove-00).
 */
import type { Connection } from 'ssh2';
import { stringsIn } from '../core/ssh-certificate.ts';
import type { HostKey } from './host-key.ts';
import { globalRequest, signaturesMessage, string } from './messages.ts';
import type { Link } from './peer-guard.ts';
import { protocolOf, sendMessage } from './ssh2-internals.ts';

const HOST_KEYS = 'hostkeys-00@openssh.com';
const PROVE = 'hostkeys-prove-00@openssh.com';

/** Announces these signatures instead of ssh2's. To be called before the first key exchange is over. */
export function announceSignatures(connection: Connection, algorithms: readonly string[]): void {
  const protocol = protocolOf(connection);
  const complete = protocol._onHandshakeComplete;
  protocol._onHandshakeComplete = (...negotiated) => {
    protocol._onHandshakeComplete = complete;
    const kex = protocol._kex;
    if (kex?.remoteExtInfoEnabled === true) {
      kex.remoteExtInfoEnabled = false;
      sendMessage(protocol, signaturesMessage(algorithms));
    }
    complete(...negotiated);
  };
}

/** The host keys of one connection. */
interface HostKeyAnnouncement {
  /** Announces them to a client that has logged in. Until then a request for proofs is refused. */
  announce(link: Link): void;
}

/**
 * Has each of the keys proved once to a client that asks for it, as OpenSSH does, which asks once. To be called before what bounds a peer's requests
 * is put before their handlers.
 */
export function createHostKeyAnnouncement(connection: Connection, keys: readonly HostKey[]): HostKeyAnnouncement {
  const protocol = protocolOf(connection);
  let unproved: Map<string, HostKey> | undefined;
  /** @returns undefined when something else is asked for than keys that are still to be proved */
  const proofsOf = (data: unknown): Buffer | undefined => {
    const session = protocol._kex?.sessionID;
    const blobs = Buffer.isBuffer(data) ? stringsIn(data, keys.length) : undefined;
    const names = new Set(blobs?.map((blob) => blob.toString('latin1')));
    const asked = [...names].flatMap((name) => unproved?.get(name) ?? []);
    if (session === undefined || asked.length === 0 || asked.length !== blobs?.length) return undefined;
    for (const name of names) unproved?.delete(name);
    return Buffer.concat(
      asked.map(({ blob, privateKey }) => {
        const signature = privateKey.sign(Buffer.concat([string(PROVE), string(session), string(blob)]));
        return string(Buffer.concat([string(privateKey.type), string(signature)]));
      }),
    );
  };
  const others = protocol._handlers['GLOBAL_REQUEST'];
  protocol._handlers['GLOBAL_REQUEST'] = (from, name, wantReply, data) => {
    const proofs = name === PROVE && wantReply === true ? proofsOf(data) : undefined;
    if (proofs === undefined) return others?.(from, name, wantReply, data);
    // All others are answered as soon as they come, so answers keep their order (RFC 4254, 4).
    protocol.requestSuccess(proofs);
    return undefined;
  };
  return {
    announce: (link) => {
      unproved = new Map(keys.map((key) => [key.blob.toString('latin1'), key]));
      const blobs = keys.map(({ blob }) => string(blob));
      link.whenOpen(() => {
        sendMessage(protocol, globalRequest(HOST_KEYS, blobs));
      });
    },
  };
}
