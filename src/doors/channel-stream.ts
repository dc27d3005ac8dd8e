/**
 * An SSH channel as a well-behaved duplex stream: it waits for the TCP socket and for key exchanges as well as for the SSH window, packs
 * small writes into full packets, and lets the exit status out before it closes.
 */
import { Duplex } from 'node:stream';
import type { ServerChannel } from 'ssh2';
import { PacketSender } from './packet-sender.ts';
import type { Link } from './peer-guard.ts';

/** Data that waits here while the reader is slow or the peer does, in bytes, before more is held back. */
const HELD = 256 * 1024;

/** One end of an SSH channel. Destroying it closes the channel. */
export class ChannelStream extends Duplex {
  readonly #channel: ServerChannel;
  readonly #sender: PacketSender;

  /** @param link - the connection that carries the channel, on which nothing was received yet */
  constructor(channel: ServerChannel, link: Link) {
    super({ readableHighWaterMark: HELD, writableHighWaterMark: HELD });
    this.#channel = channel;
    this.#sender = new PacketSender(channel, link);
    // ssh2 pushes into its own stream what it has received, and widens the peer's window when that takes more. Pushed right into this one,
    // it passes one stream less; how much may wait is still the window's to bound.
    const push = channel.push.bind(channel);
    channel.push = (chunk: Buffer | null): boolean => (chunk === null ? push(chunk) : this.push(chunk));
    channel.resume();
    channel.on('end', () => {
      this.push(null);
    });
    channel.on('error', (error: Error) => {
      this.destroy(error);
    });
    channel.on('close', () => {
      this.destroy();
    });
    link.socket.once('close', () => {
      this.destroy();
    });
  }

  override _read(): void {
    // Widens the window, if that has waited for this.
    this.#channel._read(0);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#sender.send([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer; encoding: BufferEncoding }[], done: (error?: Error | null) => void): void {
    this.#sender.send(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#channel.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#channel.end();
    this.#channel.close();
    done(error);
  }
}
