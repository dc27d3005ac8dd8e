/**
 * Teaches ssh2 the key exchange `mlkem768x25519-sha256`, without which OpenSSH 10.1 and newer warn at every connection.
 *
 * ssh2 1.17 has a closed table of methods (protocol/kex.js: createKeyExchange) and no way in, so this goes by its internals:
 * 1. The name is added to the methods that ssh2.Server and ssh2.Client take in `algorithms.kex`.
 * 2. A peer's KEXINIT is looked at before ssh2 sees it: the first one of a connection in the decipher's callback, that of a rekey in
 *    the table of message handlers. Only when both sides agree on this method, the next two steps happen.
 * 3. ssh2 negotiates all the rest itself. It is shown a KEXINIT and an offer in which its own curve25519-sha256 stands in for this
 *    method, and makes an exchange of that.
 * 4. At the moment ssh2 stores that exchange, the three functions in which methods differ are replaced by this method's, and the
 *    peer's true KEXINIT is put back, which goes into the exchange hash. Everything else of a key exchange is ssh2's: packets, exchange
 *    hash, signature, strict KEX, new keys.
 * 5. ssh2 drops the packet after every KEXINIT that announces a guess, a right one too, and then waits for it for ever (it compares
 *    with the first letter of the first method's name). For a right guess that is undone, whatever the method.
 * 6. Where the server has turns for logins, the packet that makes it compute a key (KEX_ECDH_INIT, RFC 5656, 4), whatever the method and be it the
 *    first or a later exchange, is held until it is that connection's turn, and so is what comes behind it.
 * 7. At start, two of ssh2's protocol objects exchange keys and rekey in memory, so that an ssh2 that works otherwise is found then.
 *
 * scripts/upstream has the method as a patch for ssh2 itself (mscdex/ssh2#1471). With a release that has it, this file goes.
 *
 * Source: draft-ietf-sshm-mlkem-hybrid-kex; RFC 4253, 7 and 8 (negotiation, exchange hash); RFC 5656, 4 (the packets).
 */
import ssh2, { type Client, type Connection } from 'ssh2';
import { hybridExchange, nobleMlKem, nodeMlKem, type HybridExchange } from './mlkem768x25519.ts';
import { loadSsh2, passingHostKey, protocolOf, socketOf, unexpectedSsh2 } from './ssh2-internals.ts';
import type { KeyExchange, Offer, Protocol, Ssh2Modules } from './ssh2-internals.ts';

/** The method's name on the wire. */
export const MLKEM_KEX = 'mlkem768x25519-sha256';

/** ssh2's own method that takes its place while ssh2 negotiates; its hash is SHA-256 too. */
const STAND_IN = 'curve25519-sha256';

/** RFC 4253, 7.1. */
const SSH_MSG_KEXINIT = 20;
/** RFC 5656, 7.1; the draft has the same number. */
const SSH_MSG_KEX_ECDH_INIT = 30;
/** What a peer may send behind that before it is answered, in bytes: an honest one sends nothing. */
const MOST_HELD = 64 * 1024;
/** Where the lists begin in KEXINIT: after the message's number and the cookie of 16 bytes. Key exchange methods are the first. */
const LISTS_AT = 17;

type MessageHandler = Ssh2Modules['handlers'][number];

/** ssh2 with the method in it. */
interface MlKemKex {
  /**
   * Lets a connection use the method: a server's in its `connection` event, a client right after `connect()`. One that is not passed
   * here and agrees on the method fails.
   */
  use(connection: Connection | Client): void;
  /** Asks `may` before each key exchange of a connection but the first, whatever its method; one that may not be is not answered. */
  guard(connection: Connection, may: () => boolean): void;
  /** Has `turn` say when a connection of a server may have its keys computed, in each key exchange: it calls `go`, at once or later. */
  inTurns(connection: Connection, turn: (go: () => void) => void): void;
}

let added: Promise<MlKemKex> | undefined;

/**
 * Adds the method to this process's ssh2, once. `ssh2.Server` and `ssh2.Client` take its name after this.
 * @throws GatewayError `internal` when ssh2 is not built as expected
 */
export function addMlKemKex(): Promise<MlKemKex> {
  added ??= (async () => extendSsh2(loadSsh2(), hybridExchange(nodeMlKem() ?? (await nobleMlKem()))))();
  return added;
}

/** Adds the method to the given ssh2, and proves it there. @throws GatewayError `internal` when it does not work */
export function extendSsh2(internals: Ssh2Modules, hybrid: HybridExchange): MlKemKex {
  const { constants, handlers, kex, version } = internals;
  try {
    const negotiate = handlers[SSH_MSG_KEXINIT];
    if (negotiate === undefined) throw new Error('no handler of KEXINIT');
    const guards = new WeakMap<Protocol, () => boolean>();
    const turns = new WeakMap<Protocol, (protocol: Protocol) => void>();
    const negotiateAny: MessageHandler = (protocol, kexinit) => {
      if (protocol._kex !== undefined && guards.get(protocol)?.() === false) return undefined;
      const result = agreed(protocol, kexinit)
        ? withStandIn(protocol, kexinit, hybrid, negotiate)
        : negotiate(protocol, kexinit);
      if (guessIsRight(protocol, kexinit)) protocol._skipNextInboundPacket = false;
      // Otherwise it has failed, and the connection is over.
      if (result === undefined) turns.get(protocol)?.(protocol);
      return result;
    };
    constants.SUPPORTED_KEX.push(MLKEM_KEX);
    handlers[SSH_MSG_KEXINIT] = negotiateAny;

    const watchFirst = (protocol: Protocol): void => {
      const decipher = protocol._decipher;
      if (decipher === undefined) throw new Error('no decipher after the identification');
      const onPayload = decipher._onPayload;
      decipher._onPayload = (payload) => {
        if (payload[0] !== SSH_MSG_KEXINIT) return onPayload(payload);
        decipher._onPayload = kex.onKEXPayload.bind(protocol, { firstPacket: false });
        return negotiateAny(protocol, payload);
      };
    };
    const use = (protocol: Protocol): void => {
      if (protocol._decipher !== undefined) {
        watchFirst(protocol);
        return;
      }
      // The peer has not identified itself yet; ssh2 makes the decipher then, and right after it calls this.
      const onHeader = protocol._onHeader;
      protocol._onHeader = (header) => {
        watchFirst(protocol);
        onHeader(header);
      };
    };
    exchangeInMemory(internals, use);
    return {
      use: (connection) => {
        use(protocolOf(connection));
      },
      guard: (connection, may) => {
        guards.set(protocolOf(connection), may);
      },
      inTurns: (connection, turn) => {
        const fail = (error: unknown): void => {
          // As ssh2 does, with what is thrown by a packet that it is given at once.
          connection.emit('error', error);
          socketOf(connection).end();
        };
        turns.set(protocolOf(connection), (protocol) => {
          computeInTurn(protocol, turn, fail);
        });
      },
    };
  } catch (error) {
    throw unexpectedSsh2(version, error);
  }
}

/** Has the next packet that makes this side compute a key wait for its turn, and all behind it for that packet. */
function computeInTurn(protocol: Protocol, turn: (go: () => void) => void, fail: (error: unknown) => void): void {
  const { _decipher: decipher } = protocol;
  if (decipher === undefined) return;
  const onPayload = decipher._onPayload;
  decipher._onPayload = (payload) => {
    // A wrong guess is skipped, and nothing is computed.
    if (payload[0] !== SSH_MSG_KEX_ECDH_INIT || protocol._skipNextInboundPacket) return onPayload(payload);
    decipher._onPayload = onPayload;
    const its: { turn: 'unknown' | 'now' | 'later'; answer?: unknown; resume?: () => void } = { turn: 'unknown' };
    turn(() => {
      if (its.turn === 'later') its.resume?.();
      else Object.assign(its, { turn: 'now' }, { answer: onPayload(payload) });
    });
    if (its.turn === 'now') return its.answer;
    its.turn = 'later';
    const init = Buffer.from(payload);
    const parse = protocol._parse;
    const held: Buffer[] = [];
    let bytes = 0;
    protocol._parse = (data, from, to) => {
      bytes += to - from;
      if (bytes > MOST_HELD) throw new Error('the peer sends on before its key exchange is answered');
      held.push(Buffer.from(data.subarray(from, to)));
      return to;
    };
    its.resume = () => {
      protocol._parse = parse;
      try {
        // A number: it has failed, and the connection is over.
        if (typeof onPayload(init) !== 'number') protocol.parse(Buffer.concat(held), 0, bytes);
      } catch (error) {
        fail(error);
      }
    };
    // Ends this packet, and leaves what is behind it to the function above.
    return false;
  };
}

/** True when this method is the first of the client's that the server has too (RFC 4253, 7.1). */
function agreed(protocol: Protocol, kexinit: Buffer): boolean {
  const own = protocol._offer.lists.kex.array;
  const [peers] = listsOf(kexinit);
  const [client, server] = protocol._server ? [peers, own] : [own, peers];
  return client.find((name) => server.includes(name)) === MLKEM_KEX;
}

/** True when a guess by the peer would be right: both sides prefer the same method and the same host key (RFC 4253, 7.1). */
function guessIsRight(protocol: Protocol, kexinit: Buffer): boolean {
  const { kex, serverHostKey } = protocol._offer.lists;
  const [methods, hostKeys] = listsOf(kexinit);
  return methods[0] === kex.array[0] && hostKeys[0] === serverHostKey.array[0];
}

/**
 * The key exchange methods and the host key algorithms that a KEXINIT names; none when it is malformed, which ssh2 then finds and tells
 * the peer.
 */
function listsOf(kexinit: Buffer): [methods: string[], hostKeys: string[]] {
  const [methods, next] = listAt(kexinit, LISTS_AT);
  const [hostKeys] = listAt(kexinit, next);
  return [methods, hostKeys];
}

/** A name-list (RFC 4251, 5), and where the next one is. */
function listAt(message: Buffer, at: number): [names: string[], next: number] {
  const from = at + 4;
  if (message.length < from) return [[], message.length];
  const to = from + message.readUInt32BE(at);
  return to > message.length ? [[], message.length] : [message.toString('latin1', from, to).split(','), to];
}

/** Has ssh2 negotiate with the stand-in, and turns the exchange that comes of it into one of this method. */
function withStandIn(
  protocol: Protocol,
  kexinit: Buffer,
  hybrid: HybridExchange,
  negotiate: MessageHandler,
): ReturnType<MessageHandler> {
  protocol._debug?.(`Handshake: ${STAND_IN} stands in for ${MLKEM_KEX}`);
  const { _offer: offer } = protocol;
  let exchange = protocol._kex;
  protocol._offer = Object.create(offer, {
    lists: { value: { ...offer.lists, kex: { ...offer.lists.kex, array: [STAND_IN] } } },
  }) as Offer;
  // ssh2 starts the exchange as soon as it has stored it here, so this is where it has to become the right one.
  Object.defineProperty(protocol, '_kex', {
    configurable: true,
    enumerable: true,
    get: () => exchange,
    set: (standIn: KeyExchange) => {
      exchange = standIn;
      exchange.negotiated.kex = MLKEM_KEX;
      exchange._remoteKexinit = kexinit;
      replaceMethod(exchange, protocol._server, hybrid);
    },
  });
  try {
    return negotiate(protocol, namingStandIn(kexinit));
  } finally {
    Object.defineProperty(protocol, '_kex', { configurable: true, enumerable: true, writable: true, value: exchange });
    protocol._offer = offer;
  }
}

/** A copy of KEXINIT with the two names changed for each other, so that a guess of the peer's is taken as it was meant. */
function namingStandIn(kexinit: Buffer): Buffer {
  const [methods, next] = listAt(kexinit, LISTS_AT);
  const list = Buffer.from(
    methods.map((name) => (name === MLKEM_KEX ? STAND_IN : name === STAND_IN ? MLKEM_KEX : name)).join(','),
    'latin1',
  );
  const length = Buffer.alloc(4);
  length.writeUInt32BE(list.length);
  return Buffer.concat([kexinit.subarray(0, LISTS_AT), length, list, kexinit.subarray(next)]);
}

/**
 * The functions in which methods differ. ssh2 writes the secret as a string, as this method has it, and leaves it to its own methods
 * to make an mpint of it.
 */
function replaceMethod(exchange: KeyExchange, server: boolean, hybrid: HybridExchange): void {
  let own: Buffer = Buffer.alloc(0);
  let compute: (peer: Buffer) => Buffer;
  if (server) {
    compute = (init) => {
      const { reply, secret } = hybrid.answer(init);
      own = reply;
      return secret;
    };
  } else {
    const { init, finish } = hybrid.begin();
    own = init;
    compute = finish;
  }
  exchange.type = MLKEM_KEX;
  exchange.getPublicKey = () => own;
  exchange.convertPublicKey = (publicKey) => publicKey;
  exchange.computeSecret = (peer) => {
    try {
      return compute(peer);
    } catch (error) {
      return error as Error;
    }
  };
}

/** Exchanges keys in memory, and again, by this method alone. @throws whatever is not as it should be */
function exchangeInMemory({ Protocol, kex }: Ssh2Modules, use: (protocol: Protocol) => void): void {
  const text = passingHostKey();
  const hostKey = ssh2.utils.parseKey(text);
  if (hostKey instanceof Error) throw hostKey;
  // Refuses names that it does not know.
  new ssh2.Server({ hostKeys: [text], algorithms: { kex: [MLKEM_KEX as never] } });
  const direction = { cipher: ['aes128-gcm@openssh.com'], mac: [], compress: ['none'], lang: [] };
  const offer = new kex.KexInit({ kex: [MLKEM_KEX], serverHostKey: [hostKey.type], cs: direction, sc: direction });
  const packets: (() => void)[] = [];
  const completed: string[] = [];
  const side = (config: object, peer: () => Protocol): Protocol => {
    const protocol = new Protocol({
      ...config,
      offer,
      onWrite: (data: Uint8Array) => {
        packets.push(() => {
          peer().parse(data, 0, data.length);
        });
      },
      onError: (error: Error) => {
        throw error;
      },
      onHandshakeComplete: (negotiated: KeyExchange['negotiated']) => completed.push(negotiated.kex),
    });
    use(protocol);
    return protocol;
  };
  const deliver = (): void => {
    for (let packet = packets.shift(); packet !== undefined; packet = packets.shift()) packet();
  };
  const client: Protocol = side({}, () => server);
  const server: Protocol = side({ server: true, hostKeys: { [hostKey.type]: hostKey } }, () => client);
  try {
    server.start();
    client.start();
    deliver();
    client.rekey();
    deliver();
    if (completed.length !== 4 || completed.some((method) => method !== MLKEM_KEX))
      throw new Error('two ends of it do not come to new keys');
  } finally {
    client.cleanup();
    server.cleanup();
  }
}
