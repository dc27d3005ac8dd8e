/**
 * An SSH channel as a well-behaved duplex stream: it waits for the TCP socket and for key exchanges as well as for the SSH window, packs
 * small writes into full packets, and lets the exit status out before it closes.
 */
import { Duplex } from 'node:stream';
import type { ServerChannel } from 'ssh2';
import { PacketSender } from './packet-sender.ts';
import { UNSERVED_WINDOW, type Link } from './peer-guard.ts';
import { internalsOf } from './ssh2-internals.ts';

/** Data that waits here while the reader is slow or the peer does, in bytes, before more is held back. */
const HELD = 256 * 1024;

/** One end of an SSH channel. Destroying it closes the channel. */
export class ChannelStream extends Duplex {
  readonly #channel: ServerChannel;
  readonly #sender: PacketSender;
  readonly #link: Link;
  readonly #beforeClose: () => Promise<void> | undefined;
  /** What the peer may send ahead, in bytes. */
  #window = UNSERVED_WINDOW;

  /**
   * @param link - the connection that carries the channel, on which nothing was received yet
   * @param beforeClose - what a channel that is destroyed stays open for, without anything being read from it
   */
  constructor(channel: ServerChannel, link: Link, beforeClose: () => Promise<void> | undefined = () => undefined) {
    super({ readableHighWaterMark: HELD, writableHighWaterMark: HELD });
    this.#channel = channel;
    this.#sender = new PacketSender(channel, link);
    this.#link = link;
    this.#beforeClose = beforeClose;
    // ssh2 pushes into its own stream what it has received, and widens the peer's window when that takes more, to 2 MiB always. Pushed
    // right into this one, it passes one stream less, and how far the window is opened is said here.
    const push = channel.push.bind(channel);
    channel.push = (chunk: Buffer | null): boolean => {
      if (chunk === null) return push(chunk);
      if (this.#pushSafely(chunk)) this.#openWindow();
      // Whatever comes of it, ssh2 has nothing to widen.
      return false;
    };
    internalsOf(channel)._read = () => undefined;
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

  /** Lets the peer send so many bytes ahead from now on. Where that is less than before, once it has sent what it was allowed. */
  widen(bytes: number): void {
    this.#window = bytes;
    if (this.readableLength < HELD) this.#openWindow();
  }

  /** Node's HTTP/2 reads right here; what it throws ends this channel, not the connection with others on it. */
  #pushSafely(chunk: Buffer): boolean {
    try {
      return this.push(chunk);
    } catch (error) {
      this.destroy(error as Error);
      return false;
    }
  }

  /** The same for what Node does when a write is done. */
  #safely(done: () => void): () => void {
    return () => {
      try {
        done();
      } catch (error) {
        this.destroy(error as Error);
      }
    };
  }

  override _read(): void {
    this.#openWindow();
  }

  #openWindow(): void {
    const { incoming, outgoing } = internalsOf(this.#channel);
    // RFC 4254, 5.3: nothing is sent on a channel after its CHANNEL_CLOSE.
    if (this.destroyed || incoming.window > this.#window / 2 || (outgoing.state !== 'open' && outgoing.state !== 'eof'))
      return;
    const more = this.#window - incoming.window;
    incoming.window = this.#window;
    this.#link.protocol.channelWindowAdjust(outgoing.id, more);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#sender.send([chunk], this.#safely(done));
  }

  override _writev(chunks: { chunk: Buffer; encoding: BufferEncoding }[], done: (error?: Error | null) => void): void {
    this.#sender.send(
      chunks.map(({ chunk }) => chunk),
      this.#safely(done),
    );
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#channel.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const close = (): void => {
      try {
        this.#channel.end();
        this.#channel.close();
      } catch {
        // Its connection is going, and it goes with it.
      }
    };
    const wait = this.#beforeClose();
    if (wait === undefined) close();
    else void wait.then(close);
    done(error);
  }
}
