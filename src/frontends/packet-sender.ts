/**
 * Sends a channel's data in full packets, many at a time, each byte copied once.
 *
 * ssh2 1.17 makes every packet by itself: one piece of memory, one call for its random padding and one write to the socket each, which
 * together cost more than the encryption. Here the packets of a batch lie side by side in one piece of memory that is used again, and
 * leave in one write. It goes by the state of ssh2's channel, and by the AES-GCM cipher of ssh2's native part, which encrypts in place
 * (ssh2-internals.ts). With another cipher, or without that part, ssh2 makes the packets.
 *
 * Source: RFC 4253, 6 (packets); RFC 5647, 7 (AES-GCM); RFC 4254, 5.2 (data and windows).
 */
import { randomFillSync } from 'node:crypto';
import type { ServerChannel } from 'ssh2';
import type { Link } from './peer-guard.ts';
import { encryptsInPlace, internalsOf, type InternalChannel } from './ssh2-internals.ts';

/** The most data in a packet, in bytes: what every implementation takes. */
const PACKET_DATA = 32 * 1024;
/** Everything else in a packet, at most: length, padding's length, message with channel and length, padding, tag. */
const PACKET_REST = 4 + 1 + 9 + 19 + 16;
/** How much goes into one write: eight full packets. */
const BATCH = 8 * (PACKET_DATA + PACKET_REST);
/** Batches up to this get memory of their own size. */
const SMALL = 16 * 1024;
/** RFC 4254, 5.2. */
const SSH_MSG_CHANNEL_DATA = 94;
/** In bytes: the block that packets are filled up to, the least padding, and the tag behind. */
const [BLOCK, LEAST_PADDING, TAG] = [16, 4, 16];

/** Memory for batches, that of a session which is idle in use by the others. */
const idle: Buffer[] = [];
const MOST_IDLE = 16;

/** Random bytes for padding, drawn many at a time. */
const padding = Buffer.alloc(4096);
let paddingUsed = padding.length;

/** Sends the data of one channel. */
export class PacketSender {
  readonly #channel: InternalChannel;
  readonly #link: Link;

  /** @param link - the connection that carries the channel */
  constructor(channel: ServerChannel, link: Link) {
    this.#channel = internalsOf(channel);
    this.#link = link;
  }

  /**
   * Sends all of it, no faster than the peer's window and the socket take it.
   * @param done - called at the end; never when the channel or the connection closes before. One call at a time
   */
  send(chunks: readonly Buffer[], done: () => void): void {
    const data = new Pieces(chunks);
    const step = (): void => {
      if (data.left === 0) {
        done();
        return;
      }
      // In a key exchange ssh2 would gather without bound what it is given.
      this.#link.whenOpen(() => {
        this.#sendBatch(data, step);
      });
    };
    step();
  }

  #sendBatch(data: Pieces, next: () => void): void {
    const { outgoing } = this.#channel;
    const { socket, protocol } = this.#link;
    if (outgoing.state !== 'open' || !socket.writable) return;
    if (outgoing.window === 0) {
      this.#channel._chunkcb = () => {
        this.#channel._chunkcb = undefined;
        this.#link.whenOpen(() => {
          this.#sendBatch(data, next);
        });
      };
      this.#channel._waitWindow = true;
      return;
    }
    const native = encryptsInPlace(protocol);
    if (native === undefined) this.#sendBySsh2(data, next);
    else this.#sendInPlace(data, native, next);
  }

  #sendInPlace(data: Pieces, native: { encrypt(packet: Buffer): void }, next: () => void): void {
    const { outgoing } = this.#channel;
    const { _cipher: cipher } = this.#link.protocol;
    const wanted = Math.min(data.left, outgoing.window);
    const whole = wanted > SMALL;
    const batch = whole
      ? (idle.pop() ?? Buffer.allocUnsafeSlow(BATCH))
      : Buffer.allocUnsafe(wanted + roomFor(wanted, outgoing.packetSize));
    let at = 0;
    while (data.left > 0 && outgoing.window > 0) {
      const length = Math.min(data.left, outgoing.window, outgoing.packetSize, PACKET_DATA);
      if (at + length + PACKET_REST > batch.length) break;
      const packet = writePacket(batch, at, outgoing.id, data, length);
      native.encrypt(packet);
      cipher.outSeqno = (cipher.outSeqno + 1) >>> 0;
      outgoing.window -= length;
      at += packet.length;
    }
    this.#link.socket.write(batch.subarray(0, at), (error) => {
      // After an error there is nobody to send to.
      if (error != null) return;
      if (whole && idle.length < MOST_IDLE) idle.push(batch);
      next();
    });
  }

  #sendBySsh2(data: Pieces, next: () => void): void {
    const { outgoing } = this.#channel;
    const { socket, protocol } = this.#link;
    // ssh2 writes each packet to the socket by itself; corked, they leave in one system call.
    socket.cork();
    for (let sent = 0; sent < BATCH - PACKET_DATA && data.left > 0 && outgoing.window > 0;) {
      const length = Math.min(data.left, outgoing.window, outgoing.packetSize, PACKET_DATA);
      const packet = Buffer.allocUnsafe(length);
      data.copy(packet, 0, length);
      outgoing.window -= length;
      sent += length;
      protocol.channelData(outgoing.id, packet);
    }
    socket.uncork();
    if (socket.writableNeedDrain) socket.once('drain', next);
    else setImmediate(next);
  }
}

/** Room beside the data for the packets of a small batch. */
function roomFor(length: number, packetSize: number): number {
  return PACKET_REST * Math.ceil(length / Math.min(packetSize, PACKET_DATA));
}

/** Writes a packet, its tag still to come. @returns where it lies */
function writePacket(batch: Buffer, at: number, channel: number, data: Pieces, length: number): Buffer {
  // All of it but its own length, which is authenticated only, comes in blocks.
  const unpadded = 1 + 9 + length;
  let pad = BLOCK - (unpadded % BLOCK);
  if (pad < LEAST_PADDING) pad += BLOCK;
  batch.writeUInt32BE(unpadded + pad, at);
  batch[at + 4] = pad;
  batch[at + 5] = SSH_MSG_CHANNEL_DATA;
  batch.writeUInt32BE(channel, at + 6);
  batch.writeUInt32BE(length, at + 10);
  data.copy(batch, at + 14, length);
  if (paddingUsed + pad > padding.length) {
    randomFillSync(padding);
    paddingUsed = 0;
  }
  batch.set(padding.subarray(paddingUsed, paddingUsed + pad), at + 14 + length);
  paddingUsed += pad;
  return batch.subarray(at, at + 4 + unpadded + pad + TAG);
}

/** Pieces that are read as one. */
class Pieces {
  /** Bytes not read yet. */
  left = 0;
  readonly #chunks: readonly Buffer[];
  #index = 0;
  #offset = 0;

  constructor(chunks: readonly Buffer[]) {
    this.#chunks = chunks;
    for (const chunk of chunks) this.left += chunk.length;
  }

  /** Reads so many bytes, of which there must be as many left. */
  copy(target: Buffer, at: number, length: number): void {
    this.left -= length;
    for (let copied = 0; copied < length;) {
      const chunk = this.#chunks[this.#index] as Buffer;
      const part = Math.min(chunk.length - this.#offset, length - copied);
      if (part === chunk.length) target.set(chunk, at + copied);
      else target.set(chunk.subarray(this.#offset, this.#offset + part), at + copied);
      copied += part;
      this.#offset += part;
      if (this.#offset < chunk.length) return;
      this.#index += 1;
      this.#offset = 0;
    }
  }
}
